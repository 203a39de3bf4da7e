"""Learned: each scope's verdicts in memory, caught up from the ledger. A cache only; `measure.usefulness` judges."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engram_core.design import Floats
from engram_core.measure import usefulness
from engram_core.ports import Judged, Ledger, ScopeState, Tally

MAX_QUESTIONS = 500
"""Latest judged recalls whose questions are compared: of older ones less than 1 % is left."""
_REMEMBERED_SCOPES = 1_000


class Learnt(NamedTuple):
    """Usefulness of some facts, in general and for questions like the present one; see `design.Candidates`."""

    usefulness: Floats
    alike: Floats


@dataclass(frozen=True, slots=True)
class _Questions:
    """Judged questions as arrays: m questions, v verdicts on n facts."""

    vectors: Floats
    ticks: NDArray[np.int64]
    distinct: NDArray[np.bool_]
    question_of: NDArray[np.int64]
    fact_of: NDArray[np.int64]
    weights: Floats
    places: dict[str, int]

    @classmethod
    def of(cls, judged: Sequence[Judged]) -> _Questions | None:
        kept = [item for item in judged if item.question is not None]
        if not kept:
            return None
        assert kept[-1].question is not None
        length = len(kept[-1].question)
        kept = [item for item in kept if item.question is not None and len(item.question) == length]
        places: dict[str, int] = {}
        rows: list[tuple[int, int, float]] = []
        seen: set[bytes] = set()
        distinct = []
        for number, item in enumerate(kept):
            assert item.question is not None
            digest = item.question.tobytes()
            distinct.append(digest not in seen)
            seen.add(digest)
            for fact_id, credit in usefulness.credited(item.verdicts).items():
                rows.append((number, places.setdefault(fact_id, len(places)), credit.weight))
        questions, facts, weights = zip(*rows, strict=True)
        return cls(
            vectors=np.array([item.question for item in kept], dtype=np.float32),
            ticks=np.array([item.tick for item in kept], dtype=np.int64),
            distinct=np.array(distinct, dtype=bool),
            question_of=np.array(questions, dtype=np.int64),
            fact_of=np.array(facts, dtype=np.int64),
            weights=np.array(weights, dtype=np.float32),
            places=places,
        )

    def alike(self, asked: Floats, tick: int, ids: Sequence[str]) -> Floats:
        """`measure.usefulness.centred_alike` of facts by id; 0 for one that no verdict names."""
        if asked.shape != self.vectors.shape[1:]:
            return np.zeros(len(ids), dtype=np.float32)  # judged under another embedder
        alike = usefulness.likeness(self.vectors @ asked, self.distinct)
        counts = (alike * usefulness.DECAY ** (tick - self.ticks)).astype(np.float32)
        known = usefulness.centred_alike(counts[self.question_of], self.fact_of, self.weights, len(self.places))
        padded = np.append(known, np.float32(0.0))  # the last place is for strangers
        return padded[[self.places.get(id_, -1) for id_ in ids]]


@dataclass(slots=True)
class _Held:
    lock: threading.Lock = field(default_factory=threading.Lock)
    tick: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)
    judged: dict[str, Judged] = field(default_factory=dict)
    last: int = 0
    questions: _Questions | None = None


class Learned:
    """What one scope's recalls have shown of facts. Thread-safe, bounded, up to date at every call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[int, _Held] = OrderedDict()

    def of(self, ledger: Ledger, state: ScopeState | None, ids: Sequence[str], asked: Floats | None) -> Learnt:
        """Usefulness of facts, two arrays of shape (len(ids),).

        Args:
            ledger: Where the verdicts are.
            state: The scope that recalls, as the ledger knows it now; None for a scope it does not know.
            ids: Fact ids, of this scope or of others that it may read.
            asked: Unit vector of the whole question, shape (d,); None if there is none to compare.
        """
        nothing = np.zeros(len(ids), dtype=np.float32)
        if state is None or not state.judged:
            return Learnt(nothing, nothing)
        held = self._caught_up(ledger, state)
        questions, tick = held.questions, max(held.tick, state.judged)
        general = usefulness.centred([held.tallies.get(id_) for id_ in ids], tick)
        return Learnt(general, nothing if asked is None or questions is None else questions.alike(asked, tick, ids))

    def _caught_up(self, ledger: Ledger, state: ScopeState) -> _Held:
        with self._lock:
            held = self._held.setdefault(state.id, _Held())
            self._held.move_to_end(state.id)
            while len(self._held) > _REMEMBERED_SCOPES:
                self._held.popitem(last=False)
        with held.lock:
            if held.tick < state.judged:
                _catch_up(held, ledger, state)
        return held


def _catch_up(held: _Held, ledger: Ledger, state: ScopeState) -> None:
    changed = ledger.tallies(state.id, held.tick)
    for judgement in ledger.judged(state.id, held.last, MAX_QUESTIONS):
        # A correction takes the place of what it corrects.
        held.judged.pop(judgement.recall_id, None)
        held.judged[judgement.recall_id] = judgement
        held.last = judgement.number
    while len(held.judged) > MAX_QUESTIONS:
        del held.judged[next(iter(held.judged))]
    # New values, not changed ones: other threads may be reading the old.
    held.questions = _Questions.of(list(held.judged.values()))
    held.tallies = held.tallies | {tally.fact_id: tally for tally in changed}
    held.tick = max([state.judged, *(tally.tick for tally in changed)])
