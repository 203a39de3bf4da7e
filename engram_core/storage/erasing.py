"""Erasing: blanks what rows say about erased facts, and makes the database forget the bytes. It decides nothing.

What an erasure is tied to by id is blanked; whatever else of the scope holds its words has them covered, in every text
column of every table but a few, so that a table added tomorrow is swept like the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Column, Connection, Table, Text, and_, delete, insert, or_, select, text, true, update

from engram_core.domain.errors import StoreUnavailable
from engram_core.domain.fact import Fact, Status
from engram_core.domain.scope import Scope
from engram_core.keeping import Aside, Erasure, Hold, Tombstone
from engram_core.measure.redaction import Redaction, without_words
from engram_core.storage import schema as t
from engram_core.storage.codec import FACT_COLUMNS, dumps, epoch, fact_of, moment, storable
from engram_core.storage.engines import Engines
from engram_core.storage.trouble import mapped

_CHUNK: Final = 500
_PATIENCE_S: Final = 5.0
"""How long a truncating checkpoint waits for readers of other connections."""
_ERASED: Final = Status.ERASED.value
_SEEN: Final = "tombstones_seen"
"""Setting that says which tombstones beside the ledger it knows of."""

# Texts of facts that stay are theirs; histories and messages are swept by their own rules below.
_KEPT_TABLES: Final = frozenset(
    {"facts", "decisions", "episodes", "policies", "erasures", "tombstones", "holds", "settings", "words"}
    | {"designs", "design_trials", "lab_runs", "generations", "audit"}
)
_FULL: Final = (
    "facts", "episodes", "decisions", "recalls", "usage", "parked", "scope_nights", "links", "words", "fact_words",
    "tallies", "scopes", "lineage", "recalled",
)  # fmt: skip
"""Tables that PostgreSQL rewrites, since an update leaves the old row in the file."""


def blank(connection: Connection, scope: int, path: Scope, erasure: Erasure) -> None:
    """Carry out an erasure in one scope; the facts' own rows are written by the same batch."""
    shown = _shown(connection, erasure.fact_ids)
    # Before the histories lose their words: they say which episodes the messages belong to.
    _blank_messages(connection, scope, erasure)
    _blank_histories(connection, scope, erasure)
    _blank_recalls(connection, shown, erasure)
    _forget_relations(connection, erasure.fact_ids)
    if erasure.is_whole:
        _blank_scope(connection, scope)
    _sweep(connection, _below(connection, path), erasure)
    connection.execute(
        delete(t.words).where(t.words.c.scope_id == scope, t.words.c.body_df <= 0, t.words.c.context_df <= 0)
    )
    # Whatever index exists may have held their vectors; the next opening builds it anew, even after a kill.
    connection.execute(update(t.generations).where(t.generations.c.state != "building").values(state="bad"))
    bury(connection, erasure.tombstones)
    _begin_receipt(connection, erasure)


def bury(connection: Connection, tombstones: Sequence[Tombstone]) -> int:
    """Add the tombstones that are not there yet."""
    known = {row[0] for chunk in _chunks([item.mark for item in tombstones]) for row in _marked(connection, chunk)}
    fresh = {item.mark: item for item in tombstones if item.mark not in known}
    if fresh:
        connection.execute(insert(t.tombstones), [_tombstone_row(item) for item in fresh.values()])
    return len(fresh)


def _marked(connection: Connection, marks: Sequence[str]) -> Any:
    return connection.execute(select(t.tombstones.c.mark).where(t.tombstones.c.mark.in_(marks)))


def _tombstone_row(item: Tombstone) -> dict[str, Any]:
    return {"mark": item.mark, "kind": item.kind, "erasure": item.erasure, "at": epoch(item.at)}


def _begin_receipt(connection: Connection, erasure: Erasure) -> None:
    if connection.execute(select(t.erasures.c.id).where(t.erasures.c.id == erasure.id)).first() is None:
        receipt = {"id": erasure.id, "at": erasure.at.isoformat(), "principal": erasure.principal, "state": "begun"}
        row = {"id": erasure.id, "at": epoch(erasure.at), "receipt": dumps(receipt)}
        connection.execute(insert(t.erasures), row)


# --- what is tied to the facts by id ---------------------------------------------------------------------------------


def _shown(connection: Connection, ids: Sequence[str]) -> set[str]:
    """The recalls that showed one of the facts, in whatever scope they were made."""
    query = select(t.recalled.c.recall_id)
    return {
        row[0] for chunk in _chunks(ids) for row in connection.execute(query.where(t.recalled.c.fact_id.in_(chunk)))
    }


def _blank_messages(connection: Connection, scope: int, erasure: Erasure) -> None:
    gone, covering = set(erasure.message_ids), Redaction(erasure.words)
    kept = _messages_of_others(connection, scope, erasure.fact_ids) - gone
    for row in _rows(connection, t.episodes, t.episodes.c.scope_id == scope):
        messages = json.loads(row["messages"])
        after = [] if erasure.is_whole else [_message(item, gone, kept, covering) for item in messages]
        if after != messages:
            values: dict[str, Any] = {"messages": dumps(after)}
            if not any(item["content"] for item in after):
                values["extraction"] = "none"
            connection.execute(update(t.episodes).where(t.episodes.c.id == row["id"]).values(**values))
            if values.get("extraction"):
                # What failed about it may quote it.
                of_it = t.parked.c.episode_id == row["id"]
                connection.execute(update(t.parked).where(of_it).values(error="", payload="{}"))


def _message(item: dict[str, Any], gone: set[str], kept: set[str], covering: Redaction) -> dict[str, Any]:
    if item["id"] in gone:
        return item | {"content": "", "speaker": None, "session": None, "id": None}
    if item["id"] in kept:
        return item  # the words of a fact that stays
    return item | {"content": covering.covered(item["content"])}


def _messages_of_others(connection: Connection, scope: int, ids: Sequence[str]) -> set[str]:
    query = select(t.facts.c.id, t.facts.c.message_ids)
    gone = set(ids)
    here = and_(t.facts.c.scope_id == scope, t.facts.c.status != _ERASED)
    return {id_ for row in connection.execute(query.where(here)) if row[0] not in gone for id_ in json.loads(row[1])}


def _blank_histories(connection: Connection, scope: int, erasure: Erasure) -> None:
    silent = {"line": "", "terms": "{}", "before": None, "after": None}
    for chunk in _chunks(erasure.fact_ids):
        connection.execute(update(t.decisions).where(t.decisions.c.fact_id.in_(chunk)).values(**silent))
    for chunk in _chunks(erasure.touched_ids):
        connection.execute(
            update(t.decisions).where(t.decisions.c.fact_id.in_(chunk)).values(line="", before=None, after=None)
        )
    for chunk in _chunks(erasure.linked_ids):
        connection.execute(update(t.decisions).where(t.decisions.c.fact_id.in_(chunk)).values(line=""))
    told, silent_after = set(erasure.message_ids), {"line": "", "after": None}
    no_fact = and_(t.decisions.c.fact_id.is_(None), t.decisions.c.after.is_not(None))
    for row in _rows(connection, t.decisions, and_(t.decisions.c.scope_id == scope, no_fact)) if told else ():
        if json.loads(row["after"]).get("message_id") in told:
            connection.execute(update(t.decisions).where(t.decisions.c.id == row["id"]).values(**silent_after))
    covering = Redaction(erasure.words)
    others = and_(t.decisions.c.scope_id == scope, t.decisions.c.line != "")
    for row in _rows(connection, t.decisions, others):
        if covering.holds(row["line"]):
            here = t.decisions.c.id == row["id"]
            connection.execute(update(t.decisions).where(here).values(line=covering.covered(row["line"])))
    why = and_(t.facts.c.scope_id == scope, t.facts.c.archived_reason.is_not(None))
    query = select(t.facts.c.pk, t.facts.c.archived_reason).where(why)
    for pk, reason in list(connection.execute(query)):
        if covering.holds(reason):
            here = t.facts.c.pk == pk
            connection.execute(update(t.facts).where(here).values(archived_reason=covering.covered(reason)))


def _blank_recalls(connection: Connection, shown: set[str], erasure: Erasure) -> None:
    gone = frozenset(erasure.fact_ids)
    for chunk in _chunks(sorted(shown)):
        for row in connection.execute(select(t.recalls).where(t.recalls.c.id.in_(chunk))).mappings().all():
            facts = without_words(json.loads(row["facts"]), gone)
            dropped = without_words(json.loads(row["dropped"]), gone)
            values = {"query": "", "session": None, "facts": dumps(facts), "dropped": dumps(dropped)}
            connection.execute(update(t.recalls).where(t.recalls.c.id == row["id"]).values(**values))
        silent = {"response": "", "question": None}
        connection.execute(update(t.usage).where(t.usage.c.recall_id.in_(chunk)).values(**silent))
    for chunk in _chunks(erasure.sessions):
        connection.execute(update(t.recalls).where(t.recalls.c.session.in_(chunk)).values(session=None))


def _forget_relations(connection: Connection, ids: Sequence[str]) -> None:
    for chunk in _chunks(ids):
        connection.execute(delete(t.links).where(or_(t.links.c.newer.in_(chunk), t.links.c.older.in_(chunk))))
        connection.execute(delete(t.tallies).where(t.tallies.c.fact_id.in_(chunk)))
        connection.execute(delete(t.recalled).where(t.recalled.c.fact_id.in_(chunk)))
        # A gap that it closed is no gap and no answer any more; asked again, the question opens another.
        connection.execute(delete(t.gaps).where(t.gaps.c.fact_id.in_(chunk)))
        # Not those it is a source of: they lead to what was derived in other scopes, should a kill come between.
        connection.execute(delete(t.lineage).where(t.lineage.c.fact_id.in_(chunk)))


def _blank_scope(connection: Connection, scope: int) -> None:
    connection.execute(
        update(t.recalls).where(t.recalls.c.scope_id == scope).values(query="", session=None, facts="[]", dropped="[]")
    )
    connection.execute(
        update(t.usage).where(t.usage.c.scope_id == scope).values(response="", question=None, verdicts="[]")
    )
    connection.execute(update(t.parked).where(t.parked.c.scope_id == scope).values(error="", payload="{}"))
    connection.execute(
        update(t.decisions).where(t.decisions.c.scope_id == scope).values(line="", terms="{}", before=None, after=None)
    )
    for table in (t.scope_nights, t.tallies, t.links, t.words, t.gaps, t.reflections):
        connection.execute(delete(table).where(table.c.scope_id == scope))


# --- whatever else holds their words ---------------------------------------------------------------------------------


def _below(connection: Connection, path: Scope) -> list[int]:
    """The scope and all below it: whoever recalls from there may have been told what it holds."""
    rows = connection.execute(select(t.scopes.c.id, t.scopes.c.path))
    return [id_ for id_, one in rows if path.contains(Scope(one))]


def _sweep(connection: Connection, scopes: Sequence[int], erasure: Erasure) -> None:
    covering, gone = Redaction(erasure.words), frozenset(erasure.fact_ids)
    for table in t.metadata.sorted_tables:
        columns = [column for column in table.columns if _is_text(column)]
        if table.name in _KEPT_TABLES or not columns:
            continue
        where = table.c.scope_id.in_(scopes) if "scope_id" in table.columns else true()
        for row in _rows(connection, table, where):
            values = {column.name: _swept(table, column, row[column.name], covering, gone) for column in columns}
            changed = {name: value for name, value in values.items() if value != row[name]}
            if changed:
                here = and_(*(column == row[column.name] for column in table.primary_key.columns))
                connection.execute(update(table).where(here).values(**changed))


def _is_text(column: Column[Any]) -> bool:
    """Free text: no key, no number, no name of a row."""
    return (isinstance(column.type, Text) and not column.primary_key) or column.name == "session"


def _swept(table: Table, column: Column[Any], value: Any, covering: Redaction, gone: frozenset[str]) -> Any:
    if not isinstance(value, str) or not value:
        return value
    if table.name == "scope_nights" or (table.name, column.name) == ("recalls", "dropped"):
        report = json.loads(value)
        after = without_words(report, gone)
        value = value if after == report else dumps(after)
    return covering.covered(value) if covering.holds(value) else value


def _rows(connection: Connection, table: Table, where: Any) -> Iterator[Mapping[str, Any]]:
    """Rows, all read before the first is used: they are about to be changed."""
    yield from connection.execute(select(table).where(where)).mappings().all()  # type: ignore[misc]


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))


# --- the book --------------------------------------------------------------------------------------------------------

Opening = Callable[[], AbstractContextManager[Connection]]


class SqlErasures:
    """Erasures of a ledger on SQLite or PostgreSQL; see `engram_core.keeping.ErasureBook`.

    Args:
        engines: The ledger's.
        reading, writing: Open a connection for reads, and a transaction that is on disk when it ends.
    """

    def __init__(self, engines: Engines, reading: Opening, writing: Opening) -> None:
        self._engines = engines
        self._reading = reading
        self._writing = writing

    def tombstoned(self, marks: Sequence[str]) -> set[str]:
        with self._reading() as connection:
            return {row[0] for chunk in _chunks(list(marks)) for row in _marked(connection, chunk)}

    def tombstones(self) -> list[Tombstone]:
        with self._reading() as connection:
            rows = connection.execute(select(t.tombstones).order_by(t.tombstones.c.mark)).mappings()
            return [_tombstone(row) for row in rows]

    def bury(self, tombstones: Sequence[Tombstone]) -> int:
        with self._writing() as connection:
            return bury(connection, tombstones)

    def lift(self, erasure_id: str) -> int:
        with self._writing() as connection:
            return connection.execute(delete(t.tombstones).where(t.tombstones.c.erasure == erasure_id)).rowcount

    def aside(self) -> Aside | None:
        path = self._aside_path()
        if path is None or not path.is_file():
            return None
        try:
            with path.open(encoding="utf-8") as lines:
                head = json.loads(next(lines))
                if self._seen(head["digest"]):
                    return Aside(head["key"], (), is_news=False)
                found = tuple(_tombstone(json.loads(line)) for line in lines)
        except (OSError, ValueError, KeyError, StopIteration) as error:
            raise StoreUnavailable(
                f"The tombstones in {path} cannot be read: {error}. Put the file back as it was; without it, what was "
                "erased could come back from an older copy of the ledger."
            ) from error
        return Aside(head["key"], found, is_news=True)

    def set_aside(self, key: str) -> None:
        path = self._aside_path()
        if path is None:
            return
        stones = self.tombstones()
        digest = hashlib.sha256("".join(item.mark for item in stones).encode()).hexdigest()
        fresh = path.with_name(f"{path.name}.new")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(dumps({"key": key, "digest": digest, "tombstones": len(stones)}) + "\n")
            file.writelines(dumps(_tombstone_row(item)) + "\n" for item in stones)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        with self._writing() as connection:
            connection.execute(delete(t.settings).where(t.settings.c.name == _SEEN))
            connection.execute(insert(t.settings), {"name": _SEEN, "value": digest})

    def _seen(self, digest: str) -> bool:
        with self._reading() as connection:
            return connection.execute(select(t.settings.c.value).where(t.settings.c.name == _SEEN)).scalar() == digest

    def _aside_path(self) -> Path | None:
        """Beside a SQLite file; a database server has no such place."""
        main = self._engines.writer.url.database
        is_file = self._engines.dialect == "sqlite" and main and main != ":memory:"
        return Path(f"{main}.tombstones") if is_file else None

    def receipts(self, limit: int = 100, *, begun: bool = False) -> list[dict[str, Any]]:
        query = select(t.erasures.c.receipt).order_by(t.erasures.c.at.desc(), t.erasures.c.id.desc()).limit(limit)
        if begun:
            query = query.where(t.erasures.c.receipt.like('%"state":"begun"%'))
        with self._reading() as connection:
            return [json.loads(row[0]) for row in connection.execute(query)]

    def save_receipt(self, erasure_id: str, receipt: Mapping[str, Any]) -> None:
        with self._writing() as connection:
            connection.execute(
                update(t.erasures).where(t.erasures.c.id == erasure_id).values(receipt=dumps(dict(receipt)))
            )

    def about(self, subject: str, scope: Scope | None) -> list[str]:
        bare = subject.removeprefix("user:")
        names = [storable(bare), storable(f"user:{bare}")]
        spelled = [f"%{_like(dumps(name))}%" for name in names]
        # Facts of before there were subjects are told by their origin; so are later ones, which costs nothing more.
        columns = (t.facts.c.id, t.facts.c.subjects, t.facts.c.speaker, t.facts.c.principal, t.scopes.c.path)
        likely = or_(
            *(t.facts.c.subjects.like(pattern, escape="\\") for pattern in spelled),
            t.facts.c.speaker.in_(names),
            t.facts.c.principal == names[1],
        )
        query = select(*columns).join(t.scopes).where(t.facts.c.status != _ERASED)
        with self._reading() as connection:
            paths = [Scope(row[0]) for row in connection.execute(select(t.scopes.c.path))]
            theirs = {path.path for path in paths if path.labels[-1] in (bare, f"user:{bare}")}
            rows = connection.execute(query.where(or_(likely, t.scopes.c.path.in_(theirs))).order_by(t.facts.c.pk))
            found = []
            for id_, subjects, speaker, principal, path in rows:
                # LIKE ignores case in SQLite: what it found is compared again.
                is_about = (
                    path in theirs
                    or speaker in names
                    or principal == names[1]
                    or not set(names).isdisjoint(json.loads(subjects))
                )
                if is_about and (scope is None or scope.contains(Scope(path))):
                    found.append(id_)
            return found

    def replaced_by(self, ids: Sequence[str]) -> list[Fact]:
        columns = [t.facts.c[name] for name in FACT_COLUMNS]
        query = select(*columns, t.scopes.c.path).join(t.scopes)
        found: list[Fact] = []
        with self._reading() as connection:
            for chunk in _chunks(list(ids)):
                rows = connection.execute(
                    query.where(t.facts.c.consolidated_into.in_(chunk)).order_by(t.facts.c.pk)
                ).mappings()
                found += [fact_of(row, Scope(row["path"])) for row in rows]  # type: ignore[arg-type]
        return found

    def still_said(self, texts: Sequence[str]) -> set[str]:
        held: set[str] = set()
        patterns = {text: Redaction([text]) for text in texts}
        with self._reading() as connection:
            columns = [t.facts.c[name] for name in ("text", "speaker", "session", "metadata", "subjects")]
            said = connection.execute(select(*columns).where(t.facts.c.status != _ERASED))
            wrote = connection.execute(select(t.episodes.c.messages))
            for rows in (said, wrote):
                for values in rows:
                    told = "\n".join(value for value in values if value)
                    held |= {text for text, pattern in patterns.items() if text not in held and pattern.holds(told)}
        return held

    def blank_before(self, scope: Scope, moment: datetime) -> int:
        here = select(t.scopes.c.id).where(t.scopes.c.path == scope.path).scalar_subquery()
        with self._writing() as connection:
            asked = and_(t.recalls.c.scope_id == here, t.recalls.c.at < epoch(moment), t.recalls.c.query != "")
            count = connection.execute(
                update(t.recalls).where(asked).values(query="", session=None, dropped="[]")
            ).rowcount
            answered = and_(t.usage.c.scope_id == here, t.usage.c.at < epoch(moment))
            connection.execute(update(t.usage).where(answered).values(response="", question=None))
            return count

    def scrub(self, *, thorough: bool = False) -> dict[str, str]:
        with mapped(str(self._engines.writer.url)):
            if self._engines.dialect == "sqlite":
                return _scrub_sqlite(self._engines, thorough=thorough)
            return _scrub_postgres(self._engines)

    def files(self) -> list[str]:
        if self._engines.dialect != "sqlite":
            return []
        main = self._engines.writer.url.database or ""
        found = [f"{main}{suffix}" for suffix in ("", "-wal", "-shm", "-journal", ".tombstones")]
        return [path for path in found if Path(path).is_file()]

    def place_hold(self, hold: Hold) -> None:
        from engram_core.storage.writing import scope_id  # noqa: PLC0415 - it carries erasures out with this module

        with self._writing() as connection:
            row = {
                "id": hold.id,
                "scope_id": scope_id(connection, hold.scope),
                "fact_id": hold.fact_id,
                "reason": storable(hold.reason),
                "principal": storable(hold.principal),
                "at": epoch(hold.at),
            }
            connection.execute(insert(t.holds), row)

    def release_hold(self, hold_id: str, principal: str, at: datetime) -> bool:
        with self._writing() as connection:
            held = and_(t.holds.c.id == storable(hold_id), t.holds.c.released_at.is_(None))
            values = {"released_at": epoch(at), "released_by": storable(principal)}
            return connection.execute(update(t.holds).where(held).values(**values)).rowcount == 1

    def holds(self, *, released: bool = False) -> list[Hold]:
        query = select(t.holds, t.scopes.c.path).join(t.scopes).order_by(t.holds.c.at, t.holds.c.id)
        if not released:
            query = query.where(t.holds.c.released_at.is_(None))
        with self._reading() as connection:
            return [_hold(row) for row in connection.execute(query).mappings()]


def _like(text_: str) -> str:
    """A text as LIKE takes it literally, with backslash as the escape."""
    return text_.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _tombstone(row: Any) -> Tombstone:
    at = moment(row["at"])
    assert at is not None
    return Tombstone(row["mark"], row["kind"], row["erasure"], at)


def _hold(row: Any) -> Hold:
    at = moment(row["at"])
    assert at is not None
    return Hold(
        id=row["id"],
        scope=Scope(row["path"]),
        reason=row["reason"],
        principal=row["principal"],
        at=at,
        fact_id=row["fact_id"],
        released_at=moment(row["released_at"]),
        released_by=row["released_by"],
    )


def _scrub_sqlite(engines: Engines, *, thorough: bool) -> dict[str, str]:
    done = {"rows": "secure_delete overwrites deleted rows with zeros"}
    raw = engines.writer.raw_connection()
    try:
        cursor = raw.cursor()
        # A contentless index keeps deleted words until its segments are merged.
        cursor.execute("INSERT INTO fact_words(fact_words) VALUES('optimize')")
        done["full text"] = "merged into one segment"
        if thorough:
            cursor.execute("VACUUM")
            done["database"] = "rewritten"
        done["log"] = _checkpointed(cursor)
        cursor.close()
    finally:
        raw.close()
    return done


def _checkpointed(cursor: Any) -> str:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        is_busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not is_busy:
            return "written back and truncated"
        if time.monotonic() > deadline:
            return "in use by another process: what it holds goes with its next checkpoint"
        time.sleep(0.05)


def _scrub_postgres(engines: Engines) -> dict[str, str]:
    own = text("SELECT tablename FROM pg_tables WHERE schemaname = ANY (current_schemas(false))")
    with engines.writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        here = {row[0] for row in connection.execute(own)}
        for table in _FULL:
            if table in here:
                connection.execute(text(f'VACUUM (FULL) "{table}"'))
    return {
        "tables": "rewritten by VACUUM FULL",
        "write-ahead log": "keeps old rows until PostgreSQL recycles it; replicas, archives and backups keep theirs",
    }
