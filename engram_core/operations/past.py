"""The View of another time: what was true then, or what has been archived since. Exact and slow: it reads every row.

For questions an operator asks, not for every turn: it costs a pass over the ledger's rows of the readable scopes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from engram_core.design import Ask, Candidates
from engram_core.domain.fact import Fact, Status
from engram_core.domain.policy import MemoryPolicy
from engram_core.measure.columns import columns_of
from engram_core.operations.supersede import STALE, is_forgotten
from engram_core.operations.view import Part, ScopedView, counts_of, statistics_of
from engram_core.ports import Indexed, Ledger, ScopeState

_PAGE = 5_000
_HIDDEN = frozenset({Status.QUARANTINED.value, Status.ERASED.value})


@dataclass(frozen=True, slots=True)
class Time:
    """Which facts a recall may show when it asks for another time than now, or for the archive.

    Attributes:
        as_of: Only what had been said by then and held then; None for now.
        include_archived: Archived facts too, as long as the policy retains them.
        now: The time of the call.
    """

    as_of: datetime | None
    include_archived: bool
    now: datetime
    policy: MemoryPolicy

    @property
    def is_now(self) -> bool:
        """Whether this asks for nothing out of the ordinary."""
        return self.as_of is None and not self.include_archived

    @property
    def moment(self) -> datetime:
        """The time that validity and age are judged at."""
        return self.as_of or self.now

    def admits(self, fact: Fact, stands: Fact | None = None) -> bool:
        """Whether `fact` may be shown, as far as its status and the time it was said go.

        Args:
            fact: Any fact.
            stands: The fact that stands for it, of `stand_ins`: what became of that became of its originals.
        """
        if self.as_of is not None and (fact.said_at > self.as_of or fact.is_consolidated):
            return False  # a consolidated fact is of the night that made it; its originals answer for it
        if fact.is_recallable:
            return True
        if fact.status is not Status.ARCHIVED:
            return False
        if self.as_of is not None:
            return self._held(fact, stands, self.as_of) or self._is_retained(stands or fact)
        # Where what stood for it is in the archive as well, that one is shown.
        return (stands is None or stands.is_recallable) and self._is_retained(fact)

    def _held(self, fact: Fact, stands: Fact | None, then: datetime) -> bool:
        last = stands or fact
        ends = [item.valid_until for item in (fact, last) if item.valid_until is not None]
        if any(end <= then for end in ends) or is_forgotten(last):
            return False
        if last.is_recallable or last.superseded_by is not None:
            return True
        is_stale = (last.archived_reason or "").startswith(f"{STALE}:")
        return is_stale and last.archived_at is not None and last.archived_at > then

    def _is_retained(self, fact: Fact) -> bool:
        if not self.include_archived:
            return False
        is_over = fact.archived_at is not None and self.now - fact.archived_at > timedelta(
            days=self.policy.retain_archived_days
        )
        return not is_over


def stand_ins(ledger: Ledger, facts: Collection[Fact]) -> dict[str, Fact]:
    """For each fact that was consolidated, by its id, the fact that stands for it in the end."""
    known = chained(ledger, facts)
    return {fact.id: _last(fact, known) for fact in facts if fact.consolidated_into in known}


def chained(ledger: Ledger, facts: Collection[Fact]) -> dict[str, Fact]:
    """The facts by id, with whatever stands for them, directly or not."""
    known = {fact.id: fact for fact in facts}
    while missing := {fact.consolidated_into for fact in known.values() if fact.consolidated_into} - known.keys():
        found = ledger.facts(sorted(filter(None, missing)))
        if not found:
            break
        known |= {fact.id: fact for fact in found}
    return known


def _last(fact: Fact, known: Mapping[str, Fact]) -> Fact:
    while fact.consolidated_into is not None and fact.consolidated_into in known:
        fact = known[fact.consolidated_into]
    return fact


@dataclass(slots=True)
class PastView(ScopedView):
    """A `ScopedView` whose candidates are every fact that `admits` lets in, whatever its status."""

    admits: Callable[[Fact, Fact | None], bool] = field(default=lambda fact, _: fact.is_recallable)

    @classmethod
    def over(
        cls, view: ScopedView, states: Sequence[ScopeState], admits: Callable[[Fact, Fact | None], bool]
    ) -> PastView:
        """A view like `view` of the scopes in `states`, which may hold archived facts only."""
        return cls(view.context, view.scope, view.now, view.policy, states, own=view.own, admits=admits)

    def candidates(self, ask: Ask) -> Candidates:
        """Every admitted fact of the readable scopes, scanned."""
        self.reads += 1
        with self._timed("ledger"):
            parts = [self._part(self._admitted(state), ask.stems) for state in self.states] or [
                self._part([], ask.stems)
            ]
        return self._united(parts, statistics_of(parts))

    def _part(self, rows: Sequence[Indexed], stems: Sequence[str]) -> Part:
        body = counts_of([row.body_stems for row in rows], stems)
        context = counts_of([row.context_stems for row in rows], stems)
        return Part(columns_of(rows, self._dimension()), body, context, is_complete=True)

    def _admitted(self, state: ScopeState) -> list[Indexed]:
        kept = []
        for page in self._pages(state):
            ids = [row.id for row in page if row.status not in _HIDDEN]
            facts = self.context.ledger.facts(ids)
            stands = stand_ins(self.context.ledger, facts)
            known = {fact.id for fact in facts if self.admits(fact, stands.get(fact.id))}
            kept += [row for row in page if row.id in known]
        return sorted(kept, key=lambda row: (row.said_at, row.id))

    def _pages(self, state: ScopeState) -> Iterator[Sequence[Indexed]]:
        after = -1
        while page := self.context.ledger.changes(state.id, after, _PAGE):
            yield page
            after = page[-1].seq
