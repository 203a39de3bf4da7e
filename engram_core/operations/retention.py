"""Retention: what the policy's clocks take away at night: archived facts for good, and old questions and answers.

Both are off unless the policy says so. It erases nothing that is held, and nothing that something in recall rests on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from engram_core.domain.fact import Fact, Status
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.scope import Scope
from engram_core.operations import erase, holding
from engram_core.operations.context import Context

_PAGE: Final = 1_000
_PER_ERASURE: Final = 500
"""Facts of one night's erasure in one scope; the next night takes the rest."""


@dataclass(frozen=True, slots=True)
class Retained:
    """What the clocks took, or would take.

    Attributes:
        erased: Ids of facts archived for longer than `retain_archived_days`.
        recalls: Recalls whose question and answers were blanked.
        kept: Due facts that stay, by why: `held`, or `needed` by something in recall.
    """

    erased: tuple[str, ...] = ()
    recalls: int = 0
    kept: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"erased": list(self.erased), "recalls": self.recalls, "kept": dict(self.kept)}


def run(context: Context, scope: Scope, principal: str, now: datetime, *, dry_run: bool) -> Retained:
    """Let the clocks of one scope run; see `MemoryPolicy.erase_archived` and `retain_recalls_days`."""
    policy = context.ledger.policy(scope).policy
    ids, kept = _due(context, scope, policy, now) if policy.erase_archived else ((), ())
    blanked = 0
    if ids and not dry_run:
        why = f"Archived for more than {policy.retain_archived_days:g} days; the policy erases it."
        erase.erase(context, erase.Wanted(ids, "retention"), principal, now, reason=why)
    if policy.retain_recalls_days and not dry_run and not _is_held(context, scope):
        before = now - timedelta(days=policy.retain_recalls_days)
        blanked = context.ledger.erasures.blank_before(scope, before)
    return Retained(ids, blanked, kept)


def _is_held(context: Context, scope: Scope) -> bool:
    return holding.covering(context, [], [scope]) is not None


def _due(
    context: Context, scope: Scope, policy: MemoryPolicy, now: datetime
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    last = now - timedelta(days=policy.retain_archived_days)
    found: list[str] = []
    kept: list[tuple[str, str]] = []
    after: str | None = None
    while len(found) < _PER_ERASURE:
        page = context.ledger.listing(scope, statuses=(Status.ARCHIVED,), limit=_PAGE, after=after)
        if not page:
            break
        after = page[-1].id
        for fact in page:
            if fact.archived_at is None or fact.archived_at >= last or len(found) == _PER_ERASURE:
                continue
            why = _reason_to_stay(context, fact)
            if why is None:
                found.append(fact.id)
            else:
                kept.append((fact.id, why))
    return tuple(found), tuple(kept[:50])


def _reason_to_stay(context: Context, fact: Fact) -> str | None:
    taken = erase.taken(context, [fact.id])
    if any(item.is_recallable for item in taken):
        return "needed"
    return "held" if holding.covering(context, taken) is not None else None
