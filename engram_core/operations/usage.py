"""Usage: reports what was stored, recalled and used. It reads and folds; it changes no memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from engram_core.domain.audit import NO_GRANT, AuditEntry
from engram_core.domain.errors import InvalidInput
from engram_core.domain.scope import Scope
from engram_core.floor.access import OWNER
from engram_core.measure import usage
from engram_core.operations import warden
from engram_core.operations.context import Context
from engram_core.ports import FactUsage, UsageRow

MAX_TOP = 1_000
MAX_DAYS = 36_500
_EVERY = 1_000_000


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What became of the facts that can be recalled now.

    Attributes:
        scope: Path of the scope that was asked for; None for the whole store.
        at: When it was made.
        groups: By scope and kind, in facts: `stored`, `recalled`, `used`, `never_recalled` and `never_used` (judged,
            and in no response).
        most_useful, never_used, never_recalled: The leading facts of each sort, with text.
        weeks: Verdicts on shown facts by week (`start` is a Monday): `used`, `unused`, `unknown`.
    """

    scope: str | None
    at: datetime
    groups: tuple[Mapping[str, Any], ...]
    most_useful: tuple[Mapping[str, Any], ...]
    never_used: tuple[Mapping[str, Any], ...]
    never_recalled: tuple[Mapping[str, Any], ...]
    weeks: tuple[Mapping[str, Any], ...]

    @property
    def totals(self) -> dict[str, int]:
        """The sums over all groups."""
        names = ("stored", "recalled", "used", "never_recalled", "never_used")
        return {name: sum(group[name] for group in self.groups) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "at": self.at.isoformat(), "totals": self.totals}


def report(
    context: Context,
    scope: Scope | None,
    principal: str,
    *,
    below: bool,
    top: int,
    days: float,
    now: datetime,
) -> UsageReport:
    """The usage of a scope, of it and all below it, or of the whole store; see `Engram.usage`.

    Raises:
        InvalidInput: `top` or `days` is out of range.
    """
    if not isinstance(top, int) or not 0 <= top <= MAX_TOP:
        raise InvalidInput(f"top must be a whole number from 0 to {MAX_TOP}, not {top!r}.")
    if not isinstance(days, int | float) or not 0 <= days <= MAX_DAYS:
        raise InvalidInput(f"days must be a number from 0 to {MAX_DAYS}, not {days!r}.")
    if not below and scope is not None:
        warden.require(context, principal, "read", scope, now, "usage")
    ledger = context.ledger
    access = context.rules.current()

    def may_read(where: Scope) -> bool:
        return access.allowance(principal, "read", where, now) is not None

    # Most of the time everything that is asked for may be read, and then nothing has to be sorted out.
    is_open = principal == context.owner and not access.rules.private
    rows = [row for row in ledger.fact_usages(scope, below=below) if is_open or may_read(row.scope)]
    useful, idle = usage.most_useful(rows, top), usage.least_useful(rows, top)
    # What may not be read must take no place from what may.
    unseen = ledger.never_recalled(scope, top if is_open or not below else _EVERY, below=below) if top else []
    asked = ledger.facts([*(row.fact_id for row in (*useful, *idle)), *unseen])
    facts = {fact.id: fact for fact in asked if is_open or may_read(fact.scope)}
    unseen = [id_ for id_ in unseen if id_ in facts][:top]

    def told(found: Sequence[FactUsage]) -> tuple[Mapping[str, Any], ...]:
        return tuple(usage.row_dict(row, facts[row.fact_id].display) for row in found if row.fact_id in facts)

    verdicts = ledger.usage_since(scope, now - timedelta(days=days), below=below)
    shown = dict.fromkeys([*(row.fact_id for row in (*useful, *idle)), *unseen])
    by = access.allowance(principal, "read", scope, now) if scope is not None else None
    allowed_by = by.by if by is not None else OWNER if principal == context.owner else NO_GRANT
    context.audit.note(AuditEntry(now, principal, "read", "usage", scope, by=allowed_by, fact_ids=tuple(shown)))
    return UsageReport(
        scope=scope.path if scope is not None else None,
        at=now,
        groups=tuple(
            asdict(group) | {"scope": group.scope.path}
            for group in usage.groups(
                [count for count in ledger.stored_counts(scope, below=below) if is_open or may_read(count.scope)], rows
            )
        ),
        most_useful=told(useful),
        never_used=told(idle),
        never_recalled=tuple(
            usage.row_dict(FactUsage(id_, facts[id_].scope, facts[id_].kind, 0, 0, 0, 0.0, 0.0), facts[id_].display)
            for id_ in unseen
            if id_ in facts
        ),
        weeks=tuple(
            asdict(week) | {"start": week.start.date().isoformat()}
            for week in usage.weeks(verdicts if is_open else _about(context, verdicts, may_read))
        ),
    )


def _about(context: Context, rows: Sequence[UsageRow], may_read: Callable[[Scope], bool]) -> list[UsageRow]:
    """The verdicts on facts that may be read."""
    ids = list(dict.fromkeys(verdict["id"] for row in rows for verdict in row.verdicts))
    known = {fact.id for fact in context.ledger.facts(ids) if may_read(fact.scope)}
    return [replace(row, verdicts=[verdict for verdict in row.verdicts if verdict["id"] in known]) for row in rows]
