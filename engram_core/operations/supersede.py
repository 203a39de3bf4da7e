"""Supersede: what becomes of an older fact, and of what rests on it, when a newer one replaces it or is withdrawn.

It computes new states of facts for a plan; it commits nothing and never decides which fact replaces which.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from engram_core.domain.fact import Fact, Status
from engram_core.domain.reason import Reason
from engram_core.measure import validity
from engram_core.operations.commit import Plan, features_again
from engram_core.operations.context import Context

STALE: Final = "source_superseded"
"""The rule that takes a derived fact out of recall together with its source."""
FORGOTTEN: Final = "forgotten"
"""The rule by which a person takes a fact out of recall."""
REJECTED: Final = "rejected"
"""The rule by which a person turns a quarantined fact away: it comes back to where it was, not into recall."""


@dataclass(frozen=True, slots=True)
class Step:
    """One fact's change of state, and why."""

    before: Fact
    after: Fact
    reason: Reason
    action: str


def is_forgotten(fact: Fact) -> bool:
    """Whether a person took it out of recall: only a person brings it back then."""
    return (fact.archived_reason or "").startswith(f"{FORGOTTEN}:")


def superseded(old: Fact, by: Fact, reason: Reason, now: datetime) -> Fact:
    """`old` as it is once `by` has replaced it.

    It holds until `by` was said, or until `by` begins to hold where that lies ahead; until then it stays in recall.
    """
    is_ahead = by.valid_from is not None and by.valid_from > by.said_at
    ends = max(by.valid_from if is_ahead and by.valid_from else by.said_at, old.said_at)
    until = min(old.valid_until, ends) if old.valid_until is not None else ends
    marked = replace(old, superseded_by=by.id, valid_until=until)
    if is_ahead and by.valid_from is not None and by.valid_from > now:
        return marked
    return replace(marked, status=Status.ARCHIVED, archived_at=now, archived_reason=str(reason))


def reinstated(context: Context, fact: Fact) -> Fact:
    """`fact` as it was before something superseded it or its source."""
    until = fact.valid_until
    if fact.superseded_by is not None:
        told = validity.told(fact.text, fact.said_at).valid_until
        until = told
        for decision in context.ledger.history(fact.id):
            if decision.action == "supersede" and not decision.refused and "valid_until" in (decision.before or {}):
                stored = (decision.before or {})["valid_until"]
                until = datetime.fromisoformat(stored) if stored else None
    # What was turned away while it waited waits again; only a curator lets it in.
    status = Status.QUARANTINED if (fact.archived_reason or "").startswith(f"{REJECTED}:") else Status.LIVE
    return replace(fact, status=status, superseded_by=None, valid_until=until, archived_at=None, archived_reason=None)


def withdrawn(context: Context, successor: Fact) -> list[Step]:
    """What comes back when a person withdraws `successor`: the facts it superseded, and what rests on them."""
    line = f"Fact {successor.id}, which had superseded it, was withdrawn."
    # A consolidated fact takes its originals with it, and what they had superseded comes back.
    steps = [
        Step(fact, reinstated(context, fact), Reason("successor_withdrawn", line), "restore")
        for fact in context.ledger.predecessors([successor.id, *successor.consolidated_from])
        if fact.scope == successor.scope and fact.status is not Status.ERASED and not is_forgotten(fact)
    ]
    return [*steps, *fresh(context, [step.after for step in steps])]


def stale(context: Context, gone: Iterable[Fact], now: datetime) -> list[Step]:
    """The facts derived from superseded ones, and from those: out of recall until their source comes back."""
    steps = []
    for source, fact in _rests_on(context, gone):
        if fact.is_recallable and not fact.pinned:
            reason = Reason("source_superseded", f"It was derived from fact {source.id}, which is superseded.")
            after = replace(fact, status=Status.ARCHIVED, archived_at=now, archived_reason=str(reason))
            steps.append(Step(fact, after, reason, "archive"))
    return steps


def fresh(context: Context, back: Iterable[Fact]) -> list[Step]:
    """The facts that had become stale with a source that is back."""
    steps = []
    for source, fact in _rests_on(context, back):
        if fact.status is Status.ARCHIVED and (fact.archived_reason or "").startswith(f"{STALE}:"):
            reason = Reason("source_restored", f"Fact {source.id}, which it was derived from, is back.")
            after = replace(fact, status=Status.LIVE, archived_at=None, archived_reason=None)
            steps.append(Step(fact, after, reason, "restore"))
    return steps


def _rests_on(context: Context, sources: Iterable[Fact]) -> Iterator[tuple[Fact, Fact]]:
    """Every fact derived from `sources`, directly or not, once, with the source it was reached by."""
    waiting = {fact.id: fact for fact in sources}
    seen = set(waiting)
    while waiting:
        found = context.ledger.derived(list(waiting))
        reached: dict[str, Fact] = {}
        for fact in found:
            source = next(waiting[id_] for id_ in fact.sources if id_ in waiting)
            if fact.id not in seen and fact.scope == source.scope:
                seen.add(fact.id)
                reached[fact.id] = fact
                yield source, fact
        waiting = reached


def carry_out(context: Context, plan: Plan, steps: Iterable[Step]) -> None:
    """Plan every step; a fact that comes back without a vector waits for one."""
    for step in steps:
        features = features_again(context, step.after, context.ledger.indexed([step.after.id])[0])
        after = step.after
        if after.status is Status.LIVE and features.content is None:
            after = replace(after, status=Status.PENDING)
        plan.replace(step.before, after, step.reason, step.action, features)
