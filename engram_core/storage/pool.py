"""A connection pool that stands still while the process forks. It counts who has a connection; it opens none itself."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from sqlalchemy.pool import QueuePool

PATIENCE_S = 5.0
"""How long a fork waits for connections in use; then it goes on, and the child may find the database locked."""
_TAKER = "engram_taker"


class Gate:
    """Counts connections in use by thread; a fork holds new ones back and waits until those in use are returned.

    Attributes:
        is_over: The store was closed: a connection that comes back late is closed, not kept.
    """

    def __init__(self) -> None:
        self.is_over = False
        self.open()

    def open(self) -> None:
        """Let everybody in; in a forked child nobody else is left inside."""
        self._changed = threading.Condition()
        self._inside: Counter[int] = Counter()
        self._is_closed = False

    def enter(self) -> int:
        """Wait while the gate is closed, then count this thread in; return how often it was in before.

        A thread that is in may enter again: it may need a second connection to finish with the first.
        """
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: not self._is_closed or me in self._inside, PATIENCE_S)
            self._inside[me] += 1
            return self._inside[me] - 1

    def leave(self, thread: int, times: int | None = None) -> None:
        """Count a thread out once, or down to `times`."""
        with self._changed:
            left = self._inside[thread] - 1 if times is None else times
            self._inside[thread] = left
            if left <= 0:
                del self._inside[thread]
            self._changed.notify_all()

    def close(self) -> None:
        """Hold back who comes, and wait until all others are out."""
        me = threading.get_ident()
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: all(thread == me for thread in self._inside), PATIENCE_S)

    def reopen(self) -> None:
        """The fork is over, in the parent."""
        with self._changed:
            self._is_closed = False
            self._changed.notify_all()


class GatedPool(QueuePool):
    """SQLAlchemy's pool behind a gate. `gate` is set once, on the engine's first pool."""

    gate: Gate

    def connect(self) -> Any:
        """See `sqlalchemy.pool.Pool.connect`."""
        me = threading.get_ident()
        before = self.gate.enter()
        try:
            connection = super().connect()
        except BaseException:
            self.gate.leave(me, before)
            raise
        connection.info[_TAKER] = me
        return connection

    def recreate(self) -> GatedPool:
        """See `sqlalchemy.pool.Pool.recreate`."""
        fresh = super().recreate()
        assert isinstance(fresh, GatedPool)
        fresh.gate = self.gate
        return fresh

    def _do_return_conn(self, record: Any) -> None:
        taker = record.info.pop(_TAKER, None)
        try:
            if self.gate.is_over:
                record.close()
                self._dec_overflow()
            else:
                super()._do_return_conn(record)
        finally:
            if taker is not None:
                self.gate.leave(taker)
