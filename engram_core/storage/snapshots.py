"""Whole scopes in memory for scanning, caught up from the ledger's outbox. Caches only; the ledger is the truth."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.fact import RECALLABLE
from engram_core.measure.columns import NO_MEMBERS, columns_of, standing
from engram_core.ports import Indexed, Ledger, ScopeState
from engram_core.storage.codec import unspaced

_PAGE = 5_000
_ROW_OVERHEAD_BYTES = 3_000
_RECALLABLE = frozenset(status.value for status in RECALLABLE)

Posting = tuple[NDArray[np.int32], NDArray[np.float32]]
_NO_POSTING: Posting = (np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))


class ScopeSnapshot:
    """One scope's recallable facts at one sequence number; see `engram_core.ports.Snapshot`."""

    __slots__ = ("_bodies", "_contexts", "_places", "_stems", "columns", "seq")

    def __init__(self, seq: int, rows: Sequence[Indexed], dimension: int) -> None:
        self.seq = seq
        self._stems = [(row.body_stems, row.context_stems) for row in rows]
        self._places = {row.id: place for place, row in enumerate(rows)}
        self.columns = columns_of(rows, dimension, places=self._places)
        self._bodies = _postings(row.body_stems for row in rows)
        self._contexts = _postings(row.context_stems for row in rows)

    def counts(self, stems: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `engram_core.ports.Snapshot.counts`."""
        size = len(self.columns)
        return _spread(self._bodies, stems, size), _spread(self._contexts, stems, size)

    @property
    def dimension(self) -> int:
        """Of the vectors."""
        return int(self.columns.content.shape[1])

    @property
    def size(self) -> int:
        """Approximate bytes held."""
        return self.columns.content.nbytes * 2 + len(self.columns) * _ROW_OVERHEAD_BYTES

    def advanced(self, seq: int, changed: Sequence[Indexed]) -> ScopeSnapshot | None:
        """The snapshot after some facts changed or were added; None when some left or merged: build a new one then."""
        if any(row.status not in _RECALLABLE or row.members != NO_MEMBERS for row in changed):
            return None
        new = [row for row in changed if row.id not in self._places]
        later = ScopeSnapshot.__new__(ScopeSnapshot)
        later.seq = seq
        later._stems = [*self._stems, *((row.body_stems, row.context_stems) for row in new)]
        later._places = self._places | {row.id: len(self._stems) + place for place, row in enumerate(new)}
        later._bodies, later._contexts = dict(self._bodies), dict(self._contexts)
        later.columns = self.columns.extended(new, later._places)
        for row in changed:
            if row.id in self._places:
                later._replace(self._places[row.id], row)
        for position, row in enumerate(new, len(self._stems)):
            _count_in(later._bodies, row.body_stems, position)
            _count_in(later._contexts, row.context_stems, position)
        return later

    def _replace(self, position: int, row: Indexed) -> None:
        body, context = self._stems[position]
        for postings, old, new in ((self._bodies, body, row.body_stems), (self._contexts, context, row.context_stems)):
            if old != new:
                _count_out(postings, old, position)
                _count_in(postings, new, position)
        self._stems[position] = (row.body_stems, row.context_stems)
        self.columns.with_rows(position, row, self._places)


class Snapshots:
    """Snapshots of small scopes, least recently used first out.

    Args:
        ledger: Where the rows are.
        dimension: Of the store's vectors, asked at the first use.
        limit: Facts to rank above which a scope is not held.
        max_bytes: Memory for all snapshots together; the one in use always stays.
    """

    def __init__(self, ledger: Ledger, dimension: Callable[[], int], *, limit: int, max_bytes: int = 256 << 20) -> None:
        self._ledger = ledger
        self._dimension = dimension
        self._limit = limit
        self._max_bytes = max_bytes
        self._held: OrderedDict[int, ScopeSnapshot] = OrderedDict()
        self._locks: dict[int, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, state: ScopeState) -> ScopeSnapshot | None:
        """The scope's snapshot at `state.seq` or later; None when it holds more than `limit` facts."""
        if state.rows > self._limit:
            with self._lock:
                self._held.pop(state.id, None)
            return None
        held = self._held.get(state.id)
        if held is None or not self._is_current(held, state):
            with self._scope_lock(state.id):
                held = self._held.get(state.id)
                if held is None or not self._is_current(held, state):
                    held = self._caught_up(held, state)
        with self._lock:
            self._held[state.id] = held
            self._held.move_to_end(state.id)
            self._shrink()
        return held

    def _is_current(self, held: ScopeSnapshot, state: ScopeState) -> bool:
        # The dimension is only known once the embedder has answered for the first time.
        return held.seq >= state.seq and held.dimension == self._dimension()

    def _scope_lock(self, scope_id: int) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(scope_id, threading.Lock())

    def _caught_up(self, held: ScopeSnapshot | None, state: ScopeState) -> ScopeSnapshot:
        if held is not None and held.dimension == self._dimension():
            changed = changes_since(self._ledger, state.id, held.seq)
            later = held.advanced(max([held.seq, state.seq, *(row.seq for row in changed)]), changed)
            if later is not None:
                return later
        rows = changes_since(self._ledger, state.id, 0)
        seq = max([state.seq, *(row.seq for row in rows)])
        alive = sorted(standing(rows, _RECALLABLE), key=lambda row: row.id)
        return ScopeSnapshot(seq, alive, self._dimension())

    def _shrink(self) -> None:
        total = sum(snapshot.size for snapshot in self._held.values())
        while total > self._max_bytes and len(self._held) > 1:
            scope_id, snapshot = self._held.popitem(last=False)
            total -= snapshot.size
            self._locks.pop(scope_id, None)

    @property
    def size(self) -> int:
        """Approximate bytes held by all snapshots."""
        with self._lock:
            return sum(snapshot.size for snapshot in self._held.values())


def changes_since(ledger: Ledger, scope_id: int, after: int, *, vectors: bool = True) -> list[Indexed]:
    """All of a scope's outbox after a sequence number, page by page."""
    rows: list[Indexed] = []
    while True:
        page = ledger.changes(scope_id, after, _PAGE, vectors=vectors)
        rows += page
        if len(page) < _PAGE:
            break
        after = page[-1].seq
    # A fact that changed between two pages came twice: the later row is the one that holds.
    latest = {row.id: row for row in rows}
    return rows if len(latest) == len(rows) else [row for row in rows if latest[row.id] is row]


def _postings(texts: Iterable[str]) -> dict[str, Posting]:
    gathered: dict[str, tuple[list[int], list[int]]] = {}
    for position, text in enumerate(texts):
        for stem, count in Counter(unspaced(text)).items():
            rows, counts = gathered.setdefault(stem, ([], []))
            rows.append(position)
            counts.append(count)
    return {
        stem: (np.array(rows, dtype=np.int32), np.array(counts, dtype=np.float32))
        for stem, (rows, counts) in gathered.items()
    }


def _count_in(postings: dict[str, Posting], text: str, position: int) -> None:
    for stem, count in Counter(unspaced(text)).items():
        rows, counts = postings.get(stem, _NO_POSTING)
        postings[stem] = (
            np.append(rows, np.int32(position)).astype(np.int32),
            np.append(counts, np.float32(count)).astype(np.float32),
        )


def _count_out(postings: dict[str, Posting], text: str, position: int) -> None:
    for stem in set(unspaced(text)):
        rows, counts = postings[stem]
        keep = rows != position
        postings[stem] = (rows[keep], counts[keep])


def _spread(postings: dict[str, Posting], stems: Sequence[str], size: int) -> NDArray[np.float32]:
    counts = np.zeros((size, len(stems)), dtype=np.float32)
    for column, stem in enumerate(stems):
        rows, values = postings.get(stem, _NO_POSTING)
        counts[rows, column] = values
    return counts
