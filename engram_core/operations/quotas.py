"""Quotas: how many messages one origin may add. It counts in this process; it refuses nothing itself."""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import datetime
from typing import Final

from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.scope import Scope

_ORIGINS: Final = 10_000


class Quotas:
    """Messages per scope, principal and channel in this process, by minute and day. Thread-safe; bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: OrderedDict[tuple[Scope, str, str], tuple[int, int, int, int]] = OrderedDict()

    def take(self, origin: tuple[Scope, str, str], policy: MemoryPolicy, now: datetime) -> bool:
        """Count one message; False, and not counted, if it is beyond the policy's limits."""
        minute = int(now.timestamp() // 60)
        day = minute // 1440
        with self._lock:
            last_minute, in_minute, last_day, in_day = self._counts.get(origin, (minute, 0, day, 0))
            in_minute, in_day = (in_minute if last_minute == minute else 0), (in_day if last_day == day else 0)
            if in_minute >= policy.max_writes_per_minute or in_day >= policy.max_writes_per_day:
                return False
            self._counts[origin] = (minute, in_minute + 1, day, in_day + 1)
            self._counts.move_to_end(origin)
            while len(self._counts) > _ORIGINS:
                self._counts.popitem(last=False)
            return True
