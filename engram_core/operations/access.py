"""Access as verbs: grant and revoke, groups, private scopes, and who can do what and why. `floor.access` decides."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from engram_core.domain.access import AccessExplanation, Grant, Verb, grantee_named, group_named, is_group, verbs_of
from engram_core.domain.audit import AuditDecision, AuditEntry
from engram_core.domain.errors import AccessDenied, InvalidInput
from engram_core.domain.message import aware
from engram_core.domain.scope import Scope
from engram_core.operations import warden
from engram_core.operations.context import Context

MAX_REASON: Final = 500
MAX_MINUTES: Final = 24 * 60
_STORE: Final = "the store"


def grant(
    context: Context,
    grantee: str,
    verb_or_preset: str,
    scope: Scope,
    *,
    deep: bool,
    expires: datetime | None,
    max_trust: float | None,
    reason: str | None,
    giver: str,
    now: datetime,
) -> list[Grant]:
    """Allow something; see `Engram.grant`."""
    if grantee != context.owner:
        grantee = grantee_named(grantee)
    if expires is not None and aware(expires) <= now:
        raise InvalidInput(f"The grant would have expired already, at {expires}.")
    ceiling = 1.0 if max_trust is None else max_trust
    ends = aware(expires) if expires is not None else None
    why = _reason(reason)
    wanted = [Grant(grantee, verb, scope, giver, now, deep, ends, ceiling, why) for verb in verbs_of(verb_or_preset)]
    allowed = warden.require(context, giver, "admin", scope, now, "grant")
    access = context.rules.current()
    for one in wanted:
        refusal = access.refusal(giver, one, now)
        if refusal is not None:
            context.audit.note(AuditEntry(now, giver, "admin", "grant", scope, "denied", about=_about(one)))
            raise AccessDenied(giver, "admin", scope.path, f"it cannot give {one.verb}: {refusal}")
    about = f"{grantee} {', '.join(one.verb for one in wanted)}"
    return context.ledger.access.grant(wanted, _entry(now, giver, "grant", scope, allowed.by, about))


def revoke(
    context: Context, grantee: str, verb_or_preset: str | None, scope: Scope | None, *, giver: str, now: datetime
) -> list[Grant]:
    """Take grants back; see `Engram.revoke`."""
    verbs = verbs_of(verb_or_preset) if verb_or_preset is not None else None
    found = [
        one
        for one in context.rules.current().rules.grants
        if one.grantee == grantee and (verbs is None or one.verb in verbs) and (scope is None or one.scope == scope)
    ]
    if not found and scope is not None:
        warden.require(context, giver, "admin", scope, now, "revoke")
    for where in dict.fromkeys(one.scope for one in found):
        warden.require(context, giver, "admin", where, now, "revoke")
    for where in dict.fromkeys(one.scope for one in found):
        here = [one for one in found if one.scope == where]
        allowed = warden.require(context, giver, "admin", where, now, "revoke")
        about = f"{grantee} {', '.join(dict.fromkeys(one.verb for one in here))}"
        context.ledger.access.revoke([one.id for one in here], _entry(now, giver, "revoke", where, allowed.by, about))
    return found


def grants(context: Context, grantee: str | None, scope: Scope | None) -> list[Grant]:
    """Grants in force or expired; see `Engram.grants`."""
    return [
        one
        for one in context.rules.current().rules.grants
        if grantee in (None, one.grantee) and (scope is None or scope.contains(one.scope))
    ]


def set_member(context: Context, group: str, principal: str, is_member: bool, *, giver: str, now: datetime) -> bool:
    """Put a principal into a group or take it out; see `Engram.group_add`. No group is in another."""
    group = group_named(group)
    if isinstance(principal, str) and is_group(principal):
        raise InvalidInput("A group has principals for members, never another group.")
    if principal != context.owner:
        principal = grantee_named(principal)
    operation = "group_add" if is_member else "group_remove"
    by = _owners_only(context, giver, operation, now)
    entry = _entry(now, giver, operation, None, by, f"{group} {principal}")
    return context.ledger.access.set_member(group, principal, is_member, entry)


def set_private(context: Context, scope: Scope, is_private: bool, *, giver: str, now: datetime) -> bool:
    """Let a scope stop what was granted above it, or no longer; see `Engram.set_private`."""
    allowed = warden.require(context, giver, "admin", scope, now, "set_private")
    about = "private" if is_private else "open"
    entry = _entry(now, giver, "set_private", scope, allowed.by, about)
    return context.ledger.access.set_private(scope, is_private, entry)


def break_glass(context: Context, scope: Scope, *, reason: str, minutes: float, now: datetime) -> Grant:
    """Let the owner read at and below a private scope for a while; see `Engram.break_glass`."""
    why = _reason(reason)
    if not why:
        raise InvalidInput("break_glass() needs a reason: it is what whoever reads the audit will ask for.")
    if not isinstance(minutes, int | float) or not 0 < minutes <= MAX_MINUTES:
        raise InvalidInput(f"minutes must be a number above 0 and at most {MAX_MINUTES}, not {minutes!r}.")
    ends = now + timedelta(minutes=minutes)
    wanted = Grant(context.owner, "read", scope, context.owner, now, True, ends, 1.0, why)
    entry = _entry(now, context.owner, "break_glass", scope, "owner", _about(wanted), "alarm")
    return context.ledger.access.grant([wanted], entry)[0]


def who_can(context: Context, verb: Verb, scope: Scope, now: datetime) -> dict[str, str]:
    """Principals that may do something, and by what; see `Engram.who_can`."""
    return {name: found.by for name, found in context.rules.current().who_can(verb, scope, now).items()}


def why(context: Context, principal: str, verb: Verb, scope: Scope, now: datetime) -> AccessExplanation:
    """Why somebody may do something, or may not; see `Engram.why`."""
    return context.rules.current().why(principal, verb, scope, now)


def _owners_only(context: Context, giver: str, operation: str, now: datetime) -> str:
    if giver != context.owner:
        context.audit.note(AuditEntry(now, giver, "admin", operation, None, "denied"))
        raise AccessDenied(giver, "admin", _STORE, "only the store's owner changes groups, which count in every scope")
    return "owner"


def _entry(
    now: datetime,
    giver: str,
    operation: str,
    scope: Scope | None,
    by: str,
    about: str,
    decision: AuditDecision = "allowed",
) -> AuditEntry:
    return AuditEntry(now, giver, "admin", operation, scope, decision, by, about=about)


def _about(one: Grant) -> str:
    return f"{one.grantee} {one.verb}"


def _reason(reason: str | None) -> str | None:
    if reason is not None and (not isinstance(reason, str) or len(reason) > MAX_REASON):
        raise InvalidInput(f"A reason is text of at most {MAX_REASON} characters.")
    return reason.strip() or None if reason is not None else None
