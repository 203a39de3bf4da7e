"""Turns: which recalls belong to which response. Bounded maps that adapters' callbacks share; they decide nothing.

Frameworks report runs (or spans) with a parent. The outermost known run of a tree is its root, and one root is one
turn: the recalls made anywhere below it, and the text it finally answered with.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakMethod

DEFAULT_MAX_OPEN = 1000
DEFAULT_TIMEOUT_S = 900.0
TURN_KEY: Final = "engram_turn"
"""What users call a turn by, where a framework does not know that two of its runs are one."""
_MAX_NAME: Final = 500
_CROWDED: Final = 64
"""Alarms beyond which those of objects that are gone are thrown out."""

logger = logging.getLogger("engram")


class Alarm:
    """Has an object swept some time after it was set, also in a process where nothing else happens.

    All alarms share one daemon thread, which lives while any is set. The object is held weakly.

    Args:
        sweep: A method of the object. It should set the alarm again if it leaves something behind.
        delay_s: Seconds from setting to sweeping.
    """

    def __init__(self, sweep: Callable[[], None], delay_s: float) -> None:
        self._sweep: WeakMethod[Callable[[], None]] = WeakMethod(sweep)
        self._delay_s = delay_s
        self._is_set = False

    def set(self) -> None:
        """Sweep after the delay, unless that is due already."""
        if not self._is_set:
            self._is_set = True
            _bell.ring_at(time.monotonic() + self._delay_s, self)

    @property
    def is_wanted(self) -> bool:
        """Whether the object is still there."""
        return self._sweep() is not None

    def ring(self) -> None:
        """Sweep now; what goes wrong is logged."""
        self._is_set = False
        sweep = self._sweep()
        if sweep is not None:
            try:
                sweep()
            except Exception:
                logger.exception("engram: releasing what timed out failed")


class _Bell:
    """The thread behind all alarms."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # Threads do not survive a fork, and the lock may have been held.
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Alarm]] = []
        self._crowded = _CROWDED
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def ring_at(self, at: float, alarm: Alarm) -> None:
        with self._changed:
            heapq.heappush(self._due, (at, next(self._numbers), alarm))
            if len(self._due) > self._crowded:
                self._due = [entry for entry in self._due if entry[2].is_wanted]
                heapq.heapify(self._due)
                self._crowded = max(_CROWDED, 2 * len(self._due))
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="engram-alarm", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _watch(self) -> None:
        while True:
            with self._changed:
                if not self._due:
                    self._thread = None
                    return
                at, _, alarm = self._due[0]
                wait = at - time.monotonic()
                if wait > 0:
                    self._changed.wait(wait)
                    continue
                heapq.heappop(self._due)
            alarm.ring()


_bell: Final = _Bell()


@dataclass(slots=True)
class Turn:
    """One turn in flight.

    Attributes:
        root: Run id of the outermost run.
        recall_ids: Recalls made during the turn, in order, without repeats.
        texts: Whatever the adapter collects on the way (model texts, stream deltas).
        is_partial: The answer was cut short (error, abandoned stream): its verdicts are `unknown`.
        name: What its user calls it, if anything; see `NamedTurns`.
    """

    root: Hashable
    recall_ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    is_partial: bool = False
    name: str | None = None
    runs: set[Hashable] = field(default_factory=set)
    opened: float = 0.0


class Turns:
    """Open turns by run id. Thread-safe; bounded in number and in time.

    Args:
        max_open: Open turns kept; the oldest is handed to `on_evict` beyond that.
        timeout_s: Seconds after which an open turn counts as abandoned. It is released when the next one starts, and
            in an idle process at the latest after as many seconds again.
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
        self._alarm = Alarm(self.sweep, timeout_s)

    def __len__(self) -> int:
        """Open turns."""
        return len(self._turns)

    @property
    def runs(self) -> int:
        """Runs of open turns."""
        return len(self._roots)

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
        self._tell(evicted)
        return turn

    def sweep(self) -> None:
        """Give up the turns that are too many or too old."""
        with self._lock:
            evicted = self._overdue()
        self._tell(evicted)

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

    def _tell(self, evicted: list[Turn]) -> None:
        if self._on_evict is not None:
            for turn in evicted:
                self._on_evict(turn)

    def _forget(self, turn: Turn) -> None:
        for run in turn.runs:
            self._roots.pop(run, None)

    def _overdue(self) -> list[Turn]:
        evicted = []
        limit = self._clock() - self._timeout_s
        while self._turns:
            oldest = next(iter(self._turns.values()))
            if len(self._turns) <= self._max_open and oldest.opened >= limit:
                self._alarm.set()
                break
            self._turns.popitem(last=False)
            self._forget(oldest)
            oldest.is_partial = True
            evicted.append(oldest)
        return evicted


class NamedTurns:
    """Recalls that wait for the answer of a turn its user named. Thread-safe; bounded in number and in time.

    A retriever and a model that are called separately are two runs without a common root. If both carry the same name,
    what the first recalled waits here until the second has answered.

    Args:
        on_evict: Called without the lock held with the recall ids of each turn that nobody answered.
        max_open: Turns kept; the oldest is given up beyond that.
        timeout_s: Seconds after which a turn is given up.
    """

    def __init__(
        self,
        on_evict: Callable[[list[str]], None],
        *,
        max_open: int = DEFAULT_MAX_OPEN,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Reentrant: the garbage collector may close an abandoned stream, which reports here, in the middle of anything.
        self._lock = threading.RLock()
        self._waiting: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()
        self._on_evict = on_evict
        self._max_open = max_open
        self._timeout_s = timeout_s
        self._clock = clock
        self._alarm = Alarm(self.sweep, timeout_s)

    def __len__(self) -> int:
        """Turns that wait."""
        return len(self._waiting)

    def wait(self, name: str, recall_ids: Iterable[str]) -> None:
        """Keep recalls until the turn's answer comes."""
        with self._lock:
            _, known = self._waiting.pop(name, (0.0, []))
            recall_ids = list(dict.fromkeys([*known, *recall_ids]))
            if recall_ids:
                self._waiting[name] = (self._clock(), recall_ids)
        self.sweep()

    def take(self, name: str) -> list[str]:
        """The recalls that wait for the turn's answer; they wait no longer."""
        with self._lock:
            return self._waiting.pop(name, (0.0, []))[1]

    def drain(self) -> list[str]:
        """Every recall that waits; none does any longer."""
        with self._lock:
            waiting = [recall_id for _, ids in self._waiting.values() for recall_id in ids]
            self._waiting.clear()
            return waiting

    def sweep(self) -> None:
        """Give up the turns that are too many or too old."""
        gone = []
        with self._lock:
            limit = self._clock() - self._timeout_s
            while self._waiting:
                at, recall_ids = next(iter(self._waiting.values()))
                if len(self._waiting) <= self._max_open and at >= limit:
                    self._alarm.set()
                    break
                self._waiting.popitem(last=False)
                gone.append(recall_ids)
        for recall_ids in gone:
            self._on_evict(recall_ids)


def turn_name(given: object) -> str | None:
    """The name a user gave to a turn in a framework's metadata or tags under `engram_turn`; None if there is none."""
    name = given.get(TURN_KEY) if isinstance(given, dict) else None
    return str(name)[:_MAX_NAME] if name else None
