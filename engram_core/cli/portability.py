"""Portability: the commands that export, import and back up. They ask the facade and draw what it says."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram_core.cli.command import Place, Result, command

if TYPE_CHECKING:
    from engram_core.cli.paper import Paper

View = dict[str, Any]
_File = Annotated[Path, typer.Argument(metavar="FILE", help="The file.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for function, name in ((export, "export"), (import_, "import"), (backup, "backup")):
        command(app, name)(function)


def export(
    place: Place,
    file: _File,
    scope: Annotated[
        str | None, typer.Option("--scope", metavar="SCOPE", help="A scope and all below it; default the whole store.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="NAME", help="Only what is about somebody.")
    ] = None,
) -> Result:
    """Write everything about a scope or a subject into a file: JSON Lines, or with the ending .html a page."""
    from engram_core.cli.progress import stages  # noqa: PLC0415

    with place.open() as engram, stages() as move:
        found = engram.export(file, scope=scope, subject=subject, principal=place.principal, progress=move)
    view = {
        "store": place.shown,
        "file": found.path,
        "digest": found.digest,
        "counts": found.counts,
        "scopes": list(found.scopes),
    }
    return Result(view, partial(_draw_counts, view=view, line=f"{found.path}: digest {found.digest}"))


def import_(
    place: Place,
    file: _File,
    source: Annotated[
        str, typer.Option("--from", metavar="SOURCE", help="engram, mem0, or langmem for a LangGraph store's items.")
    ] = "engram",
    scope: Annotated[
        str | None, typer.Option("--scope", metavar="SCOPE", help="Where it may reach; with --from, below which scope.")
    ] = None,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Take trust, pins, history and recalls as they are in the file.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file, count, and store nothing.")] = False,
) -> Result:
    """Take in an export, or a dump of another memory."""
    from engram_core.cli.progress import stages  # noqa: PLC0415

    with place.open() if dry_run else place.made() as engram, stages() as move:
        found = engram.import_(
            file,
            source=source,
            scope=scope,
            trusted=trusted,
            principal=place.principal,
            dry_run=dry_run,
            progress=move,
        )
    view = {"store": place.shown, "file": str(file), **found.to_dict()}
    verb = "would come in" if dry_run else "came in"
    line = f"{len(found.facts)} facts {verb}, {found.known} were here already, {found.erased} were erased and stay out."
    return Result(view, partial(_draw_counts, view=view, line=line))


def backup(place: Place, file: _File) -> Result:
    """Write a consistent copy of the store into one file, with a manifest; programs may go on using the store."""
    from engram_core.cli.progress import stages  # noqa: PLC0415

    with place.owned("backs up a store") as engram, stages() as move:
        manifest = engram.backup(file, progress=move)
    view = {"store": place.shown, "file": str(file), **manifest}
    line = f"{file}: {sum(manifest['rows'].values()):,} rows, digest {manifest['digest']}"
    return Result(view, lambda paper: paper.line(line))


def restored(place: Place, id_: str | None, file: Path | None, *, replace: bool, tombstones: Path | None) -> Result:
    """What `engram restore --backup` does."""
    from engram_core.cli.progress import stages  # noqa: PLC0415
    from engram_core.domain.errors import InvalidInput  # noqa: PLC0415
    from engram_core.engram import Engram  # noqa: PLC0415

    if file is None or id_ is not None:
        raise InvalidInput("Say what to restore: the ID of an archived fact, or --backup FILE; one of the two.")
    place.check_owner("restores a store")
    with stages() as move:
        view = Engram.restore_backup(file, place.url, replace=replace, tombstones=tombstones, progress=move)
    return Result({**view, "url": place.shown}, partial(_draw_restored, view=view, url=place.shown))


_SPELLED = {
    "grants_revoked": "grants revoked since stay revoked",
    "grants_kept": "grants made since stay in force",
    "members_changed": "memberships of groups are as they were left",
    "private_changed": "scopes are private, or open, as they were left",
    "holds_kept": "legal holds placed since stay in force",
    "holds_released": "legal holds released since stay released",
}
_AS_OF_BACKUP = {
    "nothing": "No store stood there",
    "unreadable": "The store that stood there could not be read",
    "another": "The store that stood there was another one",
}


def _draw_restored(paper: Paper, view: View, url: str) -> None:
    paper.line(f"{url} is as of {view['manifest']['at']}.")
    paper.line(f"{view['erased_again']} facts erased since then were erased in it.")
    for name, count in view["kept"].items():
        if count:
            paper.line(f"{count} {_SPELLED[name]}.")
    if view["replaced"] in _AS_OF_BACKUP:
        paper.remark(
            f"{_AS_OF_BACKUP[view['replaced']]}: grants, groups, private scopes and legal holds are as of the backup. "
            "What was revoked since is in force again: look through `engram grants` and `engram holds`."
        )


def _draw_counts(paper: Paper, view: View, line: str) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    rows = [{"kind": name, "records": count} for name, count in view["counts"].items()]
    paper.table((Column("kind", style="bold"), Column("records", is_right=True)), rows)
    paper.remark(line)
