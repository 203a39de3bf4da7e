"""Replay: a scope's own past recalls, answered again under another policy. It measures; it records and changes nothing.

What counts is support: how many of the facts shown the recorded answer would have used, by the same attribution that
judges answers (`measure.attribution`), whether the recall showed them then or not. What answers a gap counts as needed.
Of a question that got no answer nobody knows what was needed: there it is the share of its words that is spoken of.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from engram_core.domain.errors import InvalidInput
from engram_core.domain.fact import Fact
from engram_core.domain.gap import Gap
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.scope import Scope
from engram_core.measure import content, lapses
from engram_core.measure.attribution import Shown
from engram_core.operations.context import Context
from engram_core.operations.observe import attributed, frequencies
from engram_core.operations.recall import Asked as Question
from engram_core.operations.recall import rehearse
from engram_core.operations.warden import Sight
from engram_core.ports import Asked, RecallRow

MAX_SUPPORT: Final = 3.0
"""Facts in use that one answer counts for at most: a long answer is one case like any other."""
DEFAULT_K: Final = 8


@dataclass(frozen=True, slots=True)
class Replayed:
    """One past recall under one policy.

    Attributes:
        support: Facts shown that the answer would have used, by their weights, and needed facts shown; at most 3.
        kept: Of the facts that the answer did use, the share shown; None if it used none.
        tokens: Of the text.
        ms: Wall time.
        shown: Ids of the facts shown.
    """

    recall_id: str
    support: float
    kept: float | None
    tokens: int
    ms: float
    shown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Case:
    asked: Asked
    question: Question
    used: frozenset[str]
    needed: frozenset[str]


class Replay:
    """Past recalls of a scope, ready to be answered again and again.

    Args:
        context: The store.
        scope: Where they were asked.
        sight: What they may look at.
        asked: Recalls with their verdicts; those from which nothing can be learned are left out.
        gaps: Gaps of the scope: what answers them was needed.
    """

    def __init__(
        self,
        context: Context,
        scope: Scope,
        sight: Sight,
        asked: Sequence[Asked],
        gaps: Sequence[Gap],
    ) -> None:
        self._context = context
        self._scope = scope
        self._sight = sight
        needed = [(content.token_set(gap.question), frozenset(gap.evidence)) for gap in gaps if gap.evidence]
        cases = (self._case(item, needed) for item in asked)
        self._cases = [case for case in cases if case is not None]
        self._weights: dict[tuple[str, frozenset[str]], float] = {}

    def __len__(self) -> int:
        return len(self._cases)

    @property
    def ids(self) -> list[str]:
        """Ids of the recalls that are answered again, oldest first."""
        return [case.asked.recall.id for case in self._cases]

    @property
    def needed(self) -> frozenset[str]:
        """Facts that answers used, or that gaps needed."""
        return frozenset().union(*(case.used | case.needed for case in self._cases)) if self._cases else frozenset()

    def run(self, policy: MemoryPolicy, only: Collection[str] | None = None) -> list[Replayed]:
        """Answer them under a policy; with `only`, those with these ids.

        What was learned from these very answers is left out: it would favour whatever was in force then.
        """
        policy = policy.changed(usefulness_weight=0.0)
        return [self._answer(case, policy) for case in self._cases if only is None or case.asked.recall.id in only]

    def _case(self, asked: Asked, needed: Sequence[tuple[frozenset[str], frozenset[str]]]) -> _Case | None:
        row, usage = asked.recall, asked.usage
        own = content.token_set(row.query)
        wanted = frozenset().union(*(ids for tokens, ids in needed if tokens == own)) if own else frozenset()
        verdicts = usage.verdicts if usage is not None else ()
        used = frozenset(item["id"] for item in verdicts if item.get("verdict") == "used")
        if not wanted and not used and not (usage is not None and usage.response):
            return None
        try:
            question = Question(row.query, _k(row), None, None, frozenset(), None)
        except InvalidInput:
            return None
        return _Case(asked, question, used, wanted)

    def _answer(self, case: _Case, policy: MemoryPolicy) -> Replayed:
        row = case.asked.recall
        begin = time.perf_counter()
        found = rehearse(self._context, self._scope, self._sight, case.question, policy, row.at)
        spent = (time.perf_counter() - begin) * 1000
        shown = tuple(fact.id for fact in found.facts)
        kept = len(case.used.intersection(shown)) / len(case.used) if case.used else None
        support = min(MAX_SUPPORT, self._support(case, found.facts) + len(case.needed.intersection(shown)))
        return Replayed(row.id, support, kept, found.tokens, spent, shown)

    def _support(self, case: _Case, facts: Sequence[Fact]) -> float:
        response = case.asked.usage.response if case.asked.usage is not None else ""
        if not response or not facts:
            return 0.0
        key = (case.asked.recall.id, frozenset(fact.id for fact in facts))
        if key not in self._weights:
            question = case.asked.recall.query
            is_refused = lapses.refusal(response) is not None
            self._weights[key] = (
                self._spoken_of(question, facts)
                if is_refused
                else sum(self._judged(question, response, facts).values())
            )
        return self._weights[key]

    def _spoken_of(self, question: str, facts: Sequence[Fact]) -> float:
        """The share of a question's words, by how rare they are in the scope, that some fact shown holds."""
        wanted = content.token_set(question)
        states = self._context.ledger.scopes([self._scope])
        counts = frequencies(self._context, states, [question])
        size = states[0].recallable if states else len(facts)
        rare = {token: content.idf(counts.get(token, 0), max(size, 16)) for token in wanted if counts.get(token, 0)}
        held = frozenset().union(*(content.token_set(fact.display) for fact in facts))
        total = sum(rare.values())
        return sum(weight for token, weight in rare.items() if token in held) / total if total else 0.0

    def _judged(self, question: str, response: str, facts: Sequence[Fact]) -> Mapping[str, float]:
        shown = [Shown(fact.id, fact.display, fact.said_at, None, fact.speaker) for fact in facts]
        verdicts = attributed(self._context, self._scope, question, response, shown)
        return {verdict.fact_id: verdict.weight for verdict in verdicts}


def _k(row: RecallRow) -> int:
    """How many facts were asked for: as many as were shown, if others were outranked."""
    is_full = any(item.get("rule") == "rank" for item in row.dropped)
    return max(1, len(row.shown)) if is_full else max(DEFAULT_K, len(row.shown))


def since(context: Context, scope: Scope, moment: datetime | None, limit: int) -> list[Asked]:
    """The recalls of a scope from a time on that had a verdict, the latest ones if there are more than `limit`."""
    found = context.ledger.diary.asked(scope, moment, 50 * limit)
    return [item for item in found if item.usage is not None][-limit:]
