"""Tables: walks every row of a ledger as plain values that are the same on every database. It knows no table by name.

What belongs to a store is told by the schema alone, so a table that is added tomorrow is walked, copied and compared
like the others. Only what describes one machine's index is `LOCAL` and stays behind.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, text

from engram_core.domain.fact import RECALLABLE
from engram_core.storage import schema, writing
from engram_core.storage.codec import unspaced

LOCAL = frozenset({"generations", "collections", "leases"})
"""Books of one index in one place, and who writes it now: another place builds its own."""
DERIVED = frozenset({"fact_words"})
"""Tables that the migrations make and the schema does not name; `write_full_text` fills them from the facts."""
BATCH = 500

Row = Mapping[str, Any]
_STREAMED = {"yield_per": BATCH}
_MODULUS = 1 << 256


def carried() -> list[Table]:
    """The tables that make up a store, those before the ones that refer to them."""
    return [table for table in schema.metadata.sorted_tables if table.name not in LOCAL]


@dataclass(slots=True)
class Digest:
    """How many rows a table has, and a sum over them that tells two tables apart whatever order they are read in.

    The sum is that of the rows' SHA-256 modulo 2^256: databases sort text differently, so no order can be relied on.
    """

    rows: int = 0
    total: int = 0

    def add(self, table: Table, row: Row) -> None:
        """Count one row in."""
        self.rows += 1
        self.total = (self.total + int.from_bytes(hashlib.sha256(_spelled(table, row)).digest(), "big")) % _MODULUS

    @property
    def hex(self) -> str:
        """The sum, 64 hexadecimal digits."""
        return f"{self.total:064x}"


def walk(connection: Connection, table: Table, *, batch: int = BATCH) -> Iterator[list[Row]]:
    """Every row of a table in batches, by primary key; memory holds one batch. Needs a transaction on PostgreSQL."""
    query = select(table).order_by(*table.primary_key.columns)
    result = connection.execute(query, execution_options={"yield_per": batch})
    for rows in result.mappings().partitions():
        yield list(rows)  # type: ignore[arg-type]  # a RowMapping is a mapping from names


def count(connection: Connection, table: Table) -> int:
    """How many rows a table has."""
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def digest(connection: Connection, table: Table, seen: Callable[[int], None] | None = None) -> Digest:
    """Read a table whole and sum it up; `seen` is told of each batch's size."""
    found = Digest()
    for rows in walk(connection, table):
        for row in rows:
            found.add(table, row)
        if seen is not None:
            seen(len(rows))
    return found


def summed(digests: Mapping[str, Digest]) -> str:
    """One digest of a whole store: equal for two stores that hold the same rows in the same tables."""
    lines = [f"{name} {digests[name].rows} {digests[name].hex}\n" for name in sorted(digests)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows as they are, keys included."""
    if rows:
        connection.execute(insert(table), [dict(row) for row in rows])


def clear(connection: Connection) -> None:
    """Delete every row of every table, local ones included."""
    for table in reversed(schema.metadata.sorted_tables):
        connection.execute(table.delete())
    _clear_full_text(connection)


def restart_numbers(connection: Connection) -> None:
    """Let the database number new rows after the highest one written with its key. SQLite does so by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in schema.metadata.sorted_tables:
        for column in table.primary_key.columns:
            sequence = connection.execute(
                text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column.name}
            ).scalar()
            if sequence is not None:
                highest = connection.execute(select(func.max(column))).scalar()
                connection.execute(
                    text("SELECT setval(CAST(:sequence AS regclass), :value, :used)"),
                    {"sequence": sequence, "value": highest or 1, "used": highest is not None},
                )


def write_full_text(connection: Connection) -> None:
    """Build the full text anew from the facts that can be recalled."""
    _clear_full_text(connection)
    for rows in walk(connection, schema.facts):
        recallable = [row for row in rows if row["status"] in RECALLABLE]
        writing.add_terms(
            connection,
            [
                {"pk": row["pk"], "terms": " ".join(writing.terms(row["scope_id"], unspaced(row["context_stems"])))}
                for row in recallable
            ],
        )


def full_text(connection: Connection) -> Digest:
    """What the full text holds: every term with the number of facts that have it."""
    return _frequencies(_terms_held(connection))


def full_text_expected(connection: Connection) -> Digest:
    """What the full text must hold by the word statistics of the scopes."""
    words = schema.words.c
    query = select(words.scope_id, words.stem, words.context_df).where(words.context_df > 0)
    rows = connection.execute(query, execution_options=_STREAMED)
    return _frequencies((writing.terms(scope, [stem])[0], df) for scope, stem, df in rows)


def _terms_held(connection: Connection) -> Iterator[tuple[str, int]]:
    if connection.dialect.name == "sqlite":
        vocabulary = (
            "CREATE VIRTUAL TABLE IF NOT EXISTS temp.fact_vocabulary USING fts5vocab('main', 'fact_words', 'row')"
        )
        connection.exec_driver_sql(vocabulary)
        query = "SELECT term, doc FROM temp.fact_vocabulary"
    else:
        query = "SELECT word, ndoc FROM ts_stat('SELECT terms FROM fact_words')"
    for row in connection.execute(text(query), execution_options=_STREAMED):
        yield row[0], row[1]


def _frequencies(terms: Iterator[tuple[str, int]]) -> Digest:
    found = Digest()
    for term, documents in terms:
        found.rows += 1
        sha = hashlib.sha256(f"{term} {documents}".encode()).digest()
        found.total = (found.total + int.from_bytes(sha, "big")) % _MODULUS
    return found


def _clear_full_text(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.execute(text("INSERT INTO fact_words(fact_words) VALUES('delete-all')"))
    else:
        connection.execute(text("DELETE FROM fact_words"))


def _spelled(table: Table, row: Row) -> bytes:
    """A row as bytes that no other row has: each value with its kind and length, in the schema's order."""
    return b"".join(_value(row[column.name]) for column in table.columns)


def _value(value: Any) -> bytes:
    match value:
        case None:
            return b"n"
        case bool() | int():
            spelled = b"i", str(int(value)).encode()
        case float():
            # Adding zero turns -0.0, which SQLite does not keep, into 0.0.
            spelled = b"f", struct.pack(">d", value + 0.0)
        case str():
            spelled = b"s", value.encode("utf-8", "surrogatepass")
        case bytes() | bytearray() | memoryview():
            spelled = b"b", bytes(value)
        case _:
            raise TypeError(f"A column gave {type(value).__name__}, which has no spelling here.")
    kind, content = spelled
    return kind + struct.pack(">I", len(content)) + content
