"""Policy: the commands of `engram policy`: what is in force in a scope, how it came about, and setting it anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram_core.cli.command import Place, Result, command

if TYPE_CHECKING:
    from engram_core.domain.policy import MemoryPolicy
    from engram_core.engram import Memory

policies = typer.Typer(
    name="policy",
    help="See, set and compare the policies of scopes.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

View = dict[str, Any]
ScopeArgument = Annotated[str, typer.Argument(metavar="SCOPE", help="A path such as acme/support/alice.")]


@command(policies)
def show(place: Place, scope: ScopeArgument) -> Result:
    """Show the policy in force in a scope, and where it was set."""
    from engram_core.cli import policy_tables  # noqa: PLC0415

    with place.open() as engram:
        memory = engram.memory(scope, principal=place.principal)
        source = memory.policy_source
    view = {
        "scope": scope,
        "source": source.scope.path if source.scope else None,
        "version": source.version,
        "principal": source.principal or None,
        "at": source.at.isoformat() if source.at else None,
        "policy": source.policy.model_dump(mode="json"),
    }
    return Result(view, partial(policy_tables.show, view=view))


@command(policies, "set")
def set_(
    place: Place,
    scope: ScopeArgument,
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="FIELD=VALUE", help="Fields to change, such as max_facts=500 auto_forget=true."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Start from default, coding, research, support.")
    ] = None,
    version: Annotated[
        int | None, typer.Option("--version", help="Start from this earlier version of the scope; 0 is the default.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change and change nothing.")] = False,
) -> Result:
    """Set a new version of a scope's policy; the fields not named stay as they are."""
    from engram_core.cli import policy_tables  # noqa: PLC0415
    from engram_core.domain.errors import InvalidPolicy  # noqa: PLC0415
    from engram_core.operations import policy as policing  # noqa: PLC0415

    fields = parsed(values or [])
    if not fields and preset is None and version is None:
        raise InvalidPolicy(
            "Say what to set: FIELD=VALUE, --preset or --version. `engram policy show` lists the fields."
        )
    with place.open() if dry_run else place.made() as engram:
        memory = engram.memory(scope, principal=place.principal)
        before = memory.policy
        if dry_run:
            after = policing.proposed(engram.context, memory.scope, preset=preset, version=version, fields=fields)
        else:
            after = memory.set_policy(preset, version=version, **fields)
        view = {
            "scope": scope,
            "version": memory.policy_source.version,
            "dry_run": dry_run,
            **_difference(before, after),
        }
    return Result(view, partial(policy_tables.changed, view=view))


@command(policies)
def diff(
    place: Place,
    scope: ScopeArgument,
    against: Annotated[
        str, typer.Argument(metavar="AGAINST", help="A preset, a version of the scope, or another scope.")
    ] = "default",
) -> Result:
    """Show the fields in which the policy in force in a scope differs from another one."""
    from engram_core.cli import policy_tables  # noqa: PLC0415

    with place.open() as engram:
        memory = engram.memory(scope, principal=place.principal)
        named, other = _other(memory, against)
        view = {"scope": scope, "against": against, "before": named, **_difference(other, memory.policy)}
    return Result(view, partial(policy_tables.diff, view=view))


@command(policies)
def history(place: Place, scope: ScopeArgument) -> Result:
    """Show every change of the policy in force in a scope, oldest first: who, when, where, what."""
    from engram_core.cli import policy_tables  # noqa: PLC0415

    with place.open() as engram:
        changes = engram.memory(scope, principal=place.principal).policy_history()
    view = {"scope": scope, "history": [change.to_dict() for change in changes]}
    return Result(view, partial(policy_tables.history, view=view))


@command(policies)
def presets(place: Place) -> Result:
    """Show what each preset changes from the default."""
    from engram_core.cli import policy_tables  # noqa: PLC0415
    from engram_core.domain.policy import PRESETS  # noqa: PLC0415

    default = PRESETS["default"]
    view = {"presets": {name: _difference(default, preset)["changes"] for name, preset in PRESETS.items()}}
    return Result(view, partial(policy_tables.presets, view=view))


# --- parts -----------------------------------------------------------------------------------------------------------


def parsed(values: Sequence[str]) -> dict[str, Any]:
    """FIELD=VALUE pairs; values are JSON, words, or words with commas for a list of kinds."""
    from engram_core.domain.errors import InvalidPolicy  # noqa: PLC0415

    fields: dict[str, Any] = {}
    for value in values:
        name, equals, given = value.partition("=")
        if not equals:
            raise InvalidPolicy(f"{value!r} is not FIELD=VALUE, such as max_facts=500.")
        fields[name] = _value(name, given)
    return fields


def _value(name: str, given: str) -> Any:
    try:
        return json.loads(given)
    except ValueError:
        pass
    if name in {"prioritize_types", "quarantine_channels", "locked"}:
        return [kind.strip() for kind in given.split(",") if kind.strip()]
    return given


def _other(memory: Memory, against: str) -> tuple[str, MemoryPolicy]:
    """What AGAINST was understood as, and that policy."""
    from engram_core.domain.policy import PRESETS  # noqa: PLC0415
    from engram_core.operations import policy as policing  # noqa: PLC0415

    if against in PRESETS:
        return f"the preset {against}", PRESETS[against]
    if against.isdigit():
        context = memory.engram.context
        earlier = policing.proposed(context, memory.scope, preset=None, version=int(against), fields={})
        return f"version {against} of {memory.scope}", earlier
    source = memory.engram.memory(against, principal=memory.principal).policy_source
    where = f"version {source.version} of {source.scope}" if source.scope else "the built-in default"
    return f"in force in the scope {against} ({where})", source.policy


def _difference(before: MemoryPolicy, after: MemoryPolicy) -> View:
    from engram_core.operations.policy import changes_dict  # noqa: PLC0415

    return {"changes": changes_dict(before.diff(after))}
