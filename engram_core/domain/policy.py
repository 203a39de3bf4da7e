"""MemoryPolicy: a small frozen record of numbers for a scope. Data only; operations interpret it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engram_core.domain.errors import InvalidPolicy

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class MemoryPolicy(BaseModel):
    """How one scope remembers. Children inherit the nearest ancestor's policy as a whole.

    Each field names its unit, range, default and what it changes. Fields of the night (`max_facts`, `decay_rate`,
    `auto_forget`, `compression_strategy`, `retention_floor`, `cluster_*`, `protect_days`, `retain_archived_days`)
    are stored and inherited today; the night that acts on them is a later release.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_facts: int = Field(
        default=10_000,
        ge=1,
        le=100_000_000,
        description="Live facts a scope may hold before the night archives down to it.",
    )
    decay_rate: Share = Field(
        default=0.01, description="Share of recency lost per day; scales the recency term of recall."
    )
    prioritize_types: tuple[str, ...] = Field(
        default=(), max_length=64, description="Kinds that get `priority_weight` in recall and are forgotten last."
    )
    auto_forget: bool = Field(default=False, description="Whether the night may archive on its own.")
    compression_strategy: Literal["summarize", "prune", "merge"] = Field(
        default="merge", description="How the night consolidates clusters."
    )
    retention_floor: Share = Field(
        default=0.5, description="Facts scoring above this keep value are never forgotten automatically."
    )
    token_budget: int = Field(
        default=1024,
        ge=32,
        le=1_000_000,
        description="Tokens of a recall's context when the caller gives no max_tokens.",
    )
    trust_floor: Share = Field(default=0.0, description="Facts trusted less than this are dropped from recalls.")
    importance_weight: float = Field(
        default=0.10, ge=0.0, le=1.0, description="Score added per unit of (importance - 0.5)."
    )
    recency_weight: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Score added for a brand-new fact, decaying by decay_rate per day."
    )
    usefulness_weight: float = Field(
        default=0.50,
        ge=0.0,
        le=1.0,
        description="Score added per unit of usefulness above that of a fact without verdicts; 0 learns nothing.",
    )
    priority_weight: float = Field(
        default=0.05, ge=0.0, le=1.0, description="Score added to kinds in prioritize_types."
    )
    cluster_similarity: Share = Field(default=0.8, description="Cosine above which the night sees facts as related.")
    cluster_size: int = Field(default=5, ge=2, le=1000, description="Facts in a cluster before it is consolidated.")
    protect_days: float = Field(
        default=7.0, ge=0.0, le=36_500.0, description="Days in which a new fact is never forgotten automatically."
    )
    retain_archived_days: float = Field(
        default=90.0, ge=0.0, le=36_500.0, description="Days an archived fact stays restorable."
    )
    design: str = Field(
        default="pipeline", min_length=1, max_length=100, description="Name of the design that stores and ranks."
    )

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

    @classmethod
    def validated(cls, fields: Mapping[str, object]) -> MemoryPolicy:
        """Build a policy from plain data; see `changed` for errors."""
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            lines = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise InvalidPolicy(f"Policy not valid: {lines}.") from error


PRESETS: Final[Mapping[str, MemoryPolicy]] = {
    "default": MemoryPolicy(),
    "coding": MemoryPolicy(
        prioritize_types=("error", "decision", "instruction"), decay_rate=0.002, recency_weight=0.02
    ),
    "research": MemoryPolicy(prioritize_types=("insight", "observation"), decay_rate=0.005),
    "support": MemoryPolicy(prioritize_types=("profile", "preference", "task"), decay_rate=0.02, recency_weight=0.05),
}
