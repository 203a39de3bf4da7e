"""Export: everything about a scope or a subject, with lineage, history, and whom it was told. It changes nothing."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from engram_core.domain.errors import InvalidInput
from engram_core.domain.fact import Fact, Status
from engram_core.domain.message import Episode
from engram_core.domain.scope import Scope
from engram_core.operations import records as r
from engram_core.operations.context import Context
from engram_core.ports import Decision, Link, RecallRow, UsageRow

_PAGE: Final = 1_000
_ALL: Final = 1 << 31
_ANY: Final = tuple(status for status in Status if status is not Status.ERASED)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export holds.

    Attributes:
        path: Of the file.
        digest: Of its records, whatever their order: two stores that hold the same give the same.
        counts: Records by kind.
        scopes: Paths of the scopes in it.
    """

    path: str
    digest: str
    counts: dict[str, int]
    scopes: tuple[str, ...]


def export(
    context: Context,
    path: Path,
    scopes: tuple[Scope, ...],
    now: datetime,
    *,
    scope: Scope | None,
    subject: str | None,
    progress: Progress | None = None,
) -> Exported:
    """Write an export; see `Engram.export`."""
    tell = progress or (lambda _label, _done, _total: None)
    header = r.Header(type="engram", version=r.VERSION, at=now, scope=scope.path if scope else None, subject=subject)
    wanted = None if subject is None else set(context.ledger.erasures.about(subject, scope))
    digest, counts, kept = r.Digest(), dict[str, int](), list[r.Record]()
    fresh = path.with_name(f"{path.name}.new")
    is_page = path.suffix.lower() in {".html", ".htm"}
    try:
        with fresh.open("w", encoding="utf-8") as file:
            if not is_page:
                file.write(r.line_of(header) + "\n")
            for number, one in enumerate(scopes, 1):
                for record in _of_scope(context, one, wanted):
                    line = r.line_of(record)
                    digest.add(line)
                    name = str(record.type)  # type: ignore[attr-defined]  # every record has one
                    counts[name] = counts.get(name, 0) + 1
                    if is_page:
                        kept.append(record)
                    else:
                        file.write(line + "\n")
                tell("export", number, len(scopes))
            if is_page:
                file.writelines(_page(header, kept))
            else:
                file.write(r.line_of(r.End(type="end", records=digest.records, digest=digest.hex)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise InvalidInput(f"The export cannot be written to {path}: {error}.") from error
    return Exported(str(path), digest.hex, counts, tuple(one.path for one in scopes))


def _of_scope(context: Context, scope: Scope, wanted: set[str] | None) -> Iterator[r.Record]:
    """A scope's records: all of them, or those about the wanted facts."""
    ledger = context.ledger
    facts = [fact for fact in _facts(context, scope) if wanted is None or fact.id in wanted]
    ids = [fact.id for fact in facts]
    if wanted is not None and not facts:
        return
    if wanted is None:
        for version in ledger.policy_versions([scope]):
            policy = version.policy.model_dump(mode="json")
            assert version.at is not None
            yield r.PolicyRecord(
                type="policy", scope=scope.path, policy=policy, principal=version.principal, at=version.at
            )
    theirs = {id_ for fact in facts for id_ in fact.origin.message_ids}
    for episode in _episodes(context, scope):
        yield from _episode(episode, None if wanted is None else theirs)
    rows = {row.id: row for start in range(0, len(ids), _PAGE) for row in ledger.indexed(ids[start : start + _PAGE])}
    for fact in facts:
        yield _fact(fact, rows[fact.id].previous, rows[fact.id].following)
    here = set(ids)
    for link in ledger.links(ids):
        if link.newer in here and link.older in here:
            yield _link(scope, link)
    if wanted is None:
        history: Iterable[Decision] = reversed(ledger.decisions(scope, limit=_ALL))
    else:
        history = (decision for id_ in ids for decision in ledger.history(id_))
    yield from (_decision(decision) for decision in history if decision.fact_id is None or decision.fact_id in here)
    if wanted is None:
        asked = [item.recall for item in ledger.diary.asked(scope, None, _ALL)]
    else:
        found = {row.id: row for id_ in ids for row in ledger.recalls_of(id_, _ALL)}
        asked = sorted(found.values(), key=lambda row: (row.at, row.id))
    for row in asked:
        yield _recall(row)
        yield from (_usage(item) for item in ledger.usage(row.id))


def _facts(context: Context, scope: Scope) -> Iterator[Fact]:
    last: str | None = None
    while page := context.ledger.listing(scope, statuses=_ANY, limit=_PAGE, after=last):
        yield from page
        last = page[-1].id


def _episodes(context: Context, scope: Scope) -> Iterator[Episode]:
    after = 0
    while page := context.ledger.diary.episodes(scope, after, _PAGE):
        yield from (episode for _, episode in page)
        after = page[-1][0]


def _episode(episode: Episode, only: set[str] | None) -> Iterator[r.Record]:
    messages = [message for message in episode.messages if only is None or message.id in only]
    if only is not None and not messages:
        return
    yield r.EpisodeRecord(
        type="episode", id=episode.id, scope=episode.scope.path, at=episode.at, principal=episode.principal
    )
    for message in messages:
        yield r.MessageRecord(
            type="message",
            episode=episode.id,
            role=message.role,
            content=message.content,
            channel=message.channel,
            speaker=message.speaker,
            at=message.at,
            session=message.session,
            id=message.id,
        )


def _fact(fact: Fact, previous: str | None, following: str | None) -> r.FactRecord:
    return r.FactRecord(
        type="fact",
        id=fact.id,
        scope=fact.scope.path,
        text=fact.text,
        speaker=fact.speaker,
        kind=fact.kind,
        slot=(fact.slot.subject, fact.slot.attribute) if fact.slot else None,
        importance=fact.importance,
        confidence=fact.confidence,
        trust=fact.trust,
        pinned=fact.pinned,
        # Waiting for a vector is a matter of this store's embedder.
        status="live" if fact.status is Status.PENDING else fact.status.value,  # type: ignore[arg-type]
        version=fact.version,
        created_at=fact.created_at,
        said_at=fact.said_at,
        valid_from=fact.valid_from,
        valid_until=fact.valid_until,
        archived_at=fact.archived_at,
        archived_reason=fact.archived_reason,
        restored_at=fact.restored_at,
        principal=fact.origin.principal,
        channel=fact.origin.channel,
        episode=fact.origin.episode_id,
        session=fact.origin.session,
        message_ids=fact.origin.message_ids,
        form=fact.form,
        is_consolidated=fact.is_consolidated,
        consolidated_from=fact.consolidated_from,
        consolidated_into=fact.consolidated_into,
        superseded_by=fact.superseded_by,
        sources=fact.sources,
        forget_score=fact.forget_score,
        forget_terms=dict(fact.forget_terms),
        metadata=dict(fact.metadata),
        subjects=fact.subjects,
        previous=previous,
        following=following,
    )


def _link(scope: Scope, link: Link) -> r.LinkRecord:
    return r.LinkRecord(
        type="link",
        scope=scope.path,
        newer=link.newer,
        older=link.older,
        verdict=link.verdict,
        probability=link.probability,
        rule=link.reason.rule,
        line=link.reason.line,
        terms=dict(link.reason.terms),
        at=link.at,
    )


def _decision(decision: Decision) -> r.DecisionRecord:
    return r.DecisionRecord(
        type="decision",
        scope=decision.scope.path,
        action=decision.action,
        principal=decision.principal,
        at=decision.at,
        rule=decision.reason.rule,
        line=decision.reason.line,
        terms=dict(decision.reason.terms),
        fact=decision.fact_id,
        episode=decision.episode_id,
        before=dict(decision.before) if decision.before is not None else None,
        after=dict(decision.after) if decision.after is not None else None,
        refused=decision.refused,
    )


def _recall(row: RecallRow) -> r.RecallRecord:
    return r.RecallRecord(
        type="recall",
        id=row.id,
        scope=row.scope.path,
        principal=row.principal,
        session=row.session,
        at=row.at,
        query=row.query,
        tokens=row.text_tokens,
        token_counter=row.token_counter,
        degraded=row.degraded,
        policy_version=row.policy_version,
        facts=[dict(item) for item in row.facts],
        dropped=[dict(item) for item in row.dropped],
    )


def _usage(row: UsageRow) -> r.UsageRecord:
    return r.UsageRecord(
        type="usage",
        recall=row.recall_id,
        scope=row.scope.path,
        at=row.at,
        response=row.response,
        verdicts=[dict(item) for item in row.verdicts],
    )


# --- for people ------------------------------------------------------------------------------------------------------

_HEAD: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Engram export</title><style>'
    "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}"
    "td,th{border:1px solid #999;padding:.25rem .5rem;text-align:left;vertical-align:top}article{margin:2rem 0}"
    "</style><h1>What is remembered</h1>"
)


def _page(header: r.Header, found: list[r.Record]) -> Iterator[str]:
    """The same for people: every fact with where it came from, what happened to it, and whom it was told."""
    say = html.escape
    yield _HEAD
    about = header.subject or header.scope or "the whole store"
    yield f"<p>About {say(about)}, as of {say(header.at.isoformat())}.</p>"
    history: dict[str, list[r.DecisionRecord]] = {}
    told: dict[str, list[r.RecallRecord]] = {}
    for record in found:
        if isinstance(record, r.DecisionRecord) and record.fact:
            history.setdefault(record.fact, []).append(record)
        if isinstance(record, r.RecallRecord):
            for item in record.facts:
                told.setdefault(str(item.get("id")), []).append(record)
    for record in found:
        if isinstance(record, r.FactRecord):
            yield from _article(record, history.get(record.id, []), told.get(record.id, []))
    yield "<h2>Messages</h2><table><tr><th>when<th>who<th>words</tr>"
    for record in found:
        if isinstance(record, r.MessageRecord):
            when = record.at.isoformat() if record.at else ""
            yield f"<tr><td>{say(when)}<td>{say(record.speaker or record.role)}<td>{say(record.content)}</tr>"
    yield "</table></html>"


def _article(fact: r.FactRecord, history: list[r.DecisionRecord], told: list[r.RecallRecord]) -> Iterator[str]:
    say = html.escape
    yield f'<article id="{say(fact.id)}"><h2>{say(fact.text)}</h2><table>'
    rows: dict[str, Any] = {
        "status": fact.status,
        "scope": fact.scope,
        "said": f"{fact.said_at.isoformat()} by {fact.speaker or fact.principal} ({fact.channel})",
        "about": ", ".join(fact.subjects),
        "trust": fact.trust,
        "rests on": ", ".join((*fact.sources, *fact.consolidated_from)),
        "superseded by": fact.superseded_by or "",
        "told": ", ".join(sorted({row.principal for row in told})) or "nobody",
    }
    yield from (f"<tr><th>{say(name)}<td>{say(str(value))}</tr>" for name, value in rows.items() if value != "")
    yield "</table><ul>"
    yield from (f"<li>{say(i.at.isoformat())} {say(i.action)}, {say(i.principal)}: {say(i.line)}" for i in history)
    yield from (f"<li>{say(row.at.isoformat())} told {say(row.principal)}, who asked: {say(row.query)}" for row in told)
    yield "</ul></article>"
