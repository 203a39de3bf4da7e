"""Share: a fact is copied into another scope, by whoever may read it here and curate there. It re-labels nothing.

The copy is derived: it links to its source, is never trusted more than it, and keeps the messages it came from. The
source stays where it is, and what becomes of it later does not follow into the other scope.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from engram_core.domain.change import Draft
from engram_core.domain.errors import ChangeRefused, Conflict, StoreUnavailable
from engram_core.domain.fact import Fact
from engram_core.domain.message import Message
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.operations import warden
from engram_core.operations.commit import Plan
from engram_core.operations.context import Context
from engram_core.operations.edit import find

_ATTEMPTS: Final = 8


def share(
    context: Context, scope: Scope, principal: str, fact_id: str, to: Scope, *, reason: str | None, now: datetime
) -> Fact:
    """Copy a fact into another scope; see `Memory.share`."""
    sight = warden.sight(context, principal, scope, now, "share")
    # Asked first: whether the fact is there is no business of somebody who may not do this anyway.
    warden.require(context, principal, "curate", to, now, "share")
    fact = find(context, sight, fact_id)
    if not fact.is_recallable:
        raise ChangeRefused(f"Fact {fact_id} is {fact.status.value}; only what can be recalled can be shared.")
    if fact.scope == to:
        raise ChangeRefused(f"Fact {fact_id} lives in {to} already.")
    warden.seen(context, sight, [fact.id])
    for _ in range(_ATTEMPTS):
        states = context.ledger.scopes([to])
        known = next((one for one in context.ledger.derived([fact.id]) if one.scope == to and one.is_recallable), None)
        if known is not None and warden.allowance(context, principal, "read", to, now) is not None:
            return known
        plan = Plan(context, to, principal, now, operation="share")
        line = reason or f"{principal} shared it from {fact.scope}."
        copy = plan.add(_draft(fact), Reason("shared", line), sources=[fact], has_neighbours=False)
        batch, (copy, *_) = plan.seal(states[0].seq if states else 0)
        try:
            context.ledger.commit(batch)
        except Conflict:
            continue
        context.finder.wake()
        return copy
    raise StoreUnavailable(f"Scope {to} was changed by others {_ATTEMPTS} times meanwhile; try again.")


def _draft(fact: Fact) -> Draft:
    said = [Message("user", fact.text, speaker=fact.speaker, at=fact.said_at, id=id_) for id_ in _message_ids(fact)]
    return Draft(
        text=fact.text,
        messages=tuple(said),
        kind=fact.kind,
        slot=fact.slot,
        importance=fact.importance,
        confidence=fact.confidence,
        sources=(fact.id,),
        speaker=fact.speaker,
        metadata=fact.metadata,
        valid_from=fact.valid_from,
        valid_until=fact.valid_until,
    )


def _message_ids(fact: Fact) -> tuple[str | None, ...]:
    return fact.origin.message_ids or (None,)
