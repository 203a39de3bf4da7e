"""Edit: what a person does to one fact: update, forget (archive) and restore. Nothing here deletes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from engram_core.domain.change import Archive, Change, Edit, Restore
from engram_core.domain.errors import ChangeRefused, Conflict, EmbeddingFailed, FactNotFound, StoreUnavailable
from engram_core.domain.fact import Fact, Status
from engram_core.domain.message import Message
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.floor import access, legality
from engram_core.floor.screen import screen
from engram_core.operations.commit import Plan, features_again
from engram_core.operations.context import Context

_ATTEMPTS = 8


def find(context: Context, scope: Scope, principal: str, fact_id: str) -> Fact:
    """A fact this principal may read from `scope`. Raises FactNotFound."""
    readable = access.readable(scope, principal, context.owner)
    found = context.ledger.facts([fact_id]) if isinstance(fact_id, str) else []
    if not found or found[0].scope not in readable or found[0].status is Status.ERASED:
        raise FactNotFound(f"No fact {fact_id!r} is visible from scope {scope}. `engram list {scope}` shows what is.")
    return found[0]


def update(
    context: Context, scope: Scope, principal: str, fact_id: str, fields: Mapping[str, Any], now: datetime
) -> Fact:
    """Correct a fact; see `Memory.update`."""
    wanted = {name: value for name, value in fields.items() if value is not None}
    if "text" in wanted:
        wanted["text"] = _screened(wanted["text"])

    def change(fact: Fact) -> tuple[Change, Fact]:
        after = replace(fact, **wanted, version=fact.version + 1)
        line = f"{principal} changed {', '.join(sorted(wanted)) or 'nothing'}."
        return Edit(after, Reason("edited", line)), after

    return _change(context, scope, principal, fact_id, change, "update", now)


def _screened(text: str) -> str:
    (item,) = screen([Message("user", text)], [])
    if item.message is None:
        raise ChangeRefused("The new text is empty. Use forget() to take a fact out of recall.")
    return item.message.content.strip()


def forget(context: Context, scope: Scope, principal: str, fact_id: str, *, reason: str | None, now: datetime) -> Fact:
    """Archive a fact; see `Memory.forget`."""
    why = Reason("forgotten", reason or f"{principal} asked to forget it.")

    def change(fact: Fact) -> tuple[Change, Fact]:
        after = replace(fact, status=Status.ARCHIVED, archived_at=now, archived_reason=str(why))
        return Archive(fact.id, why), after

    return _change(context, scope, principal, fact_id, change, "archive", now)


def restore(context: Context, scope: Scope, principal: str, fact_id: str, *, reason: str | None, now: datetime) -> Fact:
    """Bring an archived fact back; see `Memory.restore`."""
    why = Reason("restored", reason or f"{principal} asked to restore it.")

    def change(fact: Fact) -> tuple[Change, Fact]:
        after = replace(fact, status=Status.LIVE, archived_at=None, archived_reason=None)
        return Restore(fact.id, why), after

    return _change(context, scope, principal, fact_id, change, "restore", now)


def _change(
    context: Context,
    scope: Scope,
    principal: str,
    fact_id: str,
    propose: Callable[[Fact], tuple[Change, Fact]],
    action: str,
    now: datetime,
) -> Fact:
    for _ in range(_ATTEMPTS):
        fact = find(context, scope, principal, fact_id)
        if fact.scope != scope:
            # Reading reaches up the path; changing what others share must be asked for where it lives.
            raise ChangeRefused(f"Fact {fact_id} lives in scope {fact.scope}; change it from there, not from {scope}.")
        change, after = propose(fact)
        _judge(context, principal, fact, change, action, now)
        try:
            return _commit(context, principal, fact, after, change.reason, action, now)
        except Conflict:
            continue
    raise StoreUnavailable(f"Fact {fact_id} was changed by others {_ATTEMPTS} times meanwhile; try again.")


def _judge(context: Context, principal: str, fact: Fact, change: Change, action: str, now: datetime) -> None:
    policy = context.ledger.policy(fact.scope).policy
    refusal = legality.judge(change, scope=fact.scope, facts={fact.id: fact}, by_person=True, policy=policy, now=now)
    if refusal is None:
        return
    plan = Plan(context, fact.scope, principal, now)
    plan.decide(action, refusal, fact_id=fact.id, refused=True)
    context.ledger.commit(plan.seal(None)[0])
    raise ChangeRefused(f"Refused by rule {refusal}")


def _commit(
    context: Context, principal: str, before: Fact, after: Fact, reason: Reason, action: str, now: datetime
) -> Fact:
    with context.turnstiles.of(before.scope):
        row = context.ledger.indexed([before.id])[0]
        plan = Plan(context, before.scope, principal, now)
        after, features = _described(context, before, after, row)
        plan.replace(before, after, reason, action, features)
        context.ledger.commit(plan.seal(None)[0])
    context.finder.wake()
    return after


def _described(context: Context, before: Fact, after: Fact, row: Any) -> tuple[Fact, Any]:
    try:
        features = features_again(context, after, row, text_changed=before.text != after.text)
    except EmbeddingFailed:
        # The correction is kept now and embedded later; until then words find it.
        features = replace(features_again(context, after, row), content=None, context=None)
        return replace(after, status=Status.PENDING), features
    if after.status is Status.LIVE and features.content is None:
        after = replace(after, status=Status.PENDING)
    return after, features
