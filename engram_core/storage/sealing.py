"""Sealing: which rows of the ledger the audit keeps digests of, and how they are read for it. It writes nothing.

A digest covers every column by name, the scope by its path. A column that holds what it held before it existed (NULL,
or its server's default) is left out, so that a migration that adds one changes no digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    """What is needed of SQLAlchemy's connections."""

    @property
    def dialect(self) -> Any: ...

    @property
    def connection(self) -> Any: ...

    def in_transaction(self) -> bool: ...

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


def _absent(column: Any) -> object:
    """What a row held in a column before the column was."""
    default = column.server_default
    return None if default is None else column.type.python_type(default.arg)


_COLUMNS: Final = {name: [(column.name, _absent(column)) for column in item.table.c] for name, item in SEALED.items()}
_PLAIN: Final[Mapping[type, Callable[[Any], object]]] = {bool: int, memoryview: bytes}
"""Some databases have no booleans, and some hand out views of bytes."""


def member_key(group: str, principal: str) -> str:
    """The key of a membership."""
    return f"{group}{_SEPARATOR}{principal}"


def digests(connection: Driven, key: bytes, touched: Touched) -> dict[str, dict[str, str | None]]:
    """The digests of rows as they are in this transaction, by table and key; None for a row that is not there."""
    sealed: dict[str, dict[str, str | None]] = {}
    for table, keys in touched.items():
        wanted = list(dict.fromkeys(keys))
        rows: dict[str, str | None] = {str(one): None for one in wanted}
        for start in range(0, len(wanted), _CHUNK):
            chunk = tuple(wanted[start : start + _CHUNK])
            rows |= found(connection, key, table, f"{SEALED[table].key} IN ({','.join('?' * len(chunk))})", chunk)
        sealed[table] = rows
    return sealed


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
    told = [
        (name, _PLAIN[type(value)](value) if type(value) in _PLAIN else value)
        for (name, absent), value in zip(_COLUMNS[table], values, strict=True)
        if value != absent
    ]
    return chain.seal(key, [table, *told])


def found(connection: Driven, key: bytes, table: str, where: str, values: tuple[Any, ...]) -> dict[str, str | None]:
    """The digests of the rows `o` of a table that fit a condition, by key."""
    rows = run(connection, f"{_SELECTS[table]} AND {where}", values)
    return {str(row[0]): digest(key, table, row[2:]) for row in rows}


def run(connection: Driven, query: str, parameters: tuple[Any, ...]) -> list[Any]:
    """Run a statement with `?` marks, and return its rows."""
    if connection.dialect.name != "sqlite":
        return list(connection.exec_driver_sql(query.replace("?", "%s"), parameters))
    if not connection.in_transaction():
        return list(connection.exec_driver_sql(query, parameters))
    # Past SQLAlchemy, once it has begun the transaction: what it does around a statement costs more than that does.
    rows: list[Any] = connection.connection.driver_connection.execute(query, parameters).fetchall()
    return rows
