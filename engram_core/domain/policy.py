"""MemoryPolicy: a small frozen record of numbers for a scope. Data only; operations interpret it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator
from pydantic.fields import FieldInfo

from engram_core.domain.errors import InvalidPolicy
from engram_core.domain.message import Channel

Kind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


def _share(default: float, description: str, unit: str = "share", **more: Any) -> Any:
    return Field(default=default, ge=0.0, le=1.0, description=description, json_schema_extra={"unit": unit}, **more)


def _number(default: float, ge: float, le: float, unit: str, description: str) -> Any:
    return Field(default=default, ge=ge, le=le, description=description, json_schema_extra={"unit": unit})


def _choice(default: str, description: str) -> Any:
    return Field(default=default, description=description, json_schema_extra={"unit": "name"})


class MemoryPolicy(BaseModel):
    """How one scope remembers and forgets. Children inherit the nearest ancestor's policy as a whole.

    Each field names its unit, range, default and what it changes; `describe` puts that into words, and docs/policy.md
    lists them all. The night acts on `max_facts`, `auto_forget`, `forget_threshold`, `retention_floor`,
    `protect_days`, `retain_*`, `erase_archived`, `compression_strategy` and `cluster_*`; recall on the rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_facts: int = _number(
        10_000,
        1,
        100_000_000,
        "facts",
        "Live facts a scope may hold before a night with auto_forget archives down to it.",
    )
    decay_rate: float = _share(
        0.01,
        "Share of recency lost per day: of the recency term of recall and of the keep value, where a session of the "
        "scope counts as 15 days.",
        "share per day",
    )
    prioritize_types: tuple[Kind, ...] = Field(
        default=(),
        max_length=64,
        description="Kinds that get priority_weight in recall, are never forgotten by score and last under the cap.",
        json_schema_extra={"unit": "kinds"},
    )
    auto_forget: bool = Field(
        default=False,
        description="Whether the night may archive on its own; without it the night only scores.",
        json_schema_extra={"unit": "yes or no"},
    )
    fill_gaps: bool = Field(
        default=True,
        description="Whether reflection may add facts for gaps it has evidence for; without it the night only reports.",
        json_schema_extra={"unit": "yes or no"},
    )
    forget_threshold: float = _share(
        0.9, "With auto_forget: facts whose forget score is above it are archived whatever the cap.", "forget score"
    )
    compression_strategy: Literal["summarize", "prune", "merge"] = Field(
        default="merge", description="How the night consolidates clusters.", json_schema_extra={"unit": "name"}
    )
    retention_floor: float = _share(
        0.7,
        "Facts whose keep value is a larger share of the highest one are never forgotten automatically.",
        "keep value",
    )
    token_budget: int = _number(
        1024, 32, 1_000_000, "tokens", "Tokens of a recall's context when the caller gives no max_tokens."
    )
    trust_floor: float = _share(
        0.0, "Facts trusted less than this are dropped from recalls and sooner forgotten.", "trust"
    )
    quarantine_channels: tuple[Channel, ...] = Field(
        default=("tool", "web"),
        max_length=6,
        description="Channels whose statements wait in quarantine, out of recall, until a curator releases them.",
        json_schema_extra={"unit": "channels"},
    )
    on_injection: Literal["flag", "quarantine", "reject"] = _choice(
        "quarantine", "What becomes of a text that reads like an order to a model (the tripwire's rules)."
    )
    secrets: Literal["redact", "reject", "keep"] = _choice(
        "redact", "What becomes of passwords, codes and keys in a text: replaced, the message refused, or stored."
    )
    personal_data: Literal["keep", "redact"] = _choice(
        "keep", "Whether e-mail addresses, telephone numbers, IBANs, US social security numbers and IPs are replaced."
    )
    on_guard_failure: Literal["quarantine", "reject", "keep"] = _choice(
        "quarantine", "What becomes of a text that an outside guard could not judge."
    )
    max_writes_per_minute: int = _number(
        1_000_000, 1, 1_000_000_000, "messages", "Messages one principal may add by one channel to a scope in a minute."
    )
    max_writes_per_day: int = _number(
        100_000_000, 1, 1_000_000_000, "messages", "The same in a day; what is beyond it is refused and noted."
    )
    importance_weight: float = _share(0.3, "Score added per unit of (importance - 0.5).", "score")
    recency_weight: float = _share(0.0, "Score added for a brand-new fact, decaying by decay_rate per day.", "score")
    usefulness_weight: float = _share(
        0.25, "Score added per unit of usefulness above that of a fact without verdicts; 0 learns nothing.", "score"
    )
    rerank_weight: float = _share(
        0.5, "Score added to the one that the store's reranker likes best; 0 does without it.", "score"
    )
    priority_weight: float = _share(0.05, "Score added to kinds in prioritize_types.", "score")
    cluster_similarity: float = _share(0.8, "Cosine above which the night sees facts as related.", "cosine")
    cluster_size: int = _number(5, 2, 1000, "facts", "Facts in a cluster before it is consolidated.")
    protect_days: float = _number(
        7.0, 0.0, 36_500.0, "days", "Days in which a new fact is never forgotten automatically, whatever the cap."
    )
    retain_archived_days: float = _number(
        90.0, 0.0, 36_500.0, "days", "Days an archived fact stays restorable; after them nothing brings it back."
    )
    erase_archived: bool = Field(
        default=False,
        description="Whether the night erases for good what was archived more than retain_archived_days ago.",
        json_schema_extra={"unit": "yes or no"},
    )
    retain_recalls_days: float = _number(
        0.0, 0.0, 36_500.0, "days", "Days after which the night blanks questions and answers of recalls; 0 keeps them."
    )
    latency_ms: float = _number(
        300.0,
        1.0,
        60_000.0,
        "milliseconds",
        "What a design may take to rank, at the 95th percentile: the gate refuses one that takes longer.",
    )
    evolve_days: float = _number(
        30.0, 0.0, 36_500.0, "days", "Days between two looks of the night for a better policy; 0 for none."
    )
    locked: tuple[str, ...] = Field(
        default=(),
        max_length=64,
        description="Fields of this policy that no proposal of a rule may touch, besides caps, floors and retention.",
        json_schema_extra={"unit": "fields"},
    )
    design: str = Field(
        default="pipeline",
        min_length=1,
        max_length=100,
        description="Name of the design that stores and ranks.",
        json_schema_extra={"unit": "name"},
    )

    @field_validator("locked")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in cls.model_fields]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no policy field")
        return names

    @classmethod
    def preset(cls, name: str) -> MemoryPolicy:
        """One of `default`, `coding`, `research`, `support`.

        Raises:
            InvalidPolicy: Unknown preset.
        """
        if name not in PRESETS:
            raise InvalidPolicy(f"Unknown policy preset {name!r}; choose one of {', '.join(PRESETS)}.")
        return PRESETS[name]

    def changed(self, **fields: object) -> MemoryPolicy:
        """A copy with `fields` replaced and validated.

        Raises:
            InvalidPolicy: A field is unknown or out of range; the message names it and the allowed range.
        """
        return self.validated({**self.model_dump(), **fields})

    def diff(self, other: MemoryPolicy) -> dict[str, tuple[Any, Any]]:
        """The fields in which `other` differs: name to (value here, value there), in the order of the fields."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in type(self).model_fields}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    @classmethod
    def validated(cls, fields: Mapping[str, object]) -> MemoryPolicy:
        """Build a policy from plain data; see `changed` for errors."""
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            complaints = dict.fromkeys(_complaint(item) for item in error.errors())
            raise InvalidPolicy(f"Policy not valid: {' '.join(complaints)}") from error

    @classmethod
    def describe(cls, name: str) -> dict[str, Any]:
        """A field in words: `unit`, `range` (None when any value will do), `default` and `changes`.

        Raises:
            InvalidPolicy: There is no such field.
        """
        field = cls.model_fields.get(name)
        if field is None:
            raise InvalidPolicy(_unknown(name))
        extra = field.json_schema_extra
        unit = str(extra["unit"]) if isinstance(extra, dict) else ""
        return {"unit": unit, "range": _range(name, field), "default": field.default, "changes": field.description}


def _range(name: str, field: FieldInfo) -> str | None:
    limits = {
        key: value for item in field.metadata for key in _LIMITS if (value := getattr(item, key, None)) is not None
    }
    options = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    if options:
        return f"{', '.join(options[:-1])} or {options[-1]}"
    if "ge" in limits:
        return f"{limits['ge']:g} to {limits['le']:.10g}"
    if "min_length" in limits:
        return f"{limits['min_length']} to {limits['max_length']} characters"
    return f"at most {limits['max_length']}" if "max_length" in limits else None


_LIMITS: Final = ("ge", "le", "min_length", "max_length")
_SHAPES: Final = {
    "prioritize_types": "must be a list of at most 64 kinds such as ['error', 'decision'], each matching "
    "[a-z][a-z0-9_-]{0,31}",
    "auto_forget": "must be true or false",
    "erase_archived": "must be true or false",
    "quarantine_channels": "must be a list of channels such as ['tool', 'web'], of user, assistant, tool, web, import, "
    "derived",
    "locked": "must be a list of names of policy fields",
    "design": "must be the name of an installed design, 1 to 100 characters",
}
_WHOLE: Final = frozenset({"max_facts", "token_budget", "cluster_size", "max_writes_per_minute", "max_writes_per_day"})


def _complaint(error: Any) -> str:
    """One sentence about one problem: the field, what it takes, and what it got."""
    name = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        return _unknown(name)
    given = f"not {error['input']!r}"
    if name in _SHAPES:
        return f"{name} {_SHAPES[name]}, {given}."
    told = MemoryPolicy.describe(name)
    if told["unit"] == "name":
        return f"{name} must be {told['range']}, {given}."
    number = "a whole number" if name in _WHOLE else "a number"
    return f"{name} must be {number} from {told['range']} ({told['unit']}), {given}."


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, MemoryPolicy.model_fields, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(MemoryPolicy.model_fields)}."
    return f"There is no field {name!r}; {hint}"


PRESETS: Final[Mapping[str, MemoryPolicy]] = {
    "default": MemoryPolicy(),
    "coding": MemoryPolicy(
        prioritize_types=("error", "decision", "instruction"), decay_rate=0.002, recency_weight=0.02
    ),
    "research": MemoryPolicy(prioritize_types=("insight", "observation"), decay_rate=0.005),
    "support": MemoryPolicy(prioritize_types=("profile", "preference", "task"), decay_rate=0.02, recency_weight=0.05),
}
