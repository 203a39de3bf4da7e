"""Gaps: `engram gaps`, `engram reflect`, `engram dismiss`: what memory should have known, and what became of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram_core.cli.command import FINE, PROBLEMS, Place, Result, command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engram_core.cli.paper import Paper

_LAPSES = 3


def register(app: typer.Typer) -> None:
    """Put the commands of this file into the app."""
    for function in (gaps, reflect, dismiss):
        command(app)(function)


def gaps(
    place: Place,
    scope: Annotated[
        str | None, typer.Argument(metavar="SCOPE", help="A scope and all below it; without one, every scope.")
    ] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only open, filled, closed or dismissed ones.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Gaps at most, 1 to 10000.")] = 100,
) -> Result:
    """List what memory should have known: the questions, the lapses that showed them, and what became of them."""
    from engram_core.operations.reflect import told  # noqa: PLC0415

    with place.open() if scope is not None else place.owned("lists the gaps of every scope") as engram:
        if scope is None or place.is_owner(engram):
            found = engram.gaps(scope, state=state, limit=limit)
        else:
            found = engram.memory(scope, principal=place.principal).gaps(state=state, limit=limit)
    view = {"store": place.shown, "gaps": [told(gap) for gap in found]}
    return Result(view, partial(_listed, view=view))


def reflect(
    place: Place,
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="A path such as acme/support/alice.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be filled; change nothing.")] = False,
) -> Result:
    """Look for lapses in one scope and fill what has an answer. Exit code 1: a source or the model was out of order."""
    with place.open() as engram:
        done = engram.memory(scope, principal=place.principal).reflect(dry_run=dry_run)
    view = {"store": place.shown, "dry_run": dry_run, **done.to_dict()}
    return Result(view, partial(_reflected, view=view), PROBLEMS if done.trouble else FINE)


def dismiss(
    place: Place,
    id: Annotated[str, typer.Argument(metavar="ID", help="A gap's id.")],  # noqa: A002 - the public word
    reason: Annotated[str | None, typer.Option("--reason", help="Why it is none.")] = None,
) -> Result:
    """Say that a gap is none: no reflection opens it again."""
    from engram_core.domain.errors import FactNotFound  # noqa: PLC0415
    from engram_core.operations.reflect import told  # noqa: PLC0415

    with place.open() as engram:
        found = engram.context.ledger.diary.gap(id)
        if found is None or not (place.is_owner(engram) or engram.why(place.principal or "", "curate", found.scope)):
            raise FactNotFound(f"There is no gap {id!r} in this store. `engram gaps` shows them.")
        view = told(engram.memory(found.scope, principal=place.principal).dismiss_gap(id, reason=reason))
    return Result(view, partial(_dismissed, view=view))


def _listed(paper: Paper, view: Mapping[str, Any]) -> None:
    _table(paper, view["gaps"])
    states = [gap["state"] for gap in view["gaps"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    paper.remark(
        f"{len(states)} gaps: {counts}." if states else "No gaps. A night, or `engram reflect`, looks for them."
    )


def _reflected(paper: Paper, view: Mapping[str, Any]) -> None:
    _table(paper, view["gaps"])
    for line in view["trouble"]:
        paper.line(line, "bold red")
    paper.remark(f"{view['scope']}: {view['line']}.{' Nothing was changed.' if view['dry_run'] else ''}")


def _dismissed(paper: Paper, view: Mapping[str, Any]) -> None:
    paper.remark(f"Gap {view['id']} is dismissed: {view['question']}")


def _table(paper: Paper, gaps: list[dict[str, Any]]) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    if not gaps:
        return
    columns = (Column("state", style="bold"), Column("question"), Column("lapses"), Column("why"), Column("id"))
    rows = [
        {
            "state": gap["state"],
            "question": gap["question"],
            "lapses": ", ".join(f"{lapse['kind']} {lapse['at'][:10]}" for lapse in gap["lapses"][-_LAPSES:]),
            "why": gap["reason"],
            "id": gap["id"],
        }
        for gap in gaps
    ]
    paper.table(columns, rows, under="id")
