"""Sealing: which rows of the ledger the audit keeps digests of, and how they are read for it. It writes nothing.

A digest covers every column by name, the scope by its path. A column that holds what it held before it existed (NULL,
or its server's default) is left out, so that a migration that adds one changes no digest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlalchemy import Table

from engram_core.floor import chain
from engram_core.storage import schema as t

SEALED_SETTINGS: Final = ("owner",)
_CHUNK: Final = 500
_PAGE: Final = 2_000
_SEPARATOR: Final = "|"


class Driven(Protocol):
    """A connection that runs statements as the driver spells them: SQLAlchemy's own, or a bare one."""

    @property
    def dialect(self) -> Any: ...

    def exec_driver_sql(self, statement: str, parameters: Any = None) -> Any: ...


Touched = Mapping[str, Sequence[Any]]
"""Keys of rows that a transaction wrote or removed, by table."""


@dataclass(frozen=True, slots=True)
class _Sealed:
    """How the rows of one table are found: by key, and page by page."""

    table: Table
    key: str
    page: str
    only: str = "1=1"

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.table.c)

    @property
    def select(self) -> str:
        shown = [
            "(SELECT path FROM scopes WHERE scopes.id=o.scope_id)" if name == "scope_id" else f'o."{name}"'
            for name in self.columns
        ]
        return f"SELECT {self.key}, {self.page}, {', '.join(shown)} FROM {self.table.name} o WHERE {self.only}"


_SEALED: Final = (
    _Sealed(t.facts, "o.id", "o.pk"),
    _Sealed(t.decisions, "o.id", "o.id"),
    _Sealed(t.episodes, "o.id", "o.id"),
    _Sealed(t.links, "o.id", "o.id"),
    _Sealed(t.policies, "o.id", "o.id"),
    _Sealed(t.grants, "o.id", "o.id"),
    _Sealed(
        t.members, f"o.group_name || '{_SEPARATOR}' || o.principal", f"o.group_name || '{_SEPARATOR}' || o.principal"
    ),
    _Sealed(t.private_scopes, "o.path", "o.path"),
    _Sealed(t.settings, "o.name", "o.name", f"o.name IN ({', '.join(repr(name) for name in SEALED_SETTINGS)})"),
)
SEALED: Final = {item.table.name: item for item in _SEALED}
_SELECTS: Final = {name: item.select for name, item in SEALED.items()}
_ABSENT: Final = {
    name: [None if column.server_default is None else str(column.server_default.arg) for column in item.table.c]  # type: ignore[attr-defined]
    for name, item in SEALED.items()
}


def member_key(group: str, principal: str) -> str:
    """The key of a membership."""
    return f"{group}{_SEPARATOR}{principal}"


def digests(connection: Driven, key: bytes, touched: Touched) -> dict[str, dict[str, str | None]]:
    """The digests of rows as they are in this transaction, by table and key; None for a row that is not there."""
    found: dict[str, dict[str, str | None]] = {}
    for table, keys in touched.items():
        wanted = list(dict.fromkeys(keys))
        rows: dict[str, str | None] = {str(one): None for one in wanted}
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            query = f"{_SELECTS[table]} AND {SEALED[table].key} IN ({','.join('?' * len(chunk))})"
            for row in run(connection, query, tuple(chunk)):
                rows[str(row[0])] = digest(key, table, row[2:])
        found[table] = rows
    return found


def pages(connection: Driven, key: bytes, table: str) -> Iterator[list[tuple[str, str]]]:
    """Key and digest of every row of a table, in pages."""
    item = SEALED[table]
    after: Any = None
    while True:
        more = f" AND {item.page} > ?" if after is not None else ""
        query = f"{_SELECTS[table]}{more} ORDER BY {item.page} LIMIT {_PAGE}"
        rows = run(connection, query, (after,) if after is not None else ())
        if not rows:
            return
        yield [(str(row[0]), digest(key, table, row[2:])) for row in rows]
        after = rows[-1][1]


def count(connection: Driven, table: str) -> int:
    """How many rows of a table are sealed."""
    query = f"SELECT COUNT(*) FROM {table} o WHERE {SEALED[table].only}"
    return int(run(connection, query, ())[0][0])


def digest(key: bytes, table: str, values: Sequence[Any]) -> str:
    """The digest of one row, given in the order of its columns."""
    told: list[object] = [table]
    for name, value, absent in zip(SEALED[table].columns, values, _ABSENT[table], strict=True):
        if value is None if absent is None else _spelled(value) == absent:
            continue
        told += [name, int(value) if isinstance(value, bool) else value]
    return chain.seal(key, told)


def _spelled(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def run(connection: Driven, query: str, parameters: tuple[Any, ...]) -> list[Any]:
    """Run a statement with `?` marks on the driver's cursor: building one costs more than running it."""
    if connection.dialect.name != "sqlite":
        query = query.replace("?", "%s")
    return list(connection.exec_driver_sql(query, parameters))
