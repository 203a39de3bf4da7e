"""Quarantine: the commands of `engram quarantine`: what waits, and letting it in or turning it away."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from engram_core.cli.command import Place, Result, command

quarantine = typer.Typer(
    name="quarantine",
    help="See what waits in quarantine, release it, reject it, or vouch for a fact.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

FactId = Annotated[str, typer.Argument(metavar="ID", help="A fact's id.")]
Why = Annotated[str | None, typer.Option("--reason", help="Why, for the fact's history.")]


@command(quarantine, "list")
def list_(
    place: Place,
    scope: Annotated[
        str | None, typer.Argument(metavar="SCOPE", help="A scope and all below it; without one, the whole store.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Facts at most, 1 to 10000.")] = 100,
    after: Annotated[str | None, typer.Option("--after", metavar="ID", help="Continue after this fact.")] = None,
) -> Result:
    """List the facts that wait in quarantine, oldest first."""
    from engram_core.cli import render, views  # noqa: PLC0415

    with place.open() if scope is not None else place.owned("lists what waits in every scope") as engram:
        if scope is None or place.is_owner(engram):
            found = engram.quarantined(scope, limit=limit, after=after)
        else:
            memory = engram.memory(scope, principal=place.principal)
            found = memory.list(status="quarantined", limit=limit, after=after)
    view = views.listed(scope or "every scope", found, limit)
    return Result(view, partial(render.listed, view=view))


@command(quarantine)
def release(place: Place, id_: FactId, reason: Why = None) -> Result:
    """Let a fact into recall; its trust stays what its origin gave it."""
    return _done(place, id_, "Released", lambda memory: memory.release(id_, reason=reason))


@command(quarantine)
def reject(place: Place, id_: FactId, reason: Why = None) -> Result:
    """Turn a fact away; `restore` brings it back into quarantine only."""
    return _done(place, id_, "Rejected", lambda memory: memory.reject(id_, reason=reason))


@command(quarantine)
def vouch(place: Place, id_: FactId, reason: Why = None) -> Result:
    """Trust a released fact as a person's own word; --principal must be a person."""
    return _done(place, id_, "Vouched for", lambda memory: memory.vouch(id_, reason=reason))


def _done(place: Place, id_: str, verb: str, change: Any) -> Result:
    from engram_core.cli import render, views  # noqa: PLC0415
    from engram_core.cli.app import memory_of  # noqa: PLC0415

    with memory_of(place, id_) as memory:
        view = views.changed(change(memory))
    return Result(view, partial(render.changed, view=view, verb=verb))
