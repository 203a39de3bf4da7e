"""Learned: each scope's verdicts in memory, caught up from the ledger. A cache only; `measure.usefulness` judges."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from engram_core.design import Floats
from engram_core.measure import usefulness
from engram_core.ports import Judged, Ledger, ScopeState

MAX_QUESTIONS = 500
"""Latest judged recalls whose questions are compared: of older ones less than 1 % is left."""
_REMEMBERED_SCOPES = 1_000
_Array = TypeVar("_Array", bound=NDArray[Any])


class Learnt(NamedTuple):
    """Usefulness of some facts, in general and for questions like the present one; see `design.Candidates`."""

    usefulness: Floats
    alike: Floats


class _Question(NamedTuple):
    """One judged recall: its question, and the facts it judged by their place."""

    vector: NDArray[np.float16]
    tick: int
    places: NDArray[np.int64]
    weights: Floats


@dataclass(frozen=True, slots=True)
class _Questions:
    """Judged questions as arrays: m questions and v verdicts."""

    vectors: Floats
    ticks: NDArray[np.int64]
    distinct: NDArray[np.bool_]
    question_of: NDArray[np.int64]
    fact_of: NDArray[np.int64]
    weights: Floats

    @classmethod
    def of(cls, held: Sequence[_Question]) -> _Questions | None:
        # Those of another embedder have another length.
        held = [item for item in held if len(item.vector) == len(held[-1].vector)]
        if not held:
            return None
        first: dict[bytes, int] = {}
        for place, item in enumerate(held):
            first.setdefault(item.vector.tobytes(), place)
        distinct = np.zeros(len(held), dtype=bool)
        distinct[list(first.values())] = True
        return cls(
            vectors=np.stack([item.vector for item in held]).astype(np.float32),
            ticks=np.array([item.tick for item in held], dtype=np.int64),
            distinct=distinct,
            question_of=np.repeat(np.arange(len(held)), [len(item.places) for item in held]),
            fact_of=np.concatenate([item.places for item in held]),
            weights=np.concatenate([item.weights for item in held]),
        )

    def alike(self, asked: Floats, tick: int, facts: int) -> Floats:
        """`measure.usefulness.centred_alike` of every known fact, shape (facts,)."""
        if asked.shape != self.vectors.shape[1:]:
            return np.zeros(facts, dtype=np.float32)
        alike = usefulness.likeness(self.vectors @ asked, self.distinct)
        counts = (alike * usefulness.DECAY ** (tick - self.ticks)).astype(np.float32)
        return usefulness.centred_alike(counts[self.question_of], self.fact_of, self.weights, facts)


@dataclass(frozen=True, slots=True)
class _State:
    """What a scope had learnt at one tick. Immutable, but for `places`, which only grows.

    Attributes:
        places: Each judged fact's row in the arrays.
        recalled, used, ticks: Its tally, n rows.
        last: Number of the latest judgement read.
    """

    tick: int = 0
    last: int = 0
    places: dict[str, int] = field(default_factory=dict)
    recalled: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    used: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    ticks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    judged: OrderedDict[str, _Question] = field(default_factory=OrderedDict)
    questions: _Questions | None = None

    def caught_up(self, ledger: Ledger, state: ScopeState) -> _State:
        """The state as of `state.judged` or later."""
        changed = ledger.tallies(state.id, self.tick)
        judgements = ledger.judged(state.id, self.last, MAX_QUESTIONS)
        for tally in changed:
            self.places.setdefault(tally.fact_id, len(self.places))
        judged = self.judged.copy()
        for judgement in judgements:
            # A correction takes the place of what it corrects.
            judged.pop(judgement.recall_id, None)
            if judgement.question is not None:
                judged[judgement.recall_id] = self._question(judgement, judgement.question)
        while len(judged) > MAX_QUESTIONS:
            judged.popitem(last=False)
        size = len(self.places)
        recalled, used, ticks = _grown(self.recalled, size), _grown(self.used, size), _grown(self.ticks, size)
        rows = [self.places[tally.fact_id] for tally in changed]
        recalled[rows] = [tally.recalled for tally in changed]
        used[rows] = [tally.used for tally in changed]
        ticks[rows] = [tally.tick for tally in changed]
        return _State(
            tick=max([state.judged, *(tally.tick for tally in changed)]),
            last=judgements[-1].number if judgements else self.last,
            places=self.places,
            recalled=recalled,
            used=used,
            ticks=ticks,
            judged=judged,
            questions=_Questions.of(list(judged.values())),
        )

    def _question(self, judgement: Judged, vector: NDArray[np.float16]) -> _Question:
        counted = {
            id_: credit.weight for id_, credit in usefulness.credited(judgement.verdicts).items() if credit.is_evidence
        }
        places = [self.places.setdefault(id_, len(self.places)) for id_ in counted]
        weights = np.array(list(counted.values()), dtype=np.float32)
        return _Question(vector, judgement.tick, np.array(places, dtype=np.int64), weights)

    def learnt(self, ids: Sequence[str], tick: int, asked: Floats | None) -> Learnt:
        """Usefulness of facts by id; 0 for strangers."""
        facts = len(self.recalled)
        general = usefulness.centred(self.recalled, self.used, tick - self.ticks)
        if asked is None or self.questions is None:
            alike = np.zeros(facts, dtype=np.float32)
        else:
            alike = self.questions.alike(asked, tick, facts)
        # A last row for strangers, and for facts that another thread has come to know meanwhile.
        rows = np.array([self.places.get(id_, facts) for id_ in ids], dtype=np.int64)
        rows = np.minimum(rows, facts)
        return Learnt(*(np.append(values, np.float32(0.0))[rows] for values in (general, alike)))


def _grown(array: _Array, size: int) -> _Array:
    """A copy with zeros at the end."""
    return np.pad(array, (0, size - len(array)))  # type: ignore[return-value]  # numpy keeps the dtype


@dataclass(slots=True)
class _Held:
    lock: threading.Lock = field(default_factory=threading.Lock)
    state: _State = field(default_factory=_State)


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
        if state is None or not state.judged:
            nothing = np.zeros(len(ids), dtype=np.float32)
            return Learnt(nothing, nothing)
        held = self._of(state.id)
        with held.lock:
            if held.state.tick < state.judged:
                held.state = held.state.caught_up(ledger, state)
            current = held.state
        return current.learnt(ids, max(current.tick, state.judged), asked)

    def forget(self) -> None:
        """Hold nothing any more; the ledger is read anew."""
        with self._lock:
            self._held.clear()

    def _of(self, scope_id: int) -> _Held:
        with self._lock:
            held = self._held.setdefault(scope_id, _Held())
            self._held.move_to_end(scope_id)
            while len(self._held) > _REMEMBERED_SCOPES:
                self._held.popitem(last=False)
            return held
