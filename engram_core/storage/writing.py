"""One transaction of the ledger: facts, statistics, full text and decisions. It applies; it decides nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

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

# Built once: constructing a statement costs more than running it, and an add runs a dozen.
_TAKE = update(t.counter).where(t.counter.c.id == 1).values(seq=t.counter.c.seq + bindparam("count"))
_TAKE = _TAKE.returning(t.counter.c.seq)
_SCOPE_ID = select(t.scopes.c.id).where(t.scopes.c.path == bindparam("wanted"))
_SCOPE_SEQ = select(t.scopes.c.seq).where(t.scopes.c.id == bindparam("wanted"))
_SPEAKERS = select(t.scopes.c.speakers).where(t.scopes.c.id == bindparam("wanted"))
_MOVE_SCOPE = (
    update(t.scopes)
    .where(t.scopes.c.id == bindparam("wanted"))
    .values(
        seq=bindparam("new_seq"),
        live=t.scopes.c.live + bindparam("more_live"),
        recallable=t.scopes.c.recallable + bindparam("more_recallable"),
        body_words=t.scopes.c.body_words + bindparam("more_body_words"),
        context_words=t.scopes.c.context_words + bindparam("more_context_words"),
        held=t.scopes.c.held + bindparam("more_held"),
        speakers=bindparam("new_speakers"),
    )
)
_STORED = select(
    t.facts.c.pk,
    t.facts.c.id,
    t.facts.c.scope_id,
    t.facts.c.version,
    t.facts.c.status,
    t.facts.c.speaker,
    t.facts.c.body_stems,
    t.facts.c.context_stems,
    t.facts.c.form,
    t.facts.c.consolidated_from,
).where(t.facts.c.id.in_(bindparam("wanted", expanding=True)))

_REPLACE = (
    update(t.facts)
    .where(t.facts.c.pk == bindparam("new_pk"))
    .values({column: bindparam(f"new_{column.name}") for column in t.facts.c if column.name not in ("pk", "scope_id")})
)


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


def _saving_words(dialect_insert: Any) -> Any:
    statement = dialect_insert(t.words)
    return statement.on_conflict_do_update(
        index_elements=["scope_id", "stem"],
        set_={
            "body_df": t.words.c.body_df + statement.excluded.body_df,
            "context_df": t.words.c.context_df + statement.excluded.context_df,
        },
    )


_SAVE_WORDS = {"sqlite": _saving_words(sqlite.insert), "postgresql": _saving_words(postgresql.insert)}
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


def next_seq(connection: Connection, count: int) -> int:
    """Take `count` sequence numbers and return the last. The row lock makes commit order equal sequence order."""
    return int(connection.execute(_TAKE, {"count": count}).scalar_one())


def scope_id(connection: Connection, scope: Scope) -> int:
    """The scope's id, creating it if it is new."""
    found = connection.execute(_SCOPE_ID, {"wanted": scope.path}).scalar()
    if found is None:
        row = {"path": scope.path, "seq": 0, "live": 0, "recallable": 0, "body_words": 0, "context_words": 0}
        connection.execute(_insert(connection, t.scopes).values(**row, speakers="{}").on_conflict_do_nothing())
        found = connection.execute(_SCOPE_ID, {"wanted": scope.path}).scalar_one()
    return int(found)


def apply(connection: Connection, batch: Batch) -> int:
    """Write a batch and return the scope's new sequence number. Raises Conflict before anything is lost."""
    count = len(batch.writes) + len(batch.contexts) + 1
    last = next_seq(connection, count)
    seqs = iter(range(last - count + 1, last + 1))
    scope = scope_id(connection, batch.scope)
    _check(connection, scope, batch.expect)
    change = _Change(scope)
    if batch.episode is not None:
        _save_episode(connection, scope, batch, last)
    _insert_facts(connection, change, [write for write in batch.writes if write.replaces is None], seqs)
    _replace_facts(connection, change, [write for write in batch.writes if write.replaces is not None], seqs)
    _move_contexts(connection, change, batch.contexts, seqs)
    if batch.writes or batch.contexts:
        _apply_change(connection, change, last)
    if batch.erasure is not None:
        # Before the decision that says so is recorded: it blanks what was recorded till then.
        erasing.blank(connection, scope, batch.scope, batch.erasure)
    save_decisions(connection, scope, batch.decisions, last)
    _save_links(connection, scope, batch.links)
    for item in batch.parked:
        park(connection, scope, item)
    return last


def _check(connection: Connection, scope: int, expect: int | None) -> None:
    if expect is None:
        return
    seq = connection.execute(_SCOPE_SEQ, {"wanted": scope}).scalar_one()
    if seq != expect:
        raise Conflict(f"The scope moved from {expect} to {seq} while the change was planned.")


def _save_episode(connection: Connection, scope: int, batch: Batch, seq: int) -> None:
    episode = batch.episode
    assert episode is not None
    if episode.kept:
        done = update(t.episodes).where(t.episodes.c.id == episode.id).values(extraction=batch.extraction)
        connection.execute(done)
        return
    connection.execute(
        insert(t.episodes),
        {
            "id": episode.id,
            "scope_id": scope,
            "at": epoch(episode.at),
            "principal": storable(episode.principal),
            "messages": messages_json(episode.messages),
            "extraction": batch.extraction,
            "seq": seq,
        },
    )


def _insert_facts(connection: Connection, change: _Change, writes: Sequence[Write], seqs: Iterable[int]) -> None:
    rows = []
    for write, seq in zip(writes, seqs, strict=False):
        row = _row(write.fact, write.features) | {"pk": seq, "seq": seq, "scope_id": change.scope_id}
        change.count(row, +1)
        rows.append(row)
    if rows:
        connection.execute(insert(t.facts), rows)
    derived = [write.fact for write in writes if write.fact.sources]
    if derived:
        pairs = [{"source_id": id_, "fact_id": fact.id} for fact in derived for id_ in dict.fromkeys(fact.sources)]
        connection.execute(insert(t.lineage), pairs)


def _row(fact: Fact, features: Features) -> dict[str, Any]:
    return fact_row(fact) | features_row(features)


def _replace_facts(connection: Connection, change: _Change, writes: Sequence[Write], seqs: Iterable[int]) -> None:
    old = _stored(connection, [write.fact.id for write in writes])
    rows = []
    for write, seq in zip(writes, seqs, strict=False):
        before = old.get(write.fact.id)
        if before is None or before["version"] != write.replaces or before["scope_id"] != change.scope_id:
            raise Conflict(f"Fact {write.fact.id} changed while its edit was planned.")
        row = _row(write.fact, write.features) | {"pk": before["pk"], "seq": seq}
        change.count(before, -1)
        change.count(row, +1)
        rows.append({f"new_{name}": value for name, value in row.items()})
    if rows:
        connection.execute(_REPLACE, rows)


def _move_contexts(
    connection: Connection, change: _Change, contexts: Sequence[ContextWrite], seqs: Iterable[int]
) -> None:
    old = _stored(connection, [move.fact_id for move in contexts])
    for move, seq in zip(contexts, seqs, strict=False):
        before = old.get(move.fact_id)
        if before is None or before["scope_id"] != change.scope_id:
            raise Conflict(f"Fact {move.fact_id} disappeared while its neighbour was added.")
        values: dict[str, Any] = {
            "following": move.following,
            "context_stems": spaced(move.context_stems),
            "context_length": len(move.context_stems),
            "seq": seq,
        }
        if move.context is not None:
            values["context"] = blob(move.context)
        change.count(before, -1)
        change.count(dict(before) | values, +1)
        connection.execute(update(t.facts).where(t.facts.c.pk == before["pk"]).values(**values))


def _stored(connection: Connection, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        for row in connection.execute(_STORED, {"wanted": chunk}).mappings():
            found[row["id"]] = dict(row)
    return found


def _apply_change(connection: Connection, change: _Change, seq: int) -> None:
    _save_words(connection, change)
    _save_full_text(connection, change)
    row = connection.execute(_SPEAKERS, {"wanted": change.scope_id}).scalar_one()
    speakers = Counter(json.loads(row))
    speakers.update(change.speakers)
    connection.execute(
        _MOVE_SCOPE,
        {
            "wanted": change.scope_id,
            "new_seq": seq,
            "more_live": change.live,
            "more_recallable": change.recallable,
            "more_body_words": change.body_words,
            "more_context_words": change.context_words,
            "more_held": change.held,
            "new_speakers": dumps({name: count for name, count in speakers.items() if count > 0}),
        },
    )


def _save_words(connection: Connection, change: _Change) -> None:
    moved = sorted(
        stem
        for stem in change.body_df.keys() | change.context_df.keys()
        if change.body_df[stem] or change.context_df[stem]
    )
    if not moved:
        return
    connection.execute(
        _SAVE_WORDS[connection.dialect.name],
        [
            {
                "scope_id": change.scope_id,
                "stem": stem,
                "body_df": change.body_df[stem],
                "context_df": change.context_df[stem],
            }
            for stem in moved
        ],
    )


def _save_full_text(connection: Connection, change: _Change) -> None:
    removed = [{"pk": pk, "terms": " ".join(terms(change.scope_id, stems))} for pk, stems in change.unindexed]
    added = [{"pk": pk, "terms": " ".join(terms(change.scope_id, stems))} for pk, stems in change.indexed]
    if connection.dialect.name == "sqlite":
        if removed:
            # A contentless FTS5 table needs the very words it indexed to forget them; the fact's row still has them.
            gone = "INSERT INTO fact_words(fact_words, rowid, terms) VALUES('delete', :pk, :terms)"
            connection.execute(text(gone), removed)
    elif removed:
        connection.execute(text("DELETE FROM fact_words WHERE pk = :pk"), removed)
    add_terms(connection, added)


def add_terms(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put facts into the full text: their keys `pk`, and their `terms` separated by spaces."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(text("INSERT INTO fact_words(rowid, terms) VALUES(:pk, :terms)"), rows)
        return
    connection.execute(
        text("INSERT INTO fact_words(pk, terms) VALUES(:pk, array_to_tsvector(string_to_array(:terms, ' ')))"),
        [{**row, "terms": " ".join(dict.fromkeys(str(row["terms"]).split()))} for row in rows],
    )


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
        {
            "seq": seq,
            "scope_id": scope,
            "fact_id": decision.fact_id,
            "episode_id": decision.episode_id,
            "action": decision.action,
            "principal": storable(decision.principal),
            "at": epoch(decision.at),
            "rule": storable(decision.reason.rule),
            "line": storable(decision.reason.line),
            "terms": dumps(dict(decision.reason.terms)),
            "before": dumps(dict(decision.before)) if decision.before is not None else None,
            "after": dumps(dict(decision.after)) if decision.after is not None else None,
            "refused": decision.refused,
        }
        for decision in decisions
    ]
    if rows:
        connection.execute(insert(t.decisions), rows)


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


def replace_vectors(connection: Connection, fresh: Iterable[FreshVectors]) -> None:
    """Give facts new vectors and sequence numbers; pending facts become live."""
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
    # Questions were embedded by the old embedder and cannot be compared any more.
    connection.execute(update(t.usage).where(t.usage.c.question.is_not(None)).values(question=None))
    here = t.facts.c.scope_id == t.scopes.c.id
    newest = select(func.coalesce(func.max(t.facts.c.seq), 0)).where(here).scalar_subquery()
    live = select(func.count()).where(here, t.facts.c.status == Status.LIVE.value).scalar_subquery()
    seq = case((t.scopes.c.seq > newest, t.scopes.c.seq), else_=newest)
    connection.execute(update(t.scopes).values(seq=seq, live=live))


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
