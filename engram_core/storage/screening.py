"""Screening over SQL: statements with the same words, what waits, and texts to cover. It decides nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from sqlalchemy import Column, Connection, Table, Text, and_, delete, select, true, update

from engram_core.domain.fact import Fact
from engram_core.domain.scope import Scope
from engram_core.ports import Waiting
from engram_core.storage import schema as t
from engram_core.storage.codec import FACT_COLUMNS, dumps, fact_of, short_key, storable

_CHUNK: Final = 500
_COLUMNS: Final = ",".join(f"f.{name}" for name in FACT_COLUMNS)
_WAITING: Final = "f.status='quarantined'"

_NO_TEXTS: Final = frozenset(
    {"facts", "settings", "policies", "words", "scopes", "generations", "collections", "leases", "audit"}
    | {
        "designs",
        "design_trials",
        "lab_runs",
        "proposals",
        "proposal_steps",
        "erasures",
        "tombstones",
        "holds",
        "grants",
    }
)
"""Tables whose texts are no conversation's: names, numbers, programs and books of their own. Facts go another way."""

Opening = Callable[[], AbstractContextManager[Connection]]
Read = Callable[[str, tuple[Any, ...]], list[Any]]


class SqlScreening:
    """See `engram_core.ports.ScreeningBook`.

    Args:
        read: Runs a SELECT with `?` for parameters.
        opening, writing: A connection that reads everything recorded so far; one in a transaction.
    """

    def __init__(self, read: Read, opening: Opening, writing: Opening) -> None:
        self._read = read
        self._opening = opening
        self._writing = writing

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

    def stored(self, scope: Scope | None, *, limit: int, after: str | None = None) -> list[Fact]:
        where, values = _inside(scope, below=True)
        if after is not None:
            where += " AND f.pk>(SELECT pk FROM facts WHERE id=?)"
            values = (*values, storable(after))
        query = (
            f"SELECT s.path,{_COLUMNS} FROM facts f JOIN scopes s ON s.id=f.scope_id WHERE f.status<>'erased'{where} "
            "ORDER BY f.pk LIMIT ?"
        )
        rows = self._read(query, (*values, limit))
        return [fact_of(dict(zip(FACT_COLUMNS, row[1:], strict=True)), Scope(row[0])) for row in rows]

    def cover(self, scopes: Sequence[Scope] | None, clean: Callable[[str], str], *, dry_run: bool) -> dict[str, int]:
        with self._opening() as connection:
            # What is recorded in memory only is on disk once this connection is open.
            wanted = None if scopes is None else {scope.path for scope in scopes}
            rows = connection.execute(select(t.scopes.c.id, t.scopes.c.path)).all()
            ids = [id_ for id_, path in rows if wanted is None or path in wanted]
        counts: Counter[str] = Counter()
        with (self._opening if dry_run else self._writing)() as connection:
            for table in t.metadata.sorted_tables:
                columns = [] if table.name in _NO_TEXTS else [c for c in table.columns if isinstance(c.type, Text)]
                if columns and (wanted is None or "scope_id" in table.columns):
                    where = table.c.scope_id.in_(ids) if "scope_id" in table.columns else true()
                    counts[table.name] += _cover(connection, table, columns, where, clean, dry_run=dry_run)
            if not dry_run:
                gone = t.words.c.body_df <= 0, t.words.c.context_df <= 0
                connection.execute(delete(t.words).where(t.words.c.scope_id.in_(ids), *gone))
        return {name: count for name, count in counts.items() if count}


def _cover(
    connection: Connection,
    table: Table,
    columns: Sequence[Column[Any]],
    where: Any,
    clean: Callable[[str], str],
    *,
    dry_run: bool,
) -> int:
    """Clean the rows of one table; return how many change."""
    keys = list(table.primary_key.columns)
    count = 0
    for row in connection.execute(select(*keys, *columns).where(where)).mappings().all():
        values = {column.name: cleaned(row[column.name], clean) for column in columns if column not in keys}
        changed = {name: value for name, value in values.items() if value != row[name]}
        count += bool(changed)
        if changed and not dry_run:
            here = and_(*(key == row[key.name] for key in keys))
            connection.execute(update(table).where(here).values(**changed))
    return count


def cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    """A stored text cleaned: the strings of a JSON document one by one, any other text as a whole."""
    if not isinstance(value, str) or not value:
        return value
    if value[0] in "[{":
        try:
            document = json.loads(value)
        except ValueError:
            return clean(value)
        after = _strings(document, clean)
        return value if after == document else dumps(after)
    return clean(value)


def _strings(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {key: _strings(item, clean) for key, item in value.items()}
    if isinstance(value, list):
        return [_strings(item, clean) for item in value]
    return value


def _inside(scope: Scope | None, *, below: bool) -> tuple[str, tuple[Any, ...]]:
    if scope is None:
        return "", ()
    if not below:
        return " AND s.path=?", (scope.path,)
    # A range rather than LIKE: names may hold its wildcards. "0" is the character after "/".
    return " AND (s.path=? OR (s.path>=? AND s.path<?))", (scope.path, f"{scope.path}/", f"{scope.path}0")
