"""Exact nearest-neighbour search over the ledger's own vectors: cached matrices, caught up from the outbox.

This is what answers in every process that does not own the index, and while the index is being opened or rebuilt.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.fact import Status
from engram_core.measure.columns import vectors
from engram_core.ports import Hit, Ledger, ScopeState
from engram_core.storage.arrays import MOST_ROOM, lengthen

_PAGE = 2_000
_KEPT_S = 60.0
"""How long a matrix stays when the index answers again: one that comes and goes must not cost a reading each time."""


class _Matrix:
    """The live context vectors of one scope. Rows of facts that left are vacant until they are reused."""

    def __init__(self, dimension: int) -> None:
        self.seq = 0
        self.ids: list[str | None] = []
        self.values = np.zeros((0, dimension), dtype=np.float32)
        self._is_vacant = np.zeros(0, dtype=np.bool_)
        self._places: dict[str, int] = {}
        self._free: list[int] = []
        self.used = time.monotonic()
        self.lock = threading.Lock()

    def catch_up(self, ledger: Ledger, state: ScopeState) -> None:
        """Apply everything up to `state.seq`, which was read before the rows are."""
        if not self.ids:
            self._grow(state.live)
        while True:
            page = ledger.contexts(state.id, self.seq, _PAGE)
            self._take(page)
            if page:
                self.seq = page[-1][1]
            if len(page) < _PAGE:
                self.seq = max(self.seq, state.seq)
                return

    def _take(self, page: Sequence[tuple[str, int, str, bytes | None]]) -> None:
        """Apply changes in their order: a fact that changes while it is read comes again."""
        for id_, *_ in page:
            place = self._places.pop(id_, None)
            if place is not None:
                self.ids[place] = None
                self._is_vacant[place] = True
                self._free.append(place)
        live = [(id_, context) for id_, _, status, context in page if status == Status.LIVE and context is not None]
        self._grow(len(live))
        at = [self._free.pop() for _ in live]
        for place, (id_, _) in zip(at, live, strict=True):
            self.ids[place], self._places[id_] = id_, place
        self.values[at] = vectors([context for _, context in live], self.values.shape[1])
        self._is_vacant[at] = False

    def _grow(self, needed: int) -> None:
        missing = needed - len(self._free)
        if missing <= 0:
            return
        size = len(self.ids)
        more = max(missing, min(size // 4, MOST_ROOM))
        lengthen(self.values, more)
        self._is_vacant = np.concatenate([self._is_vacant, np.ones(more, dtype=np.bool_)])
        self.ids += [None] * more
        self._free += range(size + more - 1, size - 1, -1)

    def nearest(self, vector: NDArray[np.float32], n: int) -> list[Hit]:
        if not self.ids:
            return []
        scores = self.values @ vector
        scores[self._is_vacant] = -np.inf
        last = max(len(scores) - n, 0)
        # With everything level with the last one: equal scores are cut by id, not by chance.
        best = np.flatnonzero(scores >= np.partition(scores, last)[last])
        hits = [Hit(id_, float(scores[place])) for place in best if (id_ := self.ids[place]) is not None]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))[:n]


class Matrices:
    """Matrices of scopes, least recently used first out.

    Args:
        ledger: Where the vectors are.
        dimension: Of the vectors, asked at the first use.
        max_bytes: Memory for all matrices together; the one in use always stays.
    """

    def __init__(self, ledger: Ledger, dimension: Callable[[], int], *, max_bytes: int = 512 << 20) -> None:
        self._ledger = ledger
        self._dimension = dimension
        self._max_bytes = max_bytes
        self._held: OrderedDict[int, _Matrix] = OrderedDict()
        self._lock = threading.Lock()

    def nearest(self, state: ScopeState, vector: NDArray[np.float32], n: int) -> list[Hit]:
        """The `n` nearest live facts of a scope at `state.seq` or later, best first; exact."""
        with self._lock:
            matrix = self._held.get(state.id)
            if matrix is None or matrix.values.shape[1] != len(vector):
                matrix = self._held[state.id] = _Matrix(self._dimension())
            self._held.move_to_end(state.id)
            matrix.used = time.monotonic()
        with matrix.lock:
            if matrix.seq < state.seq:
                matrix.catch_up(self._ledger, state)
            hits = matrix.nearest(vector, n)
        self._shrink()
        return hits

    def release(self, scope_id: int) -> None:
        """Drop a scope's matrix unless it was asked within the last minute: the index answers again."""
        matrix = self._held.get(scope_id)
        if matrix is not None and time.monotonic() - matrix.used > _KEPT_S:
            with self._lock:
                self._held.pop(scope_id, None)

    def _shrink(self) -> None:
        with self._lock:
            total = sum(matrix.values.nbytes for matrix in self._held.values())
            while total > self._max_bytes and len(self._held) > 1:
                total -= self._held.popitem(last=False)[1].values.nbytes
