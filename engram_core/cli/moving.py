"""Moving: `engram migrate`, which copies a whole store. It reads its arguments and asks the facade."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram_core.cli.command import FINE, PROBLEMS, Place, Result, command

if TYPE_CHECKING:
    from engram_core.cli.paper import Paper


def register(app: typer.Typer) -> None:
    """Put the commands of this file into the app."""
    command(app)(migrate)


def migrate(
    place: Place,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The store to copy: a directory or database URL.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="An empty place: a directory or database URL.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check both, count the rows and write nothing.")] = False,
) -> Result:
    """Copy a whole store into an empty one and verify it: embedded to server, and back. The source is only read."""
    from engram_core.cli.progress import stages  # noqa: PLC0415
    from engram_core.domain.errors import InvalidInput  # noqa: PLC0415
    from engram_core.engram import Engram  # noqa: PLC0415

    if place.is_chosen:
        raise InvalidInput("`engram migrate` names both stores itself: SOURCE and TARGET, without --store.")
    for store in (source, target):
        place.check_owner("copies a store", store)
    with stages() as move:
        report = Engram.migrate(source, target, index=place.index, dry_run=dry_run, progress=move)
    view = {"source": Place(source).shown, "target": Place(target).shown, **report}
    return Result(view, partial(_draw, view=view), PROBLEMS if report.get("index_problem") else FINE)


def _draw(paper: Paper, view: dict[str, Any]) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    rows = [
        {"table": name, "rows": count, "digest": view["digests"].get(name, "")[:16]}
        for name, count in view["rows"].items()
    ]
    digest = () if view["dry_run"] else (Column("digest"),)
    paper.table((Column("table", style="bold"), Column("rows", is_right=True), *digest), rows)
    total = sum(view["rows"].values())
    if view["dry_run"] and view["continued"]:
        paper.remark(
            f"{total} rows are in {view['target']} already, as many as in {view['source']}. The migration would "
            "compare them and go on with sample recalls and the index. Nothing was changed."
        )
        return
    if view["dry_run"]:
        paper.remark(f"{total} rows would be copied from {view['source']} to {view['target']}. Nothing was changed.")
        return
    done = "were there already from an earlier copy, " if view["continued"] else "copied to "
    paper.remark(
        f"{total} rows {done}{view['target']} and verified: every table reads back the same (store digest "
        f"{view['digest'][:16]}), {view['recalls']} sample recalls agree, {view['vectors']} vectors are in the new "
        f"index. {view['source']} is as it was."
    )
    if view["index_problem"]:
        paper.remark(f"The index is not built yet: {view['index_problem']} It is built when the store is opened.")
