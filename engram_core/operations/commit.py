"""Commit: legal changes become one transaction. It derives what recall needs, embeds and writes; it never decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.access import Allowance, Verb
from engram_core.domain.audit import AuditEntry
from engram_core.domain.change import Draft
from engram_core.domain.errors import EmbeddingFailed
from engram_core.domain.fact import TRUST_BY_CHANNEL, Fact, Origin, Status
from engram_core.domain.message import Channel, Episode, Message
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.floor import chain
from engram_core.floor.echo import SECOND_HAND
from engram_core.measure import dates, marks, sameness, words
from engram_core.operations import warden
from engram_core.operations.context import Context
from engram_core.ports import Batch, ContextWrite, Decision, Features, Indexed, Link, Tail, Write

Half = NDArray[np.float16]
_NOBODY = frozenset({"User", "Assistant"})
"""Speakers that stand for a role where no name was given."""
Extraction = Literal["none", "due", "done", "parked"]


@dataclass(slots=True)
class _Statement:
    """A new fact on its way, with its place in a session."""

    fact: Fact
    reason: Reason
    previous: str | None = None
    following: str | None = None
    previous_text: str | None = None
    following_text: str | None = None
    amendments: list[Decision] = field(default_factory=list)
    """What this very plan decided about it after adding it."""

    @property
    def context_text(self) -> str:
        return words.context_text(self.fact.text, self.previous_text, self.following_text)


@dataclass(slots=True)
class Plan:
    """What one operation is about to write; facts are added, replaced and decided one by one, then sealed."""

    context: Context
    scope: Scope
    principal: str
    now: datetime
    episode: Episode | None = None
    extraction: Extraction = "none"
    _new: list[_Statement] = field(default_factory=list)
    _ends: dict[str, _Statement] = field(default_factory=dict)
    _tails: dict[str, tuple[Tail, str, str]] = field(default_factory=dict)
    _replaced: list[Write] = field(default_factory=list)
    _decisions: list[Decision] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    subjects: tuple[str, ...] = ()
    known_vectors: Mapping[str, Half] = field(default_factory=dict)
    operation: str | None = None
    """What the audit calls it; default `add` for an episode, else what the decisions did."""
    needs: Verb | None = None
    """What the principal has to be allowed; default `write` for an episode, `curate` for everything else."""
    _allowed: Allowance | None = None

    @property
    def verb(self) -> Verb:
        """What the principal has to be allowed."""
        return self.needs or ("write" if self.episode is not None else "curate")

    def allowed(self) -> Allowance:
        """What lets the principal write this. Raises AccessDenied: nothing is sealed without it."""
        if self._allowed is None:
            operation = self.operation or "commit"
            self._allowed = warden.require(self.context, self.principal, self.verb, self.scope, self.now, operation)
        return self._allowed

    def add(
        self,
        draft: Draft,
        reason: Reason,
        *,
        sources: Sequence[Fact] = (),
        has_neighbours: bool = True,
        status: Status = Status.LIVE,
        ceiling: float = 1.0,
    ) -> Fact:
        """Plan a new fact and return it as it will be stored (live; pending if embedding fails when sealed).

        Args:
            draft, reason: What it says, and why it is kept.
            sources: The facts it is derived from; it is trusted no more than the least of them.
            has_neighbours: Whether it takes its place in its session.
            status: Live, or quarantined.
            ceiling: The most it may be trusted.
        """
        fact = self._fact(draft, sources, status, ceiling)
        statement = _Statement(fact, reason)
        if fact.origin.session is not None and has_neighbours:
            self._link(statement, fact.origin.session)
        self._new.append(statement)
        return fact

    def amend(self, after: Fact, reason: Reason, action: str) -> None:
        """Plan another state of a fact that this very plan adds."""
        statement = next(item for item in self._new if item.fact.id == after.id)
        old, new = difference(statement.fact, after)
        statement.fact = after
        statement.amendments.append(self._decision(action, reason, fact_id=after.id, before=old, after=new))

    def replace(self, before: Fact, after: Fact, reason: Reason, action: str, features: Features) -> None:
        """Plan a new state of an existing fact."""
        self._replaced.append(Write(after, features, replaces=before.version))
        old, new = difference(before, after)
        self.decide(action, reason, fact_id=after.id, before=old, after=new)

    def insert(self, fact: Fact, features: Features, reason: Reason, action: str, after: dict[str, Any]) -> None:
        """Plan a new fact that is complete already."""
        self._replaced.append(Write(fact, features))
        self.decide(action, reason, fact_id=fact.id, after=after)

    def replaced_as(self, before: Fact, after: Fact, features: Features) -> None:
        """Plan a new version whose history must not repeat what the old one said."""
        self._replaced.append(Write(after, features, replaces=before.version))

    def replaced(self, after: Fact, features: Features) -> None:
        """Plan a new state whose history is decided elsewhere."""
        self._replaced.append(Write(after, features, replaces=after.version))

    def decide(
        self,
        action: str,
        reason: Reason,
        *,
        fact_id: str | None = None,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
        refused: bool = False,
    ) -> None:
        """Plan one row of history."""
        self._decisions.append(
            self._decision(action, reason, fact_id=fact_id, before=before, after=after, refused=refused)
        )

    def _decision(
        self,
        action: str,
        reason: Reason,
        *,
        fact_id: str | None,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
        refused: bool = False,
    ) -> Decision:
        return Decision(
            action=action,
            scope=self.scope,
            principal=self.principal,
            at=self.now,
            reason=reason,
            fact_id=fact_id,
            before=before,
            after=after,
            refused=refused,
            episode_id=self.episode.id if self.episode else None,
        )

    def seal(self, expect: int | None) -> tuple[Batch, tuple[Fact, ...]]:
        """Embed and assemble: the batch to commit and the new facts in it. Embedding trouble makes facts pending."""
        vectors = self._embedded()
        writes, facts = [], []
        for statement in self._new:
            content = vectors.get(statement.fact.text)
            is_waiting = content is None and statement.fact.status is Status.LIVE
            fact = replace(statement.fact, status=Status.PENDING) if is_waiting else statement.fact
            writes.append(Write(fact, _features(statement, content, vectors.get(statement.context_text))))
            facts.append(fact)
            is_first_live = statement.amendments and fact.status is not Status.QUARANTINED
            added = Status.LIVE if is_first_live else fact.status
            after = {"text": fact.text, "kind": fact.kind, "status": added.value}
            self.decide("add", statement.reason, fact_id=fact.id, after=after)
            self._decisions += statement.amendments
        contexts = tuple(
            ContextWrite(tail.fact_id, following, tuple(words.stems(text)), vectors.get(text))
            for tail, following, text in self._tails.values()
        )
        batch = Batch(
            scope=self.scope,
            expect=expect,
            episode=self.episode,
            extraction=self.extraction,
            writes=(*writes, *self._replaced),
            contexts=contexts,
            decisions=tuple(self._decisions),
            links=tuple(self.links),
        )
        return replace(batch, audit=self._entry(batch)), tuple(facts)

    def _entry(self, batch: Batch) -> AuditEntry:
        actions = "add" if self.episode is not None else "+".join(sorted({item.action for item in batch.decisions}))
        return AuditEntry(
            at=self.now,
            principal=self.principal,
            verb=self.verb,
            operation=(self.operation or actions or "link")[:40],
            scope=self.scope,
            by=self.allowed().by,
            fact_ids=chain.facts_of(batch),
        )

    def _fact(self, draft: Draft, sources: Sequence[Fact], status: Status, ceiling: float) -> Fact:
        first = draft.messages[0]
        least = min((message.channel for message in draft.messages), key=TRUST_BY_CHANNEL.__getitem__)
        # A label such as [web] must not be lost on the way.
        channels = [least, *(fact.origin.channel for fact in sources)]
        second_hand = [channel for channel in channels if channel in SECOND_HAND]
        channel: Channel = min(second_hand, key=TRUST_BY_CHANNEL.__getitem__, default="derived" if sources else least)
        trust = min(TRUST_BY_CHANNEL[least], ceiling)
        return Fact(
            id=self.context.new_id(),
            scope=self.scope,
            text=draft.text,
            origin=Origin(
                principal=self.principal,
                channel=channel,
                episode_id=self.episode.id if self.episode else None,
                session=first.session,
                message_ids=message_ids(draft.messages),
            ),
            created_at=self.now,
            said_at=first.at or self.now,
            speaker=draft.speaker,
            kind=draft.kind,
            slot=draft.slot,
            importance=draft.importance,
            confidence=draft.confidence,
            trust=min([trust, self.allowed().max_trust, *(fact.trust for fact in sources)]),
            status=status,
            valid_from=draft.valid_from,
            valid_until=draft.valid_until,
            sources=tuple(fact.id for fact in sources),
            metadata=draft.metadata,
            subjects=self._about(draft, sources),
        )

    def _about(self, draft: Draft, sources: Sequence[Fact]) -> tuple[str, ...]:
        """Whom a fact is about: whom the caller named, who said it, the user who acts, and whose scope it is."""
        named = [*self.subjects, *(name for fact in sources for name in fact.subjects)]
        if draft.speaker is not None and draft.speaker not in _NOBODY:
            named.append(draft.speaker)
        if self.principal.startswith("user:") and self.principal != self.context.owner:
            named.append(self.principal.removeprefix("user:"))
        return tuple(dict.fromkeys([*named, self.scope.labels[-1]]))

    def _link(self, statement: _Statement, session: str) -> None:
        before = self._ends.get(session)
        if before is not None:
            statement.previous, statement.previous_text = before.fact.id, before.fact.text
            before.following, before.following_text = statement.fact.id, statement.fact.text
        else:
            tail = self.context.ledger.tail(self.scope, session)
            if tail is not None:
                statement.previous, statement.previous_text = tail.fact_id, tail.text
                text = words.context_text(tail.text, tail.previous_text, statement.fact.text)
                self._tails[session] = (tail, statement.fact.id, text)
        self._ends[session] = statement

    def _embedded(self) -> dict[str, Half]:
        """Vectors by text; empty when the embedder fails, so that everything is kept as pending instead of lost."""
        texts = [text for statement in self._new for text in (statement.fact.text, statement.context_text)]
        texts += [text for _, _, text in self._tails.values()]
        known = {text: self.known_vectors[text] for text in texts if text in self.known_vectors}
        try:
            return known | embed_all(self.context, [text for text in dict.fromkeys(texts) if text not in known])
        except EmbeddingFailed:
            return {}


def embed_all(context: Context, texts: Sequence[str]) -> dict[str, Half]:
    """Unit vectors (float16, as stored) by text. Raises EmbeddingFailed."""
    if not texts:
        return {}
    vectors = context.embedder.embed(texts).astype(np.float16)
    return dict(zip(texts, vectors, strict=True))


def message_ids(messages: Sequence[Message]) -> tuple[str, ...]:
    """The messages' ids, without repeats."""
    return tuple(dict.fromkeys(message.id for message in messages if message.id is not None))


def _features(statement: _Statement, content: Half | None, in_context: Half | None) -> Features:
    fact = statement.fact
    return Features(
        key=sameness.key(fact.text, fact.speaker, fact.said_at),
        body_stems=(*words.stems(fact.text), *marks.of_statement(fact.text)),
        context_stems=tuple(words.stems(statement.context_text)),
        content=content,
        context=in_context,
        time_words=dates.time_words(fact.text),
        asks=words.is_bare_question(fact.text),
        previous=statement.previous,
        following=statement.following,
    )


def features_again(
    context: Context, fact: Fact, row: Indexed, *, text_changed: bool = False, embed: bool = True
) -> Features:
    """The features of a stored fact: as stored, or derived and embedded anew when its text changed.

    Args:
        context: The store.
        fact: As it is to be.
        row: As it is stored.
        text_changed: Whether its features have to be derived.
        embed: Whether vectors are derived too; without them the fact is pending.

    Raises:
        EmbeddingFailed: The text changed and the embedder is out of order.
    """
    if not text_changed:
        return Features(
            key=sameness.key(fact.text, fact.speaker, fact.said_at),
            body_stems=tuple(row.body_stems.split()),
            context_stems=tuple(row.context_stems.split()),
            content=_half(row.content),
            context=_half(row.context),
            time_words=row.time_words,
            asks=bool(row.asks),
            previous=row.previous,
            following=row.following,
        )
    around = {near.id: near.text for near in context.ledger.facts([i for i in (row.previous, row.following) if i])}
    statement = _Statement(
        fact,
        Reason("", ""),
        row.previous,
        row.following,
        around.get(row.previous or ""),
        around.get(row.following or ""),
    )
    if not embed:
        return _features(statement, None, None)
    vectors = embed_all(context, list(dict.fromkeys([fact.text, statement.context_text])))
    return _features(statement, vectors[fact.text], vectors[statement.context_text])


def _half(blob: bytes | None) -> Half | None:
    return None if blob is None else np.frombuffer(blob, dtype="<f2")


_HISTORY_FIELDS = (
    "text", "kind", "importance", "confidence", "trust", "pinned", "status", "valid_from", "valid_until", "metadata",
    "archived_reason", "superseded_by", "slot", "version", "consolidated_from", "consolidated_into",
)  # fmt: skip


def difference(before: Fact, after: Fact) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields two states of a fact differ in, as JSON-able values: old ones and new ones."""
    old, new = {}, {}
    for name in _HISTORY_FIELDS:
        if getattr(before, name) != getattr(after, name):
            old[name], new[name] = _plain(getattr(before, name)), _plain(getattr(after, name))
    if before.origin.message_ids != after.origin.message_ids:
        old["message_ids"], new["message_ids"] = list(before.origin.message_ids), list(after.origin.message_ids)
    return old, new


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple) and not hasattr(value, "attribute"):
        return list(value)
    return str(value) if hasattr(value, "attribute") else value
