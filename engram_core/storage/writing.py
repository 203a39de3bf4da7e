"""One transaction of the ledger: facts, statistics, full text and decisions. It applies; it decides nothing."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, case, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from engram_core.domain.errors import Conflict
from engram_core.domain.fact import RECALLABLE, Fact, Status
from engram_core.domain.scope import Scope
from engram_core.measure import usefulness
from engram_core.ports import (
    Batch,
    ContextWrite,
    Decision,
    Features,
    ForgetScore,
    FreshVectors,
    Link,
    Parked,
    Tally,
    UsageRow,
    Write,
)
from engram_core.storage import erasing
from engram_core.storage import schema as t
from engram_core.storage.codec import (
    blob,
    dumps,
    epoch,
    fact_row,
    features_row,
    messages_json,
    spaced,
    storable,
    unspaced,
)

_CHUNK = 500

# Plain SQL, the same for both databases: building and compiling a statement costs more than running it, and an add runs
# a dozen. `_run` spells the placeholders as the driver wants them.
_TAKE = "UPDATE counter SET seq = seq + ? WHERE id = 1 RETURNING seq"
_SCOPE = "SELECT id, seq, speakers FROM scopes WHERE path = ?"
_MOVE_SCOPE = (
    "UPDATE scopes SET seq = ?, live = live + ?, recallable = recallable + ?, body_words = body_words + ?, "
    "context_words = context_words + ?, held = held + ?, speakers = ? WHERE id = ?"
)
_STORED_COLUMNS = (
    "pk", "id", "scope_id", "version", "status", "speaker", "body_stems", "context_stems", "form", "consolidated_from",
)  # fmt: skip
_MOVE_CONTEXT = (
    "UPDATE facts SET following = ?, context_stems = ?, context_length = ?, context = COALESCE(?, context), seq = ? "
    "WHERE pk = ?"
)
_INSERT_LINEAGE = "INSERT INTO lineage (source_id, fact_id) VALUES (?, ?)"
_INSERT_EPISODE = (
    "INSERT INTO episodes (id, scope_id, at, principal, messages, extraction, seq) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_SAVE_WORDS = (
    "INSERT INTO words (scope_id, stem, body_df, context_df) VALUES (?, ?, ?, ?) ON CONFLICT (scope_id, stem) "
    "DO UPDATE SET body_df = words.body_df + excluded.body_df, context_df = words.context_df + excluded.context_df"
)
_INSERT_DECISION = (
    "INSERT INTO decisions (seq, scope_id, fact_id, episode_id, action, principal, at, rule, line, terms, "
    '"before", "after", refused) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)'
)
_FULL_TEXT = {
    # A contentless FTS5 table needs the very words it indexed to forget them; the fact's row still has them.
    "sqlite": (
        "INSERT INTO fact_words(fact_words, rowid, terms) VALUES('delete', ?, ?)",
        "INSERT INTO fact_words(rowid, terms) VALUES(?, ?)",
    ),
    "postgresql": (
        "DELETE FROM fact_words WHERE pk = ? AND CAST(? AS TEXT) IS NOT NULL",
        "INSERT INTO fact_words(pk, terms) VALUES(?, array_to_tsvector(string_to_array(?, ' ')))",
    ),
}
_JUDGED = update(t.scopes).where(t.scopes.c.id == bindparam("wanted")).values(judged=t.scopes.c.judged + 1)
_JUDGED = _JUDGED.returning(t.scopes.c.judged)
_EARLIER_VERDICT = (
    select(t.usage.c.verdicts, t.usage.c.tick)
    .where(t.usage.c.recall_id == bindparam("wanted"), t.usage.c.tick.is_not(None))
    .order_by(t.usage.c.id.desc())
    .limit(1)
)
_TALLIES = select(*(t.tallies.c[name] for name in Tally._fields)).where(
    t.tallies.c.scope_id == bindparam("scope"), t.tallies.c.fact_id.in_(bindparam("wanted", expanding=True))
)


_TOGETHER = "engram_together"
_Stored = Mapping[str, Mapping[str, Any]]
"""Rows of `facts` by id, `_STORED_COLUMNS` of each."""
_RECALLABLE = frozenset(status.value for status in RECALLABLE)


@dataclass(slots=True)
class _Change:
    """How a commit moves a scope's statistics and full text."""

    scope_id: int
    live: int = 0
    recallable: int = 0
    body_words: int = 0
    context_words: int = 0
    held: int = 0
    speakers: Counter[str] = field(default_factory=Counter)
    body_df: Counter[str] = field(default_factory=Counter)
    context_df: Counter[str] = field(default_factory=Counter)
    unindexed: list[tuple[int, list[str]]] = field(default_factory=list)
    indexed: list[tuple[int, list[str]]] = field(default_factory=list)

    def count(self, row: Mapping[str, Any], sign: int) -> None:
        """Add (+1) or take away (-1) one stored fact."""
        self.live += sign * (row["status"] == Status.LIVE)
        if row["status"] not in _RECALLABLE:
            return
        body, context = unspaced(row["body_stems"]), unspaced(row["context_stems"])
        self.recallable += sign
        if row["form"] == "merged":
            self.held += sign * len(json.loads(row["consolidated_from"]))
        self.body_words += sign * len(body)
        self.context_words += sign * len(context)
        if row["speaker"]:
            self.speakers[row["speaker"]] += sign
        for stem in set(body):
            self.body_df[stem] += sign
        for stem in set(context):
            self.context_df[stem] += sign
        (self.indexed if sign > 0 else self.unindexed).append((row["pk"], context))


def _run(connection: Connection, query: str, rows: list[Any] | tuple[Any, ...]) -> list[Any]:
    """Run SQL with one tuple of values, and return its rows; or with a list of tuples, once for each."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "sqlite":
        if _TOGETHER not in connection.info:
            result = connection.exec_driver_sql(query.replace("?", "%s"), rows)
            return list(result) if result.returns_rows else []
        run = driver.cursor().executemany if isinstance(rows, list) else driver.execute
        run(query.replace("?", "%s"), rows)
        return []
    # In the same transaction, past SQLAlchemy: what it does around a statement costs more than the statement.
    try:
        if isinstance(rows, list):
            driver.executemany(query, rows)
            return []
        found: list[Any] = driver.execute(query, rows).fetchall()
    except sqlite3.IntegrityError as error:
        raise IntegrityError(query, None, error) from error
    return found


@contextmanager
def _together(connection: Connection) -> Iterator[None]:
    """On PostgreSQL what is run within travels at once and answers no rows: errors come at the end, as everywhere."""
    if connection.dialect.name == "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    connection.info[_TOGETHER] = True
    try:
        with driver.pipeline():
            yield
    except connection.dialect.loaded_dbapi.IntegrityError as error:
        raise IntegrityError("commit", None, error) from error
    finally:
        del connection.info[_TOGETHER]


def next_seq(connection: Connection, count: int) -> int:
    """Take `count` sequence numbers and return the last. The row lock makes commit order equal sequence order."""
    return int(_run(connection, _TAKE, (count,))[0][0])


def scope_id(connection: Connection, scope: Scope) -> int:
    """The scope's id, creating it if it is new."""
    return _scope(connection, scope).id


class _Scope(NamedTuple):
    id: int
    seq: int
    speakers: str


def _scope(connection: Connection, scope: Scope) -> _Scope:
    found = _run(connection, _SCOPE, (scope.path,))
    if not found:
        row = {"path": scope.path, "seq": 0, "live": 0, "recallable": 0, "body_words": 0, "context_words": 0}
        connection.execute(_insert(connection, t.scopes).values(**row, speakers="{}").on_conflict_do_nothing())
        found = _run(connection, _SCOPE, (scope.path,))
    return _Scope(*found[0])


def apply(connection: Connection, batch: Batch) -> int:
    """Write a batch and return the scope's new sequence number. Raises Conflict before anything is lost."""
    count = len(batch.writes) + len(batch.contexts) + 1
    last = next_seq(connection, count)
    seqs = iter(range(last - count + 1, last + 1))
    scope = _scope(connection, batch.scope)
    if batch.expect is not None and scope.seq != batch.expect:
        raise Conflict(f"The scope moved from {batch.expect} to {scope.seq} while the change was planned.")
    change = _Change(scope.id)
    replaced = [write for write in batch.writes if write.replaces is not None]
    moved = [move.fact_id for move in batch.contexts]
    if batch.erasure is None and not {write.fact.id for write in batch.writes}.intersection(moved):
        # Everything that has to be read first is read first, so that the rest need not wait for its answers.
        old = _stored(connection, [*(write.fact.id for write in replaced), *moved])
        with _together(connection):
            _save(connection, change, batch, scope, seqs, last, old)
            save_decisions(connection, scope.id, batch.decisions, last)
    else:
        _save(connection, change, batch, scope, seqs, last, None)
        if batch.erasure is not None:
            # Before the decision that says so is recorded: it blanks what was recorded till then.
            erasing.blank(connection, scope.id, batch.scope, batch.erasure)
        save_decisions(connection, scope.id, batch.decisions, last)
    _save_links(connection, scope.id, batch.links)
    for item in batch.parked:
        park(connection, scope.id, item)
    return last


def _save(
    connection: Connection,
    change: _Change,
    batch: Batch,
    scope: _Scope,
    seqs: Iterator[int],
    last: int,
    old: _Stored | None,
) -> None:
    """Write an episode, facts, contexts and what follows of them; `old` is what they replace, None if not yet read."""
    if batch.episode is not None:
        _save_episode(connection, scope.id, batch, last)
    _insert_facts(connection, change, [write for write in batch.writes if write.replaces is None], seqs)
    _replace_facts(connection, change, [write for write in batch.writes if write.replaces is not None], seqs, old)
    _move_contexts(connection, change, batch.contexts, seqs, old)
    if batch.writes or batch.contexts:
        _apply_change(connection, change, scope.speakers, last)


def _save_episode(connection: Connection, scope: int, batch: Batch, seq: int) -> None:
    episode = batch.episode
    assert episode is not None
    if episode.kept:
        _run(connection, "UPDATE episodes SET extraction = ? WHERE id = ?", (batch.extraction, episode.id))
        return
    principal, messages = storable(episode.principal), messages_json(episode.messages)
    row = (episode.id, scope, epoch(episode.at), principal, messages, batch.extraction, seq)
    _run(connection, _INSERT_EPISODE, row)


def _insert_facts(connection: Connection, change: _Change, writes: Sequence[Write], seqs: Iterable[int]) -> None:
    rows = []
    for write, seq in zip(writes, seqs, strict=False):
        row = _row(write.fact, write.features) | {"pk": seq, "seq": seq, "scope_id": change.scope_id}
        change.count(row, +1)
        rows.append(row)
    if rows:
        _run(connection, _inserting_fact(tuple(rows[0])), [tuple(row.values()) for row in rows])
    pairs = [(id_, write.fact.id) for write in writes for id_ in dict.fromkeys(write.fact.sources)]
    if pairs:
        _run(connection, _INSERT_LINEAGE, pairs)


def _row(fact: Fact, features: Features) -> dict[str, Any]:
    """Column to value, the columns in the same order for every fact."""
    return fact_row(fact) | features_row(features)


@lru_cache(maxsize=4)
def _inserting_fact(columns: tuple[str, ...]) -> str:
    return f"INSERT INTO facts ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


@lru_cache(maxsize=4)
def _replacing_fact(columns: tuple[str, ...]) -> str:
    return f"UPDATE facts SET {', '.join(f'{name} = ?' for name in columns)} WHERE pk = ?"


def _replace_facts(
    connection: Connection, change: _Change, writes: Sequence[Write], seqs: Iterable[int], old: _Stored | None
) -> None:
    old = _stored(connection, [write.fact.id for write in writes]) if old is None else old
    columns: tuple[str, ...] = ()
    rows = []
    for write, seq in zip(writes, seqs, strict=False):
        before = old.get(write.fact.id)
        if before is None or before["version"] != write.replaces or before["scope_id"] != change.scope_id:
            raise Conflict(f"Fact {write.fact.id} changed while its edit was planned.")
        row = _row(write.fact, write.features) | {"seq": seq}
        change.count(before, -1)
        change.count(row | {"pk": before["pk"]}, +1)
        columns = tuple(row)
        rows.append((*row.values(), before["pk"]))
    if rows:
        _run(connection, _replacing_fact(columns), rows)


def _move_contexts(
    connection: Connection, change: _Change, contexts: Sequence[ContextWrite], seqs: Iterable[int], old: _Stored | None
) -> None:
    old = _stored(connection, [move.fact_id for move in contexts]) if old is None else old
    for move, seq in zip(contexts, seqs, strict=False):
        before = old.get(move.fact_id)
        if before is None or before["scope_id"] != change.scope_id:
            raise Conflict(f"Fact {move.fact_id} disappeared while its neighbour was added.")
        after = {"context_stems": spaced(move.context_stems)}
        change.count(before, -1)
        change.count(dict(before) | after, +1)
        length, context = len(move.context_stems), blob(move.context)
        _run(connection, _MOVE_CONTEXT, (move.following, after["context_stems"], length, context, seq, before["pk"]))


def _stored(connection: Connection, ids: Sequence[str]) -> _Stored:
    found: dict[str, Mapping[str, Any]] = {}
    for start in range(0, len(ids), _CHUNK):
        chunk = tuple(ids[start : start + _CHUNK])
        query = f"SELECT {', '.join(_STORED_COLUMNS)} FROM facts WHERE id IN ({', '.join('?' * len(chunk))})"
        for row in _run(connection, query, chunk):
            found[row[1]] = dict(zip(_STORED_COLUMNS, row, strict=True))
    return found


def _apply_change(connection: Connection, change: _Change, spoke: str, seq: int) -> None:
    _save_words(connection, change)
    _save_full_text(connection, change)
    speakers = Counter(json.loads(spoke))
    speakers.update(change.speakers)
    speaking = dumps({name: count for name, count in speakers.items() if count > 0})
    more = (change.live, change.recallable, change.body_words, change.context_words, change.held)
    _run(connection, _MOVE_SCOPE, (seq, *more, speaking, change.scope_id))


def _save_words(connection: Connection, change: _Change) -> None:
    body, context = change.body_df, change.context_df
    # Sorted, so that all writers take the rows in one order, and pages are written one after another.
    moved = sorted(stem for stem in body.keys() | context.keys() if body[stem] or context[stem])
    if moved:
        _run(connection, _SAVE_WORDS, [(change.scope_id, stem, body[stem], context[stem]) for stem in moved])


def _save_full_text(connection: Connection, change: _Change) -> None:
    forget, index = _FULL_TEXT[connection.dialect.name]
    if change.unindexed:
        _run(connection, forget, [(pk, " ".join(terms(change.scope_id, stems))) for pk, stems in change.unindexed])
    if change.indexed:
        _run(
            connection,
            index,
            [(pk, _indexed(connection, terms(change.scope_id, stems))) for pk, stems in change.indexed],
        )


def add_terms(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put facts into the full text: their keys `pk`, and their `terms` separated by spaces."""
    if rows:
        index = _FULL_TEXT[connection.dialect.name][1]
        _run(connection, index, [(row["pk"], _indexed(connection, str(row["terms"]).split())) for row in rows])


def _indexed(connection: Connection, words: Sequence[str]) -> str:
    # A tsvector made from an array refuses repeats; FTS5 forgets by the very words it was given.
    return " ".join(words if connection.dialect.name == "sqlite" else dict.fromkeys(words))


def terms(scope: int, stems: Iterable[str]) -> list[str]:
    """Full-text terms of stems in one scope; what is not plain ASCII in hex, which every tokenizer keeps whole."""
    return [f"s{scope}{_spelled(stem)}" for stem in stems]


def _spelled(stem: str) -> str:
    return f"w{stem}" if stem.isascii() and stem.isalnum() else f"x{stem.encode('utf-8', 'surrogatepass').hex()}"


def count_verdicts(connection: Connection, scope: int, row: UsageRow) -> int | None:
    """Count a verdict in the scope's tallies; return the tick it counts at, None if it says nothing."""
    given = usefulness.credited(row.verdicts)
    if not given:
        return None
    tick = int(connection.execute(_JUDGED, {"wanted": scope}).scalar_one())
    earlier = connection.execute(_EARLIER_VERDICT, {"wanted": row.recall_id}).first()
    withdrawn = usefulness.credited(json.loads(earlier.verdicts)) if earlier is not None else {}
    since = int(earlier.tick) if earlier is not None else tick
    before: dict[str, Tally] = {}
    ids = [*dict.fromkeys([*given, *withdrawn])]
    for start in range(0, len(ids), _CHUNK):
        found = connection.execute(_TALLIES, {"scope": scope, "wanted": ids[start : start + _CHUNK]})
        before |= {tally.fact_id: tally for tally in map(Tally._make, found)}
    changed = usefulness.tallied(before, tick, given, withdrawn, since)
    rows = [{"scope_id": scope, **tally._asdict()} for tally in changed]
    upsert(connection, t.tallies, rows, ["scope_id", "fact_id"])
    return since


def save_decisions(connection: Connection, scope: int, decisions: Sequence[Decision], seq: int) -> None:
    """Append decisions of one scope."""
    rows = [
        (
            seq,
            scope,
            decision.fact_id,
            decision.episode_id,
            decision.action,
            storable(decision.principal),
            epoch(decision.at),
            storable(decision.reason.rule),
            storable(decision.reason.line),
            dumps(dict(decision.reason.terms)),
            dumps(dict(decision.before)) if decision.before is not None else None,
            dumps(dict(decision.after)) if decision.after is not None else None,
            decision.refused,
        )
        for decision in decisions
    ]
    if rows:
        _run(connection, _INSERT_DECISION, rows)


def _save_links(connection: Connection, scope: int, links: Sequence[Link]) -> None:
    rows = [
        {
            "scope_id": scope,
            "newer": link.newer,
            "older": link.older,
            "verdict": link.verdict,
            "probability": link.probability,
            "at": epoch(link.at),
            "rule": storable(link.reason.rule),
            "line": storable(link.reason.line),
            "terms": dumps(dict(link.reason.terms)),
        }
        for link in links
    ]
    if rows:
        connection.execute(insert(t.links), rows)


def last_keys(connection: Connection) -> dict[str, int]:
    """The highest keys of decisions and links; what a commit appends comes after them."""
    (row,) = _run(connection, "SELECT (SELECT MAX(id) FROM decisions), (SELECT MAX(id) FROM links)", ())
    return {"decisions": row[0] or 0, "links": row[1] or 0}


def park(connection: Connection, scope: int, item: Parked) -> None:
    """Append one parked item."""
    connection.execute(
        insert(t.parked),
        {
            "kind": item.kind,
            "scope_id": scope,
            "episode_id": item.episode_id,
            "at": epoch(item.at),
            "error": storable(item.error),
            "payload": dumps(dict(item.payload)),
        },
    )


def replace_vectors(connection: Connection, fresh: Iterable[FreshVectors]) -> list[str]:
    """Give facts new vectors and sequence numbers; pending facts become live. Returns the facts' ids."""
    changed: list[str] = []
    status = case((t.facts.c.status == Status.PENDING.value, Status.LIVE.value), else_=t.facts.c.status)
    change = (
        update(t.facts)
        .where(t.facts.c.id == bindparam("fact"))
        .values(content=bindparam("new_content"), context=bindparam("new_context"), seq=bindparam("new_seq"))
        .values(status=status)
    )
    remaining = iter(fresh)
    while chunk := list(islice(remaining, _CHUNK)):
        last = next_seq(connection, len(chunk))
        rows = [
            {"fact": item.fact_id, "new_content": blob(item.content), "new_context": blob(item.context), "new_seq": seq}
            for seq, item in enumerate(chunk, last - len(chunk) + 1)
        ]
        connection.execute(change, rows)
        changed += [item.fact_id for item in chunk]
    # Questions were embedded by the old embedder and cannot be compared any more.
    connection.execute(update(t.usage).where(t.usage.c.question.is_not(None)).values(question=None))
    here = t.facts.c.scope_id == t.scopes.c.id
    newest = select(func.coalesce(func.max(t.facts.c.seq), 0)).where(here).scalar_subquery()
    live = select(func.count()).where(here, t.facts.c.status == Status.LIVE.value).scalar_subquery()
    seq = case((t.scopes.c.seq > newest, t.scopes.c.seq), else_=newest)
    connection.execute(update(t.scopes).values(seq=seq, live=live))
    return changed


_SCORE = (
    update(t.facts)
    .where(t.facts.c.id == bindparam("fact"))
    .values(forget_score=bindparam("new_score"), forget_terms=bindparam("new_terms"))
)


def save_scores(connection: Connection, scores: Sequence[ForgetScore]) -> None:
    """Store forget scores and nothing else."""
    for start in range(0, len(scores), _CHUNK):
        rows = [
            {"fact": item.fact_id, "new_score": item.score, "new_terms": dumps(dict(item.terms))}
            for item in scores[start : start + _CHUNK]
        ]
        connection.execute(_SCORE, rows)


def _insert(connection: Connection, table: Any) -> Any:
    """This dialect's INSERT, which can do ON CONFLICT."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def upsert(connection: Connection, table: Any, rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
    """Insert rows, overwriting the other columns of rows whose `keys` exist."""
    if not rows:
        return
    statement = _insert(connection, table)
    others = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=others), list(rows))


def insert_if_absent(connection: Connection, table: Any, row: Mapping[str, Any]) -> None:
    """Insert a row unless its key exists."""
    connection.execute(_insert(connection, table).values(**row).on_conflict_do_nothing())


def seconds_now(connection: Connection) -> float:
    """Epoch seconds by the one clock that all processes of the store share: the server's, or this machine's."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
