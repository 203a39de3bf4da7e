"""Proposals: the commands with which a person sees, approves, rejects and takes back what Engram proposes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram_core.cli.command import Place, Result, command

if TYPE_CHECKING:
    from engram_core.cli.paper import Paper
    from engram_core.domain.proposal import Proposal
    from engram_core.engram import Engram

View = dict[str, Any]
ProposalId = Annotated[str, typer.Argument(metavar="ID", help="A proposal's id.")]
Why = Annotated[str, typer.Option("--reason", help="Why, for the proposal's record.")]


def proposals(
    place: Place,
    scope: Annotated[str | None, typer.Argument(metavar="[SCOPE]", help="It and all below; default all.")] = None,
    status: Annotated[
        str | None, typer.Option("--status", help="pending, approved, rejected, applied, kept or rolled_back.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Proposals at most, newest first.")] = 20,
) -> Result:
    """List what was proposed, and what became of it."""
    with place.open() if scope is not None else place.owned("lists the proposals of every scope") as engram:
        found = engram.proposals(scope, status=status, limit=limit)
        if scope is not None and not place.is_owner(engram):
            found = _theirs(engram, scope, place.principal or engram.owner, found)
    view = {"proposals": [item.to_dict() for item in found]}
    return Result(view, partial(_draw, rows=[_row(item) for item in found]))


def approve(
    place: Place,
    id_: ProposalId,
    reason: Why = "",
    shadow: Annotated[
        int | None, typer.Option("--shadow", help="Live recalls a design answers unseen first; 0: in force now.")
    ] = None,
) -> Result:
    """Approve a proposal. A policy is in force at once; a design is first tried on live recalls, unseen."""
    with place.open() as engram:
        if shadow is None:
            done = engram.approve(id_, reason=reason, principal=place.principal)
        else:
            done = engram.approve(id_, reason=reason, principal=place.principal, shadow=shadow)
    return _decided(done)


def reject(place: Place, id_: ProposalId, reason: Why = "") -> Result:
    """Reject a proposal."""
    with place.open() as engram:
        done = engram.reject(id_, reason=reason, principal=place.principal)
    return _decided(done)


def rollback(place: Place, id_: ProposalId, reason: Why = "") -> Result:
    """Take back a proposal that is in force: the policy gets the values it had."""
    with place.open() as engram:
        done = engram.rollback(id_, reason=reason, principal=place.principal)
    return _decided(done)


def register(app: typer.Typer) -> None:
    """Add the commands to `engram`."""
    for function in (proposals, approve, reject, rollback):
        command(app)(function)


def _theirs(engram: Engram, scope: str, principal: str, found: list[Proposal]) -> list[Proposal]:
    """Those that somebody may decide. Raises AccessDenied if that is none of the scope asked for."""
    from engram_core.domain.errors import AccessDenied  # noqa: PLC0415

    if not engram.why(principal, "curate", scope):
        raise AccessDenied(principal, "curate", scope)
    return [item for item in found if engram.why(principal, "curate", item.scope)]


def _decided(done: Proposal) -> Result:
    return Result(done.to_dict(), lambda paper: paper.line(f"{done.id} is {done.status.replace('_', ' ')}."))


def _row(item: Proposal) -> View:
    changes = (f"{name}: {change['before']} → {_short(change['after'])}" for name, change in item.diff.items())
    return {
        "id": item.id,
        "scope": item.scope.path,
        "status": item.status,
        "change": "; ".join(changes),
        "why": item.reason or item.rationale,
    }


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:20]}…" if len(text) > 40 else text


def _draw(paper: Paper, *, rows: list[View]) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    columns = [
        Column("scope"),
        Column("status"),
        Column("change", is_wide=True),
        Column("why", is_wide=True),
        Column("id"),
    ]
    paper.table(columns, rows, under="id")
    if not rows:
        paper.remark("Nothing was proposed. `engram lab promote` proposes a design.")
