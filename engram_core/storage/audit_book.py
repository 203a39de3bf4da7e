"""The audit on SQLite or PostgreSQL: one chain of hashes for all processes. It notes and checks; it allows nothing.

Every entry takes its number from one row of `heads`: whoever holds that row writes the next entries, so the chain
cannot fork. Entries of writes stand in the write's own transaction, with digests of the rows it leaves.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from sqlalchemy import Connection

from engram_core.domain.audit import (
    GENESIS,
    MAX_PROBLEMS,
    AuditEntry,
    AuditHead,
    AuditProblem,
    AuditRow,
    Verification,
)
from engram_core.domain.errors import StoreUnavailable
from engram_core.domain.scope import Scope
from engram_core.floor import chain
from engram_core.ports import Batch
from engram_core.storage import schema as t
from engram_core.storage import sealing, writing
from engram_core.storage.codec import epoch, moment, storable
from engram_core.storage.sealing import SEALED, Driven, Touched, run

KEY: Final = "audit_key"
"""Setting that holds the store's secret, 64 hexadecimal digits."""
HEAD: Final = "audit"
_COLUMNS: Final = (
    "number, at, principal, verb, operation, scope, decision, granted, fact_ids, about, sealed, previous, hash"
)
_NAMES: Final = tuple(_COLUMNS.split(", "))
_INSERT: Final = f"INSERT INTO audit ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) RETURNING number"
_TAKE: Final = "UPDATE heads SET number=number+? WHERE name='audit' RETURNING number, hash"
_PAGE: Final = 2_000
_PER_ENTRY: Final = 500
"""Digests in one entry of a change of many rows."""

Progress = Callable[[int, int], None]


class Doors(Protocol):
    """What the book needs of the ledger: transactions, and errors told in the ledger's words."""

    def writing(self) -> Any:
        """A context of a durable transaction."""
        ...

    def observing(self) -> Any:
        """A context of a transaction that does not wait for the disk."""
        ...

    def reading(self) -> Any:
        """A context of a connection on which every statement is its own transaction."""
        ...

    def read(self, query: str, parameters: tuple[Any, ...]) -> list[Any]:
        """One SELECT, the quick way."""
        ...

    def snapshot(self) -> Any:
        """A context of a connection that sees one moment of the database, however long it reads."""
        ...


class SqlAuditBook:
    """The audit of one database; see `engram_core.ports.AuditBook`. Begins the chain if there is none."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._key = self._begun()

    # --- the port ---

    def append(self, entries: Sequence[AuditEntry]) -> AuditHead:
        if not entries:
            return self.head()
        with self._doors.observing() as connection:
            return self._append(connection, [(entry, {}) for entry in entries])

    def head(self) -> AuditHead:
        with self._doors.reading() as connection:
            return _head(connection) or AuditHead(0, GENESIS)

    def entries(
        self,
        *,
        scope: Scope | None = None,
        principal: str | None = None,
        verb: str | None = None,
        decision: str | None = None,
        since: datetime | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditRow]:
        where, values = ["1=1"], []
        if scope is not None:
            # No LIKE: `_` and `%` may stand in a path.
            where.append("(scope=? OR SUBSTR(scope,1,?)=?)")
            values += [scope.path, len(scope.path) + 1, f"{scope.path}/"]
        equal = {"principal": principal, "verb": verb, "decision": decision}
        for name, value in equal.items():
            if value is not None:
                where.append(f"{name}=?")
                values.append(storable(value))
        if since is not None:
            where.append("at>=?")
            values.append(epoch(since))
        if before is not None:
            where.append("number<?")
            values.append(before)
        query = f"SELECT {_COLUMNS} FROM audit WHERE {' AND '.join(where)} ORDER BY number DESC LIMIT ?"
        with self._doors.reading() as connection:
            return [_audit_row(row) for row in run(connection, query, (*values, limit))]

    def verify(self, expect: AuditHead | None = None, progress: Progress | None = None) -> Verification:
        with self._doors.snapshot() as connection:
            return _Check(connection, self._key, expect, progress).run()

    # --- inside other books' transactions ---

    def note(self, connection: Connection, entry: AuditEntry | None, touched: Touched) -> None:
        """Note an entry with digests of the rows that this transaction touched; nothing without an entry."""
        if entry is not None:
            sealed = sealing.digests(connection, self._key, touched)
            self._append(connection, [(entry, part) for part in _parts(sealed)])

    def rows_of(self, connection: Connection, scope: Scope) -> dict[str, list[Any]]:
        """Keys of the sealed rows of a scope and all below it: what an erasure there may blank or remove."""
        where = "o.scope_id IN (SELECT id FROM scopes WHERE path=? OR SUBSTR(path,1,?)=?)"
        inside = (scope.path, len(scope.path) + 1, f"{scope.path}/")
        tables = ("facts", "decisions", "episodes", "links")
        return {
            table: [row[0] for row in run(connection, f"SELECT o.id FROM {table} o WHERE {where}", inside)]
            for table in tables
        }

    def note_batch(
        self,
        connection: Connection,
        batch: Batch,
        seq: int,
        before: Mapping[str, int],
        swept: Mapping[str, Sequence[Any]],
    ) -> None:
        """Note what a commit wrote.

        Args:
            connection: The commit's transaction.
            batch: What was committed.
            seq: The sequence number its decisions carry.
            before: The highest keys of decisions and links before it.
            swept: Keys of rows that an erasure in it may have blanked or removed, by table.
        """
        entry = chain.entry_of(batch)
        if entry is None:
            return
        ids = [write.fact.id for write in batch.writes] + [move.fact_id for move in batch.contexts]
        touched: dict[str, Sequence[Any]] = {"facts": ids, "links": swept.get("links", ())}
        if batch.episode is not None:
            touched["episodes"] = [batch.episode.id]
        touched |= {table: [*keys, *touched.get(table, ())] for table, keys in swept.items()}
        sealed = sealing.digests(connection, self._key, touched)
        # By the key, which has an index: looking for `seq` alone would read every decision there is.
        for table, is_new, mark, value in (
            ("decisions", batch.decisions, " AND o.seq=?", (seq,)),
            ("links", batch.links, "", ()),
        ):
            if is_new:
                fresh = sealing.found(connection, self._key, table, f"o.id>?{mark}", (before[table], *value))
                sealed[table] = sealed.get(table, {}) | fresh
        self._append(connection, [(entry, part) for part in _parts(sealed)])

    def _append(
        self, connection: Connection, entries: Sequence[tuple[AuditEntry, Mapping[str, Mapping[str, str | None]]]]
    ) -> AuditHead:
        taken = run(connection, _TAKE, (len(entries),))
        if not taken:
            raise StoreUnavailable("The head of the audit is missing, so nothing can be noted. Run `engram verify`.")
        last, previous = int(taken[0][0]), str(taken[0][1])
        rows = []
        for number, (entry, sealed) in enumerate(entries, last - len(entries) + 1):
            values = chain.plain(entry, sealed)
            values["principal"] = storable(entry.principal)
            hashed = chain.link(self._key, previous, chain.entry_values(number, values))
            rows.append((number, *(values[name] for name in chain.HASHED), previous, hashed))
            previous = hashed
        for row in rows:
            run(connection, _INSERT, row)
        run(connection, "UPDATE heads SET hash=? WHERE name='audit' RETURNING number", (previous,))
        return AuditHead(last, previous)

    # --- how it begins ---

    def _begun(self) -> bytes:
        with self._doors.reading() as connection:
            found = run(connection, "SELECT value FROM settings WHERE name=?", (KEY,))
        return bytes.fromhex(found[0][0]) if found else self._begin()

    def _begin(self) -> bytes:
        with self._doors.writing() as connection:
            writing.insert_if_absent(connection, t.settings, {"name": KEY, "value": secrets.token_hex(32)})
            for name in (HEAD, "access"):
                writing.insert_if_absent(connection, t.heads, {"name": name, "number": 0, "hash": GENESIS})
            # Whoever comes second waits here, and finds the chain begun.
            ((number, _),) = run(connection, _TAKE, (0,))
            key = bytes.fromhex(run(connection, "SELECT value FROM settings WHERE name=?", (KEY,))[0][0])
            if number == 0:
                self._key = key
                self._seal_everything(connection)
            return key

    def _seal_everything(self, connection: Connection) -> None:
        """Note the digests of the rows that were there before the audit was."""
        entry = AuditEntry(datetime.now(UTC), chain.STORE, "admin", "begin", None, by=chain.STORE)
        for table in SEALED:
            for page in sealing.pages(connection, self._key, table):
                self._append(connection, [(entry, part) for part in _parts({table: dict(page)})])


class _Check:
    """One pass over the chain and the rows."""

    def __init__(self, connection: Connection, key: bytes, expect: AuditHead | None, progress: Progress | None) -> None:
        self._connection = connection
        self._key = key
        self._expect = expect
        self._progress = progress
        self._problems: list[AuditProblem] = []
        self._found = 0
        self._sealed: dict[str, dict[str, str | None]] = {table: {} for table in SEALED}
        self._done = 0
        self._total = 0

    def run(self) -> Verification:
        counts = {table: sealing.count(self._connection, table) for table in SEALED}
        entries = int(run(self._connection, "SELECT COUNT(*) FROM audit", ())[0][0])
        self._total = entries + sum(counts.values())
        self._file()
        self._same_key()
        head = self._chain()
        for table in SEALED:
            self._rows(table)
        return Verification(head, entries, counts, tuple(self._problems), self._found)

    def _trouble(self, kind: str, line: str, table: str | None = None, key: str | None = None) -> None:
        self._found += 1
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(AuditProblem(kind, line, table, key))

    def _moved(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)

    def _file(self) -> None:
        if self._connection.dialect.name != "sqlite":
            return
        for (line,) in run(self._connection, "PRAGMA integrity_check(20)", ()):
            if line != "ok":
                self._trouble("file", f"The database finds its own file damaged: {line}")

    def _same_key(self) -> None:
        found = run(self._connection, "SELECT value FROM settings WHERE name=?", (KEY,))
        if not found or found[0][0] != self._key.hex():
            self._trouble("key", "The audit's key in the store is not the one it was opened with.", "settings", KEY)

    def _chain(self) -> AuditHead:
        last = AuditHead(0, GENESIS)
        is_expected_met = self._expect is None or self._expect == last
        while rows := run(
            self._connection,
            f"SELECT {_COLUMNS} FROM audit WHERE number>? ORDER BY number LIMIT {_PAGE}",
            (last.number,),
        ):
            for row in rows:
                last = self._entry(dict(zip(_NAMES, row, strict=True)), last)
                is_expected_met = is_expected_met or last == self._expect
            self._moved(len(rows))
        head = _head(self._connection)
        if head is None:
            self._trouble("head", "The head of the audit is missing.", "heads", HEAD)
        elif head != last:
            line = (
                f"The chain ends at {last.number}; its head says {head.number}. Entries were cut off or the head moved."
            )
            self._trouble("head", line, "heads", HEAD)
        if not is_expected_met and self._expect is not None:
            line = f"Entry {self._expect.number} with the expected hash is not in the chain: it was cut or rewritten."
            self._trouble("expected_head", line)
        return last

    def _entry(self, row: dict[str, Any], last: AuditHead) -> AuditHead:
        number = int(row["number"])
        if number != last.number + 1:
            line = f"Entries {last.number + 1} to {number - 1} are missing."
            self._trouble("missing_entry", line, "audit", str(last.number + 1))
        hashed = chain.link(self._key, str(row["previous"]), chain.entry_values(number, row))
        if hashed != row["hash"] or row["previous"] != last.hash:
            self._trouble("entry", f"Entry {number} was changed, or is not what followed.", "audit", str(number))
        self._take(row["sealed"])
        return AuditHead(number, str(row["hash"]))

    def _take(self, sealed: Any) -> None:
        try:
            told = json.loads(sealed)
            for table, rows in told.items():
                self._sealed[table] |= rows
        except (TypeError, ValueError, KeyError, AttributeError):
            return  # the entry was changed, and that is on record already

    def _rows(self, table: str) -> None:
        known = {key: digest for key, digest in self._sealed[table].items() if digest is not None}
        for page in sealing.pages(self._connection, self._key, table):
            for key, digest in page:
                expected = known.pop(key, None)
                if expected is None:
                    self._trouble("row_inserted", f"No entry of the audit wrote {table} {key}.", table, key)
                elif expected != digest:
                    self._trouble("row_changed", f"{table} {key} is not as its last entry left it.", table, key)
            self._moved(len(page))
        for key in known:
            self._trouble("row_missing", f"{table} {key} is gone, and no entry of the audit removed it.", table, key)


def _parts(sealed: Mapping[str, Mapping[str, str | None]]) -> list[dict[str, dict[str, str | None]]]:
    """Digests in portions of one entry each; at least one."""
    flat = [(table, key, digest) for table, rows in sealed.items() for key, digest in rows.items()]
    parts: list[dict[str, dict[str, str | None]]] = []
    for start in range(0, max(len(flat), 1), _PER_ENTRY):
        part: dict[str, dict[str, str | None]] = {}
        for table, key, digest in flat[start : start + _PER_ENTRY]:
            part.setdefault(table, {})[key] = digest
        parts.append(part)
    return parts


def _head(connection: Driven) -> AuditHead | None:
    found = run(connection, "SELECT number, hash FROM heads WHERE name='audit'", ())
    return AuditHead(int(found[0][0]), str(found[0][1])) if found else None


def _audit_row(row: Sequence[Any]) -> AuditRow:
    told = dict(zip(_NAMES, row, strict=True))
    at = moment(told["at"])
    assert at is not None
    entry = AuditEntry(
        at=at,
        principal=told["principal"],
        verb=told["verb"],
        operation=told["operation"],
        scope=Scope(told["scope"]) if told["scope"] is not None else None,
        decision=told["decision"],
        by=told["granted"],
        fact_ids=tuple(json.loads(told["fact_ids"])),
        about=told["about"],
    )
    return AuditRow(told["number"], entry, json.loads(told["sealed"]), told["previous"], told["hash"])
