"""Access: the commands about who may do what: granting, groups, private scopes, sharing, and the audit of all of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram_core.cli.command import FINE, PROBLEMS, Place, Result, command

if TYPE_CHECKING:
    from engram_core.cli.paper import Paper
    from engram_core.domain.access import Grant
    from engram_core.domain.audit import AuditHead

View = dict[str, Any]
_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]

Who = Annotated[str, typer.Argument(metavar="WHO", help="user:…, agent:… or service:…; or group:… for its members.")]
One = Annotated[str, typer.Argument(metavar="PRINCIPAL", help="user:…, agent:… or service:….")]
ScopeArgument = Annotated[str, typer.Argument(metavar="SCOPE", help="A path such as acme/support/alice.")]
Verb = Annotated[str, typer.Argument(metavar="VERB", help="read, write, curate or admin.")]
Group = Annotated[str, typer.Argument(metavar="GROUP", help="A name such as group:support.")]

groups = typer.Typer(
    name="group",
    help="See and change who is a member of a group.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.add_typer(groups)
    for name, function in _COMMANDS.items():
        command(app, name)(function)


def grant(
    place: Place,
    who: Who,
    what: Annotated[
        str,
        typer.Argument(metavar="WHAT", help="A verb, or reader, contributor, curator, owner, drop-box."),
    ],
    scope: ScopeArgument,
    shallow: Annotated[bool, typer.Option("--shallow", help="In this very scope only, not below it.")] = False,
    expires: Annotated[
        datetime | None, typer.Option("--expires", metavar="DATE", help="Until then, UTC.", formats=_DATES)
    ] = None,
    hours: Annotated[float | None, typer.Option("--hours", help="For so many hours from now.")] = None,
    max_trust: Annotated[
        float | None, typer.Option("--max-trust", help="The most trust of what is written by it, 0 to 1.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; kept with the grant.")] = None,
) -> Result:
    """Allow a principal or group something in a scope; it counts in every process at once."""
    from engram_core.domain.errors import InvalidInput  # noqa: PLC0415

    if expires is not None and hours is not None:
        raise InvalidInput("Say --expires or --hours, not both.")
    with place.made() as engram:
        ends = engram.context.clock() + timedelta(hours=hours) if hours is not None else expires
        made = engram.grant(
            who, what, scope,
            deep=not shallow, expires=ends, max_trust=max_trust, reason=reason, by=place.principal,
        )  # fmt: skip
    view = {"grants": [one.to_dict() for one in made]}
    return Result(view, partial(_grants, grants=made, remark=f"{len(made)} granted."))


def revoke(
    place: Place,
    who: Who,
    what: Annotated[
        str | None, typer.Argument(metavar="WHAT", help="Only this verb or preset; without one, everything.")
    ] = None,
    scope: Annotated[
        str | None, typer.Argument(metavar="SCOPE", help="Only grants of this very scope; without one, of all.")
    ] = None,
) -> Result:
    """Take back grants made to exactly this principal or group; it counts in every process at once."""
    with place.open() as engram:
        gone = engram.revoke(who, what, scope, by=place.principal)
    view = {"revoked": [one.to_dict() for one in gone]}
    return Result(view, partial(_grants, grants=gone, remark=f"{len(gone)} revoked."))


def grants(
    place: Place,
    scope: Annotated[
        str | None, typer.Argument(metavar="SCOPE", help="Grants made in it or below; without one, all.")
    ] = None,
    who: Annotated[str | None, typer.Option("--to", metavar="WHO", help="Only those made to this one.")] = None,
) -> Result:
    """List the store's grants and private scopes."""
    with place.owned("lists grants") as engram:
        found = engram.grants(scope, principal=who)
        private = engram.private_scopes()
    view = {"grants": [one.to_dict() for one in found], "private": private}
    remark = f"{len(found)} grants. Private scopes: {', '.join(private) or 'none'}."
    return Result(view, partial(_grants, grants=found, remark=remark))


@command(groups)
def add(place: Place, group: Group, who: One) -> Result:
    """Put a principal into a group."""
    return _membership(place, group, who, is_member=True)


@command(groups)
def remove(place: Place, group: Group, who: One) -> Result:
    """Take a principal out of a group."""
    return _membership(place, group, who, is_member=False)


@command(groups, "list")
def list_(place: Place) -> Result:
    """List the groups and their members."""
    with place.owned("lists groups") as engram:
        view = {"groups": engram.groups()}
    rows = [{"group": group, "members": ", ".join(members)} for group, members in view["groups"].items()]

    def draw(paper: Paper) -> None:
        from engram_core.cli.paper import Column  # noqa: PLC0415

        paper.table((Column("group", style="bold"), Column("members", is_wide=True)), rows)

    return Result(view, draw)


def _membership(place: Place, group: str, principal: str, *, is_member: bool) -> Result:
    with place.open() as engram:
        change = engram.group_add if is_member else engram.group_remove
        changed = change(group, principal, by=place.principal)
        members = engram.groups().get(group, [])
    view = {"group": group, "members": members, "changed": changed}
    line = f"{group}: {', '.join(members) or 'nobody'}"
    return Result(view, lambda paper: paper.line(line))


def private(
    place: Place,
    scope: ScopeArgument,
    off: Annotated[bool, typer.Option("--off", help="Let it stop grants no longer.")] = False,
) -> Result:
    """Let a scope stop every grant made above it; the owner reads there no longer, either."""
    with place.made() as engram:
        changed = engram.set_private(scope, not off, by=place.principal)
    view = {"scope": scope, "private": not off, "changed": changed}
    state = "is open again" if off else "is private: only grants made at or below it count there"
    return Result(view, lambda paper: paper.line(f"{scope} {state}."))


def break_glass(
    place: Place,
    scope: ScopeArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept with the grant this makes.")],
    minutes: Annotated[float, typer.Option("--minutes", help="How long, at most a day.")] = 60.0,
) -> Result:
    """Let the owner read in a private scope for a while; the audit notes it as an alarm."""
    with place.owned("breaks the glass") as engram:
        made = engram.break_glass(scope, reason=reason, minutes=minutes)
    return Result({"grants": [made.to_dict()]}, lambda paper: paper.line(str(made)))


def who_can(place: Place, verb: Verb, scope: ScopeArgument) -> Result:
    """List every principal that may do something in a scope, and by what."""
    with place.owned("asks who can do what") as engram:
        found = engram.who_can(verb, scope)
    view = {"verb": verb, "scope": scope, "principals": found}
    rows = [{"principal": name, "by": by} for name, by in found.items()]

    def draw(paper: Paper) -> None:
        from engram_core.cli.paper import Column  # noqa: PLC0415

        paper.table((Column("principal", style="bold"), Column("by", is_wide=True)), rows)

    return Result(view, draw)


def why(place: Place, who: One, verb: Verb, scope: ScopeArgument) -> Result:
    """Say whether a principal may do something, and by which grants; or what is missing. Exit code 1: it may not."""
    with place.owned("asks why somebody may") as engram:
        found = engram.why(who, verb, scope)
    return Result(found.to_dict(), lambda paper: paper.line(str(found)), FINE if found else PROBLEMS)


def share(
    place: Place,
    id_: Annotated[str, typer.Argument(metavar="ID", help="A fact's id.")],
    to: Annotated[str, typer.Argument(metavar="TO", help="The scope to copy it into.")],
    reason: Annotated[str | None, typer.Option("--reason", help="Why, for the copy's history.")] = None,
) -> Result:
    """Copy a fact into another scope, linked to its source; it takes read there and curate here."""
    from engram_core.cli import render, views  # noqa: PLC0415
    from engram_core.cli.app import memory_of  # noqa: PLC0415

    with memory_of(place, id_) as memory:
        view = views.changed(memory.share(id_, to=to, reason=reason))
    return Result(view, partial(render.changed, view=view, verb="Shared"))


def audit(
    place: Place,
    scope: Annotated[str | None, typer.Option("--scope", help="Only in it and below.")] = None,
    who: Annotated[str | None, typer.Option("--who", metavar="PRINCIPAL", help="Only of this principal.")] = None,
    verb: Annotated[str | None, typer.Option("--verb", help="Only read, write, curate or admin.")] = None,
    decision: Annotated[str | None, typer.Option("--decision", help="Only allowed, denied or alarm.")] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", metavar="DATE", help="From then on, UTC.", formats=_DATES)
    ] = None,
    before: Annotated[int | None, typer.Option("--before", help="Only entries with smaller numbers.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Entries at most, 1 to 10000.")] = 50,
) -> Result:
    """List what was done and refused, newest first: who, what, where, on which facts, by which grant."""
    with place.owned("reads the audit") as engram:
        rows = engram.audit(scope, principal=who, verb=verb, decision=decision, since=since, before=before, limit=limit)
        view = {"head": str(engram.audit_head()), "entries": [row.to_dict() for row in rows]}
    return Result(view, partial(_audit, view=view))


def verify(
    place: Place,
    expect: Annotated[
        str | None, typer.Option("--expect", metavar="HEAD", help="A head printed earlier, kept outside the store.")
    ] = None,
) -> Result:
    """Check the audit's chain, and the ledger's rows against it. Exit code 1: something is not as it says."""
    from engram_core.cli.progress import bar  # noqa: PLC0415

    wanted = _head(expect) if expect is not None else None
    with place.owned("verifies a store") as engram, bar("Checking") as move:
        found = engram.verify(expect=wanted, progress=move)
    view = {"store": place.shown, **found.to_dict()}
    return Result(view, partial(_verified, view=view), FINE if found.ok else PROBLEMS)


def _head(told: str) -> AuditHead:
    from engram_core.domain.audit import AuditHead  # noqa: PLC0415
    from engram_core.domain.errors import InvalidInput  # noqa: PLC0415

    number, colon, hashed = told.partition(":")
    if not colon or not number.isascii() or not number.isdigit():
        raise InvalidInput(f"A head looks like 12:3f…, as `engram verify` prints it; not {told!r}.")
    return AuditHead(int(number), hashed)


# --- drawing ---------------------------------------------------------------------------------------------------------


def _grants(paper: Paper, grants: list[Grant], remark: str) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    rows = [
        {
            "id": one.id,
            "to": one.grantee,
            "verb": one.verb,
            "scope": one.scope.path + ("" if one.deep else " (only)"),
            "until": one.expires.isoformat()[:16] if one.expires else "",
            "trust": f"≤ {one.max_trust:g}" if one.max_trust < 1.0 else "",
            "by": one.granted_by,
            "reason": one.reason or "",
        }
        for one in grants
    ]
    narrow = (Column("id", is_right=True), Column("to", style="bold"), Column("verb"), Column("scope"))
    paper.table((*narrow, Column("until"), Column("trust"), Column("by"), Column("reason", is_wide=True)), rows)
    paper.remark(remark)


def _audit(paper: Paper, view: View) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    rows = [
        {
            "number": item["number"],
            "at": item["at"][:19],
            "principal": item["principal"],
            "what": f"{item['verb']} {item['operation']}",
            "scope": item["scope"] or "",
            "decision": item["decision"],
            "by": item["by"],
            "facts": item["about"] or ", ".join(item["fact_ids"]),
        }
        for item in view["entries"]
    ]
    first = (Column("number", is_right=True), Column("at"), Column("principal", style="bold"), Column("what"))
    paper.table((*first, Column("scope"), Column("decision"), Column("by"), Column("facts", is_wide=True)), rows)
    paper.remark(f"The chain ends at {view['head']}.")


def _verified(paper: Paper, view: View) -> None:
    counts = ", ".join(f"{count} {table}" for table, count in view["rows"].items() if count)
    paper.line(f"{view['entries']} entries checked, and {counts or 'no rows'} against them.")
    paper.line(f"head {view['head']}")
    for item in view["problems"]:
        paper.line(f"{item['kind']}: {item['line']}", "red")
    paper.line("Everything is as the audit says." if view["ok"] else f"{view['found']} problems.")


_COMMANDS: dict[str, Callable[..., Result]] = {
    "grant": grant,
    "revoke": revoke,
    "grants": grants,
    "private": private,
    "break-glass": break_glass,
    "who-can": who_can,
    "why": why,
    "share": share,
    "audit": audit,
    "verify": verify,
}
