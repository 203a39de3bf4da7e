"""Warden: where operations ask `floor.access`, and where the audit hears of it. It holds the rules; it makes none.

Every operation passes here before it touches a scope. A refusal names what was refused and how it can be allowed, and
never whether the thing asked for exists.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from engram_core.domain.access import Allowance, Verb
from engram_core.domain.audit import NO_GRANT, AuditDecision, AuditEntry
from engram_core.domain.errors import AccessDenied
from engram_core.domain.fact import Fact
from engram_core.domain.scope import Scope
from engram_core.floor.access import OWNER, Access
from engram_core.operations.context import Context
from engram_core.ports import AccessBook


class Rulebook:
    """The rules in force, read anew whenever their number has moved: a grant counts in every process at once."""

    def __init__(self, book: AccessBook, owner: str) -> None:
        self._book = book
        self._owner = owner
        self._lock = threading.Lock()
        self._held: Access | None = None

    def current(self, number: int | None = None) -> Access:
        """The rules as of now, at the price of reading one number, or as of a number that was just read."""
        number = self._book.number() if number is None else number
        held = self._held
        if held is not None and held.rules.number == number:
            return held
        with self._lock:
            self._held = Access(self._book.rules(), self._owner)
            return self._held


def allowance(context: Context, principal: str, verb: Verb, scope: Scope, now: datetime) -> Allowance | None:
    """What lets a principal do this, or None. Notes nothing."""
    return context.rules.current().allowance(principal, verb, scope, now)


def require(
    context: Context,
    principal: str,
    verb: Verb,
    scope: Scope,
    now: datetime,
    operation: str,
    *,
    access: Access | None = None,
) -> Allowance:
    """What lets a principal do this, by `access` or the rules in force. Raises AccessDenied, and notes the refusal."""
    found = (access or context.rules.current()).allowance(principal, verb, scope, now)
    if found is None:
        raise refused(context, principal, verb, scope, now, operation)
    return found


def admit(
    context: Context, principal: str, verb: Verb, scope: Scope, now: datetime, operation: str, about: str = ""
) -> Allowance:
    """What lets a principal do this, noted: for what is not noted with its own write. Raises AccessDenied."""
    found = require(context, principal, verb, scope, now, operation)
    context.audit.note(AuditEntry(now, principal, verb, operation, scope, by=found.by, about=about))
    return found


def by_owner(context: Context, verb: Verb, operation: str, scope: Scope | None = None, about: str = "") -> None:
    """Note what whoever holds the store did with it as a whole."""
    context.audit.note(AuditEntry(context.clock(), context.owner, verb, operation, scope, by=OWNER, about=about))


@dataclass(frozen=True, slots=True)
class Sight:
    """What one call may look at, compiled once: a principal's readable scopes from where it stands.

    Attributes:
        scopes: Nearest first; never empty.
        by: What allows the nearest of them.
    """

    principal: str
    scope: Scope
    at: datetime
    operation: str
    scopes: tuple[Scope, ...]
    by: str

    def __contains__(self, fact: Fact) -> bool:
        """Whether a row that came back may be shown: the last check before it is."""
        return fact.scope in self.scopes


def sight(
    context: Context, principal: str, scope: Scope, now: datetime, operation: str, *, rules: int | None = None
) -> Sight:
    """What a question asked in `scope` may look into. Raises AccessDenied if that is nothing, and notes the refusal.

    Args:
        context, principal, scope, now, operation: Who asks what, where and when.
        rules: The number of the rules in force, where the call has just read it.
    """
    access = context.rules.current(rules)
    scopes = access.readable(principal, scope, now)
    if not scopes:
        raise refused(context, principal, "read", scope, now, operation)
    found = access.allowance(principal, "read", scopes[0], now)
    return Sight(principal, scope, now, operation, scopes, found.by if found is not None else NO_GRANT)


def seen(context: Context, sight: Sight, fact_ids: Sequence[str]) -> None:
    """Note a read and the facts it showed."""
    context.audit.note(
        AuditEntry(
            sight.at, sight.principal, "read", sight.operation, sight.scope, "allowed", sight.by, tuple(fact_ids)
        )
    )


def checked(context: Context, sight: Sight, facts: Iterable[Fact], *, alarm: bool = True) -> list[Fact]:
    """The facts that may be shown. One that may not should not have come this far: it is dropped, with an alarm.

    Args:
        context: The store.
        sight: What the call may look at.
        facts: What was found.
        alarm: False where the caller named the facts itself: then it is a refusal.
    """
    kept: list[Fact] = []
    strangers: list[Fact] = []
    for fact in facts:
        (kept if fact in sight else strangers).append(fact)
    if strangers:
        decision: AuditDecision = "alarm" if alarm else "denied"
        ids = tuple(fact.id for fact in strangers)
        context.audit.note(
            AuditEntry(sight.at, sight.principal, "read", sight.operation, sight.scope, decision, NO_GRANT, ids)
        )
    return kept


def refused(context: Context, principal: str, verb: Verb, scope: Scope, now: datetime, operation: str) -> AccessDenied:
    """The refusal, noted."""
    context.audit.note(AuditEntry(now, principal, verb, operation, scope, "denied"))
    return AccessDenied(principal, verb, scope.path)
