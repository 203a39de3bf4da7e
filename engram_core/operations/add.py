"""Add: messages → access → screen → design → floor → commit. Acknowledged when the ledger has it on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never

from engram_core.design import Design
from engram_core.domain.change import Add, Archive, Change, Draft, Edit, Ignore, Merge, Restore, Reweigh, Supersede
from engram_core.domain.errors import Conflict, InvalidInput, StoreUnavailable
from engram_core.domain.fact import Fact
from engram_core.domain.message import Episode, Message, aware
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.domain.recall import AddResult, Outcome
from engram_core.domain.scope import Scope
from engram_core.floor import legality
from engram_core.floor.screen import Screened, screen
from engram_core.operations.commit import Plan, features_again, message_ids
from engram_core.operations.context import Context
from engram_core.operations.view import ScopedView
from engram_core.ports import LanguageModel, ScopeState

MESSAGES_PER_COMMIT = 1_000
_ATTEMPTS = 60
_LONGEST_PAUSE_S = 0.2

Input = str | Message | Sequence["str | Message"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller fixed for every fact of an add; None leaves it to the design."""

    kind: str | None = None
    importance: float | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)

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
    whole = normalised(messages, session=session, now=now, new_id=context.new_id)
    facts: list[Fact] = []
    outcomes: list[Outcome] = []
    first_episode = ""
    for start in range(0, len(whole), MESSAGES_PER_COMMIT):
        chunk = whole[start : start + MESSAGES_PER_COMMIT]
        episode = Episode(context.new_id(), scope, tuple(chunk), now, principal)
        first_episode = first_episode or episode.id
        with context.turnstiles.of(scope):
            done = remember(context, episode, wishes, now)
        facts += done.facts
        outcomes += done.outcomes
        if progress is not None:
            progress(min(start + MESSAGES_PER_COMMIT, len(whole)), len(whole))
    return AddResult(tuple(facts), tuple(outcomes), first_episode)


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


def remember(
    context: Context,
    episode: Episode,
    wishes: Wishes,
    now: datetime,
    *,
    design: Design | None = None,
    model: LanguageModel | None = None,
) -> AddResult:
    """Plan and commit one episode, planning again whenever another process wrote to the scope in between.

    Raises:
        StoreUnavailable: The ledger is out of order, or the scope kept moving.
    """
    screened = screen(episode.messages, context.injected.of(episode.scope))
    clean = episode.with_messages([item.message for item in screened if item.message is not None])
    for attempt in range(_ATTEMPTS):
        view, expect = view_of(context, episode.scope, now, model=model)
        chosen = design or context.design(view.policy.design)
        planned = _Planning(context, view, clean, wishes, context.model is not None and not episode.kept)
        for change in chosen.update(clean, view):
            planned.take(change)
        try:
            return planned.commit(expect, episode, screened)
        except Conflict:
            # Another process wrote first. A pause of random length keeps them from colliding again and again.
            time.sleep(context.rng.uniform(0.0, min(_LONGEST_PAUSE_S, 0.002 * 2**attempt)))
    raise StoreUnavailable(f"Scope {episode.scope} was changed by others {_ATTEMPTS} times while adding; try again.")


def view_of(
    context: Context,
    scope: Scope,
    now: datetime,
    *,
    readable: Sequence[Scope] | None = None,
    policy: MemoryPolicy | None = None,
    model: LanguageModel | None = None,
    archived_since: float | None = None,
) -> tuple[ScopedView, int]:
    """The view of a scope (alone, or with the readable scopes) and the scope's sequence number."""
    states = context.ledger.scopes(list(readable) if readable is not None else [scope])
    policy = policy or context.ledger.policy(scope).policy
    own = next((state for state in states if state.scope == scope), None)
    seen = states if archived_since is not None else _non_empty(states)
    view = ScopedView(context, scope, now, policy, seen, own=own, model=model, archived_since=archived_since)
    return view, own.seq if own is not None else 0


def _non_empty(states: Sequence[ScopeState]) -> list[ScopeState]:
    return [state for state in states if state.recallable]


class _Planning:
    """Turns a design's changes into a plan, through the floor, and the plan's result into outcomes."""

    def __init__(
        self, context: Context, view: ScopedView, episode: Episode, wishes: Wishes, is_extraction_due: bool
    ) -> None:
        self._context = context
        self._view = view
        self._wishes = wishes
        self._plan = Plan(
            context,
            episode.scope,
            episode.principal,
            view.now,
            episode,
            extraction="done" if episode.kept else "none",
        )
        self._message_ids = frozenset(message.id for message in episode.messages if message.id is not None)
        self._is_extraction_due = is_extraction_due
        self._outcomes: dict[str, Outcome] = {}
        self._merges: dict[str, Fact] = {}

    def take(self, change: Change) -> None:
        """Judge one change and plan it; a refusal is planned as history."""
        if isinstance(change, Add):
            change = replace(change, draft=self._wishes.applied(change.draft))
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
        if refusal is not None:
            self._refuse(change, refusal)
            return
        match change:
            case Add():
                self._add(change, known)
            case Merge():
                self._merge(change, known[change.fact_id])
            case Ignore():
                self._outcome(change.message, "ignored", change.reason)
                self._plan.decide("ignore", change.reason)
            case Supersede() | Reweigh() | Archive() | Restore() | Edit():
                line = f"{type(change).__name__} is not something `add` may do yet."
                self._refuse(change, Reason("not_for_add", line))
            case _:
                assert_never(change)

    def _known(self, change: Change) -> dict[str, Fact]:
        match change:
            case Add():
                ids: tuple[str, ...] = change.draft.sources
            case Merge() | Supersede() | Reweigh() | Archive() | Restore():
                ids = (change.fact_id,)
            case Ignore():
                ids = ()
            case Edit():
                ids = (change.after.id,)
            case _:
                assert_never(change)
        planned = {id_: fact for id_, fact in self._merges.items() if id_ in ids}
        return {fact.id: fact for fact in self._view.facts(ids)} | planned if ids else {}

    def _add(self, change: Add, known: Mapping[str, Fact]) -> None:
        draft = change.draft
        sources = [known[id_] for id_ in draft.sources]
        fact = self._plan.add(draft, change.reason, sources=sources, has_neighbours=not sources)
        first, *rest = draft.messages
        self._outcome(first, "stored", change.reason, fact.id)
        for message in rest:
            self._outcome(message, "merged", Reason("duplicate", "The same words stand earlier in this add."), fact.id)

    def _merge(self, change: Merge, known: Fact) -> None:
        ids = (*known.origin.message_ids, *message_ids(change.twin.messages))
        merged = replace(known, origin=replace(known.origin, message_ids=tuple(dict.fromkeys(ids))))
        self._merges[known.id] = merged
        for message in change.twin.messages:
            self._outcome(message, "merged", change.reason, known.id)
        self._plan.decide("merge", change.reason, fact_id=known.id, after={"message_ids": list(ids)})

    def _refuse(self, change: Change, refusal: Reason) -> None:
        self._plan.decide(type(change).__name__.lower(), refusal, refused=True)
        for message in messages_of(change):
            self._outcome(message, "ignored", refusal)

    def _outcome(self, message: Message, action: str, reason: Reason, fact_id: str | None = None) -> None:
        earlier = self._outcomes.get(message.id or "")
        ids = (*(earlier.fact_ids if earlier else ()), *([fact_id] if fact_id else ()))
        kept = earlier.action if earlier is not None and earlier.action == "stored" else action
        self._outcomes[message.id or ""] = Outcome(message, kept, reason, tuple(dict.fromkeys(ids)))  # type: ignore[arg-type]

    def commit(self, expect: int, original: Episode, screened: Sequence[Screened]) -> AddResult:
        """Write the plan. Raises Conflict when the scope moved."""
        for merged in self._merges.values():
            row = self._context.ledger.indexed([merged.id])[0]
            self._plan.replaced(merged, features_again(self._context, merged, row))
        batch, facts = self._plan.seal(expect)
        extraction = "due" if self._is_extraction_due and facts else batch.extraction
        batch = replace(batch, episode=original, extraction=extraction)
        self._context.ledger.commit(batch)
        self._context.finder.wake()
        outcomes = tuple(
            self._outcome_of(message, item) for message, item in zip(original.messages, screened, strict=True)
        )
        return AddResult(facts, outcomes, original.id)

    def _outcome_of(self, message: Message, item: Screened) -> Outcome:
        if item.message is None:
            reason = item.reason or Reason("empty", "Nothing was left after screening.")
            return Outcome(message, "ignored", reason)
        silent = Reason("design_silent", "The design proposed nothing for this message.")
        found = self._outcomes.get(message.id or "", Outcome(message, "ignored", silent))
        return replace(found, message=message)


def messages_of(change: Change) -> tuple[Message, ...]:
    """The messages a change is about."""
    match change:
        case Add() | Supersede():
            return change.draft.messages
        case Merge():
            return change.twin.messages
        case Ignore():
            return (change.message,)
        case _:
            return ()
