"""Recorder: notes of reads on their way to the audit. It gathers and hands over; it loses none, and decides nothing.

Writes of facts are noted in their own transactions, and what else is done here, at once. A read only lines up: a daemon
thread takes what waits to the ledger every second, or as soon as a few hundred wait. Once `MAX_WAITING` wait, the next
reader writes them itself.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final, Literal

from engram_core.domain.audit import AuditEntry
from engram_core.domain.errors import EngramError, InvalidInput
from engram_core.ports import AuditBook

Mode = Literal["strict", "batched", "off"]
MODES: Final = ("strict", "batched", "off")
MANY: Final = 256
MAX_WAITING: Final = 4_096
INTERVAL_S: Final = 1.0

logger = logging.getLogger("engram")


class Recorder:
    """Where operations note reads and refusals.

    Args:
        book: Where the entries go.
        mode: `strict` writes each before its call returns; `batched` within a second or so; `off` notes no reads.
            Refusals and alarms are noted in every mode.

    Raises:
        InvalidInput: There is no such mode.
    """

    def __init__(self, book: AuditBook, mode: str = "batched") -> None:
        if mode not in MODES:
            raise InvalidInput(f"audit is one of {', '.join(MODES)}; not {mode!r}.")
        self.mode = mode
        self._book = book
        self._begin()

    def _begin(self) -> None:
        # A forked child starts with nothing: what waits belongs to its parent, and so does the thread.
        self._pid = os.getpid()
        self._waiting: deque[AuditEntry] = deque()
        self._writing = threading.Lock()
        self._due = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    def note(self, entry: AuditEntry) -> None:
        """Note something. Raises StoreUnavailable where it is written at once and cannot be."""
        is_done = entry.verb != "read" and entry.decision == "allowed"
        if self.mode == "off" and entry.decision == "allowed" and not is_done:
            return
        if os.getpid() != self._pid:
            self._begin()
        self._waiting.append(entry)
        if is_done or self.mode == "strict" or self._closed or len(self._waiting) >= MAX_WAITING:
            self.flush()
            return
        if self._thread is None:
            self._start()
        if len(self._waiting) >= MANY:
            self._due.set()

    def flush(self) -> None:
        """Write what waits. Raises StoreUnavailable; it goes on waiting then."""
        with self._writing:
            while self._waiting:
                batch = [self._waiting[place] for place in range(min(len(self._waiting), MAX_WAITING))]
                self._book.append(batch)
                self._drop(batch)

    def close(self) -> None:
        """Write what waits and stop; what is noted later is written at once."""
        self._closed = True
        self._due.set()
        if self._thread is not None and os.getpid() == self._pid:
            self._thread.join(timeout=30)
        self.flush()

    def _drop(self, written: Sequence[AuditEntry]) -> None:
        for _ in written:
            self._waiting.popleft()

    def _start(self) -> None:
        with self._writing:
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="engram-audit", daemon=True)
                self._thread.start()

    def _loop(self) -> None:
        while not self._closed:
            self._due.wait(INTERVAL_S)
            self._due.clear()
            try:
                self.flush()
            except EngramError as error:
                logger.warning("engram: the audit could not be written and waits: %s", error)
