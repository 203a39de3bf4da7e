"""The ledger on SQLite or PostgreSQL: the record of everything. It keeps books; it ranks and judges nothing."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from engram_core.domain.audit import AuditEntry
from engram_core.domain.errors import Conflict, InvalidInput
from engram_core.domain.fact import Fact, Slot, Status
from engram_core.domain.message import Episode
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.floor import chain
from engram_core.measure import usefulness
from engram_core.ports import (
    Batch,
    Collection,
    Decision,
    FactUsage,
    ForgetScore,
    FreshVectors,
    Generation,
    Indexed,
    Judged,
    Link,
    Night,
    Outset,
    Parked,
    PolicyVersion,
    RecallRow,
    ScopeState,
    Standing,
    StoredCount,
    Tail,
    Tally,
    UsageRow,
)
from engram_core.storage import engines, trouble, writing
from engram_core.storage import schema as t
from engram_core.storage.access_book import SqlAccessBook
from engram_core.storage.audit_book import SqlAuditBook
from engram_core.storage.codec import (
    FACT_COLUMNS,
    MAX_STEM,
    blob,
    dumps,
    epoch,
    fact_of,
    moment,
    short_key,
    storable,
    vector_of,
)
from engram_core.storage.diary import SqlDiary
from engram_core.storage.engines import BUSY_TIMEOUT_MS, open_engines
from engram_core.storage.erasing import SqlErasures
from engram_core.storage.lab_books import SqlDesigns, SqlProposals
from engram_core.storage.logbook import Logbook
from engram_core.storage.migrate import migrate
from engram_core.storage.readers import Readers
from engram_core.storage.records import episode_of, recall_of, usage_of
from engram_core.storage.screening import SqlScreening
from engram_core.storage.sealing import SEALED_SETTINGS

_CHUNK = 500
_UNITED = 100
"""Searches in one statement; SQLite takes 500."""
_INDEXED = (
    "id, scope_id, seq, version, status, said_at, speaker, session, previous, following, kind, importance, trust, "
    "valid_from, valid_until, body_stems, context_stems, body_length, context_length, time_words, asks, "
    "content, context, CASE WHEN form='merged' THEN consolidated_from ELSE '[]' END, consolidated_into, pk"
)
_INDEXED_LIGHT = _INDEXED.replace("content, context", "NULL, context").replace("body_stems, context_stems", "'', ''")
_LIVE = "('live', 'pending')"
_LINK = "newer, older, verdict, probability, at, rule, line, terms"
_STATE = (
    "s.id, s.path, s.seq, s.live, s.recallable, s.body_words, s.context_words, s.speakers, s.judged, s.held, "
    "c.generation, c.name, c.watermark, c.dirty"
)
_STATES = (
    "scopes s LEFT JOIN collections c ON c.scope_id=s.id "
    "AND c.generation=(SELECT MIN(id) FROM generations WHERE state='live')"
)
_SCOPES = f"SELECT {_STATE} FROM {_STATES}"
_OUTSET = (
    f"SELECT (SELECT number FROM heads WHERE name='access'), {_STATE}, p.version, p.policy, p.principal, p.at "
    "FROM (SELECT 1 AS one) o LEFT JOIN ({states}) ON {paths} LEFT JOIN policies p ON p.scope_id=s.id "
    "AND p.version=(SELECT MAX(version) FROM policies WHERE scope_id=s.id)"
).replace("{states}", _STATES)
"""One row without any scope while there is none."""
_TALLY = ", ".join(Tally._fields)
_STANDING = (
    "SELECT id, kind, importance, trust, CASE WHEN pinned THEN 1 ELSE 0 END, created_at, said_at, restored_at, "
    "valid_until, superseded_by, session, CASE WHEN duplicate_key = '' THEN '' "
    "ELSE duplicate_key || ' ' || channel || ' ' || principal END, LENGTH(text), forget_score "
    f"FROM facts WHERE scope_id=? AND status IN {_LIVE} ORDER BY pk"
)
_RECORD = (
    "INSERT INTO recalls (id, scope_id, principal, session, at, query, text_tokens, token_counter, degraded, "
    "policy_version, facts, dropped, stages) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_RECORD_AT_ONCE = f"WITH recall AS ({_RECORD}) INSERT INTO recalled (fact_id, recall_id) SELECT UNNEST(?::text[]), ?"
"""PostgreSQL only: one statement, so one round trip and one transaction."""


_DEFAULT_POLICY = PolicyVersion(None, 0, MemoryPolicy.preset("default"))


class SqlLedger:
    """The ledger of one database; see `engram_core.ports.Ledger`.

    Args:
        url: SQLAlchemy URL of SQLite or PostgreSQL. The schema is created or upgraded now.

    Raises:
        StoreUnavailable: The database cannot be opened.
        SchemaTooNew: A newer Engram wrote it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._engines = open_engines(url)
        self._is_sqlite = self._engines.dialect == "sqlite"
        self._scope_ids: dict[Scope, int] = {}
        self._readers = Readers(self._engines.observer) if self._is_sqlite else None
        self._logbook = Logbook()
        self.screening = SqlScreening(self._read, self._reading_recalls, self._writing)
        self.proposals = SqlProposals(self._writing, self._reading)
        self.designs = SqlDesigns(self._writing, self._reading)
        self.diary = SqlDiary(self._reading_recalls, self._writing)
        self.erasures = SqlErasures(self._engines, self._reading_recalls, self._writing)
        try:
            with self._mapped():
                migrate(self._engines)
            self.audit = SqlAuditBook(_Doors(self))
            self.access = SqlAccessBook(_Doors(self), self.audit)
        except BaseException:
            self._engines.close()
            raise

    def close(self) -> None:
        try:
            self._logbook.flush()
        finally:
            if self._readers is not None:
                self._readers.close()
            self._engines.close()

    # --- scopes and facts ---

    def scopes(self, paths: Sequence[Scope] | None = None, *, at_least: int = 0) -> list[ScopeState]:
        if paths is None:
            rows = self._read(f"{_SCOPES} WHERE s.live + s.held >= ? ORDER BY s.path", (at_least,))
            return [_scope_state(row) for row in rows]
        if not paths:
            return []
        rows = self._read(f"{_SCOPES} WHERE s.path IN ({_marks(paths)})", tuple(scope.path for scope in paths))
        by_path = {row[1]: row for row in rows}
        return [_scope_state(by_path[scope.path]) for scope in paths if scope.path in by_path]

    def outset(self, scope: Scope) -> Outset:
        paths = tuple(level.path for level in scope.lineage)
        rows = self._read(_OUTSET.replace("{paths}", f"s.path IN ({_marks(paths)})"), paths)
        by_path = {row[2]: row[1:] for row in rows if row[2] is not None}
        nearest = [by_path[path] for path in paths if path in by_path]
        versions = [(row[1], *row[-4:]) for row in nearest if row[-1] is not None]
        policy = _policy_version(versions[0]) if versions else _DEFAULT_POLICY
        return Outset(int(rows[0][0] or 0), policy, [_scope_state(row[:-4]) for row in nearest])

    def facts(self, ids: Sequence[str]) -> list[Fact]:
        found: dict[str, Fact] = {}
        columns = ",".join(f"f.{name}" for name in FACT_COLUMNS)
        for start in range(0, len(ids), _CHUNK):
            chunk = tuple(map(storable, ids[start : start + _CHUNK]))
            among, values = self._among(chunk)
            query = f"SELECT s.path,{columns} FROM facts f JOIN scopes s ON s.id=f.scope_id WHERE f.id {among}"
            for row in self._read(query, values):
                fact = fact_of(dict(zip(FACT_COLUMNS, row[1:], strict=True)), Scope(row[0]))
                found[fact.id] = fact
        return [found[id_] for id_ in ids if id_ in found]

    def listing(
        self,
        scope: Scope,
        *,
        kind: str | None = None,
        statuses: Sequence[Status] = (),
        limit: int = 100,
        after: str | None = None,
    ) -> list[Fact]:
        columns = [t.facts.c[name] for name in FACT_COLUMNS]
        query = select(*columns).join(t.scopes).where(t.scopes.c.path == scope.path)
        if kind is not None:
            query = query.where(t.facts.c.kind == storable(kind))
        if statuses:
            query = query.where(t.facts.c.status.in_([status.value for status in statuses]))
        if after is not None:
            last = select(t.facts.c.pk).where(t.facts.c.id == storable(after))
            query = query.where(t.facts.c.pk > last.scalar_subquery())
        with self._reading() as connection:
            rows = connection.execute(query.order_by(t.facts.c.pk).limit(limit)).mappings()
            return [fact_of(row, scope) for row in rows]  # type: ignore[arg-type]

    def twins(self, scope: Scope, keys: Sequence[str]) -> dict[str, Fact]:
        short = {short_key(key): key for key in keys if key}
        found: dict[str, Fact] = {}
        columns = ",".join(f"f.{name}" for name in FACT_COLUMNS)
        names = tuple(short)
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            query = (
                f"SELECT f.duplicate_key,{columns} FROM facts f WHERE f.scope_id=(SELECT id FROM scopes WHERE path=?) "
                f"AND f.duplicate_key IN ({_marks(chunk)}) AND f.status IN {_LIVE} ORDER BY f.pk DESC"
            )
            for row in self._read(query, (scope.path, *chunk)):
                found[short[row[0]]] = fact_of(dict(zip(FACT_COLUMNS, row[1:], strict=True)), scope)
        return found

    def holders(self, scope: Scope, slots: Sequence[Slot]) -> list[Fact]:
        found: list[Fact] = []
        wanted = list(dict.fromkeys((storable(slot.subject), storable(slot.attribute)) for slot in slots))
        columns = ",".join(f"f.{name}" for name in FACT_COLUMNS)
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            pairs = ",".join(["(?,?)"] * len(chunk))
            query = (
                f"SELECT {columns} FROM facts f WHERE f.scope_id=(SELECT id FROM scopes WHERE path=?) "
                f"AND (f.slot_subject, f.slot_attribute) IN (VALUES {pairs}) AND f.slot_subject IS NOT NULL "
                f"AND f.status IN {_LIVE} ORDER BY f.pk"
            )
            values = (scope.path, *(text for pair in chunk for text in pair))
            found += [fact_of(dict(zip(FACT_COLUMNS, row, strict=True)), scope) for row in self._read(query, values)]
        return found

    def predecessors(self, ids: Sequence[str]) -> list[Fact]:
        return self._facts_by("SELECT id FROM facts WHERE superseded_by IN ({marks}) ORDER BY pk", ids)

    def derived(self, ids: Sequence[str]) -> list[Fact]:
        query = (
            "SELECT f.id FROM facts f WHERE f.id IN (SELECT fact_id FROM lineage WHERE source_id IN ({marks})) "
            "ORDER BY f.pk"
        )
        return self._facts_by(query, ids)

    def _facts_by(self, query: str, ids: Sequence[str]) -> list[Fact]:
        found: dict[str, None] = {}
        for start in range(0, len(ids), _CHUNK):
            chunk = tuple(map(storable, ids[start : start + _CHUNK]))
            found |= dict.fromkeys(row[0] for row in self._read(query.format(marks=_marks(chunk)), chunk))
        return self.facts(list(found))

    def links(self, ids: Sequence[str]) -> list[Link]:
        found: dict[int, Link] = {}
        for start in range(0, len(ids), _CHUNK):
            chunk = tuple(map(storable, ids[start : start + _CHUNK]))
            among, values = self._among(chunk)
            # Two indexed searches: SQLite answers an OR over two columns by reading the whole table.
            query = (
                f"SELECT id, {_LINK} FROM links WHERE older {among} UNION "
                f"SELECT id, {_LINK} FROM links WHERE newer {among}"
            )
            found |= {row[0]: _link(row[1:]) for row in self._read(query, values * 2)}
        return [found[id_] for id_ in sorted(found)]

    def links_unjudged(self, limit: int) -> list[Link]:
        query = (
            f"SELECT {_LINK} FROM links l WHERE verdict='update' AND probability < 1 "
            "AND NOT EXISTS (SELECT 1 FROM links o WHERE o.newer=l.newer AND o.older=l.older AND o.id<>l.id) "
            "ORDER BY id LIMIT ?"
        )
        return [_link(row) for row in self._read(query, (limit,))]

    def tail(self, scope: Scope, session: str) -> Tail | None:
        rows = self._read(
            "SELECT f.id, f.text, f.version, (SELECT p.text FROM facts p WHERE p.id=f.previous) FROM facts f "
            f"WHERE f.scope_id=(SELECT id FROM scopes WHERE path=?) AND f.session=? AND f.status IN {_LIVE} "
            "ORDER BY f.pk DESC LIMIT 1",
            (scope.path, storable(session)),
        )
        return Tail(*rows[0]) if rows else None

    def commit(self, batch: Batch) -> int:
        if batch.erasure is not None:
            self._logbook.flush()  # what is recorded later, it could not blank
        try:
            with self._mapped(), self._engines.writer.begin() as connection:
                before = writing.last_keys(connection)
                swept = self.audit.rows_of(connection, batch.scope) if batch.erasure is not None else {}
                seq = writing.apply(connection, batch)
                self.audit.note_batch(connection, batch, seq, before, swept)
                return seq
        except IntegrityError as error:
            raise InvalidInput(f"The source of ids gave one that is in use: {error.orig}") from error

    # --- what recall reads ---

    def indexed(self, ids: Sequence[str]) -> list[Indexed]:
        if not ids:
            return []
        if self._is_sqlite:
            # One JSON parameter instead of hundreds: binding them costs more than finding the rows.
            query = f"SELECT {_INDEXED} FROM facts WHERE id IN (SELECT value FROM json_each(?))"
            return list(map(Indexed._make, self._read(query, (json.dumps(list(ids)),))))
        query = f"SELECT {_INDEXED} FROM facts WHERE id = ANY(?)"
        return list(map(Indexed._make, self._read(query, (list(ids),))))

    def changes(self, scope_id: int, after: int, limit: int, *, vectors: bool = True) -> list[Indexed]:
        columns = _INDEXED if vectors else _INDEXED_LIGHT
        query = f"SELECT {columns} FROM facts WHERE scope_id=? AND seq>? ORDER BY seq LIMIT ?"
        return list(map(Indexed._make, self._read(query, (scope_id, after, limit))))

    def contexts(self, scope_id: int, after: int, limit: int) -> list[tuple[str, int, str, bytes | None]]:
        query = "SELECT id, seq, status, context FROM facts WHERE scope_id=? AND seq>? ORDER BY seq LIMIT ?"
        return [tuple(row) for row in self._read(query, (scope_id, after, limit))]

    def matching(self, scope_id: int, weights: Mapping[str, float], limit: int, *, together: bool = False) -> list[str]:
        # Postings are read and added up here: an order of magnitude faster than the database's own rank, and the same
        # order on every database. A stem longer than MAX_STEM is never stored.
        if not together:
            return self._ids(self.heaviest(scope_id, weights, limit))
        terms = {stem: writing.terms(scope_id, [stem])[0] for stem in weights if len(stem) <= MAX_STEM}
        return self._ids(self._holding_together(terms, limit))

    def sharing(self, scope_id: int, asked: Sequence[Mapping[str, float]], limit: int) -> list[list[str]]:
        stems = dict.fromkeys(stem for weights in asked for stem in weights if len(stem) <= MAX_STEM)
        postings = self._postings_of({stem: writing.terms(scope_id, [stem])[0] for stem in stems})
        keys = [_heaviest({s: postings[s] for s in weights if s in postings}, weights, limit) for weights in asked]
        unique = list(dict.fromkeys(key for one in keys for key in one))
        ids: dict[int, str] = {}
        for start in range(0, len(unique), _CHUNK):
            chunk = unique[start : start + _CHUNK]
            ids |= self._read(f"SELECT pk, id FROM facts WHERE pk IN ({_marks(chunk)})", tuple(chunk))
        return [[ids[key] for key in one if key in ids] for one in keys]

    def heaviest(self, scope_id: int, weights: Mapping[str, float], limit: int) -> list[int]:
        terms = {stem: writing.terms(scope_id, [stem])[0] for stem in weights if len(stem) <= MAX_STEM}
        return _heaviest(self._postings_of(terms), weights, limit)

    def _holding_together(self, terms: Mapping[str, str], limit: int) -> list[int]:
        """Row keys of facts that hold all terms, then all but the last, down to two, until there are enough."""
        found: dict[int, None] = {}
        for count in range(len(terms), 1, -1):
            if len(found) >= limit:
                break
            found |= dict.fromkeys(np.sort(self._postings(*list(terms.values())[:count])).tolist())
        return list(found)[:limit]

    def _postings(self, *terms: str) -> NDArray[np.int64]:
        """Row keys of the facts that hold all of the full-text terms."""
        if self._is_sqlite:
            query = "SELECT rowid FROM fact_words WHERE fact_words MATCH ?"
            rows = self._read(query, (" AND ".join(f'"{term}"' for term in terms),))
        else:
            query = "SELECT pk FROM fact_words WHERE terms @@ ?::tsquery"
            rows = self._read(query, (" & ".join(f"'{term}'" for term in terms),))
        return np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))

    def _postings_of(self, terms: Mapping[str, str]) -> dict[str, NDArray[np.int64]]:
        """Row keys by stem, many stems in one query."""
        if len(terms) == 1:
            return {stem: self._postings(term) for stem, term in terms.items()}
        where = "fact_words MATCH ?" if self._is_sqlite else "terms @@ ?::tsquery"
        key, quote = ("rowid", '"') if self._is_sqlite else ("pk", "'")
        found: dict[str, list[int]] = {stem: [] for stem in terms}
        stems = list(terms)
        for start in range(0, len(stems), _UNITED):
            chunk = stems[start : start + _UNITED]
            each = (f"SELECT {at}, {key} FROM fact_words WHERE {where}" for at in range(len(chunk)))
            values = tuple(f"{quote}{terms[stem]}{quote}" for stem in chunk)
            for at, row in self._read(" UNION ALL ".join(each), values):
                found[chunk[at]].append(row)
        return {stem: np.array(rows, dtype=np.int64) for stem, rows in found.items()}

    def holding(self, scope_id: int, stem: str) -> NDArray[np.int64]:
        if len(stem) > MAX_STEM:
            return np.zeros(0, dtype=np.int64)
        return self._postings(writing.terms(scope_id, [stem])[0])

    def _ids(self, keys: Sequence[int]) -> list[str]:
        """Fact ids of row keys, in the order given."""
        ids = self.ids_at(keys)
        return [ids[key] for key in keys if key in ids]

    def ids_at(self, keys: Sequence[int]) -> dict[int, str]:
        if self._is_sqlite:
            rows = self._read(
                "SELECT pk, id FROM facts WHERE pk IN (SELECT value FROM json_each(?))", (json.dumps(list(keys)),)
            )
        else:
            rows = self._read("SELECT pk, id FROM facts WHERE pk = ANY(?)", (list(keys),))
        return dict(rows)

    def said_between(self, scope_id: int, ranges: Sequence[tuple[float, float]], limit: int) -> list[str]:
        found: list[str] = []
        for start, end in ranges:
            query = (
                f"SELECT id FROM facts WHERE scope_id=? AND said_at BETWEEN ? AND ? AND status IN {_LIVE} "
                "ORDER BY said_at, pk LIMIT ?"
            )
            found += [row[0] for row in self._read(query, (scope_id, start, end, limit))]
        return found

    def weightiest(self, scope_id: int, limit: int) -> list[str]:
        query = (
            f"SELECT id FROM facts WHERE scope_id=? AND status IN {_LIVE} "
            "ORDER BY pinned DESC, importance DESC, said_at DESC, pk DESC LIMIT ?"
        )
        return [row[0] for row in self._read(query, (scope_id, limit))]

    def newest(self, scope_id: int, limit: int) -> list[str]:
        query = f"SELECT id FROM facts WHERE scope_id=? AND status IN {_LIVE} ORDER BY said_at DESC, pk DESC LIMIT ?"
        return [row[0] for row in self._read(query, (scope_id, limit))]

    def frequencies(self, scope_id: int, stems: Sequence[str]) -> dict[str, tuple[int, int]]:
        if not stems:
            return {}
        # A word whose last fact was archived keeps a row of zeros.
        among, values = self._among(tuple(stems))
        query = (
            "SELECT stem, body_df, context_df FROM words WHERE scope_id=? AND (body_df > 0 OR context_df > 0) "
            f"AND stem {among}"
        )
        return {row[0]: (row[1], row[2]) for row in self._read(query, (scope_id, *values))}

    def pending(self, limit: int) -> list[Fact]:
        rows = self._read("SELECT id FROM facts WHERE status='pending' ORDER BY pk LIMIT ?", (limit,))
        return self.facts([row[0] for row in rows])

    # --- what forgetting reads and writes ---

    def standings(self, scope_id: int) -> list[Standing]:
        return list(map(Standing._make, self._read(_STANDING, (scope_id,))))

    def session_starts(self, scope_id: int) -> dict[str, float]:
        query = "SELECT session, MIN(said_at) FROM facts WHERE scope_id=? AND session IS NOT NULL GROUP BY session"
        return dict(self._read(query, (scope_id,)))

    def save_scores(self, scores: Sequence[ForgetScore]) -> None:
        if not scores:
            return
        # Lost in a power cut, a score is simply computed again.
        with self._observing() as connection:
            writing.save_scores(connection, scores)
            self.audit.note(connection, _kept("score"), {"facts": [item.fact_id for item in scores]})

    # --- what happened ---

    def history(self, fact_id: str) -> list[Decision]:
        query = _decisions().where(t.decisions.c.fact_id == storable(fact_id)).order_by(t.decisions.c.id)
        with self._reading() as connection:
            return [_decision(row) for row in connection.execute(query).mappings()]

    def decisions(self, scope: Scope, *, limit: int = 100) -> list[Decision]:
        query = _decisions().where(t.scopes.c.path == scope.path).order_by(t.decisions.c.id.desc()).limit(limit)
        with self._reading() as connection:
            return [_decision(row) for row in connection.execute(query).mappings()]

    def episode(self, episode_id: str) -> Episode | None:
        found = self._episodes(t.episodes.c.id == storable(episode_id), 1)
        return found[0] if found else None

    def episodes_due(self, limit: int) -> list[Episode]:
        return self._episodes(t.episodes.c.extraction == "due", limit)

    def _episodes(self, condition: Any, limit: int) -> list[Episode]:
        query = (
            select(t.episodes, t.scopes.c.path).join(t.scopes).where(condition).order_by(t.episodes.c.seq).limit(limit)
        )
        with self._reading() as connection:
            rows = list(connection.execute(query).mappings())
            return [episode_of(row, self._kept(connection, row["id"])) for row in rows]

    def _kept(self, connection: Connection, episode_id: str) -> tuple[str, ...]:
        # The decisions say what was made of an episode; a merge's fact belongs to an earlier one.
        query = select(t.decisions.c.fact_id).where(
            t.decisions.c.episode_id == episode_id, t.decisions.c.fact_id.is_not(None), ~t.decisions.c.refused
        )
        return tuple(dict.fromkeys(connection.execute(query.order_by(t.decisions.c.id)).scalars()))

    def record_recall(self, row: RecallRow) -> None:
        # Bare driver calls: every recall waits for this.
        values = (
            row.id, self._scope_id(row.scope), storable(row.principal), storable(row.session) if row.session else None,
            epoch(row.at), storable(row.query), row.text_tokens, row.token_counter,
            row.degraded, row.policy_version, dumps(list(row.facts)), dumps(list(row.dropped)),
            dumps(dict(row.stages)),
        )  # fmt: skip
        if self._readers is None:
            self._read(_RECORD_AT_ONCE, (*values, list(row.shown), row.id))
            return
        shown = [(id_, row.id) for id_ in row.shown]

        def write(patience_ms: int = BUSY_TIMEOUT_MS) -> bool:
            with self._sqlite_cursor(patience_ms) as cursor:
                if cursor is None:
                    return False
                cursor.execute(_RECORD, values)
                cursor.executemany("INSERT INTO recalled (fact_id, recall_id) VALUES (?,?)", shown)
                return True

        def write_patiently() -> None:
            with self._mapped():
                write()

        with self._mapped():
            self._logbook.note(lambda: write(0), write_patiently)

    def _scope_id(self, scope: Scope) -> int:
        """A scope's id, which never changes once it exists."""
        known = self._scope_ids.get(scope)
        if known is None:
            rows = self._read("SELECT id FROM scopes WHERE path=?", (scope.path,))
            if rows:
                known = int(rows[0][0])
            else:
                with self._mapped(), self._engines.writer.begin() as connection:
                    known = writing.scope_id(connection, scope)
            self._scope_ids[scope] = known
        return known

    def recall(self, recall_id: str) -> RecallRow | None:
        query = select(t.recalls, t.scopes.c.path).join(t.scopes)
        found = self._recalls(query.where(t.recalls.c.id == storable(recall_id)))
        return found[0] if found else None

    def recalls_of(self, fact_id: str, limit: int) -> list[RecallRow]:
        return self._recalls(
            select(t.recalls, t.scopes.c.path)
            .join(t.scopes)
            .join(t.recalled, t.recalled.c.recall_id == t.recalls.c.id)
            .where(t.recalled.c.fact_id == storable(fact_id))
            .order_by(t.recalls.c.at.desc())
            .limit(limit)
        )

    def _recalls(self, query: Any) -> list[RecallRow]:
        with self._reading_recalls() as connection:
            return [recall_of(row) for row in connection.execute(query).mappings()]

    def record_usage(self, row: UsageRow) -> None:
        with self._observing() as connection:
            scope_id = writing.scope_id(connection, row.scope)
            connection.execute(
                insert(t.usage),
                {
                    "recall_id": row.recall_id,
                    "scope_id": scope_id,
                    "at": epoch(row.at),
                    "response": storable(row.response),
                    "verdicts": dumps(list(row.verdicts)),
                    "tick": writing.count_verdicts(connection, scope_id, row),
                    "question": blob(row.question) if row.question is not None else None,
                },
            )

    def usage(self, recall_id: str) -> list[UsageRow]:
        query = select(t.usage, t.scopes.c.path).join(t.scopes).where(t.usage.c.recall_id == storable(recall_id))
        with self._reading() as connection:
            return [usage_of(row) for row in connection.execute(query.order_by(t.usage.c.id)).mappings()]

    def tallies(self, scope_id: int, after: int) -> list[Tally]:
        query = f"SELECT {_TALLY} FROM tallies WHERE scope_id=? AND tick>?"
        return list(map(Tally._make, self._read(query, (scope_id, after))))

    def judged(self, scope_id: int, after: int, limit: int) -> list[Judged]:
        query = (
            "SELECT id, recall_id, tick, question, verdicts FROM usage "
            "WHERE scope_id=? AND id>? AND tick IS NOT NULL ORDER BY id DESC LIMIT ?"
        )
        return [
            Judged(number, recall_id, tick, vector_of(question), json.loads(verdicts))
            for number, recall_id, tick, question, verdicts in reversed(self._read(query, (scope_id, after, limit)))
        ]

    def worth(self, scope_id: int) -> dict[str, tuple[float, float]]:
        query = (
            "SELECT t.fact_id, t.recalled, t.used, t.tick, s.judged, f.consolidated_into FROM tallies t "
            "JOIN facts f ON f.id=t.fact_id JOIN scopes s ON s.id=t.scope_id WHERE f.scope_id=?"
        )
        rows = self._read(query, (scope_id,))
        weights = usefulness.summed(
            (Tally(fact_id, recalled, used, tick=tick), judged) for fact_id, recalled, used, tick, judged, _ in rows
        )
        return usefulness.inherited(weights, {row[0]: row[-1] for row in rows})

    def stored_counts(self, scope: Scope | None, *, below: bool) -> list[StoredCount]:
        where, parameters = _inside(scope, below=below)
        query = (
            f"SELECT s.path, f.kind, COUNT(*) FROM facts f JOIN scopes s ON s.id=f.scope_id WHERE f.status IN {_LIVE} "
            f"AND {where} GROUP BY s.path, f.kind"
        )
        return [StoredCount(Scope(path), kind, count) for path, kind, count in self._read(query, parameters)]

    def fact_usages(self, scope: Scope | None, *, below: bool) -> list[FactUsage]:
        where, parameters = _inside(scope, below=below)
        return self._fact_usages(f"f.status IN {_LIVE} AND {where}", parameters)

    def fact_usage(self, fact_id: str) -> FactUsage | None:
        found = self._fact_usages("f.id=?", (storable(fact_id),))
        return found[0] if found else None

    def _fact_usages(self, where: str, parameters: tuple[Any, ...]) -> list[FactUsage]:
        self._logbook.flush()
        shown = (
            "SELECT f.id, s.path, f.kind, COUNT(*) FROM facts f JOIN scopes s ON s.id=f.scope_id "
            f"JOIN recalled r ON r.fact_id=f.id WHERE {where} GROUP BY f.id, s.path, f.kind"
        )
        tallied = (
            f"SELECT {', '.join(f't.{name}' for name in Tally._fields)}, j.judged FROM tallies t "
            "JOIN scopes j ON j.id=t.scope_id JOIN facts f ON f.id=t.fact_id JOIN scopes s ON s.id=f.scope_id "
            f"WHERE {where}"
        )
        tallies = [(Tally._make(row[:-1]), row[-1]) for row in self._read(tallied, parameters)]
        weights = usefulness.summed(tallies)
        judged, used = Counter[str](), Counter[str]()
        for tally, _ in tallies:
            judged[tally.fact_id] += tally.judged
            used[tally.fact_id] += tally.times_used
        return [
            FactUsage(id_, Scope(path), kind, count, judged[id_], used[id_], *weights.get(id_, (0.0, 0.0)))
            for id_, path, kind, count in self._read(shown, parameters)
        ]

    def never_recalled(self, scope: Scope | None, limit: int, *, below: bool) -> list[str]:
        self._logbook.flush()
        where, parameters = _inside(scope, below=below)
        query = (
            f"SELECT f.id FROM facts f JOIN scopes s ON s.id=f.scope_id WHERE f.status IN {_LIVE} AND {where} "
            "AND NOT EXISTS (SELECT 1 FROM recalled r WHERE r.fact_id=f.id) ORDER BY f.importance DESC, f.pk LIMIT ?"
        )
        return [row[0] for row in self._read(query, (*parameters, limit))]

    def usage_since(self, scope: Scope | None, since: datetime, *, below: bool) -> list[UsageRow]:
        where, parameters = _inside(scope, below=below)
        query = (
            "SELECT u.recall_id, s.path, u.at, u.response, u.verdicts FROM usage u JOIN scopes s ON s.id=u.scope_id "
            f"WHERE u.at>=? AND {where} ORDER BY u.id"
        )
        names = ("recall_id", "path", "at", "response", "verdicts")
        return [usage_of(dict(zip(names, row, strict=True))) for row in self._read(query, (epoch(since), *parameters))]

    def parked(self, limit: int = 100) -> list[Parked]:
        query = select(t.parked, t.scopes.c.path).join(t.scopes).order_by(t.parked.c.id.desc()).limit(limit)
        with self._reading() as connection:
            return [_parked(row) for row in connection.execute(query).mappings()]

    def park(self, item: Parked) -> None:
        with self._mapped(), self._engines.writer.begin() as connection:
            writing.park(connection, writing.scope_id(connection, item.scope), item)

    # --- settings ---

    def policy(self, scope: Scope) -> PolicyVersion:
        lineage = scope.lineage
        rows = self._read(
            "SELECT s.path, p.version, p.policy, p.principal, p.at FROM policies p JOIN scopes s ON s.id=p.scope_id "
            f"WHERE s.path IN ({_marks(lineage)}) ORDER BY LENGTH(s.path) DESC, p.version DESC LIMIT 1",
            tuple(level.path for level in lineage),
        )
        if not rows:
            return _DEFAULT_POLICY
        return _policy_version(rows[0])

    def set_policy(
        self, scope: Scope, policy: MemoryPolicy, principal: str, at: datetime, audit: AuditEntry | None = None
    ) -> PolicyVersion:
        with self._mapped(), self._engines.writer.begin() as connection:
            writing.next_seq(connection, 1)
            scope_id = writing.scope_id(connection, scope)
            newest = select(func.max(t.policies.c.version)).where(t.policies.c.scope_id == scope_id)
            version = (connection.execute(newest).scalar() or 0) + 1
            id_ = connection.execute(
                insert(t.policies).returning(t.policies.c.id),
                {
                    "scope_id": scope_id,
                    "version": version,
                    "policy": dumps(policy.model_dump(mode="json")),
                    "principal": storable(principal),
                    "at": epoch(at),
                },
            ).scalar_one()
            entry = audit or AuditEntry(at, principal, "curate", "set_policy", scope, by=chain.STORE)
            self.audit.note(connection, entry, {"policies": [id_]})
        return PolicyVersion(scope, version, policy, principal, at)

    def policy_versions(self, scopes: Sequence[Scope]) -> list[PolicyVersion]:
        if not scopes:
            return []
        rows = self._read(
            "SELECT s.path, p.version, p.policy, p.principal, p.at FROM policies p JOIN scopes s ON s.id=p.scope_id "
            f"WHERE s.path IN ({_marks(scopes)}) ORDER BY p.id",
            tuple(scope.path for scope in scopes),
        )
        return [_policy_version(row) for row in rows]

    def setting(self, name: str) -> str | None:
        rows = self._read("SELECT value FROM settings WHERE name=?", (name,))
        return rows[0][0] if rows else None

    def set_setting(self, name: str, value: str, *, only_if_absent: bool = False) -> str:
        row = {"name": name, "value": value}
        known = select(t.settings.c.value).where(t.settings.c.name == name)
        with self._mapped(), self._engines.writer.begin() as connection:
            before = connection.execute(known).scalar() if name in SEALED_SETTINGS else None
            if only_if_absent:
                writing.insert_if_absent(connection, t.settings, row)
            else:
                writing.upsert(connection, t.settings, [row], ["name"])
            after = str(connection.execute(known).scalar_one())
            if name in SEALED_SETTINGS and before != after:
                self.audit.note(connection, _kept("setting", "admin"), {"settings": [name]})
            return after

    def replace_vectors(self, fresh: Iterable[FreshVectors], embedder: str) -> None:
        with self._mapped(), self._engines.writer.begin() as connection:
            changed = writing.replace_vectors(connection, fresh)
            self.audit.note(connection, _kept("reembed", "admin"), {"facts": changed})
            writing.upsert(connection, t.settings, [{"name": "embedder", "value": embedder}], ["name"])

    # --- nights ---

    def save_night(self, night: Night) -> None:
        row = {
            "id": night.id,
            "path": night.path,
            "principal": storable(night.principal),
            "at": epoch(night.at),
            "totals": dumps(dict(night.totals)) if night.totals is not None else None,
        }
        with self._mapped(), self._engines.writer.begin() as connection:
            writing.upsert(connection, t.nights, [row], ["id"])

    def nights(self, limit: int) -> list[Night]:
        rows = self._read(
            "SELECT id, path, principal, at, totals FROM nights ORDER BY at DESC, id DESC LIMIT ?", (limit,)
        )
        return [_night(row) for row in rows]

    def save_scope_night(self, night_id: str, scope: Scope, report: Mapping[str, Any]) -> None:
        with self._mapped(), self._engines.writer.begin() as connection:
            scope_id = writing.scope_id(connection, scope)
            row = {"night_id": night_id, "scope_id": scope_id, "report": dumps(dict(report))}
            writing.upsert(connection, t.scope_nights, [row], ["night_id", "scope_id"])

    def scope_nights(self, night_id: str) -> list[dict[str, Any]]:
        query = (
            "SELECT n.report FROM scope_nights n JOIN scopes s ON s.id=n.scope_id WHERE n.night_id=? ORDER BY s.path"
        )
        return [json.loads(row[0]) for row in self._read(query, (night_id,))]

    # --- the index's books ---

    def generations(self) -> list[Generation]:
        rows = self._read("SELECT id, place, state, fingerprint FROM generations ORDER BY id", ())
        return [Generation(*row) for row in rows]

    def save_generation(self, generation: Generation) -> None:
        row = {
            "id": generation.id,
            "place": generation.place,
            "state": generation.state,
            "fingerprint": generation.fingerprint,
        }
        with self._mapped(), self._engines.writer.begin() as connection:
            writing.upsert(connection, t.generations, [row], ["id"])

    def swap_generation(self, live: str) -> None:
        with self._mapped(), self._engines.writer.begin() as connection:
            connection.execute(update(t.generations).where(t.generations.c.id != live).values(state="retired"))
            connection.execute(update(t.generations).where(t.generations.c.id == live).values(state="live"))

    def drop_generation(self, generation_id: str) -> None:
        with self._mapped(), self._engines.writer.begin() as connection:
            connection.execute(delete(t.collections).where(t.collections.c.generation == generation_id))
            connection.execute(delete(t.generations).where(t.generations.c.id == generation_id))

    def collections(self, generation_id: str) -> list[Collection]:
        rows = self._read(
            "SELECT generation, scope_id, name, watermark, dirty FROM collections WHERE generation=?", (generation_id,)
        )
        return [Collection(row[0], row[1], row[2], row[3], bool(row[4])) for row in rows]

    def save_collections(self, collections: Sequence[Collection]) -> None:
        rows = [
            {
                "generation": item.generation,
                "scope_id": item.scope_id,
                "name": item.name,
                "watermark": item.watermark,
                "dirty": item.dirty,
            }
            for item in collections
        ]
        # The watermark may be lost in a power cut: replaying the outbox from an older one changes nothing.
        try:
            with self._observing() as connection:
                writing.upsert(connection, t.collections, rows, ["generation", "scope_id"])
        except IntegrityError as error:
            raise Conflict("Another process replaced this generation of the index.") from error

    def drop_collection(self, collection: Collection) -> None:
        with self._mapped(), self._engines.writer.begin() as connection:
            connection.execute(
                delete(t.collections).where(
                    and_(
                        t.collections.c.generation == collection.generation,
                        t.collections.c.scope_id == collection.scope_id,
                    )
                )
            )

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        with self._mapped(), self._engines.writer.begin() as connection:
            now = writing.seconds_now(connection)
            writing.insert_if_absent(connection, t.leases, {"name": name, "holder": holder, "until": 0.0})
            taken = (
                update(t.leases)
                .where(t.leases.c.name == name, or_(t.leases.c.holder == holder, t.leases.c.until < now))
                .values(holder=holder, until=now + seconds)
            )
            return connection.execute(taken).rowcount == 1

    # --- plumbing ---

    def _among(self, items: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
        """The end of a condition that a column holds one of the items, and its values.

        On PostgreSQL one value, so that the statement is the same for any number and need not be planned again.
        """
        return (f"IN ({_marks(items)})", items) if self._is_sqlite else ("= ANY(?)", (list(items),))

    def _read(self, query: str, parameters: tuple[Any, ...]) -> list[Any]:
        """Run a statement on a bare driver cursor and fetch its rows: these are the ones a recall waits for."""
        with self._mapped():
            if self._readers is not None:
                return self._readers.fetch(query, parameters)
            raw = self._engines.observer.raw_connection()
            try:
                cursor = raw.cursor()
                cursor.execute(query.replace("?", "%s"), parameters)
                return list(cursor.fetchall()) if cursor.description else []
            except BaseException as error:
                engines.let_go(raw, error)
                raise
            finally:
                raw.close()

    @contextmanager
    def _sqlite_cursor(self, patience_ms: int) -> Iterator[Any]:
        """A driver cursor inside one transaction that does not wait for the disk.

        With no patience it does not wait for another writer either: it is None then.
        """
        assert self._readers is not None
        with self._readers.connection() as connection:
            connection.execute(f"PRAGMA busy_timeout={patience_ms}")
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if patience_ms or not trouble.is_busy(error):
                    raise
                yield None
                return
            finally:
                connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            try:
                yield connection.cursor()
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._mapped(), self._engines.reading() as connection:
            yield connection

    @contextmanager
    def _reading_recalls(self) -> Iterator[Connection]:
        """The same, once every recall is written down."""
        self._logbook.flush()
        with self._reading() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._mapped(), self._engines.writer.begin() as connection:
            yield connection

    @contextmanager
    def _observing(self) -> Iterator[Connection]:
        with self._mapped(), self._engines.observing() as connection:
            yield connection

    def _mapped(self) -> AbstractContextManager[None]:
        return trouble.mapped(self.url)


class _Doors:
    """The ledger's ways to its database, for the books that stand in it."""

    def __init__(self, ledger: SqlLedger) -> None:
        self._ledger = ledger

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with self._ledger._mapped(), self._ledger._engines.writer.begin() as connection:
            yield connection

    @contextmanager
    def observing(self) -> Iterator[Connection]:
        with self._ledger._observing() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._ledger._reading() as connection:
            yield connection

    def read(self, query: str, parameters: tuple[Any, ...]) -> list[Any]:
        return self._ledger._read(query, parameters)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        with self._ledger._mapped(), self._ledger._engines.snapshot() as connection:
            yield connection


def _kept(operation: str, verb: str = "curate") -> AuditEntry:
    """What the audit notes of the store keeping its own books."""
    return AuditEntry(datetime.now(UTC), chain.STORE, verb, operation, None, by=chain.STORE)


def _heaviest(postings: Mapping[str, NDArray[np.int64]], weights: Mapping[str, float], limit: int) -> list[int]:
    """Row keys by the summed weight of the stems they hold, heaviest first; ties go to the older one."""
    if not postings:
        return []
    keys, place = np.unique(np.concatenate(list(postings.values())), return_inverse=True)
    each = np.concatenate([np.full(len(rows), weights[stem]) for stem, rows in postings.items()])
    score = np.bincount(place, weights=each, minlength=len(keys))
    return [int(key) for key in keys[np.lexsort((keys, -score))[:limit]]]


def _inside(scope: Scope | None, *, below: bool) -> tuple[str, tuple[Any, ...]]:
    """The condition that scope `s` is `scope`, or with `below` any scope under it as well; None is everywhere."""
    if scope is None:
        return "1=1", ()
    if not below:
        return "s.path=?", (scope.path,)
    # No LIKE: `_` and `%` may stand in a path.
    return "(s.path=? OR SUBSTR(s.path,1,?)=?)", (scope.path, len(scope.path) + 1, f"{scope.path}/")


def _marks(items: Sequence[object]) -> str:
    return ",".join("?" * len(items))


def _scope_state(row: Any) -> ScopeState:
    id_, path, seq, live, recallable, body_words, context_words, speakers, judged, held, *indexed = row
    who = json.loads(speakers)
    generation, name, watermark, dirty = indexed
    held_in = Collection(generation, id_, name, watermark, bool(dirty)) if generation is not None else None
    return ScopeState(id_, Scope(path), seq, live, recallable, body_words, context_words, who, judged, held, held_in)


def _policy_version(row: Any) -> PolicyVersion:
    path, version, policy, principal, at = row
    return PolicyVersion(Scope(path), version, MemoryPolicy.validated(json.loads(policy)), principal, moment(at))


def _link(row: Any) -> Link:
    newer, older, verdict, probability, seconds, rule, line, terms = row
    at = moment(seconds)
    assert at is not None
    return Link(newer, older, probability, Reason(rule, line, json.loads(terms)), at, verdict)


def _decisions() -> Any:
    return select(t.decisions, t.scopes.c.path).join(t.scopes)


def _decision(row: Any) -> Decision:
    at = moment(row["at"])
    assert at is not None
    return Decision(
        action=row["action"],
        scope=Scope(row["path"]),
        principal=row["principal"],
        at=at,
        reason=Reason(row["rule"], row["line"], json.loads(row["terms"])),
        fact_id=row["fact_id"],
        before=json.loads(row["before"]) if row["before"] is not None else None,
        after=json.loads(row["after"]) if row["after"] is not None else None,
        refused=bool(row["refused"]),
        episode_id=row["episode_id"],
        seq=row["seq"],
    )


def _night(row: Any) -> Night:
    id_, path, principal, at, totals = row
    made = moment(at)
    assert made is not None
    return Night(id_, Scope(path) if path else None, principal, made, json.loads(totals) if totals else None)


def _parked(row: Any) -> Parked:
    at = moment(row["at"])
    assert at is not None
    return Parked(
        kind=row["kind"],
        scope=Scope(row["path"]),
        at=at,
        error=row["error"],
        payload=json.loads(row["payload"]),
        episode_id=row["episode_id"],
        id=row["id"],
    )
