"""Readers: open SQLite connections for single SELECTs and small records. A recall makes a dozen; it opens none itself.

Taking a connection from SQLAlchemy's pool and giving it back costs eight times what such a SELECT does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine

from engram_core.storage.forks import on_fork
from engram_core.storage.pool import PATIENCE_S

MAX_IDLE = 16


class Readers:
    """Connections that nobody uses now. Thread-safe; a fork waits until none is in use, and finds none open.

    Args:
        engine: Of SQLite; makes the connections.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._start()
        on_fork(before=self._before_fork, in_parent=self._reopen, in_child=self._start)

    def _start(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[Any] = []
        self._busy = 0
        self._is_closed = False

    def fetch(self, query: str, parameters: tuple[Any, ...]) -> list[Any]:
        """All rows of a SELECT. Raises what the driver raises."""
        # Not by `connection`: entering and leaving a context costs as much again as a small SELECT.
        connection = self._taken()
        try:
            rows: list[Any] = connection.execute(query, parameters).fetchall()
        except BaseException:
            self._give_back(None)
            connection.close()
            raise
        self._give_back(connection)
        return rows

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """A driver's connection outside any transaction, to be left outside one; closed if its user fails."""
        connection = self._taken()
        try:
            yield connection
        except BaseException:
            self._give_back(None)
            connection.close()
            raise
        self._give_back(connection)

    def _taken(self) -> Any:
        with self._changed:
            if self._is_closed:
                self._changed.wait_for(lambda: not self._is_closed, PATIENCE_S)
            self._busy += 1
            if self._idle:
                return self._idle.pop()
        try:
            fairy = self._engine.raw_connection()
            connection = fairy.dbapi_connection
            fairy.detach()
        except BaseException:
            self._give_back(None)
            raise
        return connection

    def _give_back(self, connection: Any) -> None:
        with self._changed:
            self._busy -= 1
            if connection is not None and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                connection = None
            if self._is_closed:
                self._changed.notify_all()
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the connections that are not in use; a later SELECT opens a new one."""
        with self._changed:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _before_fork(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not self._busy, PATIENCE_S)
        self.close()

    def _reopen(self) -> None:
        with self._changed:
            self._is_closed = False
            self._changed.notify_all()
