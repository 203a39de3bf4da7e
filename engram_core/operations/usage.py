"""Usage: reports what was stored, recalled and used. It reads and folds; it changes no memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from engram_core.domain.errors import InvalidInput
from engram_core.domain.scope import Scope
from engram_core.measure import usage
from engram_core.operations.context import Context
from engram_core.ports import FactUsage

MAX_TOP = 1_000
MAX_DAYS = 36_500


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


def report(context: Context, scope: Scope | None, *, below: bool, top: int, days: float, now: datetime) -> UsageReport:
    """The usage of a scope, of it and all below it, or of the whole store; see `Engram.usage`.

    Raises:
        InvalidInput: `top` or `days` is out of range.
    """
    if not isinstance(top, int) or not 0 <= top <= MAX_TOP:
        raise InvalidInput(f"top must be a whole number from 0 to {MAX_TOP}, not {top!r}.")
    if not isinstance(days, int | float) or not 0 <= days <= MAX_DAYS:
        raise InvalidInput(f"days must be a number from 0 to {MAX_DAYS}, not {days!r}.")
    ledger = context.ledger
    rows = ledger.fact_usages(scope, below=below)
    useful, idle = usage.most_useful(rows, top), usage.least_useful(rows, top)
    unseen = ledger.never_recalled(scope, top, below=below) if top else []
    facts = {fact.id: fact for fact in ledger.facts([*(row.fact_id for row in (*useful, *idle)), *unseen])}

    def told(found: Sequence[FactUsage]) -> tuple[Mapping[str, Any], ...]:
        return tuple(usage.row_dict(row, facts[row.fact_id].display) for row in found if row.fact_id in facts)

    return UsageReport(
        scope=scope.path if scope is not None else None,
        at=now,
        groups=tuple(
            asdict(group) | {"scope": group.scope.path}
            for group in usage.groups(ledger.stored_counts(scope, below=below), rows)
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
            for week in usage.weeks(ledger.usage_since(scope, now - timedelta(days=days), below=below))
        ),
    )
