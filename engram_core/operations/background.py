"""Background: slow work off the caller's path: model extraction and pending embeddings. One durable, bounded worker.

The queue is the ledger (episodes due, facts pending), so a killed process loses no work.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from engram_core.domain.change import Add
from engram_core.domain.errors import AccessDenied, Conflict, EmbeddingFailed, EngramError, ModelFailed
from engram_core.domain.fact import TRUST_BY_CHANNEL, Fact, Status
from engram_core.domain.message import Episode
from engram_core.domain.reason import Reason
from engram_core.floor import legality
from engram_core.floor.echo import SECOND_HAND
from engram_core.operations import shadow, supersede, warden
from engram_core.operations.add import Prepared, Wishes, remember
from engram_core.operations.commit import Plan, features_again
from engram_core.operations.context import Context
from engram_core.ports import Batch, Link, Parked

logger = logging.getLogger("engram")

_PAGE = 50
_GIVE_UP = 3
"""Failures in a row after which the embedder counts as out of order."""
_RETRY_FIRST_S = 1.0
_RETRY_MOST_S = 300.0


def extract(context: Context, episode: Episode, now: datetime) -> int:
    """Let the model state what an episode says; return how many facts came of it. A failure is parked, never raised."""
    assert context.model is not None
    if warden.allowance(context, episode.principal, "write", episode.scope, now) is None:
        _park(context, episode, AccessDenied(episode.principal, "write", episode.scope.path), now)
        return 0
    kept = {fact.id: fact for fact in context.ledger.facts(episode.kept)}
    found = 0
    for part, ceiling in _parts(episode, kept):
        try:
            drafts = context.extractor(part, context.model)
        except ModelFailed as error:
            _park(context, episode, error, now)
            return found
        changes = tuple(
            Add(
                replace(draft, sources=_sources(draft.messages[0].id, kept)),
                Reason("extracted", "A model stated it so."),
            )
            for draft in drafts
        )
        done = remember(context, part, Wishes(), now, design=Prepared(changes, "extraction"), ceiling=ceiling)
        found += len(done.facts)
    return found


def _parts(episode: Episode, kept: Mapping[str, Fact]) -> Iterator[tuple[Episode, float]]:
    """What a model may read together, and what its facts may be trusted at most: as the least of what it read.

    Conversation and second-hand texts are read apart, so that a page cannot put words into a user's mouth, and what
    waits in quarantine is not read at all.
    """
    waiting = {id_ for fact in kept.values() if fact.status is Status.QUARANTINED for id_ in fact.origin.message_ids}
    readable = [message for message in episode.messages if message.id not in waiting]
    said = [message for message in readable if message.channel not in SECOND_HAND]
    parts = [said, *([message] for message in readable if message.channel in SECOND_HAND)]
    # An episode without a word to read is still worked off, by a pass that finds nothing.
    for messages in [part for part in parts if part] or [[]]:
        least = min((TRUST_BY_CHANNEL[message.channel] for message in messages), default=1.0)
        yield episode.with_messages(messages), least


def _sources(message_id: str | None, kept: Mapping[str, Fact]) -> tuple[str, ...]:
    return tuple(id_ for id_, fact in kept.items() if message_id in fact.origin.message_ids)


def _park(context: Context, episode: Episode, error: Exception, now: datetime) -> None:
    item = Parked("extraction", episode.scope, now, str(error)[:2000], {"messages": len(episode.messages)}, episode.id)
    context.ledger.commit(Batch(episode.scope, episode=episode, extraction="parked", parked=(item,)))
    logger.warning("engram: extraction failed and was parked; the turn is kept verbatim: %s", error)


def embed_pending(context: Context, now: datetime) -> int:
    """Embed facts that wait for it; return how many became live. Raises EmbeddingFailed when it still fails."""
    done, in_a_row = 0, 0
    failed: dict[str, EmbeddingFailed] = {}
    try:
        while facts := [fact for fact in context.ledger.pending(_PAGE + len(failed)) if fact.id not in failed]:
            # In any order: a few texts that can never be embedded must not stand before all the others for ever.
            context.rng.shuffle(facts)
            for fact in facts:
                try:
                    done += _embed(context, fact, now)
                    in_a_row = 0
                except EmbeddingFailed as error:
                    failed[fact.id] = error
                    in_a_row += 1
                    if in_a_row == _GIVE_UP:
                        raise
    finally:
        if done:
            context.finder.wake()
    for failure in failed.values():
        raise failure
    return done


def _embed(context: Context, fact: Fact, now: datetime) -> bool:
    with context.turnstiles.of(fact.scope):
        row = context.ledger.indexed([fact.id])[0]
        features = features_again(context, fact, row, text_changed=True)
        plan = Plan(context, fact.scope, context.owner, now)
        after = replace(fact, status=Status.LIVE)
        plan.replace(fact, after, Reason("embedded", "The embedder answered again."), "embed", features)
        try:
            context.ledger.commit(plan.seal(None)[0])
        except Conflict:
            return False  # somebody changed it first; the next page shows its new state
        return True


def judge_links(context: Context, now: datetime, *, stop: Callable[[], bool]) -> None:
    """Let the model judge possible updates that nobody judged yet, until `stop`. A failure keeps the link as it is."""
    while links := context.ledger.links_unjudged(_PAGE):
        for link in links:
            if stop():
                return
            _judge(context, link, now)


def _judge(context: Context, link: Link, now: datetime) -> None:
    facts = _ends(context, link)
    word = _asked(context, link, facts) if _are_recallable(facts) else _SKIPPED
    scope = facts[link.newer].scope
    with context.turnstiles.of(scope):
        (state,) = context.ledger.scopes([scope])
        facts = _ends(context, link)  # the model took its time, and others went on
        plan = Plan(context, scope, context.owner, now)
        plan.links.append(replace(link, verdict=word.verdict, reason=word.reason, at=now))
        if word.is_update and _are_recallable(facts):
            _replace(context, plan, facts[link.older], facts[link.newer], word.reason)
        try:
            context.ledger.commit(plan.seal(state.seq)[0])
        except Conflict:
            return  # another process changed something; the link is still unjudged and comes up again
    context.finder.wake()


def _ends(context: Context, link: Link) -> dict[str, Fact]:
    return {fact.id: fact for fact in context.ledger.facts([link.older, link.newer])}


def _are_recallable(facts: Mapping[str, Fact]) -> bool:
    return all(fact.is_recallable for fact in facts.values())


@dataclass(frozen=True, slots=True)
class _Word:
    """What is to be recorded of a possible update; `is_update` only where the model said so."""

    verdict: Literal["same", "update", "both"]
    reason: Reason
    is_update: bool = False


_SKIPPED = _Word("update", Reason("judge_skipped", "One of the two was not in recall any more."))


def _asked(context: Context, link: Link, facts: Mapping[str, Fact]) -> _Word:
    assert context.model is not None
    try:
        verdict = context.judge_update(facts[link.older].display, facts[link.newer].display, context.model)
    except ModelFailed as error:
        logger.warning("engram: a possible update was not judged and stays a link: %s", error)
        return _Word("update", Reason("judge_failed", str(error)[:500]))
    return _Word(verdict, Reason("judged", f"A model was asked and said: {verdict}."), verdict == "update")


def _replace(context: Context, plan: Plan, older: Fact, newer: Fact, reason: Reason) -> None:
    """Plan that the newer fact supersedes the older one, through the same gate as every supersession."""
    policy = context.ledger.policy(older.scope).policy
    facts = {older.id: older}
    refusal = legality.replacement(
        older.id, trust=newer.trust, scope=newer.scope, facts=facts, policy=policy, now=plan.now
    )
    if refusal is not None:
        plan.decide("supersede", refusal, fact_id=older.id, refused=True)
        return
    after = supersede.superseded(older, newer, reason, plan.now)
    steps = [supersede.Step(older, after, reason, "supersede"), *supersede.stale(context, [after], plan.now)]
    supersede.carry_out(context, plan, steps)
    plan.links[-1] = replace(plan.links[-1], probability=1.0)


class Worker:
    """One daemon thread that works off what is due. Failures wait longer each time; `flush` works at once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def wake(self) -> None:
        """Something is due."""
        with self._starting:
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._loop, name="engram-background", daemon=True)
                self._thread.start()
        self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Work off everything due now; False when something still fails or time ran out."""
        return self.step(time.monotonic() + timeout)

    def close(self) -> None:
        """Stop after the current piece of work."""
        self._stopped.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=30)

    def step(self, deadline: float = float("inf")) -> bool:
        """One pass over everything due; True when nothing is left."""
        with self._turn:
            context = self._context
            is_done = True
            while context.model is not None and (due := context.ledger.episodes_due(1)):
                if self._stopped.is_set() or time.monotonic() > deadline:
                    return False
                extract(context, due[0], context.clock())
            if context.model is not None:
                judge_links(context, context.clock(), stop=lambda: self._is_over(deadline))
                if self._is_over(deadline):
                    return False
            shadow.work(context, stop=lambda: self._is_over(deadline))
            try:
                embed_pending(context, context.clock())
            except EmbeddingFailed as error:
                logger.info("engram: facts stay pending: %s", error)
                is_done = False
            return is_done

    def _is_over(self, deadline: float) -> bool:
        return self._stopped.is_set() or time.monotonic() > deadline

    def _loop(self) -> None:
        wait = _RETRY_FIRST_S
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                is_done: Any = self.step()
            except EngramError as error:
                logger.warning("engram: background work stopped for now: %s", error)
                is_done = False
            wait = _RETRY_FIRST_S if is_done else min(wait * 2, _RETRY_MOST_S)
            self._wake.wait(timeout=None if is_done else wait)
