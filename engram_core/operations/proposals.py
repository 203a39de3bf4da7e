"""Proposals: a change of a policy from its proposal to its end. People approve and reject; it writes nothing unasked.

    pending → approved → applied → kept
        ↘ rejected         ↘ rolled back (also later, from kept)

Applying sets a new version of the scope's policy; rolling back sets another one with the fields' earlier values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from engram_core.domain.errors import ChangeRefused, Conflict, InvalidInput, ProposalNotFound
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.proposal import STEPS, Proposal, ProposalKind, ProposalStatus, Step
from engram_core.domain.scope import Scope
from engram_core.operations import warden
from engram_core.operations.context import Context
from engram_core.operations.policy import changes_dict

RULE: Final = "engram"
"""Who acts where a rule decides and no person does."""
MAX_REASON: Final = 2_000
MAX_SHADOW: Final = 1_000
_VERBS: Final[Mapping[ProposalStatus, str]] = {"approved": "approve", "rejected": "reject"}
"""What a person does to a proposal, as the audit calls it."""


def propose(
    context: Context,
    scope: Scope,
    fields: Mapping[str, Any],
    now: datetime,
    *,
    kind: ProposalKind = "policy",
    evidence: Mapping[str, Any],
    prediction: Mapping[str, float],
    rationale: str,
    by: str = RULE,
) -> Proposal:
    """Record a proposal to set `fields` of the policy in force in `scope`. Nothing changes until it is approved.

    Args:
        fields: Policy fields and their new values.
        kind: `design` if the only field is `design`.
        evidence: JSON-able. Ids and figures only: what a fact or question says must stay erasable in one place.
        prediction: Metric to what is expected, which the effect is measured against.
        by: A principal, or `engram`.

    Raises:
        InvalidPolicy: A field or value is not valid, or names a design that is not there.
        InvalidInput: It would change nothing, or `kind` does not fit the fields.
    """
    before = context.ledger.policy(scope).policy
    after = before.changed(**fields)
    context.design(after.design)
    diff = changes_dict(before.diff(after))
    if not diff:
        raise InvalidInput(f"The policy of {scope} is like that already; there is nothing to propose.")
    if (kind == "design") != (set(diff) == {"design"}):
        raise InvalidInput("A proposal of kind 'design' changes the field design, and that field alone.")
    made = Proposal(
        id=context.new_id(),
        kind=kind,
        scope=scope,
        diff=diff,
        evidence=evidence,
        prediction=prediction,
        by=by,
        at=now,
        rationale=rationale[:MAX_REASON],
        steps=(Step("pending", by, now),),
    )
    context.ledger.proposals.add(made)
    return made


def found(context: Context, proposal_id: str) -> Proposal:
    """A proposal by its id. Raises ProposalNotFound."""
    proposal = context.ledger.proposals.get(proposal_id) if isinstance(proposal_id, str) else None
    if proposal is None:
        raise ProposalNotFound(f"No proposal {proposal_id!r} was made in this store. `engram proposals` shows them.")
    return proposal


def listing(
    context: Context,
    scope: Scope | None,
    *,
    kind: ProposalKind | None = None,
    statuses: Sequence[ProposalStatus] = (),
    limit: int = 100,
) -> list[Proposal]:
    """Proposals of a scope and all below it, or of the whole store, newest first."""
    return context.ledger.proposals.listing(scope, kind=kind, statuses=statuses, limit=limit)


def approve(
    context: Context,
    proposal_id: str,
    principal: str,
    now: datetime,
    *,
    reason: str = "",
    figures: Mapping[str, Any] | None = None,
) -> Proposal:
    """A person approves a pending proposal; it is not in force yet. Raises ProposalNotFound, ChangeRefused."""
    return _decided(context, proposal_id, "approved", principal, now, reason, figures or {})


def start(
    context: Context, proposal_id: str, principal: str, now: datetime, *, reason: str = "", shadow: int
) -> Proposal:
    """Approve, and put in force at once; or, of a design, first answer `shadow` live recalls beside the present one.

    Raises:
        ProposalNotFound, ChangeRefused: There is no such proposal, it is not pending, or the policy moved on.
        InvalidInput: `shadow` is not from 0 to 1,000.
    """
    if not isinstance(shadow, int) or not 0 <= shadow <= MAX_SHADOW:
        raise InvalidInput(f"shadow counts recalls, from 0 to {MAX_SHADOW:,}, not {shadow!r}.")
    proposal = found(context, proposal_id)
    is_code = str(proposal.diff.get("design", {}).get("after", "")).startswith("code:")
    if is_code and not principal.startswith("user:"):
        raise ChangeRefused(f"A design that is code takes the approval of a person, a user:…; {principal} is none.")
    if proposal.kind == "design" and shadow:
        done = approve(context, proposal_id, principal, now, reason=reason, figures={"shadow": shadow})
        context.shadowing.look(context)
        return done
    approve(context, proposal_id, principal, now, reason=reason)
    return apply(context, proposal_id, principal, now, reason=reason)


def turn_down(
    context: Context, proposal_id: str, now: datetime, *, reason: str, figures: Mapping[str, Any]
) -> Proposal:
    """What a person approved did not hold in service: it is rejected by rule, with the figures."""
    return _moved(context, found(context, proposal_id), Step("rejected", RULE, now, reason, figures))


def undo(context: Context, proposal_id: str, principal: str, now: datetime, *, reason: str = "") -> Proposal:
    """A person rolls back a proposal that is in force or was kept. Raises ProposalNotFound, ChangeRefused."""
    warden.admit(context, principal, "curate", found(context, proposal_id).scope, now, "roll_back", proposal_id)
    return rollback(context, proposal_id, principal, now, reason=reason)


def reject(context: Context, proposal_id: str, principal: str, now: datetime, *, reason: str = "") -> Proposal:
    """A person rejects a pending or approved proposal. Raises ProposalNotFound, ChangeRefused."""
    return _decided(context, proposal_id, "rejected", principal, now, reason, {})


def apply(
    context: Context,
    proposal_id: str,
    principal: str,
    now: datetime,
    *,
    reason: str = "",
    figures: Mapping[str, Any] | None = None,
) -> Proposal:
    """Put an approved proposal in force as a new version of the scope's policy.

    Raises:
        ChangeRefused: It is not approved, or the fields have other values by now than it started from.
    """
    proposal = found(context, proposal_id)
    if proposal.status != "approved":
        raise ChangeRefused(f"Proposal {proposal.id} is {proposal.status}; it cannot be applied now.")
    source = context.ledger.policy(proposal.scope)
    moved = {name: value for name, value in _now(context, proposal).items() if value != proposal.diff[name]["before"]}
    if moved:
        raise ChangeRefused(
            f"The policy of {proposal.scope} moved on since this was proposed: {_told(moved)}. Make a new proposal."
        )
    fields = {name: change["after"] for name, change in proposal.diff.items()}
    policy = source.policy.changed(**fields)
    context.design(policy.design)
    # The step first: of two that apply at once, the second one finds it taken and sets nothing.
    more = {"before_version": source.version, "before_scope": source.scope.path if source.scope else None}
    done = _moved(context, proposal, Step("applied", principal, now, reason, {**more, **(figures or {})}))
    context.ledger.set_policy(proposal.scope, policy, principal, now)
    return done


def keep(
    context: Context, proposal_id: str, now: datetime, *, reason: str, figures: Mapping[str, Any], by: str = RULE
) -> Proposal:
    """The effect was as predicted, or near it: a proposal in force stays."""
    return _moved(context, found(context, proposal_id), Step("kept", by, now, reason, figures))


def rollback(
    context: Context,
    proposal_id: str,
    principal: str,
    now: datetime,
    *,
    reason: str = "",
    figures: Mapping[str, Any] | None = None,
) -> Proposal:
    """Take a proposal that is in force, or was kept, back: its fields get their earlier values in a new version.

    A field that somebody set to something else meanwhile keeps that value.

    Raises:
        ProposalNotFound, ChangeRefused: There is no such proposal, or it is not in force.
    """
    proposal = found(context, proposal_id)
    present = _now(context, proposal)
    fields = {name: change["before"] for name, change in proposal.diff.items() if present[name] == change["after"]}
    done = _moved(
        context, proposal, Step("rolled_back", principal, now, reason, {"fields": sorted(fields), **(figures or {})})
    )
    if fields:
        policy = context.ledger.policy(proposal.scope).policy.changed(**fields)
        context.ledger.set_policy(proposal.scope, policy, principal, now)
    return done


def plain_diff(before: MemoryPolicy, after: MemoryPolicy) -> dict[str, dict[str, Any]]:
    """The fields in which two policies differ, as a proposal tells them."""
    return changes_dict(before.diff(after))


# --- parts ---


def _decided(
    context: Context,
    proposal_id: str,
    status: ProposalStatus,
    principal: str,
    now: datetime,
    reason: str,
    figures: Mapping[str, Any],
) -> Proposal:
    if not isinstance(reason, str) or len(reason) > MAX_REASON:
        raise InvalidInput(f"A reason is a text of at most {MAX_REASON:,} characters.")
    proposal = found(context, proposal_id)
    if status not in STEPS[proposal.status]:
        warden.require(context, principal, "curate", proposal.scope, now, _VERBS[status])
    else:
        warden.admit(context, principal, "curate", proposal.scope, now, _VERBS[status], proposal.id)
    return _moved(context, proposal, Step(status, principal, now, reason, figures))


def _moved(context: Context, proposal: Proposal, step: Step) -> Proposal:
    try:
        return context.ledger.proposals.move(proposal.id, step, proposal.status)
    except Conflict as error:
        known = found(context, proposal.id)
        word = step.status.replace("_", " ")
        raise ChangeRefused(f"Proposal {proposal.id} is {known.status}; it cannot be {word} now.") from error


def _now(context: Context, proposal: Proposal) -> dict[str, Any]:
    policy = context.ledger.policy(proposal.scope).policy.model_dump(mode="json")
    present: dict[str, Any] = json.loads(json.dumps({name: policy[name] for name in proposal.diff}))
    return present


def _told(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} is {value!r}" for name, value in fields.items())
