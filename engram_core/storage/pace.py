"""Pace: how much to write into the index at once. It counts and times; it writes nothing.

A query waits while the index is written to. With nobody asking, large batches are cheapest; while recalls come, a batch
is as large as what a recall may wait, and a rest follows it, so that recalls that queued up get their turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable

WHOLE = 200
SMALLEST = 10
STALL_S = 0.015
"""How long a recall may have to wait for one batch, about."""
ASKED_S = 2.0
"""So long after a question more are expected."""
FAR_BEHIND = 1_000
"""Changes behind from which catching up comes first: a recall would soon have to search everything itself."""


class Pace:
    """Batch sizes of one index.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked = float("-inf")
        self._size = float(WHOLE)

    def asked(self) -> None:
        """A recall asks the index now."""
        self._asked = self._clock()

    def batch(self, behind: int) -> int:
        """How many changes to apply next, of so many that are due."""
        return WHOLE if behind > FAR_BEHIND or not self._is_asked() else round(self._size)

    def rest(self, applied: int, seconds: float, behind: int) -> float:
        """Seconds to rest after a batch of `applied` changes that took `seconds`."""
        if not self._is_asked():
            return 0.0
        if applied and seconds > 0:
            # Halfway to what would have taken just as long as it may.
            fitting = min(max(applied * STALL_S / seconds, SMALLEST), WHOLE)
            self._size = (self._size + fitting) / 2
        return 0.0 if behind > FAR_BEHIND else seconds

    def _is_asked(self) -> bool:
        return self._clock() - self._asked < ASKED_S
