"""Privacy: the commands that erase, hold and look for residue. They ask the facade and draw what it says."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram_core.cli.command import FINE, PROBLEMS, Place, Result, command

if TYPE_CHECKING:
    from engram_core.cli.paper import Paper

View = dict[str, Any]
_LIKE_AN_ID = re.compile(r"[0-9a-z]{6,10}(?:-[0-9a-z]{3,5}){3}-(?=.*[0-9].*[0-9])[0-9a-z]{9,15}", re.IGNORECASE)
"""A fact's id, or one with a few letters wrong, missing or too many."""
_Why = Annotated[str | None, typer.Option("--reason", help="Why, for the receipt.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for function, name in (
        (erase, "erase"),
        (erasures, "erasures"),
        (residue, "residue"),
        (hold, "hold"),
        (holds, "holds"),
        (release, "release"),
    ):
        command(app, name)(function)


def erase(
    place: Place,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of facts of one scope.")] = None,
    scope: Annotated[
        str | None, typer.Option("--scope", metavar="SCOPE", help="Everything of a scope and below it.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="NAME", help="Everything about somebody; with --scope, there.")
    ] = None,
    reason: _Why = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go and erase nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Erase; without it and --dry-run nothing is done.")] = False,
) -> Result:
    """Erase facts for good, with all that came from them. Exit code 1: bytes are left somewhere."""
    from engram_core.cli.app import scope_of  # noqa: PLC0415
    from engram_core.cli.progress import stages  # noqa: PLC0415
    from engram_core.domain.errors import FactNotFound, InvalidInput  # noqa: PLC0415

    if bool(ids) == bool(scope or subject):
        raise InvalidInput("Say what to erase: ID..., or --scope or --subject; not both.")
    if not (dry_run or yes):
        raise InvalidInput("Erasing cannot be undone. --dry-run shows what would go, --yes erases it.")
    with place.open() as engram, stages() as move:
        if ids:
            memory = engram.memory(scope_of(engram, ids[0], place.principal, "admin"), principal=place.principal)
            report = memory.erase(ids=ids, reason=reason, dry_run=dry_run, progress=move)
        else:
            report = engram.erase(
                scope, subject=subject, reason=reason, principal=place.principal, dry_run=dry_run, progress=move
            )
    if report.state == "nothing":
        what = f"about {subject!r}" if subject else f"in {scope}"
        raise FactNotFound(f"Nothing was found {what}; nothing was erased. `engram list` shows what is there.")
    view = {"store": place.shown, **report.to_dict()}
    is_clean = dry_run or (report.state == "done" and report.residue.get("verdict") != "FOUND")
    return Result(view, partial(_draw_erasure, view=view), FINE if is_clean else PROBLEMS)


def erasures(
    place: Place,
    lift: Annotated[
        str | None, typer.Option("--lift", metavar="ID", help="Let what this erasure removed be told again.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Erasures at most, 1 to 1000.")] = 20,
) -> Result:
    """List erasures with their receipts, newest first."""
    from engram_core.domain.errors import InvalidInput  # noqa: PLC0415

    with place.owned("lists erasures") as engram:
        lifted = engram.lift_tombstones(lift) if lift else 0
        if lift and not lifted:
            raise InvalidInput(f"No tombstone of an erasure {lift!r} is in force. `engram erasures` lists erasures.")
        view = {"store": place.shown, "erasures": engram.erasures(limit), "lifted": lifted}
    return Result(view, partial(_draw_erasures, view=view))


def residue(
    place: Place,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Files or directories besides the store's own.")
    ] = None,
    text: Annotated[
        str, typer.Option("--text", metavar="TEXT", help="What to look for; - reads one text per line from stdin.")
    ] = "-",
) -> Result:
    """Search the store's files for texts that must be gone. Exit code 1: some are there, or a file cannot be read."""
    texts = [line for line in sys.stdin.read().splitlines() if line.strip()] if text == "-" else [text]
    from engram_core.cli.progress import bar  # noqa: PLC0415

    with place.owned("searches the files") as engram, bar("Searching") as move:
        found = engram.find_residue(texts, paths=files or (), progress=move)
    view = {"store": place.shown, **found.to_dict()}
    return Result(view, partial(_draw_residue, view=view), FINE if view["verdict"] == "REMOVED" else PROBLEMS)


def hold(
    place: Place,
    what: Annotated[str, typer.Argument(metavar="WHAT", help="A scope, with all below it, or the id of a fact.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, such as the name of the case.")],
) -> Result:
    """Put a scope or a fact under a legal hold: nothing erases or archives it."""
    from engram_core.cli.app import scope_of  # noqa: PLC0415
    from engram_core.domain.scope import Scope  # noqa: PLC0415

    with place.open() as engram:
        if _LIKE_AN_ID.fullmatch(what) and not engram.context.ledger.scopes([Scope.coerce(what)]):
            # A scope of that name would be held in silence, and the fact erased in the next night.
            memory = engram.memory(scope_of(engram, what, place.principal, "admin"), principal=place.principal)
            placed = memory.hold(what, reason=reason)
        else:
            placed = engram.hold(what, reason=reason, principal=place.principal)
        is_empty = placed.fact_id is None and not engram.context.ledger.screening.stored(placed.scope, limit=1)
    view = {
        "id": placed.id,
        "scope": placed.scope.path,
        "fact_id": placed.fact_id,
        "reason": placed.reason,
        "is_empty": is_empty,
    }
    return Result(view, partial(_draw_hold, view=view))


def holds(
    place: Place,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Also holds that were released.")] = False,
) -> Result:
    """List legal holds."""
    with place.owned("lists holds") as engram:
        found = engram.holds(released=show_all)
    rows = [
        {
            "id": item.id,
            "scope": item.scope.path,
            "fact": item.fact_id,
            "reason": item.reason,
            "by": item.principal,
            "at": item.at.isoformat(),
            "released": item.released_at.isoformat() if item.released_at else None,
        }
        for item in found
    ]
    view = {"store": place.shown, "holds": rows}
    return Result(view, partial(_draw_holds, view=view))


def release(
    place: Place, id_: Annotated[str, typer.Argument(metavar="ID", help="A hold's id; `engram holds` lists them.")]
) -> Result:
    """Lift a legal hold."""
    with place.open() as engram:
        engram.release_hold(id_, principal=place.principal)
    return Result({"released": id_}, lambda paper: paper.line(f"Released {id_}."))


# --- drawing ---------------------------------------------------------------------------------------------------------


def _draw_erasure(paper: Paper, view: View) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    rows = [{"why": why, "facts": len(ids), "ids": ", ".join(ids)} for why, ids in view["facts"].items()]
    paper.table((Column("why", style="bold"), Column("facts", is_right=True), Column("ids", is_wide=True)), rows)
    for name, line in view["layers"].items():
        paper.line(f"{name}: {line}")
    if view["residue"]:
        paper.line(f"residue: {_told(view['residue'])}")
    paper.remark(_summary(view))


def _summary(view: View) -> str:
    verb = "would be" if view["dry_run"] else "were"
    parts = [f"{view['count']} facts {verb} erased in {len(view['scopes'])} scopes"]
    if view["rebuilt"]:
        parts.append(f"{len(view['rebuilt'])} consolidated ones made anew")
    if view["restored"]:
        parts.append(f"{len(view['restored'])} originals stand for themselves again")
    parts.append(f"{view['messages']} messages lose their words")
    if view["other_facts"]:
        parts.append(f"{len(view['other_facts'])} facts that stay came from these messages, too")
    return "; ".join(parts) + ("." if view["dry_run"] else f". Receipt {view['id']}.")


def _told(residue: Mapping[str, Any]) -> str:
    where = f" in {', '.join(residue['found'])}" if residue.get("found") else ""
    why = f" ({residue['why']})" if residue.get("why") else ""
    return f"{residue['verdict']}{where}{why}"


def _draw_erasures(paper: Paper, view: View) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    rows = [
        {
            "id": item["id"],
            "at": item["at"][:19],
            "by": item["principal"],
            "facts": item.get("count", ""),
            "state": item["state"],
            "residue": item.get("residue", {}).get("verdict", ""),
            "why": item.get("reason", ""),
        }
        for item in view["erasures"]
    ]
    names = ("id", "at", "by", "facts", "state", "residue")
    paper.table((*(Column(name) for name in names), Column("why", is_wide=True)), rows)
    if view["lifted"]:
        paper.remark(f"{view['lifted']} tombstones were lifted; what they kept out can be told again.")


def _draw_residue(paper: Paper, view: View) -> None:
    for path, count in view["found"].items():
        paper.line(f"{path}\t{count} texts")
    for path, why in view["unreadable"].items():
        paper.line(f"{path}\t{why}")
    paper.remark(f"{view['verdict']}: {view['files']} files, {view['bytes']:,} bytes searched.")


def _draw_hold(paper: Paper, view: View) -> None:
    paper.line(f"{view['id']}\t{view['fact_id'] or view['scope']}\t{view['reason']}")
    if view["is_empty"]:
        paper.remark(f"Nothing is stored in {view['scope']} yet: the hold covers what will be. Is the path right?")


def _draw_holds(paper: Paper, view: View) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    names = ("id", "scope", "fact", "by", "at", "released")
    rows = [item | {"at": item["at"][:19]} for item in view["holds"]]
    paper.table((*(Column(name) for name in names), Column("reason", is_wide=True)), rows)
