"""Edit: what a person does to one fact: update, forget (archive) and restore. Nothing here deletes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from engram_core.domain.access import Allowance
from engram_core.domain.change import Archive, Change, Edit, Restore
from engram_core.domain.errors import ChangeRefused, Conflict, EmbeddingFailed, FactNotFound, StoreUnavailable
from engram_core.domain.fact import TRUST_BY_CHANNEL, Fact, Status
from engram_core.domain.message import Message
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.floor import legality
from engram_core.floor.screen import screen
from engram_core.measure import slots, validity
from engram_core.operations import gate, holding, supersede, warden
from engram_core.operations.commit import Plan, features_again
from engram_core.operations.context import Context
from engram_core.ports import Decision, Features, Indexed, Link

_ATTEMPTS = 8


_PERSON: Final = "user:"


def find(context: Context, sight: warden.Sight, fact_id: str) -> Fact:
    """A fact that may be read. Raises FactNotFound, the same for one that is not there and one that may not be seen."""
    found = context.ledger.facts([fact_id]) if isinstance(fact_id, str) else []
    found = warden.checked(context, sight, found, alarm=False)
    if not found or found[0].status is Status.ERASED:
        where = sight.scope
        raise FactNotFound(f"No fact {fact_id!r} is visible from scope {where}. `engram list {where}` shows what is.")
    return found[0]


def get(context: Context, scope: Scope, principal: str, fact_id: str, now: datetime) -> Fact:
    """A fact by its id; see `Memory.get`."""
    sight = warden.sight(context, principal, scope, now, "get")
    fact = find(context, sight, fact_id)
    warden.seen(context, sight, [fact.id])
    return fact


def history(context: Context, scope: Scope, principal: str, fact_id: str, now: datetime) -> list[Decision]:
    """Every decision about a fact; see `Memory.history`."""
    sight = warden.sight(context, principal, scope, now, "history")
    fact = find(context, sight, fact_id)
    warden.seen(context, sight, [fact.id])
    return context.ledger.history(fact.id)


def listing(
    context: Context,
    scope: Scope,
    principal: str,
    now: datetime,
    *,
    kind: str | None,
    statuses: Sequence[Status],
    limit: int,
    after: str | None,
) -> list[Fact]:
    """Facts of this very scope; see `Memory.list`."""
    warden.require(context, principal, "read", scope, now, "list")
    sight = warden.sight(context, principal, scope, now, "list")
    if after is not None and not [fact for fact in context.ledger.facts([after]) if fact.scope == scope]:
        found = []  # a fact of elsewhere marks no place here, whether there is one or not
    else:
        found = context.ledger.listing(scope, kind=kind, statuses=statuses, limit=limit, after=after)
    found = warden.checked(context, sight, found)
    warden.seen(context, sight, [fact.id for fact in found])
    return found


def update(
    context: Context, scope: Scope, principal: str, fact_id: str, fields: Mapping[str, Any], now: datetime
) -> Fact:
    """Correct a fact; see `Memory.update`."""
    wanted = {name: value for name, value in fields.items() if value is not None}
    policy = context.ledger.policy(scope).policy
    if "text" in wanted:
        wanted["text"] = _screened(gate.clean_text(wanted["text"], policy))
    if "metadata" in wanted:
        wanted["metadata"] = gate.clean_values(wanted["metadata"], policy)

    desk = Desk(context, scope, principal, now, "update")
    ceiling = desk.allowed().max_trust

    def change(fact: Fact) -> tuple[Change, Fact]:
        after = replace(fact, **_retold(fact, wanted), version=fact.version + 1)
        if after.text != fact.text:
            # New words are trusted as far as whoever wrote them, and never more than the old ones; a program's or an
            # agent's do not become a person's by standing where a person's stood.
            own = 1.0 if principal.startswith(_PERSON) else TRUST_BY_CHANNEL["assistant"]
            after = replace(after, trust=min(fact.trust, ceiling, own))
        line = f"{principal} changed {', '.join(sorted(wanted)) or 'nothing'}."
        return Edit(after, Reason("edited", line)), after

    return desk.change(fact_id, change, "update")


def _retold(fact: Fact, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The wanted fields, and with a new text what the old one had told: its slot, and when it holds."""
    if "text" not in wanted or wanted["text"] == fact.text:
        return dict(wanted)
    keyed = slots.alone(wanted["text"], fact.speaker)
    before, now = validity.told(fact.text, fact.said_at), validity.told(wanted["text"], fact.said_at)
    told: dict[str, Any] = {"slot": keyed.slot if keyed is not None else None}
    if fact.valid_from == before.valid_from:
        told["valid_from"] = now.valid_from
    if fact.valid_until == before.valid_until:
        told["valid_until"] = now.valid_until
    return {**told, **wanted}


def _screened(text: str) -> str:
    (item,) = screen([Message("user", text)], [])
    if item.message is None:
        raise ChangeRefused("The new text is empty. Use forget() to take a fact out of recall.")
    return item.message.content.strip()


def forget(
    context: Context,
    scope: Scope,
    principal: str,
    fact_id: str,
    *,
    reason: str | None,
    now: datetime,
    dry_run: bool = False,
) -> Fact:
    """Archive a fact; see `Memory.forget`."""
    line = gate.clean_text(reason, context.ledger.policy(scope).policy) if reason else None

    def change(fact: Fact) -> tuple[Change, Fact]:
        # Here, where access has been checked: who may not forget learns nothing of holds either.
        held = holding.covering(context, [fact])
        if held is not None:
            raise holding.refusal(held, "forgotten")
        said = line or f"{principal} asked to forget it."
        why = Reason("rejected", said) if fact.status is Status.QUARANTINED else Reason("forgotten", said)
        after = replace(fact, status=Status.ARCHIVED, archived_at=now, archived_reason=str(why))
        return Archive(fact.id, why), after

    desk = Desk(context, scope, principal, now, "forget")
    if dry_run:
        return desk.look(fact_id, change)
    return desk.change(fact_id, change, "archive", lambda before, _: supersede.withdrawn(context, before))


def restore(context: Context, scope: Scope, principal: str, fact_id: str, *, reason: str | None, now: datetime) -> Fact:
    """Bring an archived fact back; see `Memory.restore`."""
    why = Reason("restored", reason or f"{principal} asked to restore it.")

    def change(fact: Fact) -> tuple[Change, Fact]:
        return Restore(fact.id, why), replace(supersede.reinstated(context, fact), restored_at=now)

    desk = Desk(context, scope, principal, now, "restore")
    return desk.change(fact_id, change, "restore", lambda _, after: supersede.fresh(context, [after]))


_Propose = Callable[[Fact], tuple[Change, Fact]]
_Follow = Callable[[Fact, Fact], Sequence[supersede.Step]]


@dataclass(frozen=True, slots=True)
class Desk:
    """Where one principal changes facts of one scope: find, judge, commit, and again if somebody was faster."""

    context: Context
    scope: Scope
    principal: str
    now: datetime
    operation: str

    def allowed(self) -> Allowance:
        """What lets the principal change facts here. Raises AccessDenied."""
        return warden.require(self.context, self.principal, "curate", self.scope, self.now, self.operation)

    def look(self, fact_id: str, propose: _Propose) -> Fact:
        """The fact as it is, if the change would be made. Raises what `change` would raise."""
        fact = self._found(fact_id)
        refusal = self._refusal(fact, propose(fact)[0])
        if refusal is not None:
            raise ChangeRefused(f"Refused by rule {refusal}")
        return fact

    def change(
        self, fact_id: str, propose: _Propose, action: str, follow: _Follow = lambda _before, _after: ()
    ) -> Fact:
        """Make the change, and in the same transaction what follows from it; return the fact as it is then."""
        with self.context.turnstiles.of(self.scope):
            for _ in range(_ATTEMPTS):
                states = self.context.ledger.scopes([self.scope])
                fact = self._found(fact_id)
                change, after = propose(fact)
                refusal = self._refusal(fact, change)
                if refusal is not None:
                    self._record_refusal(fact, action, refusal)
                    raise ChangeRefused(f"Refused by rule {refusal}")
                try:
                    return self._commit(fact, after, change.reason, action, states[0].seq, follow(fact, after))
                except Conflict:
                    continue
        raise StoreUnavailable(f"Scope {self.scope} was changed by others {_ATTEMPTS} times meanwhile; try again.")

    def _found(self, fact_id: str) -> Fact:
        self.allowed()
        sight = warden.sight(self.context, self.principal, self.scope, self.now, self.operation)
        fact = find(self.context, sight, fact_id)
        if fact.scope != self.scope:
            # Reading reaches up the path; changing what others share must be asked for where it lives.
            raise ChangeRefused(
                f"Fact {fact_id} lives in scope {fact.scope}; change it from there, not from {self.scope}."
            )
        return fact

    def _refusal(self, fact: Fact, change: Change) -> Reason | None:
        policy = self.context.ledger.policy(fact.scope).policy
        return legality.judge(
            change, scope=fact.scope, facts={fact.id: fact}, by_person=True, policy=policy, now=self.now
        )

    def _record_refusal(self, fact: Fact, action: str, refusal: Reason) -> None:
        plan = Plan(self.context, self.scope, self.principal, self.now)
        plan.decide(action, refusal, fact_id=fact.id, refused=True)
        self.context.ledger.commit(plan.seal(None)[0])

    def _commit(
        self, before: Fact, after: Fact, reason: Reason, action: str, expect: int, steps: Sequence[supersede.Step]
    ) -> Fact:
        row = self.context.ledger.indexed([before.id])[0]
        plan = Plan(self.context, self.scope, self.principal, self.now)
        after, features = _described(self.context, before, after, row)
        plan.replace(before, after, reason, action, features)
        supersede.carry_out(self.context, plan, steps)
        if before.superseded_by is not None and after.superseded_by is None:
            # Whoever brings a superseded fact back says that both are true: the newer one no longer overrules it.
            line = f"{self.principal} restored the older fact beside the newer one."
            plan.links.append(
                Link(before.superseded_by, before.id, 0.0, Reason("both_true", line), self.now, verdict="both")
            )
        self.context.ledger.commit(plan.seal(expect)[0])
        self.context.finder.wake()
        return after


def _described(context: Context, before: Fact, after: Fact, row: Indexed) -> tuple[Fact, Features]:
    try:
        features = features_again(context, after, row, text_changed=before.text != after.text)
    except EmbeddingFailed:
        # The correction is kept now and embedded later; until then words find it.
        features = features_again(context, after, row, text_changed=True, embed=False)
    if after.status is Status.LIVE and features.content is None:
        after = replace(after, status=Status.PENDING)
    return after, features
