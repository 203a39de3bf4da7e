"""Access as words: principals, groups, verbs and grants. Types and their grammar only; `floor.access` decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, get_args

from engram_core.domain.errors import InvalidInput
from engram_core.domain.message import aware
from engram_core.domain.scope import Scope

Verb = Literal["read", "write", "curate", "admin"]
"""What may be done in a scope; none includes another. docs/access.md says what each covers."""
VERBS: Final[tuple[Verb, ...]] = get_args(Verb)

PRESETS: Final[Mapping[str, tuple[Verb, ...]]] = {
    "reader": ("read",),
    "contributor": ("read", "write"),
    "curator": ("read", "write", "curate"),
    "owner": ("read", "write", "curate", "admin"),
    "drop-box": ("write",),
}
"""Names for sets of verbs; a grant of a preset is one grant for each of its verbs."""

MAX_NAME: Final = 200
PRINCIPALS: Final = ("user", "agent", "service")
GROUP: Final = "group"


def is_group(name: str) -> bool:
    """Whether a grantee is a group."""
    return name.startswith(f"{GROUP}:")


def principal_named(name: object) -> str:
    """`name`, if it is a principal: `user:`, `agent:` or `service:` and a name. Raises InvalidInput."""
    return _named(name, PRINCIPALS, "A principal is a name such as 'user:alice', 'agent:billing' or 'service:ingest'")


def group_named(name: object) -> str:
    """`name`, if it is a group: `group:` and a name. Raises InvalidInput."""
    return _named(name, (GROUP,), "A group is a name such as 'group:support'")


def grantee_named(name: object) -> str:
    """`name`, if a grant can be made to it: a principal or a group. Raises InvalidInput."""
    wanted = "A grant is made to a name such as 'user:alice', 'agent:billing', 'service:ingest' or 'group:support'"
    return _named(name, (*PRINCIPALS, GROUP), wanted)


def verb_named(verb: object) -> Verb:
    """`verb`, if it is one. Raises InvalidInput."""
    for known in VERBS:
        if verb == known:
            return known
    raise InvalidInput(f"A verb is one of {', '.join(VERBS)}; not {verb!r}.")


def _named(name: object, kinds: tuple[str, ...], wanted: str) -> str:
    rule = f"{wanted}, at most {MAX_NAME} printable characters without spaces"
    if not isinstance(name, str):
        raise InvalidInput(f"{rule}; not {type(name).__name__}.")
    kind, colon, rest = name.partition(":")
    is_plain = name.isprintable() and not any(letter.isspace() for letter in name)
    if kind not in kinds or not colon or not rest or not is_plain or len(name) > MAX_NAME:
        raise InvalidInput(f"{rule}; not {name[:MAX_NAME]!r}.")
    return name


def verbs_of(verb_or_preset: object) -> tuple[Verb, ...]:
    """The verbs that a verb or a preset stands for. Raises InvalidInput."""
    if verb_or_preset in VERBS:
        return (verb_or_preset,)
    if isinstance(verb_or_preset, str) and verb_or_preset in PRESETS:
        return PRESETS[verb_or_preset]
    raise InvalidInput(f"Grant one of {', '.join(VERBS)}, or one of {', '.join(PRESETS)}; not {verb_or_preset!r}.")


@dataclass(frozen=True, slots=True)
class Grant:
    """One thing that one principal or group may do in one scope. Grants only add; nothing takes away but revoking.

    Attributes:
        grantee: A principal, or a group for all its members.
        deep: Also in every scope below.
        expires: From then on it counts no longer; None is for good.
        max_trust: The most trust a fact gets that is written by this grant, 0 to 1.
        reason: Why, as its giver put it; None if nobody said.
        id: Number in the store, from 1; 0 before it is stored.
    """

    grantee: str
    verb: Verb
    scope: Scope
    granted_by: str
    granted_at: datetime
    deep: bool = True
    expires: datetime | None = None
    max_trust: float = 1.0
    reason: str | None = None
    id: int = 0

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise InvalidInput(f"A verb is one of {', '.join(VERBS)}; not {self.verb!r}.")
        if not isinstance(self.max_trust, int | float) or not 0.0 <= self.max_trust <= 1.0:
            raise InvalidInput(f"max_trust must be a number from 0 to 1, not {self.max_trust!r}.")
        if self.expires is not None:
            aware(self.expires)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "id": self.id,
            "grantee": self.grantee,
            "verb": self.verb,
            "scope": self.scope.path,
            "deep": self.deep,
            "expires": self.expires.isoformat() if self.expires else None,
            "max_trust": self.max_trust,
            "granted_by": self.granted_by,
            "granted_at": self.granted_at.isoformat(),
            "reason": self.reason,
        }

    def __str__(self) -> str:
        how = "" if self.deep else ", this scope only"
        until = f", until {self.expires:%Y-%m-%d %H:%M}" if self.expires else ""
        trust = f", trust at most {self.max_trust:g}" if self.max_trust < 1.0 else ""
        return f"grant {self.id}: {self.grantee} may {self.verb} in {self.scope}{how}{until}{trust}"


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Everything a store holds on who may do what, as of one number.

    Attributes:
        number: Grows with every change; equal numbers mean equal rules.
        grants: In the order they were made, expired ones included.
        members: Principals of each group.
        private: Scopes that stop the grants made above them.
    """

    number: int = 0
    grants: tuple[Grant, ...] = ()
    members: Mapping[str, frozenset[str]] = field(default_factory=dict)
    private: frozenset[Scope] = frozenset()


@dataclass(frozen=True, slots=True)
class Allowance:
    """Why something is allowed.

    Attributes:
        by: `owner`, or `grant 12`: what the audit notes.
        max_trust: The most trust a fact gets that is written by it.
    """

    by: str
    max_trust: float = 1.0


@dataclass(frozen=True, slots=True)
class AccessExplanation:
    """The answer to "may it, and why?".

    Attributes:
        allowed: Whether the principal may.
        by: `owner` or `grant 12`; `no grant`.
        lines: What allows it; or every grant that comes near, and why it does not count.
    """

    principal: str
    verb: str
    scope: str
    allowed: bool
    by: str
    lines: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.allowed

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "principal": self.principal,
            "verb": self.verb,
            "scope": self.scope,
            "allowed": self.allowed,
            "by": self.by,
            "lines": list(self.lines),
        }

    def __str__(self) -> str:
        verdict = "may" if self.allowed else "may not"
        return "\n".join([f"{self.principal} {verdict} {self.verb} in {self.scope}", *(f"  {x}" for x in self.lines)])
