"""Holding: legal holds: what they cover can be read, and nothing erases or archives it. They change no fact."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from engram_core.domain.audit import AuditEntry
from engram_core.domain.errors import FactNotFound, InvalidInput, OnHold
from engram_core.domain.fact import Fact, Status
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.keeping import Hold
from engram_core.operations import warden
from engram_core.operations.context import Context

MAX_REASON: Final = 500


def hold(context: Context, scope: Scope, fact_id: str | None, reason: str, principal: str, now: datetime) -> Hold:
    """Place a hold; see `Memory.hold`."""
    if not isinstance(reason, str) or not reason.strip() or len(reason) > MAX_REASON:
        raise InvalidInput(f"A hold needs a reason of at most {MAX_REASON} characters: whoever meets it will ask why.")
    if fact_id is not None:
        found = context.ledger.facts([fact_id]) if isinstance(fact_id, str) else []
        if not found or found[0].scope != scope or found[0].status is Status.ERASED:
            raise FactNotFound(f"No fact {fact_id!r} lives in scope {scope}.")
    by = warden.require(context, principal, "admin", scope, now, "hold").by
    placed = Hold(context.new_id(), scope, reason, principal, now, fact_id)
    context.ledger.erasures.place_hold(placed)
    ids = (fact_id,) if fact_id is not None else ()
    context.audit.note(AuditEntry(now, principal, "admin", "hold", scope, by=by, fact_ids=ids, about=placed.id))
    return placed


def release(context: Context, hold_id: str, principal: str, now: datetime) -> None:
    """Lift a hold; see `Memory.release_hold`."""
    held = next((item for item in context.ledger.erasures.holds() if item.id == hold_id), None)
    if held is None:
        raise InvalidInput(f"There is no hold {hold_id!r} in force. Engram.holds() lists them.")
    by = warden.require(context, principal, "admin", held.scope, now, "release_hold").by
    context.ledger.erasures.release_hold(held.id, principal, now)
    context.audit.note(AuditEntry(now, principal, "admin", "release_hold", held.scope, by=by, about=held.id))


def covering(context: Context, facts: Iterable[Fact], scopes: Iterable[Scope] = ()) -> Hold | None:
    """The first hold in force that covers one of the facts, or a whole scope."""
    holds = context.ledger.erasures.holds()
    if not holds:
        return None
    found = next((item for fact in facts for item in holds if item.covers(fact)), None)
    # Whoever erases a whole scope erases what is held below it, too.
    whole = [item for scope in scopes for item in holds if item.scope.contains(scope) and item.fact_id is None]
    return found or next(iter(whole), None)


def kept(context: Context, fact: Fact) -> Reason | None:
    """Why no night may archive a fact that is held; None if it may."""
    held = covering(context, [fact])
    return None if held is None else Reason("held", f"The legal hold {held.id} covers fact {fact.id}.")


def refusal(held: Hold, what: str) -> OnHold:
    """The error that names a hold."""
    covered = f"fact {held.fact_id}" if held.fact_id else f"scope {held.scope}"
    return OnHold(
        f"The legal hold {held.id} on {covered} ({held.reason}) forbids it; nothing was {what}. "
        f"release_hold({held.id!r}) lifts it."
    )
