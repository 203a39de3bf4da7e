"""Database engines and their settings. It opens connections; it knows no table.

Two engines per store: `writer` is durable (a commit is on disk), `observer` reads and records what may be lost in a
power cut (recalls, usage) without waiting for the disk.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, Connection, Engine, PoolProxiedConnection, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from engram_core.domain.errors import InvalidInput, MissingExtra
from engram_core.storage.forks import on_fork
from engram_core.storage.pool import Gate, GatedPool

BUSY_TIMEOUT_MS = 30_000
CHECKPOINT_PAGES = 4_000
"""Pages of SQLite's log (16 MB) after which it is copied into the database. An add touches some thirty, mostly the
same ones as the add before it: the more adds one copy covers, the less it writes."""
_READS = "engram_reads"
"""Execution option of a connection whose transaction writes nothing."""
_POOL: dict[str, Any] = {"poolclass": GatedPool, "pool_size": 8, "max_overflow": 56, "pool_timeout": 30}


@dataclass(frozen=True)
class Engines:
    """The two engines of one database.

    A connection must not cross a fork. Two processes would talk over one PostgreSQL socket; SQLite's locks stay
    behind, so that a parent that closes removes the log in which its child goes on writing; and a transaction that was
    open in another thread would stay open in the child for ever.
    """

    writer: Engine
    observer: Engine

    def __post_init__(self) -> None:
        gate = Gate()
        for engine in (self.writer, self.observer):
            assert isinstance(engine.pool, GatedPool)
            engine.pool.gate = gate
        on_fork(before=self._before_fork, in_parent=gate.reopen, in_child=self._in_child)

    def _before_fork(self) -> None:
        self._gate.close()
        self.dispose()

    def _in_child(self) -> None:
        self._gate.open()
        # Whatever was in use belongs to the parent, and the old pools' locks may never be released here.
        self.writer.dispose(close=False)
        self.observer.dispose(close=False)

    @property
    def _gate(self) -> Gate:
        assert isinstance(self.writer.pool, GatedPool)
        return self.writer.pool.gate

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.writer.dialect.name

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that waits for no writer. On SQLite it sees the database as it was at its first query."""
        with self.observer.connect() as connection:
            yield connection.execution_options(**{_READS: True})

    @contextmanager
    def observing(self) -> Iterator[Connection]:
        """A transaction whose commit does not wait for the disk."""
        options: dict[str, Any] = {} if self.dialect == "sqlite" else {"isolation_level": "READ COMMITTED"}
        with self.observer.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection that sees the database as it was at its first query, for as long as it is open."""
        with self.observer.connect() as connection:
            if self.dialect == "sqlite":
                yield connection.execution_options(**{_READS: True})
            else:
                yield connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def take_time(self, connection: Connection) -> None:
        """Let a transaction be slow where nobody waits for it; the database's limits are for those who do."""
        if self.dialect == "postgresql":
            from engram_core.storage.postgres import take_time  # noqa: PLC0415 - psycopg is an extra

            take_time(connection)

    def close(self) -> None:
        """Close every connection for good: those that are not in use now, the others when they are returned."""
        self._gate.is_over = True
        self.dispose()

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.writer.dispose()
        self.observer.dispose()


def open_engines(url: str) -> Engines:
    """Engines for a SQLAlchemy URL; opens no connection.

    Raises:
        InvalidInput: Not a SQLite or PostgreSQL URL.
        MissingExtra: PostgreSQL without psycopg installed.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        return Engines(_sqlite(parsed, "FULL"), _sqlite(parsed, "NORMAL"))
    return Engines(_postgres(parsed, "on", autocommit=False), _postgres(parsed, "off", autocommit=True))


def let_go(connection: PoolProxiedConnection, error: BaseException) -> bool:
    """Throw a connection away that trouble has closed, so that nobody gets it again; whether it was."""
    if not getattr(connection.dbapi_connection, "closed", False):
        return False
    connection.invalidate(error)
    return True


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        if parsed.drivername in {"postgresql", "postgres"}:
            parsed = parsed.set(drivername="postgresql+psycopg")
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError) as error:
        raise InvalidInput(f"{url!r} is not a database URL: {error}") from error
    if backend not in {"sqlite", "postgresql"}:
        raise InvalidInput(f"The ledger runs on SQLite or PostgreSQL, not on {backend!r}.")
    return parsed


def _sqlite(url: URL, synchronous: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "isolation_level": None}, **_POOL)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        _use_wal(cursor)
        for pragma in (
            f"synchronous={synchronous}",
            "foreign_keys=ON",
            "secure_delete=ON",
            "cache_size=-32768",
            f"wal_autocheckpoint={CHECKPOINT_PAGES}",
            "mmap_size=1073741824",
            "temp_store=MEMORY",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        # IMMEDIATE: a writer waits for its turn at the start instead of failing in the middle.
        mode = "DEFERRED" if connection.get_execution_options().get(_READS) else "IMMEDIATE"
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """Switch to WAL. The mode is a property of the file, and switching takes a lock, so only where it is needed."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # Another process switches, too: this is the one lock that SQLite's own time-out does not wait for.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _postgres(url: URL, synchronous_commit: str, *, autocommit: bool) -> Engine:
    try:
        from engram_core.storage import postgres  # noqa: PLC0415 - psycopg is an extra
    except ModuleNotFoundError as error:
        raise MissingExtra('PostgreSQL needs psycopg: pip install "engram-agent-memory[postgres]"') from error
    bare, options = postgres.options_of(url)
    return postgres.engine(bare, options, synchronous_commit, autocommit=autocommit)
