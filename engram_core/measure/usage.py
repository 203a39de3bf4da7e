"""Usage: what was stored, what was recalled and what helped, folded from counts. Pure; it changes no memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from engram_core.domain.scope import Scope
from engram_core.measure.usefulness import posterior
from engram_core.ports import FactUsage, StoredCount, UsageRow

VERDICTS = ("used", "unused", "unknown")


@dataclass(frozen=True, slots=True)
class Group:
    """The usage of a scope's facts of one kind.

    Attributes:
        stored: Facts that can be recalled now.
        recalled: How many of them a recall has shown.
        used: How many of them a response has used.
        never_recalled: `stored - recalled`.
        never_used: Shown, judged at least once, and never used.
    """

    scope: Scope
    kind: str
    stored: int
    recalled: int
    used: int
    never_recalled: int
    never_used: int


def groups(stored: Iterable[StoredCount], rows: Iterable[FactUsage]) -> list[Group]:
    """One group per scope and kind, by path and kind.

    Args:
        stored: How many recallable facts each scope and kind has.
        rows: The recallable facts that were ever shown.
    """
    by: dict[tuple[Scope, str], list[FactUsage]] = {}
    for row in rows:
        by.setdefault((row.scope, row.kind), []).append(row)
    return [
        Group(
            scope=item.scope,
            kind=item.kind,
            stored=item.facts,
            recalled=len(found),
            used=sum(row.times_used > 0 for row in found),
            never_recalled=item.facts - len(found),
            never_used=sum(is_never_used(row) for row in found),
        )
        for item in sorted(stored)
        for found in [by.get((item.scope, item.kind), [])]
    ]


def is_never_used(row: FactUsage) -> bool:
    """Whether a fact was judged and never used; one that was shown without a verdict is not."""
    return row.judged > 0 and not row.times_used


def most_useful(rows: Iterable[FactUsage], limit: int) -> list[FactUsage]:
    """The facts that responses used, most useful first: by posterior, then by uses."""
    used = [row for row in rows if row.times_used]
    used.sort(key=lambda row: (-posterior(row.recalled, row.used), -row.times_used, row.fact_id))
    return used[:limit]


def least_useful(rows: Iterable[FactUsage], limit: int) -> list[FactUsage]:
    """The facts that were judged and never used, most often judged first."""
    idle = [row for row in rows if is_never_used(row)]
    idle.sort(key=lambda row: (-row.judged, -row.shown, row.fact_id))
    return idle[:limit]


@dataclass(frozen=True, slots=True)
class Week:
    """Verdicts on shown facts in the seven days from `start` (a Monday, UTC)."""

    start: datetime
    used: int
    unused: int
    unknown: int


def weeks(rows: Sequence[UsageRow]) -> list[Week]:
    """Verdicts by week, oldest first, empty weeks included. A recall counts once, with its last known verdicts."""
    final: dict[str, tuple[datetime, dict[str, str]]] = {}
    for row in rows:
        verdicts = final_verdicts([row])
        if row.recall_id not in final or any(verdict != "unknown" for verdict in verdicts.values()):
            final[row.recall_id] = (row.at, verdicts)
    counts: dict[datetime, Counter[str]] = {}
    for at, verdicts in final.values():
        counts.setdefault(_monday(at), Counter()).update(verdicts.values())
    if not counts:
        return []
    week, last, found = min(counts), max(counts), []
    while week <= last:
        found.append(Week(week, **{name: counts.get(week, Counter())[name] for name in VERDICTS}))
        week += timedelta(days=7)
    return found


def final_verdicts(rows: Iterable[UsageRow]) -> dict[str, str]:
    """The last verdict on each fact of one recall; "unknown" takes none back."""
    verdicts: dict[str, str] = {}
    for verdict in (verdict for row in rows for verdict in row.verdicts):
        if verdict["verdict"] != "unknown" or verdict["id"] not in verdicts:
            verdicts[verdict["id"]] = verdict["verdict"]
    return verdicts


def _monday(at: datetime) -> datetime:
    return (at - timedelta(days=at.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)


def row_dict(row: FactUsage, text: str) -> dict[str, Any]:
    """A fact's usage as JSON-able values."""
    return {
        "id": row.fact_id,
        "scope": row.scope.path,
        "kind": row.kind,
        "text": text,
        "shown": row.shown,
        "judged": row.judged,
        "used": row.times_used,
        "usefulness": round(posterior(row.recalled, row.used), 4),
    }
