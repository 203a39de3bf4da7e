"""Add: messages → access → screen → design → floor → commit. Acknowledged when the ledger has it on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, assert_never

from engram_core.design import Design, View
from engram_core.domain.change import (
    Absorb,
    Add,
    Archive,
    Change,
    Consolidate,
    Draft,
    Edit,
    Ignore,
    Merge,
    Release,
    Restore,
    Reweigh,
    Split,
    Supersede,
    Vouch,
    messages_of,
)
from engram_core.domain.errors import ChangeRefused, Conflict, FactNotFound, InvalidInput, StoreUnavailable
from engram_core.domain.fact import TRUST_BY_CHANNEL, Fact, Status
from engram_core.domain.message import Episode, Message, aware
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.domain.recall import AddResult, Outcome, Query, Scored
from engram_core.domain.scope import Scope
from engram_core.floor import legality
from engram_core.floor.echo import source_of
from engram_core.floor.screen import Screened
from engram_core.operations import barred, corroborate, gate, standby, warden
from engram_core.operations import supersede as superseding
from engram_core.operations.commit import Plan, difference, features_again, message_ids
from engram_core.operations.context import Context
from engram_core.operations.view import ScopedView
from engram_core.ports import LanguageModel, Link, ScopeState

MESSAGES_PER_COMMIT = 1_000
_ATTEMPTS = 60
_LONGEST_PAUSE_S = 0.2
_OF_ITSELF: Final = frozenset({"empty", "quota", "secret", "injection", "guard", "quarantine_channel"})
"""Rules that decide by a message, its sender and the policy alone, whatever else is stored."""

Input = str | Message | Sequence["str | Message"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller fixed for every fact of an add; None leaves it to the design."""

    kind: str | None = None
    importance: float | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    supersedes: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    allow_erased: bool = False

    def applied(self, draft: Draft) -> Draft:
        """The draft with the caller's wishes."""
        return replace(
            draft,
            kind=self.kind if self.kind is not None else draft.kind,
            importance=self.importance if self.importance is not None else draft.importance,
            metadata={**draft.metadata, **self.metadata},
        )


def add(
    context: Context,
    scope: Scope,
    principal: str,
    messages: Input,
    *,
    session: str | None,
    wishes: Wishes,
    now: datetime,
    progress: Progress | None = None,
) -> AddResult:
    """Remember messages; see `Memory.add`. One transaction per 1,000 messages."""
    outset = context.ledger.outset(scope)
    access = context.rules.current(outset.rules)
    warden.require(context, principal, "write", scope, now, "add", access=access)
    if wishes.supersedes:
        # Naming what is replaced is archiving it, and answers whether it is there.
        warden.require(context, principal, "curate", scope, now, "add", access=access)
        warden.require(context, principal, "read", scope, now, "add", access=access)
    whole = normalised(messages, session=session, now=now, new_id=context.new_id)
    facts: list[Fact] = []
    outcomes: list[Outcome] = []
    first_episode = ""
    for start in range(0, len(whole), MESSAGES_PER_COMMIT):
        chunk = whole[start : start + MESSAGES_PER_COMMIT]
        policy = (outset.policy if start == 0 else context.ledger.policy(scope)).policy
        episode = Episode(context.new_id(), scope, tuple(chunk), now, principal)
        episode, entry = gate.admit(context, episode, policy, now)
        first_episode = first_episode or episode.id
        wished = replace(
            wishes,
            supersedes=wishes.supersedes if start == 0 else (),
            metadata=gate.clean_values(wishes.metadata, policy) if wishes.metadata else {},
        )
        with context.turnstiles.of(scope):
            done = remember(context, episode, wished, now, entry=entry)
        facts += done.facts
        outcomes += done.outcomes
        if progress is not None:
            progress(min(start + MESSAGES_PER_COMMIT, len(whole)), len(whole))
    if access.allowance(principal, "read", scope, now) is None:
        return _sealed(outcomes, first_episode)
    return AddResult(tuple(facts), tuple(outcomes), first_episode)


def _sealed(outcomes: Sequence[Outcome], episode_id: str) -> AddResult:
    """What somebody is told who may write here and not read: nothing that depends on what is here already."""
    reason = Reason("accepted", "It was accepted; what became of it is for those who may read this scope.")
    told = (
        replace(item, fact_ids=()) if item.reason.rule in _OF_ITSELF else Outcome(item.message, "stored", reason)
        for item in outcomes
    )
    return AddResult((), tuple(told), episode_id)


def normalised(messages: Input, *, session: str | None, now: datetime, new_id: Callable[[], str]) -> list[Message]:
    """Messages with id, time, session and speaker filled in. Raises InvalidInput."""
    if isinstance(messages, str | Message):
        messages = [messages]
    if not isinstance(messages, Sequence):
        raise InvalidInput(f"add() takes a string, a Message or a list of them, not {type(messages).__name__}.")
    return [_normalised(message, session, now, new_id) for message in messages]


def _normalised(message: str | Message, session: str | None, now: datetime, new_id: Callable[[], str]) -> Message:
    if isinstance(message, str):
        return Message("user", message, session=session, id=new_id(), at=now)
    if not isinstance(message, Message):
        raise InvalidInput(
            f"add() takes strings and engram_core.Message objects, not {type(message).__name__}. "
            "The adapters convert their framework's messages."
        )
    return Message(
        message.role,
        message.content,
        speaker=message.speaker or {"user": "User", "assistant": "Assistant"}.get(message.role),
        at=aware(message.at) if message.at else now,
        session=message.session or session,
        id=message.id or new_id(),
        channel=message.channel,
    )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A design for one pass: its update proposes what was worked out before."""

    changes: tuple[Change, ...]
    name: str

    def update(self, episode: Episode, view: View) -> Sequence[Change]:
        return self.changes

    def retrieve(self, query: Query, view: View) -> Sequence[Scored]:
        return ()

    def sleep(self, view: View) -> Sequence[Change]:
        return ()


def remember(
    context: Context,
    episode: Episode,
    wishes: Wishes,
    now: datetime,
    *,
    design: Design | None = None,
    model: LanguageModel | None = None,
    entry: gate.Entry | None = None,
    ceiling: float = 1.0,
) -> AddResult:
    """Plan and commit one episode, planning again whenever another process wrote to the scope in between.

    Args:
        context, episode, wishes, now, design, model: What to remember, and how.
        entry: What the gate made of the messages; None for an episode that came through it earlier.
        ceiling: The most that a new fact may be trusted.

    Raises:
        StoreUnavailable: The ledger is out of order, or the scope kept moving.
    """
    entry = entry or gate.unscreened(episode)
    bar = None if wishes.allow_erased else barred.Barred.of(context, episode.scope)
    if bar is not None:
        entry = bar.entry(entry)
        episode = episode.with_messages([item.message for item in entry.messages])
    screened = entry.screened(context.injected.of(episode.scope, episode.principal))
    clean = episode.with_messages([item.message for item in screened if item.message is not None])
    if not episode.kept:
        context.second_hand.note(episode.scope, entry.heard)
    for attempt in range(_ATTEMPTS):
        view, expect = view_of(context, episode.scope, now, model=model)
        is_due = context.model is not None and not episode.kept
        planned = _Planning(context, view, clean, wishes, is_due, entry, ceiling)
        changes, failed = _proposed(context, clean, view, now, design)
        if failed is not None:
            planned.stood_in(failed)
        planned.bar(bar, changes)
        for change in changes:
            planned.take(change)
        try:
            return planned.commit(expect, episode, screened)
        except Conflict:
            # Another process wrote first. A pause of random length keeps them from colliding again and again.
            time.sleep(context.rng.uniform(0.0, min(_LONGEST_PAUSE_S, 0.002 * 2**attempt)))
    raise StoreUnavailable(f"Scope {episode.scope} was changed by others {_ATTEMPTS} times while adding; try again.")


def _proposed(
    context: Context, episode: Episode, view: ScopedView, now: datetime, design: Design | None
) -> tuple[list[Change], Reason | None]:
    """What a design, or the one in force, makes of an episode; and why it is the built-in design's work if it is."""
    if design is not None:
        return list(design.update(episode, view)), None
    return standby.ask(
        context, episode.scope, view.policy.design, lambda chosen: list(chosen.update(episode, view)), now
    )


def view_of(
    context: Context,
    scope: Scope,
    now: datetime,
    *,
    readable: Sequence[Scope] | None = None,
    policy: MemoryPolicy | None = None,
    model: LanguageModel | None = None,
) -> tuple[ScopedView, int]:
    """The view of a scope (alone, or with the readable scopes) and the scope's sequence number."""
    if policy is None:
        outset = context.ledger.outset(scope)
        wanted = readable if readable is not None else (scope,)
        states, policy = [state for state in outset.states if state.scope in wanted], outset.policy.policy
    else:
        states = context.ledger.scopes(list(readable) if readable is not None else [scope])
    view = view_on(context, scope, now, states, policy, model=model)
    return view, view.own.seq if view.own is not None else 0


def view_on(
    context: Context,
    scope: Scope,
    now: datetime,
    states: Sequence[ScopeState],
    policy: MemoryPolicy,
    *,
    model: LanguageModel | None = None,
) -> ScopedView:
    """The view of a scope on the states that were read of it and of others."""
    own = next((state for state in states if state.scope == scope), None)
    return ScopedView(context, scope, now, policy, _non_empty(states), own=own, model=model)


def _non_empty(states: Sequence[ScopeState]) -> list[ScopeState]:
    return [state for state in states if state.recallable]


@dataclass(frozen=True, slots=True)
class _Held:
    """Why a statement is kept apart, what it may be trusted at most, and whether it waits in quarantine."""

    reason: Reason
    ceiling: float
    is_quarantined: bool


class _Planning:
    """Turns a design's changes into a plan, through the floor, and the plan's result into outcomes."""

    def __init__(
        self,
        context: Context,
        view: ScopedView,
        episode: Episode,
        wishes: Wishes,
        is_extraction_due: bool,
        entry: gate.Entry,
        ceiling: float,
    ) -> None:
        self._context = context
        self._entry = entry
        self._ceiling = ceiling
        self._heard = context.second_hand.of(episode.scope)
        self._view = view
        self._wishes = wishes
        self._plan = Plan(
            context,
            episode.scope,
            episode.principal,
            view.now,
            episode,
            extraction="done" if episode.kept else "none",
            subjects=wishes.subjects,
        )
        self._message_ids = frozenset(message.id for message in episode.messages if message.id is not None)
        self._is_extraction_due = is_extraction_due
        self._outcomes: dict[str, Outcome] = {}
        self._changed: dict[str, Fact] = {}
        """Stored facts as this plan leaves them: merged, superseded or both."""
        self._superseded: list[str] = []
        self._added: dict[int, tuple[Draft, Fact]] = {}
        """The new fact of each draft, by the draft's identity: several changes may share one."""
        self._read: dict[str, Fact] = {}
        self._barred: set[str] = set()
        """Texts that tombstones keep out."""
        self._silenced: set[str] = set()
        """Messages that such a text came from."""
        for item in entry.messages:
            if item.redacted:
                reason, after = gate.told(item)
                self._plan.decide("redact", reason, after=after)
            if item.refusal is not None:
                self._plan.decide(
                    "refuse",
                    item.refusal,
                    after={"message_id": item.message.id, "channel": item.message.channel},
                    refused=True,
                )

    def stood_in(self, reason: Reason) -> None:
        """Note that these changes are the built-in design's."""
        self._plan.decide("stand_in", reason)

    def bar(self, bar: barred.Barred | None, changes: Sequence[Change]) -> None:
        """Look up which of the proposed statements were erased."""
        if bar is not None:
            drafts = [draft for change in changes if (draft := barred.drafted(change)) is not None]
            self._barred = bar.statements([draft.text for draft in drafts])

    def take(self, change: Change) -> None:
        """Judge one change and plan it; a refusal is planned as history."""
        asked = change
        if isinstance(change, Add | Supersede):
            change = replace(change, draft=self._wishes.applied(change.draft))
        held = None
        if isinstance(change, Add | Supersede | Merge):
            held = self._held(change)
            change = change if held is None else self._apart(change)
        known = self._known(change)
        refusal = legality.judge(
            change,
            scope=self._plan.scope,
            facts=known,
            by_person=False,
            policy=self._view.policy,
            now=self._view.now,
            messages=self._message_ids,
        )
        draft = barred.drafted(change)
        if draft is not None and draft.text in self._barred:
            refusal = barred.ERASED
            self._silenced |= {message.id for message in draft.messages if message.id is not None}
        if refusal is not None:
            self._refuse(asked, refusal)
            return
        if held is not None and isinstance(change, Add):
            self._hold(asked, change, known, held)
            return
        match change:
            case Add():
                self._add(asked, change, known)
            case Merge():
                self._merge(change, known[change.fact_id])
            case Ignore():
                self._outcome(change.message, "ignored", change.reason)
                self._plan.decide("ignore", change.reason)
            case Supersede():
                self._supersede(asked, change, known)
            case Reweigh() | Archive() | Restore() | Edit() | Consolidate() | Absorb() | Split() | Release() | Vouch():
                line = f"{type(change).__name__} is not something `add` may do yet."
                self._refuse(change, Reason("not_for_add", line))
            case _:
                assert_never(change)

    def _known(self, change: Change) -> dict[str, Fact]:
        match change:
            case Add():
                named: tuple[str | Draft | None, ...] = (*_named(change.draft), change.superseded_by)
            case Supersede():
                named = (*_named(change.draft), change.fact_id)
            case Merge() | Reweigh() | Archive() | Restore() | Release() | Vouch():
                named = (change.fact_id,)
            case Ignore() | Consolidate() | Absorb() | Split():
                named = ()
            case Edit():
                named = (change.after.id,)
            case _:
                assert_never(change)
        ids = [id_ for id_ in named if isinstance(id_, str)]
        missing = [id_ for id_ in ids if id_ not in self._read]
        if missing:
            self._read |= {fact.id: fact for fact in self._view.facts(missing)}
        return {id_: self._changed.get(id_, self._read[id_]) for id_ in ids if id_ in self._read}

    def _held(self, change: Add | Supersede | Merge) -> _Held | None:
        """Why a statement may not stand among the others: its origin waits, or it only repeats a lesser one."""
        draft = change.twin if isinstance(change, Merge) else change.draft
        reason = self._entry.quarantine(draft.messages)
        if reason is None and self._entry.is_within:
            reason = gate.waiting(draft, self._view.policy)
        if reason is not None:
            return _Held(reason, 1.0, is_quarantined=True)
        if not self._heard or draft.messages[0].channel != "assistant":
            return None
        source = source_of(draft.text, self._heard, self._entry.said)
        if source is None:
            return None
        line = f"An assistant repeats what came by the channel {source.channel}; it is trusted no more than that."
        return _Held(Reason("echo", line), TRUST_BY_CHANNEL[source.channel], source.is_quarantined)

    def _apart(self, change: Add | Supersede | Merge) -> Add:
        """The statement for itself: it joins nothing, replaces nothing, and no link leads from it."""
        draft = self._wishes.applied(change.twin) if isinstance(change, Merge) else change.draft
        return Add(replace(draft, updates=()), change.reason)

    def _hold(self, asked: Change, change: Add, known: Mapping[str, Fact], held: _Held) -> None:
        """Plan a fact in quarantine, or one that is trusted less than its channel; once, however often it is said."""
        assert isinstance(asked, Add | Supersede | Merge)
        named = asked.twin if isinstance(asked, Merge) else asked.draft
        if id(named) in self._added:
            return
        first, *rest = change.draft.messages
        twin = corroborate.twin_of(self._context, self._plan, change.draft, held.is_quarantined)
        if twin is not None:
            again = Reason("duplicate", "The same words from the same origin are there already.")
            for message in change.draft.messages:
                self._outcome(message, "merged", again, twin.id)
            self._plan.decide("merge", again, fact_id=twin.id)
            return
        status = Status.QUARANTINED if held.is_quarantined else Status.LIVE
        fact = self._planned(change.draft, change.reason, known, status=status, ceiling=held.ceiling)
        self._added[id(named)] = (named, fact)
        if held.is_quarantined:
            self._plan.amend(fact, held.reason, "quarantine")
        action = "quarantined" if held.is_quarantined else "stored"
        self._outcome(first, action, held.reason, fact.id)
        for message in rest:
            self._outcome(message, action, held.reason, fact.id)

    def _planned(
        self,
        draft: Draft,
        reason: Reason,
        known: Mapping[str, Fact],
        *,
        status: Status = Status.LIVE,
        ceiling: float = 1.0,
    ) -> Fact:
        """A new fact in the plan, carrying what was noticed about its messages."""
        sources = [known[id_] for id_ in draft.sources]
        flags = self._entry.flags(draft.messages)
        if flags:
            draft = replace(draft, metadata={**draft.metadata, gate.FLAGS: flags})
        fact = self._plan.add(
            draft,
            reason,
            sources=sources,
            has_neighbours=not sources and status is Status.LIVE,
            status=status,
            ceiling=min(ceiling, self._ceiling),
        )
        if flags and status is Status.LIVE:
            self._plan.amend(fact, Reason("flagged", f"Noticed about it: {', '.join(flags)}."), "flag")
        return fact

    def _add(self, asked: Change, change: Add, known: Mapping[str, Fact]) -> None:
        fact = self._new(asked, change.draft, change.reason, known)
        successor = self._fact(change.superseded_by, known)
        if successor is not None:
            after = superseding.superseded(fact, successor, change.reason, self._view.now)
            self._plan.amend(after, change.reason, "supersede")
            self._link(successor, fact, 1.0, change.reason)

    def _new(self, asked: Change, draft: Draft, reason: Reason, known: Mapping[str, Fact]) -> Fact:
        """The fact of a draft; planned the first time it is asked for."""
        assert isinstance(asked, Add | Supersede)
        if id(asked.draft) in self._added:
            return self._added[id(asked.draft)][1]
        fact = self._planned(draft, reason, known)
        self._added[id(asked.draft)] = (asked.draft, fact)
        first, *rest = draft.messages
        self._outcome(first, "stored", reason, fact.id)
        for message in rest:
            self._outcome(message, "merged", Reason("duplicate", "The same words stand earlier in this add."), fact.id)
        for update in draft.updates:
            older = self._fact(update.older, known)
            if older is not None and self._may_follow(fact, older):
                self._link(fact, older, update.probability, update.reason)
        return fact

    def _may_follow(self, newer: Fact, older: Fact) -> bool:
        """Whether one may be shown as newer than the other: not what is trusted less."""
        refusal = legality.less_trusted(older, newer.trust)
        if refusal is not None:
            self._plan.decide("link", refusal, fact_id=older.id, refused=True)
        return refusal is None

    def _fact(self, named: str | Draft | None, known: Mapping[str, Fact]) -> Fact | None:
        """A stored fact, or what an earlier draft of this plan has become; None if it was refused."""
        if isinstance(named, Draft):
            return self._added[id(named)][1] if id(named) in self._added else None
        return known[named] if named is not None else None

    def _link(self, newer: Fact, older: Fact, probability: float, reason: Reason) -> None:
        self._plan.links.append(Link(newer.id, older.id, probability, reason, self._view.now))

    def _supersede(self, asked: Change, change: Supersede, known: Mapping[str, Fact]) -> None:
        old = self._fact(change.fact_id, known)
        fact = self._new(asked, change.draft, change.reason, known)
        if old is None:
            return
        if isinstance(change.fact_id, Draft):
            after = superseding.superseded(old, fact, change.reason, self._view.now)
            self._plan.amend(after, change.reason, "supersede")
            self._added[id(change.fact_id)] = (change.fact_id, after)
            self._link(fact, old, 1.0, change.reason)
        else:
            self._replace(old, fact, change.reason)

    def _replace(self, old: Fact, by: Fact, reason: Reason) -> None:
        """Plan that a stored fact is superseded."""
        after = superseding.superseded(old, by, reason, self._view.now)
        self._changed[old.id] = after
        self._superseded.append(old.id)
        before, new = difference(old, after)
        self._plan.decide("supersede", reason, fact_id=old.id, before=before, after=new)
        self._link(by, old, 1.0, reason)

    def _merge(self, change: Merge, known: Fact) -> None:
        ids = (*known.origin.message_ids, *message_ids(change.twin.messages))
        self._changed[known.id] = replace(known, origin=replace(known.origin, message_ids=tuple(dict.fromkeys(ids))))
        for message in change.twin.messages:
            self._outcome(message, "merged", change.reason, known.id)
        self._plan.decide("merge", change.reason, fact_id=known.id, after={"message_ids": list(ids)})

    def _refuse(self, change: Change, refusal: Reason) -> None:
        self._plan.decide(type(change).__name__.lower(), refusal, refused=True)
        if isinstance(change, Merge) and refusal.rule == "other_origin":
            self.take(Add(self._wishes.applied(change.twin), change.reason))
            return
        if isinstance(change, Supersede) or (isinstance(change, Add) and change.superseded_by is not None):
            # That an old fact has to stay as it is must not cost the new one.
            if id(change.draft) not in self._added:
                self.take(Add(change.draft, change.reason))
            return
        for message in messages_of(change):
            self._outcome(message, "ignored", refusal)

    def _outcome(self, message: Message, action: str, reason: Reason, fact_id: str | None = None) -> None:
        earlier = self._outcomes.get(message.id or "")
        ids = (*(earlier.fact_ids if earlier else ()), *([fact_id] if fact_id else ()))
        kept = earlier.action if earlier is not None and earlier.action == "stored" else action
        self._outcomes[message.id or ""] = Outcome(message, kept, reason, tuple(dict.fromkeys(ids)))  # type: ignore[arg-type]

    def commit(self, expect: int, original: Episode, screened: Sequence[Screened]) -> AddResult:
        """Write the plan. Raises Conflict when the scope moved."""
        self._replace_named()
        new = [fact for _, fact in self._added.values()]
        self._changed |= corroborate.raised(self._context, self._plan, new, self._changed.keys())
        rows = {row.id: row for row in self._context.ledger.indexed(list(self._changed))}
        for changed in self._changed.values():
            self._plan.replaced(changed, features_again(self._context, changed, rows[changed.id]))
        gone = [self._changed[id_] for id_ in self._superseded]
        steps = superseding.stale(self._context, gone, self._view.now) if gone else []
        superseding.carry_out(
            self._context, self._plan, [step for step in steps if step.before.id not in self._changed]
        )
        self._plan.known_vectors = self._view.embedded
        batch, facts = self._plan.seal(expect)
        extraction = "due" if self._is_extraction_due and facts else batch.extraction
        batch = replace(batch, episode=self._kept(original), extraction=extraction)
        self._context.ledger.commit(batch)
        self._context.finder.wake()
        outcomes = tuple(
            self._outcome_of(message, item) for message, item in zip(original.messages, screened, strict=True)
        )
        return AddResult(facts, outcomes, original.id)

    def _kept(self, original: Episode) -> Episode:
        """The episode; a message that a tombstone kept out only as a statement loses its words."""
        if not self._silenced:
            return original
        return original.with_messages(
            [message.with_content("") if message.id in self._silenced else message for message in original.messages]
        )

    def _replace_named(self) -> None:
        """Let what was added supersede the facts the caller named. Raises FactNotFound, ChangeRefused."""
        named = self._wishes.supersedes
        if not named:
            return
        new = [fact for _, fact in self._added.values() if fact.status is not Status.QUARANTINED]
        by = new[0] if new else next(iter(self._changed.values()), None)
        if by is None:
            raise ChangeRefused("Nothing was stored for recall, so nothing is superseded.")
        found = {fact.id: fact for fact in self._view.facts(named)}
        for id_ in named:
            if id_ not in found or found[id_].status is Status.ERASED:
                raise FactNotFound(f"No fact {id_!r} is visible from scope {self._plan.scope}.")
            old = self._changed.get(id_, found[id_])
            reason = Reason("superseded_by_name", f"{self._plan.principal} named it as replaced by fact {by.id}.")
            if old.superseded_by == by.id:
                continue
            by = self._freed(by, old)
            change = Archive(id_, reason)
            refusal = legality.judge(
                change, scope=self._plan.scope, facts={id_: old}, by_person=True, policy=self._view.policy,
                now=self._view.now,
            )  # fmt: skip
            if id_ == by.id:
                refusal = Reason("same_fact", "A fact cannot supersede itself.")
            if old.status is Status.QUARANTINED:
                refusal = Reason("quarantined", f"Fact {id_} is in quarantine; reject it there.")
            if refusal is not None:
                raise ChangeRefused(f"Refused by rule {refusal}")
            self._replace(old, by, reason)

    def _freed(self, by: Fact, old: Fact) -> Fact:
        """`by`, no longer marked as what `old` is about to replace, if it was: else they would replace each other."""
        newer = by.superseded_by
        while newer is not None and newer != old.id:
            newer = next((fact.superseded_by for fact in self._view.facts([newer])), None)
        if newer is None:
            return by
        after = superseding.reinstated(self._context, by)
        reason = Reason("successor_withdrawn", f"Fact {old.id}, which was to supersede it, is superseded by it.")
        before, new = difference(by, after)
        self._plan.decide("restore", reason, fact_id=by.id, before=before, after=new)
        self._changed[by.id] = after
        return after

    def _outcome_of(self, message: Message, item: Screened) -> Outcome:
        if item.message is None:
            reason = item.reason or Reason("empty", "Nothing was left after screening.")
            return Outcome(message, "ignored", reason)
        silent = Reason("design_silent", "The design proposed nothing for this message.")
        found = self._outcomes.get(message.id or "", Outcome(message, "ignored", silent))
        return replace(found, message=message)


def _named(draft: Draft) -> tuple[str | Draft, ...]:
    """The facts and earlier drafts that a draft refers to."""
    return (*draft.sources, *(update.older for update in draft.updates))
