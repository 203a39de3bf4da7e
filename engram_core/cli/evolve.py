"""Evolve: `engram evolve` and `engram propose`: a better policy, looked for or put forward. It asks and draws."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram_core.cli.command import Place, Result, command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engram_core.cli.paper import Paper
    from engram_core.domain.proposal import Proposal

_Why = Annotated[str, typer.Option("--reason", help="Why, for its history.")]
_Scope = Annotated[str, typer.Argument(metavar="SCOPE", help="A path such as acme/support/alice.")]


def register(app: typer.Typer) -> None:
    """Put the commands of this file into the app."""
    for function in (evolve, propose):
        command(app)(function)


def evolve(
    place: Place,
    scope: _Scope,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be proposed; record nothing.")] = False,
) -> Result:
    """Look for one better policy of a scope, or measure the one on trial. Nothing changes before it is approved."""
    with place.open() as engram:
        done = engram.memory(scope, principal=place.principal).evolve(dry_run=dry_run)
    view = {"store": place.shown, "dry_run": dry_run, **done.to_dict()}
    return Result(view, partial(_evolved, view=view))


def propose(
    place: Place,
    scope: _Scope,
    fields: Annotated[list[str], typer.Argument(metavar="FIELD=VALUE...", help="Policy fields and their new values.")],
    reason: _Why = "",
) -> Result:
    """Propose a change yourself; past recalls are answered again under it, and what does harm is rejected."""
    from engram_core.cli.policy import parsed  # noqa: PLC0415

    with place.open() as engram:
        made = engram.memory(scope, principal=place.principal).propose(reason=reason, **parsed(fields))
    return _told(made)


def _told(proposal: Proposal) -> Result:
    view = proposal.to_dict()
    return Result(view, partial(_one, view=view))


def _evolved(paper: Paper, view: Mapping[str, Any]) -> None:
    if view["signals"]:
        rows = [{"signal": name.replace("_", " "), "count": count} for name, count in view["signals"].items()]
        _table(paper, rows, "signal", "count")
    _evidence(paper, view["evidence"])
    paper.remark(f"{view['scope']}: {view['state'].replace('_', ' ')}. {view['line']}")
    if view["proposal"] and view["state"] == "proposed":
        paper.remark(f"`engram approve {view['proposal']}` puts it in force, `engram reject` does not.")


def _one(paper: Paper, view: Mapping[str, Any]) -> None:
    _evidence(paper, view["evidence"])
    last = view["steps"][-1]
    why = f": {last['reason']}" if last["reason"] else "."
    paper.remark(f"{_change(view)} in {view['scope']} is {view['status'].replace('_', ' ')}, by {last['by']}{why}")
    paper.remark(f"Proposal {view['id']}.")


def _change(view: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {values['before']!r} to {values['after']!r}" for name, values in view["diff"].items())


def _evidence(paper: Paper, evidence: Mapping[str, Any]) -> None:
    names = ("gain", "support", "used_facts_shown", "tokens")
    rows = [
        {"figure": name.replace("_", " "), "mean": item["mean"], "95 %": f"{item['low']} to {item['high']}"}
        for name in names
        if isinstance(item := evidence.get(name), dict)
    ]
    if rows:
        _table(paper, rows, "figure", "mean", "95 %")


def _table(paper: Paper, rows: list[dict[str, Any]], *names: str) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    paper.table((Column(names[0], style="bold"), *(Column(name, is_right=True) for name in names[1:])), rows)
