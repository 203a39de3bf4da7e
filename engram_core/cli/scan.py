"""Scan: the command `engram scan`: secrets that were stored before anything looked for them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram_core.cli.command import FINE, PROBLEMS, Place, Result, command

if TYPE_CHECKING:
    from engram_core.cli.paper import Paper


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(scan)


def scan(
    place: Place,
    scope: Annotated[
        str | None, typer.Argument(metavar="SCOPE", help="A scope and all below it; without one, the whole store.")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Cover what is found; without it nothing is written.")] = False,
) -> Result:
    """Find secrets stored in facts, histories, messages and recalls; with --fix, cover them."""
    from engram_core.cli.progress import bar  # noqa: PLC0415

    with place.open() as engram, bar("Scanning") as move:
        report = engram.scan(scope, fix=fix, principal=place.principal, progress=move)
    view = {"store": place.shown, **report.to_dict()}
    return Result(view, partial(_drawn, view=view), FINE if report.is_clean or fix else PROBLEMS)


def _drawn(paper: Paper, view: dict[str, Any]) -> None:
    if not view["facts"] and not view["records"]:
        paper.line("No secrets were found.")
        return
    verb = "covered" if view["fixed"] else "found"
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(view["kinds"].items()))
    paper.line(f"Secrets {verb} in {len(view['facts'])} facts{f' ({kinds})' if kinds else ''}.")
    for id_, found in view["facts"].items():
        paper.line(f"  {id_}  {', '.join(found)}")
    for name, count in view["records"].items():
        paper.line(f"Secrets {verb} in {count} rows of {name}.")
    if not view["fixed"]:
        paper.remark("engram scan --fix covers them.")
