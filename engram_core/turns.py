"""Turns: which recalls belong to which response. A bounded map that adapters' callbacks share; it decides nothing.

Frameworks report runs (or spans) with a parent. The outermost known run of a tree is its root, and one root is one
turn: the recalls made anywhere below it, and the text it finally answered with.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

DEFAULT_MAX_OPEN = 1000
DEFAULT_TIMEOUT_S = 900.0


@dataclass(slots=True)
class Turn:
    """One turn in flight.

    Attributes:
        root: Run id of the outermost run.
        recall_ids: Recalls made during the turn, in order, without repeats.
        texts: Whatever the adapter collects on the way (model texts, stream deltas).
        is_partial: The answer was cut short (error, abandoned stream): its verdicts are `unknown`.
    """

    root: Hashable
    recall_ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    is_partial: bool = False
    runs: set[Hashable] = field(default_factory=set)
    opened: float = 0.0


class Turns:
    """Open turns by run id. Thread-safe; bounded in number and in time.

    Args:
        max_open: Open turns kept; the oldest is handed to `on_evict` beyond that.
        timeout_s: Seconds after which an open turn counts as abandoned.
        on_evict: Called without the lock held for each turn that was evicted or timed out.
    """

    def __init__(
        self,
        *,
        max_open: int = DEFAULT_MAX_OPEN,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        on_evict: Callable[[Turn], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.RLock()
        self._turns: OrderedDict[Hashable, Turn] = OrderedDict()
        self._roots: dict[Hashable, Hashable] = {}
        self._max_open = max_open
        self._timeout_s = timeout_s
        self._on_evict = on_evict
        self._clock = clock

    def __len__(self) -> int:
        """Open turns."""
        return len(self._turns)

    def start(self, run_id: Hashable, parent_id: Hashable | None = None) -> Turn:
        """Note that a run began, and return the turn it belongs to (its own if the parent is unknown)."""
        with self._lock:
            root = self._roots.get(parent_id, run_id) if parent_id is not None else run_id
            turn = self._turns.get(root)
            if turn is None:
                turn = self._turns[root] = Turn(root, opened=self._clock())
            turn.runs.add(run_id)
            self._roots[run_id] = root
            evicted = self._overdue()
        for old in evicted:
            if self._on_evict is not None:
                self._on_evict(old)
        return turn

    def of(self, run_id: Hashable | None) -> Turn | None:
        """The open turn a run belongs to, or None."""
        with self._lock:
            return self._turns.get(self._roots.get(run_id))

    def saw(self, run_id: Hashable | None, recall_id: str) -> bool:
        """Add a recall to a run's turn. False if the turn is not open."""
        with self._lock:
            turn = self.of(run_id)
            if turn is None:
                return False
            if recall_id not in turn.recall_ids:
                turn.recall_ids.append(recall_id)
            return True

    def finish(self, run_id: Hashable) -> Turn | None:
        """Close the turn if `run_id` is its root, and return it; None for any inner or unknown run."""
        with self._lock:
            turn = self._turns.pop(run_id, None)
            if turn is not None:
                self._forget(turn)
            return turn

    def drain(self) -> list[Turn]:
        """Close every open turn and return them, oldest first."""
        with self._lock:
            turns = list(self._turns.values())
            self._turns.clear()
            self._roots.clear()
            return turns

    def _forget(self, turn: Turn) -> None:
        for run in turn.runs:
            self._roots.pop(run, None)

    def _overdue(self) -> list[Turn]:
        evicted = []
        limit = self._clock() - self._timeout_s
        while self._turns:
            oldest = next(iter(self._turns.values()))
            if len(self._turns) <= self._max_open and oldest.opened >= limit:
                break
            self._turns.popitem(last=False)
            self._forget(oldest)
            oldest.is_partial = True
            evicted.append(oldest)
        return evicted
