"""Split: originals of a consolidated fact come back, one of them or all: consolidating undone. It loses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from engram_core.domain.change import Restore, Split
from engram_core.domain.errors import ChangeRefused, Conflict, StoreUnavailable
from engram_core.domain.fact import Fact, Status
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.floor import legality
from engram_core.operations import edit, warden
from engram_core.operations.commit import Plan, features_again
from engram_core.operations.consolidate import rebuilt
from engram_core.operations.context import Context
from engram_core.operations.past import chained

_ATTEMPTS = 8


def split(
    context: Context, scope: Scope, principal: str, fact_id: str, *, reason: str | None, now: datetime
) -> tuple[Fact, ...]:
    """Withdraw a consolidated fact; return its originals, live again; see `Memory.split`."""
    why = Reason("split", reason or f"{principal} asked to split it.")
    for _ in range(_ATTEMPTS):
        seq = _seq(context, scope)
        fact = _here(context, scope, principal, fact_id, now, "split")
        _judge(context, Split(fact_id, why), fact, now)
        originals = context.ledger.facts(fact.consolidated_from)
        try:
            return _commit(context, scope, principal, now, seq, fact, originals, why)
        except Conflict:
            continue
    raise StoreUnavailable(f"Scope {scope} was changed by others {_ATTEMPTS} times meanwhile; try again.")


def restore(context: Context, scope: Scope, principal: str, fact_id: str, *, reason: str | None, now: datetime) -> Fact:
    """Bring an archived fact back, out of the fact that stands for it if there is one; see `Memory.restore`."""
    why = Reason("restored", reason or f"{principal} asked to restore it.")
    for _ in range(_ATTEMPTS):
        seq = _seq(context, scope)
        found = context.ledger.facts([fact_id]) if isinstance(fact_id, str) else []
        if not found or found[0].consolidated_into is None:
            return edit.restore(context, scope, principal, fact_id, reason=reason, now=now)
        fact = _here(context, scope, principal, fact_id, now, "restore")
        _judge(context, Restore(fact_id, why), fact, now)
        parents = context.ledger.facts([found[0].consolidated_into])
        try:
            (back, *_) = _commit(context, scope, principal, now, seq, next(iter(parents), None), [fact], why)
        except Conflict:
            continue
        return back
    raise StoreUnavailable(f"Scope {scope} was changed by others {_ATTEMPTS} times meanwhile; try again.")


def _seq(context: Context, scope: Scope) -> int:
    states = context.ledger.scopes([scope])
    return states[0].seq if states else 0


def _here(context: Context, scope: Scope, principal: str, fact_id: str, now: datetime, operation: str) -> Fact:
    warden.require(context, principal, "curate", scope, now, operation)
    fact = edit.find(context, warden.sight(context, principal, scope, now, operation), fact_id)
    if fact.scope != scope:
        raise ChangeRefused(f"Fact {fact_id} lives in scope {fact.scope}; change it from there, not from {scope}.")
    return fact


def _judge(context: Context, change: Split | Restore, fact: Fact, now: datetime) -> None:
    policy = context.ledger.policy(fact.scope).policy
    facts = chained(context.ledger, [fact])
    refusal = legality.judge(change, scope=fact.scope, facts=facts, by_person=True, policy=policy, now=now)
    if refusal is not None:
        raise ChangeRefused(f"Refused by rule {refusal}")


def _commit(
    context: Context,
    scope: Scope,
    principal: str,
    now: datetime,
    expect: int,
    parent: Fact | None,
    wanted: Sequence[Fact],
    why: Reason,
) -> tuple[Fact, ...]:
    """Make `wanted` live again, and their parent say the rest; a parent with less than two left, or a summary, ends."""
    done = Plan(context, scope, principal, now)
    freed = list(wanted)
    if parent is not None and parent.consolidated_from:
        ids = {fact.id for fact in wanted}
        rest = [fact for fact in context.ledger.facts(parent.consolidated_from) if fact.id not in ids]
        if len(rest) < 2 or parent.form == "summary":
            freed += rest
            _end(done, parent, now)
        else:
            rebuilt(done, parent, rest, Reason("restored_from", "One of its originals stands for itself again."))
    rows = {row.id: row for row in context.ledger.indexed([fact.id for fact in freed])}
    back = []
    for fact in freed:
        features = features_again(context, fact, rows[fact.id])
        status = Status.LIVE if features.content is not None else Status.PENDING
        after = replace(
            fact,
            status=status,
            archived_at=None,
            archived_reason=None,
            restored_at=now,
            consolidated_into=None,
            form="apart",
        )
        done.replace(fact, after, why, "restore", features)
        back.append(after)
    context.ledger.commit(done.seal(expect)[0])
    context.finder.wake()
    return tuple(back)


def _end(done: Plan, parent: Fact, now: datetime) -> None:
    why = Reason("split", "Its originals stand for themselves again.")
    after = replace(parent, status=Status.ARCHIVED, archived_at=now, archived_reason=str(why), consolidated_from=())
    row = done.context.ledger.indexed([parent.id])[0]
    done.replace(parent, after, why, "archive", features_again(done.context, after, row))
