"""Import: takes an export, or another memory's dump, into the store. Checked whole before the first row is written.

A file is hearsay: unless whoever may administer the scopes vouches for it, what it says comes in by the channel
`import`, with its trust and none of its history. What was erased stays out, whatever the file says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from engram_core.domain.access import Verb
from engram_core.domain.audit import AuditEntry
from engram_core.domain.errors import EmbeddingFailed, InvalidExport
from engram_core.domain.fact import MAX_TEXT_BYTES, TRUST_BY_CHANNEL, Fact, Origin, Slot, Status
from engram_core.domain.message import Episode, Message
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.floor import legality
from engram_core.measure import dates, sameness, words
from engram_core.operations import consolidate, gate, warden
from engram_core.operations import records as r
from engram_core.operations.barred import Barred
from engram_core.operations.commit import Half, embed_all
from engram_core.operations.context import Context
from engram_core.ports import Batch, Decision, Features, Link, RecallRow, UsageRow, Write

_CHUNK: Final = 200
_CHANNEL: Final = "import"
_IMPORT_TRUST: Final = TRUST_BY_CHANNEL[_CHANNEL]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did, or with `dry_run` would do.

    Attributes:
        facts: Ids of the facts that are new.
        known: Facts that were here already, under the same id and in the same scope; they stay as they are.
        erased: Facts that tombstones keep out.
        counts: Other records taken in, by kind.
        scopes: Paths of the scopes concerned.
    """

    facts: tuple[str, ...]
    known: int = 0
    erased: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    scopes: tuple[str, ...] = ()
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "facts": len(self.facts),
            "ids": list(self.facts),
            "known": self.known,
            "erased": self.erased,
            "counts": dict(self.counts),
            "scopes": list(self.scopes),
            "dry_run": self.dry_run,
        }


@dataclass(slots=True)
class Load:
    """A checked file, by kind."""

    policies: list[r.PolicyRecord] = field(default_factory=list)
    episodes: dict[str, r.EpisodeRecord] = field(default_factory=dict)
    messages: dict[str, list[r.MessageRecord]] = field(default_factory=dict)
    facts: dict[str, r.FactRecord] = field(default_factory=dict)
    links: list[r.LinkRecord] = field(default_factory=list)
    decisions: list[r.DecisionRecord] = field(default_factory=list)
    recalls: list[r.RecallRecord] = field(default_factory=list)
    usage: list[r.UsageRecord] = field(default_factory=list)

    @property
    def scopes(self) -> list[Scope]:
        """Every scope that something in it belongs to."""
        paths = [item.scope for item in self.policies] + [item.scope for item in self.episodes.values()]
        paths += [item.scope for item in self.facts.values()] + [item.scope for item in self.recalls]
        return sorted({Scope(path) for path in paths})


def load(path: Path, within: Scope | None) -> Load:
    """Read and check a whole export. Raises InvalidExport with the number of the line."""
    found = Load()
    lines: dict[str, int] = {}
    for number, record in r.read(path):
        try:
            _take(found, record, within, lines, number)
        except (InvalidExport, ValueError) as error:
            raise InvalidExport(f"Line {number}: {error}") from error
    for fact in found.facts.values():
        _check_links(found, fact, lines[fact.id])
    return found


def _take(found: Load, record: Any, within: Scope | None, lines: dict[str, int], number: int) -> None:
    path = None if isinstance(record, r.Header) else getattr(record, "scope", None)
    if within is not None and path is not None and not within.contains(Scope(path)):
        raise InvalidExport(f"scope {path!r} is not within {within}.")
    match record:
        case r.PolicyRecord():
            MemoryPolicy.validated(record.policy)
            found.policies.append(record)
        case r.EpisodeRecord():
            if found.episodes.setdefault(record.id, record) is not record:
                raise InvalidExport(f"episode {record.id!r} stands in the file twice.")
        case r.MessageRecord():
            if record.episode not in found.episodes:
                raise InvalidExport(f"its episode {record.episode!r} has not come before it.")
            _message(record)
            found.messages.setdefault(record.episode, []).append(record)
        case r.FactRecord():
            if found.facts.setdefault(record.id, record) is not record:
                raise InvalidExport(f"fact {record.id!r} stands in the file twice.")
            lines[record.id] = number
            _check_fact(record)
        case r.LinkRecord():
            found.links.append(record)
        case r.DecisionRecord():
            found.decisions.append(record)
        case r.RecallRecord():
            if any(not isinstance(item.get("id"), str) for item in [*record.facts, *record.dropped]):
                raise InvalidExport("a recalled fact has no id.")
            found.recalls.append(record)
        case r.UsageRecord():
            if any(item.get("verdict") not in {"used", "unused", "unknown"} for item in record.verdicts):
                raise InvalidExport("a verdict is neither used, unused nor unknown.")
            found.usage.append(record)
        case _:
            pass


def _check_fact(record: r.FactRecord) -> None:
    size = len(record.text.encode())
    if not record.text.strip() or size > MAX_TEXT_BYTES:
        raise InvalidExport(f"a fact's text has 1 to {MAX_TEXT_BYTES:,} bytes, not {size:,}.")
    refusal = legality.unfit_kind(record.kind) or legality.unfit_metadata(record.metadata)
    if refusal is not None:
        raise InvalidExport(refusal.line)
    if record.channel != "derived" and record.trust > TRUST_BY_CHANNEL["user"]:
        raise InvalidExport("no fact is trusted more than a user's own word.")


def _check_links(found: Load, fact: r.FactRecord, number: int) -> None:
    """What a fact of the file refers to in the file belongs to the same scope, but for what it was derived from."""
    near = [*fact.consolidated_from, fact.consolidated_into, fact.superseded_by, fact.previous, fact.following]
    for id_ in near:
        other = found.facts.get(id_ or "")
        if other is not None and other.scope != fact.scope:
            raise InvalidExport(f"Line {number}: fact {fact.id!r} refers to {id_!r}, which belongs to another scope.")
        if id_ == fact.id:
            raise InvalidExport(f"Line {number}: fact {fact.id!r} refers to itself.")


def take_in(
    context: Context,
    found: Load,
    principal: str,
    now: datetime,
    *,
    trusted: bool,
    dry_run: bool,
    progress: Progress | None = None,
) -> Imported:
    """Write a checked file, scope by scope.

    Raises:
        AccessDenied: The principal may not write to a scope of the file; nothing was stored.
        InvalidExport: An id is in use in another scope; nothing was stored.
    """
    tell = progress or (lambda _label, _done, _total: None)
    verb: Verb = "admin" if trusted else "write"
    for scope in found.scopes:
        warden.require(context, principal, verb, scope, now, "import")
    here = {fact.id: fact for fact in _known(context, list(found.facts))}
    strange = next((id_ for id_, fact in here.items() if fact.scope.path != found.facts[id_].scope), None)
    if strange is not None:
        raise InvalidExport(f"Fact {strange!r} is in use in another scope of this store; nothing was stored.")
    counts: dict[str, int] = {}
    new: list[str] = []
    erased = 0
    for number, scope in enumerate(found.scopes, 1):
        desk = _Desk(context, found, scope, principal, now, trusted, set(here))
        new += [record.id for record in desk.facts]
        erased += desk.erased
        if not dry_run:
            desk.write(tell)
            for name, count in desk.counts.items():
                counts[name] = counts.get(name, 0) + count
        tell("import", number, len(found.scopes))
    if not dry_run:
        context.finder.wake()
    known = sum(fact.status is not Status.ERASED for fact in here.values())
    paths = tuple(scope.path for scope in found.scopes)
    return Imported(tuple(new), known, erased + len(here) - known, counts, paths, dry_run)


def _known(context: Context, ids: Sequence[str]) -> list[Fact]:
    return [fact for start in range(0, len(ids), _CHUNK) for fact in context.ledger.facts(ids[start : start + _CHUNK])]


class _Desk:
    """One scope's part of an import."""

    def __init__(
        self, context: Context, found: Load, scope: Scope, principal: str, now: datetime, trusted: bool, here: set[str]
    ) -> None:
        self.context = context
        self.found = found
        self.scope = scope
        self.principal = principal
        self.now = now
        self.trusted = trusted
        self.counts: dict[str, int] = {}
        self.policy = context.ledger.policy(scope).policy
        self.bar = Barred.of(context, scope)
        mine = [item for item in found.facts.values() if item.scope == scope.path and item.id not in here]
        barred = self.barred = self._barred(mine)
        self.gone = barred | {id_ for id_ in here if found.facts[id_].scope == scope.path}
        self.facts = [item for item in mine if item.id not in barred]
        self.erased = len(barred)
        self._texts = {item.id: item.text for item in found.facts.values()}

    def _barred(self, mine: Sequence[r.FactRecord]) -> set[str]:
        if self.bar is None:
            return set()
        ids = self.bar.facts([item.id for item in mine])
        texts = self.bar.statements([item.text for item in mine])
        out = ids | {item.id for item in mine if item.text in texts}
        # What was made of an erased statement says it, too.
        made = {item.id for item in mine if not out.isdisjoint((*item.sources, *item.consolidated_from))}
        return out | made

    def write(self, tell: Progress) -> None:
        """Store the scope's records: policies, then episodes with their facts and history, then recalls."""
        if self.trusted:
            self._policies()
        written = 0
        for episode, facts in self._units():
            self._commit(episode, facts)
            written += len(facts)
            tell(f"import {self.scope}", written, len(self.facts))
        if self.trusted and (self.facts or not self.gone):
            self._loose()
            self._recalls()

    def _policies(self) -> None:
        if self.context.ledger.policy_versions([self.scope]):
            return
        for item in self.found.policies:
            if item.scope == self.scope.path:
                policy = MemoryPolicy.validated(item.policy)
                entry = AuditEntry(self.now, self.principal, "admin", "import", self.scope, by=self.principal)
                self.context.ledger.set_policy(self.scope, policy, item.principal, item.at, entry)
                self._count("policy")

    def _units(self) -> Iterator[tuple[Episode | None, list[r.FactRecord]]]:
        """Each episode with the facts that came of it, oldest first; then the facts of none; consolidated ones last."""
        by_episode: dict[str | None, list[r.FactRecord]] = {}
        last = []
        for fact in sorted(self.facts, key=lambda item: (item.created_at, item.id)):
            if fact.is_consolidated and fact.consolidated_from:
                last.append(fact)
            else:
                by_episode.setdefault(fact.episode if fact.episode in self.found.episodes else None, []).append(fact)
        theirs = [item for item in self.found.episodes.values() if item.scope == self.scope.path]
        for record in sorted(theirs, key=lambda item: (item.at, item.id)):
            facts = by_episode.pop(record.id, [])
            episode = self._episode(record)
            yield episode, facts[:_CHUNK]
            for start in range(_CHUNK, len(facts), _CHUNK):
                yield None, facts[start : start + _CHUNK]
        rest = [fact for facts in by_episode.values() for fact in facts]
        for start in range(0, len(rest), _CHUNK):
            yield None, rest[start : start + _CHUNK]
        for start in range(0, len(last), _CHUNK):
            yield None, last[start : start + _CHUNK]

    def _episode(self, record: r.EpisodeRecord) -> Episode | None:
        if self.context.ledger.episode(record.id) is not None:
            return None
        messages = [self._message(item) for item in self.found.messages.get(record.id, ())]
        if self.bar is not None:
            entry = self.bar.entry(gate.Entry.of([gate.Admitted(message) for message in messages]))
            messages = [item.message for item in entry.messages]
        principal = record.principal if self.trusted else self.principal
        return Episode(record.id, self.scope, tuple(messages), record.at, principal)

    def _message(self, record: r.MessageRecord) -> Message:
        message = _message(record)
        if self.trusted:
            return message
        text = gate.clean_text(message.content, self.policy)
        return replace_channel(message.with_content(text))

    def _commit(self, episode: Episode | None, records: Sequence[r.FactRecord]) -> None:
        if episode is None and not records:
            return
        facts = [self._fact(record) for record in records]
        vectors = self._vectors(records, facts)
        writes, decisions = [], []
        for record, fact in zip(records, facts, strict=True):
            features = self._features(record, fact, vectors)
            is_waiting = fact.status is Status.LIVE and features.content is None
            writes.append(Write(replace(fact, status=Status.PENDING) if is_waiting else fact, features))
        ids = {record.id for record in records}
        if self.trusted:
            decisions = [_decision(item, self.scope) for item in self._history(ids)]
        else:
            why = Reason("imported", f"{self.principal} imported it from a file.")
            told = [(fact, {"text": fact.text, "kind": fact.kind, "status": fact.status.value}) for fact in facts]
            decisions = [
                Decision("import", self.scope, self.principal, self.now, why, fact_id=fact.id, after=after)
                for fact, after in told
            ]
        links = [_link(item) for item in self.found.links if self.trusted and item.newer in ids and self._is_here(item)]
        self.context.ledger.commit(
            Batch(self.scope, episode=episode, writes=tuple(writes), decisions=tuple(decisions), links=tuple(links))
        )
        self._count("episode", int(episode is not None))
        self._count("decision", len(decisions))
        self._count("link", len(links))

    def _history(self, ids: set[str]) -> Iterator[r.DecisionRecord]:
        return (item for item in self.found.decisions if item.fact in ids and item.scope == self.scope.path)

    def _is_here(self, link: r.LinkRecord) -> bool:
        return link.scope == self.scope.path and link.older not in self.gone

    def _fact(self, record: r.FactRecord) -> Fact:
        status, channel, trust, principal = Status(record.status), record.channel, record.trust, record.principal
        text, pinned, metadata = record.text, record.pinned, dict(record.metadata)
        if not self.trusted:
            trust = min(trust, _IMPORT_TRUST, TRUST_BY_CHANNEL[channel])
            channel, principal, pinned = _CHANNEL, self.principal, False
            text = gate.clean_text(text, self.policy)
            metadata = gate.clean_values(metadata, self.policy)
            if status is Status.LIVE and _CHANNEL in self.policy.quarantine_channels:
                status = Status.QUARANTINED
        successor = record.superseded_by
        return Fact(
            id=record.id,
            scope=self.scope,
            text=text,
            origin=Origin(principal, channel, record.episode, record.session, record.message_ids),
            created_at=record.created_at,
            said_at=record.said_at,
            version=max(1, record.version),
            speaker=record.speaker,
            kind=record.kind,
            slot=Slot(*record.slot) if record.slot else None,
            importance=record.importance,
            confidence=record.confidence,
            trust=trust,
            valid_from=record.valid_from,
            valid_until=record.valid_until,
            pinned=pinned,
            status=Status.LIVE if status is Status.PENDING else status,
            forget_score=record.forget_score,
            forget_terms=record.forget_terms,
            superseded_by=None if successor in self.gone and successor not in self._texts else successor,
            consolidated_from=record.consolidated_from,
            is_consolidated=record.is_consolidated,
            consolidated_into=record.consolidated_into,
            form=record.form,
            sources=record.sources,
            archived_at=record.archived_at,
            archived_reason=record.archived_reason,
            restored_at=record.restored_at,
            metadata=metadata,
            subjects=record.subjects,
        )

    def _context_text(self, record: r.FactRecord, fact: Fact) -> str:
        around = [
            None if id_ in self.gone else self._texts.get(id_ or "") for id_ in (record.previous, record.following)
        ]
        return words.context_text(fact.text, *around)

    def _vectors(self, records: Sequence[r.FactRecord], facts: Sequence[Fact]) -> dict[str, Half]:
        """By text; empty when the embedder is out of order: everything is kept as pending then."""
        texts = [
            text
            for record, fact in zip(records, facts, strict=True)
            for text in (fact.text, self._context_text(record, fact))
        ]
        try:
            return embed_all(self.context, list(dict.fromkeys(texts)))
        except EmbeddingFailed:
            return {}

    def _features(self, record: r.FactRecord, fact: Fact, vectors: dict[str, Half]) -> Features:
        if fact.form == "merged" and fact.consolidated_from:
            rows = self.context.ledger.indexed(fact.consolidated_from)
            if rows:
                return consolidate.features_of(fact, rows)
        around = self._context_text(record, fact)
        return Features(
            key=sameness.key(fact.text, fact.speaker, fact.said_at),
            body_stems=tuple(words.stems(fact.text)),
            context_stems=tuple(words.stems(around)),
            content=vectors.get(fact.text),
            context=vectors.get(around),
            time_words=dates.time_words(fact.text),
            asks=words.is_bare_question(fact.text),
            previous=None if record.previous in self.gone else record.previous,
            following=None if record.following in self.gone else record.following,
        )

    def _loose(self) -> None:
        """Decisions about no fact: what was ignored or refused, and why."""
        loose = [item for item in self.found.decisions if item.fact is None and item.scope == self.scope.path]
        for start in range(0, len(loose), 10 * _CHUNK):
            chunk = tuple(_decision(item, self.scope) for item in loose[start : start + 10 * _CHUNK])
            self.context.ledger.commit(Batch(self.scope, decisions=chunk))
        self._count("decision", len(loose))

    def _recalls(self) -> None:
        ledger = self.context.ledger
        mine = [item for item in self.found.recalls if item.scope == self.scope.path]
        fresh = {item.id for item in mine if ledger.recall(item.id) is None}
        hidden = {item.id for item in mine if any(fact["id"] in self.barred for fact in item.facts)}
        for item in mine:
            if item.id in fresh:
                ledger.record_recall(_recall(item, is_silent=item.id in hidden))
                self._count("recall")
        for verdict in self.found.usage:
            if verdict.recall in fresh:
                said = "" if verdict.recall in hidden else verdict.response
                ledger.record_usage(UsageRow(verdict.recall, self.scope, verdict.at, said, verdict.verdicts))
                self._count("usage")

    def _count(self, name: str, count: int = 1) -> None:
        if count:
            self.counts[name] = self.counts.get(name, 0) + count


def replace_channel(message: Message) -> Message:
    """The message as it comes by import: with no more trust than that, or than its own channel if that has less."""
    if TRUST_BY_CHANNEL[message.channel] <= _IMPORT_TRUST:
        return message
    return Message(
        message.role,
        message.content,
        speaker=message.speaker,
        at=message.at,
        session=message.session,
        id=message.id,
        channel=_CHANNEL,
    )


def _message(record: r.MessageRecord) -> Message:
    return Message(
        record.role,
        record.content,
        speaker=record.speaker,
        at=record.at,
        session=record.session,
        id=record.id,
        channel=record.channel,
    )


def _decision(record: r.DecisionRecord, scope: Scope) -> Decision:
    return Decision(
        action=record.action,
        scope=scope,
        principal=record.principal,
        at=record.at,
        reason=Reason(record.rule, record.line, record.terms),
        fact_id=record.fact,
        before=record.before,
        after=record.after,
        refused=record.refused,
        episode_id=record.episode,
    )


def _link(record: r.LinkRecord) -> Link:
    reason = Reason(record.rule, record.line, record.terms)
    return Link(record.newer, record.older, record.probability, reason, record.at, record.verdict)


def _recall(record: r.RecallRecord, *, is_silent: bool) -> RecallRow:
    return RecallRow(
        id=record.id,
        scope=Scope(record.scope),
        principal=record.principal,
        session=record.session,
        at=record.at,
        query="" if is_silent else record.query,
        text_tokens=record.tokens,
        token_counter=record.token_counter,
        degraded=record.degraded,
        policy_version=record.policy_version,
        facts=record.facts,
        dropped=record.dropped,
        stages={},
    )
