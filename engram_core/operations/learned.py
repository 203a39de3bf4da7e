"""Learned: each scope's tallies in memory, caught up from the ledger. A cache only; `measure.usefulness` reads them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from engram_core.design import Floats
from engram_core.measure import usefulness
from engram_core.ports import Ledger, ScopeState, Tally

_REMEMBERED_SCOPES = 1_000


@dataclass(slots=True)
class _Held:
    tick: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Learned:
    """Usefulness of facts as one scope's recalls have shown it. Thread-safe, bounded, up to date at every call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[int, _Held] = OrderedDict()

    def usefulness(self, ledger: Ledger, state: ScopeState | None, ids: Sequence[str]) -> Floats:
        """`measure.usefulness.centred` of facts, shape (len(ids),).

        Args:
            ledger: Where the tallies are.
            state: The scope that recalls, as the ledger knows it now; None for a scope it does not know.
            ids: Fact ids, of this scope or of others that it may read.
        """
        if state is None or not state.judged:
            return np.zeros(len(ids), dtype=np.float32)
        held = self._caught_up(ledger, state)
        return usefulness.centred([held.tallies.get(id_) for id_ in ids], max(held.tick, state.judged))

    def _caught_up(self, ledger: Ledger, state: ScopeState) -> _Held:
        with self._lock:
            held = self._held.setdefault(state.id, _Held())
            self._held.move_to_end(state.id)
            while len(self._held) > _REMEMBERED_SCOPES:
                self._held.popitem(last=False)
        if held.tick < state.judged:
            with held.lock:
                changed = ledger.tallies(state.id, held.tick)
                # A new mapping: readers of the old one are not disturbed.
                held.tallies = held.tallies | {tally.fact_id: tally for tally in changed}
                held.tick = max([held.tick, state.judged, *(tally.tick for tally in changed)])
        return held
