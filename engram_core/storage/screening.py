"""Screening's book over SQL: statements with the same words, and what waits in quarantine. It only reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from engram_core.domain.fact import Fact
from engram_core.domain.scope import Scope
from engram_core.ports import Waiting
from engram_core.storage.codec import FACT_COLUMNS, fact_of, short_key, storable

_CHUNK: Final = 500
_COLUMNS: Final = ",".join(f"f.{name}" for name in FACT_COLUMNS)
_WAITING: Final = "f.status='quarantined'"

Read = Callable[[str, tuple[Any, ...]], list[Any]]


class SqlScreening:
    """See `engram_core.ports.ScreeningBook`.

    Args:
        read: Runs a SELECT with `?` for parameters.
    """

    def __init__(self, read: Read) -> None:
        self._read = read

    def same_words(self, scope: Scope, keys: Sequence[str]) -> dict[str, list[Fact]]:
        short = {short_key(key): key for key in keys if key}
        found: dict[str, list[Fact]] = {}
        names = tuple(short)
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            query = (
                f"SELECT f.duplicate_key,{_COLUMNS} FROM facts f WHERE f.scope_id=(SELECT id FROM scopes WHERE path=?) "
                f"AND f.duplicate_key IN ({','.join('?' * len(chunk))}) "
                "AND f.status IN ('live','pending','quarantined') ORDER BY f.pk"
            )
            for row in self._read(query, (scope.path, *chunk)):
                fact = fact_of(dict(zip(FACT_COLUMNS, row[1:], strict=True)), scope)
                found.setdefault(short[row[0]], []).append(fact)
        return found

    def quarantined(
        self, scope: Scope | None, *, below: bool, limit: int = 100, after: str | None = None
    ) -> list[Fact]:
        where, values = _inside(scope, below=below)
        if after is not None:
            where += " AND f.pk>(SELECT pk FROM facts WHERE id=?)"
            values = (*values, storable(after))
        query = (
            f"SELECT s.path,{_COLUMNS} FROM facts f JOIN scopes s ON s.id=f.scope_id WHERE {_WAITING}{where} "
            "ORDER BY f.pk LIMIT ?"
        )
        rows = self._read(query, (*values, limit))
        return [fact_of(dict(zip(FACT_COLUMNS, row[1:], strict=True)), Scope(row[0])) for row in rows]

    def waiting(self) -> list[Waiting]:
        query = (
            "SELECT s.path, f.principal, f.channel, COUNT(*) AS n FROM facts f JOIN scopes s ON s.id=f.scope_id "
            f"WHERE {_WAITING} GROUP BY s.path, f.principal, f.channel ORDER BY n DESC, s.path, f.principal, f.channel"
        )
        return [Waiting(Scope(path), principal, channel, n) for path, principal, channel, n in self._read(query, ())]


def _inside(scope: Scope | None, *, below: bool) -> tuple[str, tuple[Any, ...]]:
    if scope is None:
        return "", ()
    if not below:
        return " AND s.path=?", (scope.path,)
    # A range rather than LIKE: names may hold its wildcards. "0" is the character after "/".
    return " AND (s.path=? OR (s.path>=? AND s.path<?))", (scope.path, f"{scope.path}/", f"{scope.path}0")
