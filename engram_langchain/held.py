"""Held: the prompt text of recalls under way, for one middleware. Bounded and short-lived; nothing here is stored."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from engram_core import Alarm

MAX_HELD: Final = 1000
TIMEOUT_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class _Entry:
    text: str
    turn: Hashable | None
    at: float


class Held:
    """Texts by recall id, and the recall of a turn. Thread-safe, bounded in number and time.

    Args:
        max_held: Recalls kept; the oldest is dropped beyond that.
        timeout_s: Seconds after which a recall whose turn never ended is dropped: with the next one, and in an idle
            process at the latest after as many seconds again.
    """

    def __init__(
        self,
        *,
        max_held: int = MAX_HELD,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Reentrant: the garbage collector may close an abandoned stream, which reports here, in the middle of anything.
        self._lock = threading.RLock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._by_turn: dict[Hashable, str] = {}
        self._max_held = max_held
        self._timeout_s = timeout_s
        self._clock = clock
        self._alarm = Alarm(self.sweep, timeout_s)

    def __len__(self) -> int:
        """Recalls held."""
        return len(self._entries)

    def sweep(self) -> None:
        """Drop the recalls that are too old."""
        with self._lock:
            self._prune()

    def put(self, recall_id: str, text: str, *, turn: Hashable | None = None) -> None:
        """Hold a recall's text, and note which turn it belongs to."""
        with self._lock:
            self._entries[recall_id] = _Entry(text, turn, self._clock())
            self._entries.move_to_end(recall_id)
            if turn is not None:
                self._by_turn[turn] = recall_id
            self._prune()

    def text(self, recall_id: str) -> str | None:
        """The text of a recall; None if it is no longer held."""
        with self._lock:
            entry = self._entries.get(recall_id)
            return None if entry is None else entry.text

    def of_turn(self, turn: Hashable | None) -> str | None:
        """The recall that was made for a turn; None if there is none, or it is no longer held."""
        with self._lock:
            self._prune()
            return self._by_turn.get(turn)

    def drop(self, recall_id: str) -> None:
        """The turn is over."""
        with self._lock:
            self._drop(recall_id)

    def _drop(self, recall_id: str) -> None:
        entry = self._entries.pop(recall_id, None)
        if entry is not None and self._by_turn.get(entry.turn) == recall_id:
            del self._by_turn[entry.turn]

    def _prune(self) -> None:
        limit = self._clock() - self._timeout_s
        while self._entries:
            recall_id, oldest = next(iter(self._entries.items()))
            if len(self._entries) <= self._max_held and oldest.at >= limit:
                self._alarm.set()
                return
            self._drop(recall_id)
