"""Logbook: writes down recalls without making them wait for another writer. It decides nothing and loses nothing.

SQLite has one writer at a time. A recall that finds it at work leaves its record here, and a thread writes it as soon
as it can; whoever reads recalls waits for that first. A power cut may lose the last records, and so may a kill while
another writer holds the database; never an acknowledged fact.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from engram_core.domain.errors import EngramError
from engram_core.storage.forks import on_fork

logger = logging.getLogger("engram")

MOST_WAITING = 1_000
"""Records that may wait; the next recall then waits with them."""
Write = Callable[[], None]


class Logbook:
    """Records that could not be written at once, in order. Thread-safe."""

    def __init__(self) -> None:
        self._start()
        on_fork(in_child=self._start)

    def _start(self) -> None:
        # A forked child starts empty: what waits is its parent's to write.
        self._waiting: deque[Write] = deque()
        self._lock = threading.Lock()
        self._writing = threading.RLock()
        self._thread: threading.Thread | None = None

    def note(self, at_once: Callable[[], bool], patiently: Write) -> None:
        """Write now if nobody else is writing, else soon.

        Args:
            at_once: Writes, or returns False at once because another writer is at work.
            patiently: Writes, waiting for its turn.
        """
        if not self._waiting and at_once():
            return
        with self._lock:
            self._waiting.append(patiently)
            is_full = len(self._waiting) > MOST_WAITING
            if self._thread is None:
                self._thread = threading.Thread(target=self._catch_up, name="engram-logbook", daemon=True)
                self._thread.start()
        if is_full:
            self.flush()

    def flush(self) -> None:
        """Write what waits, before this returns. Raises StoreUnavailable; what could not be written waits on."""
        while self._waiting:
            with self._writing:
                if self._waiting:
                    self._waiting[0]()
                    self._waiting.popleft()

    def _catch_up(self) -> None:
        try:
            while True:
                self.flush()
                with self._lock:
                    if not self._waiting:
                        self._thread = None
                        return
        except EngramError as error:
            logger.warning("engram: %d records of recalls wait: %s", len(self._waiting), error)
            with self._lock:
                self._thread = None
