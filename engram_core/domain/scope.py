"""Scope: the path that isolates, inherits and shares. It only validates and escapes; it never touches storage."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engram_core.domain.errors import InvalidScope

MAX_LEVELS = 8
MAX_LEVEL_LENGTH = 63
_LEVEL = re.compile(r"[a-z0-9][a-z0-9._@+:-]{0,62}")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._@:-")
# "+" is always followed by two hex digits in an escaped level, so "+-" can mark one thing only:
# that the raw id does not begin with a letter or digit (or is empty).
_LEAD = "x+-"


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """A canonical path such as `acme/support/alice`.

    Args:
        path: 1 to 8 levels joined by `/`; each level matches `[a-z0-9][a-z0-9._@+:-]{0,62}`.

    Raises:
        InvalidScope: The path breaks the grammar. Use `Scope.of` for raw user ids.
    """

    path: str

    def __post_init__(self) -> None:
        if not isinstance(self.path, str):
            raise InvalidScope(f"A scope is a path such as 'acme/alice', not {type(self.path).__name__}.")
        levels = self.path.split("/")
        if len(levels) > MAX_LEVELS:
            raise InvalidScope(f"Scope {_shown(self.path)} has {len(levels)} levels; at most {MAX_LEVELS} are allowed.")
        for level in levels:
            if not _LEVEL.fullmatch(level):
                raise InvalidScope(
                    f"Scope level {_shown(level)} must match [a-z0-9][a-z0-9._@+:-]{{0,62}}. "
                    "For arbitrary ids use Scope.of('acme', raw_user_id), which escapes them."
                )

    @classmethod
    def of(cls, *labels: object) -> Scope:
        """Build a scope from arbitrary labels, escaping each one reversibly.

        `Scope.of("acme", "Alice Smith").labels == ("acme", "Alice Smith")`; two different
        label tuples never give the same scope.

        Raises:
            InvalidScope: No labels, more than 8, or a label longer than 63 characters once escaped.
        """
        if not labels:
            raise InvalidScope("Scope.of() needs at least one label.")
        return cls("/".join(_escape(str(label)) for label in labels))

    @classmethod
    def coerce(cls, value: Scope | str) -> Scope:
        """Return `value` as a Scope; a string is validated, never changed."""
        return value if isinstance(value, Scope) else cls(value)

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels as written, outermost first."""
        return tuple(self.path.split("/"))

    @property
    def labels(self) -> tuple[str, ...]:
        """The levels with `Scope.of`'s escapes undone."""
        return tuple(_unescape(level) for level in self.levels)

    @property
    def parent(self) -> Scope | None:
        """The scope one level up, or None at the top."""
        head, slash, _ = self.path.rpartition("/")
        return Scope(head) if slash else None

    @property
    def lineage(self) -> tuple[Scope, ...]:
        """This scope, then its ancestors, nearest first."""
        levels = self.levels
        return tuple(Scope("/".join(levels[:n])) for n in range(len(levels), 0, -1))

    def child(self, label: object) -> Scope:
        """The scope one level down, with `label` escaped as in `Scope.of`."""
        return Scope(f"{self.path}/{_escape(str(label))}")

    def contains(self, other: Scope) -> bool:
        """Whether `other` is this scope or below it. Compares whole levels, never string prefixes."""
        return other.levels[: len(self.levels)] == self.levels

    def __str__(self) -> str:
        return self.path


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _escape(label: str) -> str:
    raw = label.encode("utf-8", "surrogatepass")
    escaped = "".join(chr(byte) if byte in _PLAIN else f"+{byte:02x}" for byte in raw)
    if not escaped or not escaped[0].isalnum():
        escaped = _LEAD + escaped
    if len(escaped) > MAX_LEVEL_LENGTH:
        raise InvalidScope(
            f"The label {_shown(label)} needs {len(escaped)} characters once escaped; at most {MAX_LEVEL_LENGTH} fit. "
            "Use a shorter id, or hash it yourself."
        )
    return escaped


def _unescape(level: str) -> str:
    body = level.removeprefix(_LEAD)
    raw = re.sub(rb"\+([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), body.encode())
    return raw.decode("utf-8", "surrogatepass")
