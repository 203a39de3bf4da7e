"""PostgreSQL connections: bounded pools, and patience that ends. It opens connections; it knows no table."""

from __future__ import annotations

import math
import select
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, fields
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DisconnectionError

from engram_core.domain.errors import InvalidInput
from engram_core.storage.pool import GatedPool

LOCK_TIMEOUT_S = 30
"""How long a statement waits for another process's lock: as long as on SQLite."""
IDLE_TIMEOUT_S = 300
"""After how long the server ends a transaction whose process went silent, and its locks with it."""

ANSWER_TIMEOUT_S = 60.0
QUIET_S = 30.0
"""A connection that was idle for longer is asked whether it lives: something on the way may have forgotten it."""
_USED = "engram_used"


@dataclass(frozen=True, slots=True)
class Options:
    """What the URL's query may say about connections; everything else in it is PostgreSQL's.

    A process holds at most 2 * (`pool_size` + `max_overflow`) connections: one pool writes, one reads and observes.

    Attributes:
        pool_size: Connections per pool that stay open.
        max_overflow: Connections per pool beyond those, closed when they are not needed.
        pool_timeout: Seconds to wait for a connection when all are in use.
        pool_recycle: Age in seconds after which a connection is replaced.
        connect_timeout: Seconds to wait for a server that does not answer a new connection.
        answer_timeout: Seconds to wait for an answer to one statement; then the connection is given up.
    """

    pool_size: int = 5
    max_overflow: int = 5
    pool_timeout: float = 30.0
    pool_recycle: float = 1800.0
    connect_timeout: int = 10
    answer_timeout: float = ANSWER_TIMEOUT_S


def options_of(url: URL) -> tuple[URL, Options]:
    """Take our options out of a URL's query. Raises InvalidInput for one that is no number in range."""
    chosen: dict[str, Any] = {}
    for field in fields(Options):
        if field.name in url.query:
            chosen[field.name] = _number(field.name, url.query[field.name], whole=field.type == "int")
    return url.difference_update_query(chosen), Options(**chosen)


def _number(name: str, value: Any, *, whole: bool) -> float:
    least = 0 if name == "max_overflow" else 1 if whole else 0.1
    try:
        number = int(value) if whole else float(value)
    except (TypeError, ValueError):
        number = -1
    if not math.isfinite(number) or number < least:
        kind = "a whole number" if whole else "a number"
        raise InvalidInput(f"{name}={value} in the database URL must be {kind} of at least {least}.")
    return number


def engine(url: URL, options: Options, synchronous_commit: str, *, autocommit: bool) -> Engine:
    """An engine whose connections are looked at before use, so that a restarted server is met with new ones.

    Args:
        url, options: The server, and how to connect to it.
        synchronous_commit: Whether a commit waits for the disk, `on` or `off`.
        autocommit: A statement is a transaction of its own, at the price of itself, where nobody begins one.
    """
    settings = [
        # Before the user's own, which win. A ledger's rows are found one by one; the server's default is for disks that
        # turn, and reads a new table whole while nothing has counted its rows.
        "-c random_page_cost=1.1",
        *([url.query["options"]] if "options" in url.query else []),
        f"-c synchronous_commit={synchronous_commit}",
        f"-c lock_timeout={LOCK_TIMEOUT_S}s",
        f"-c idle_in_transaction_session_timeout={IDLE_TIMEOUT_S}s",
    ]
    made = create_engine(
        url,
        poolclass=GatedPool,
        pool_size=options.pool_size,
        max_overflow=options.max_overflow,
        pool_timeout=options.pool_timeout,
        pool_recycle=options.pool_recycle,
        pool_use_lifo=True,  # the one that was used last knows the statements, and is the least likely to be cut
        pool_reset_on_return=None,
        connect_args={"options": " ".join(map(str, settings)), "connect_timeout": options.connect_timeout},
        **({"isolation_level": "AUTOCOMMIT"} if autocommit else {}),
    )

    @event.listens_for(made, "do_connect")
    def connect(_dialect: object, _record: object, arguments: Any, named: Any) -> PatientConnection:
        return PatientConnection.connect(*arguments, **named)

    @event.listens_for(made, "checkout")
    def checkout(connection: PatientConnection, record: Any, _proxy: object) -> None:
        connection.answer_timeout = options.answer_timeout
        idle = time.monotonic() - record.info.get(_USED, time.monotonic())
        if (idle > QUIET_S or connection.has_news()) and not _lives(made, connection):
            raise DisconnectionError("the server has closed an idle connection")

    @event.listens_for(made, "reset")
    def reset(connection: PatientConnection, record: Any, _state: object) -> None:
        # Only where a transaction is open: telling the server to end none is a round trip for nothing.
        if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
            connection.rollback()
        record.info[_USED] = time.monotonic()

    return made


def _lives(engine: Engine, connection: PatientConnection) -> bool:
    try:
        return engine.dialect.do_ping(connection)  # type: ignore[arg-type]
    except psycopg.Error:
        return False


def take_time(connection: Connection) -> None:
    """Let this transaction's statements and pauses last: a migration or a copy is slow, and nobody waits for it."""
    driver = connection.connection.driver_connection
    if isinstance(driver, PatientConnection):
        driver.answer_timeout = None
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


class PatientConnection(psycopg.Connection[Any]):
    """A connection that waits for an answer only so long: a server that hangs must not hang whoever asks it."""

    answer_timeout: float | None = ANSWER_TIMEOUT_S

    def has_news(self) -> bool:
        """Whether the server has said something unasked, as it does when it closes an idle connection."""
        if self.closed:
            return True
        if sys.platform == "win32":
            return bool(select.select([self.fileno()], [], [], 0)[0])
        listening = select.poll()  # `select` takes no number above 1,023 here
        listening.register(self.fileno(), select.POLLIN)
        return bool(listening.poll(0))

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """See `psycopg.Connection.wait`."""
        if self.answer_timeout is None:
            return super().wait(gen, *args, **kwargs)
        return super().wait(self._until(gen, self.answer_timeout), *args, **kwargs)

    def _until(self, gen: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
        deadline = time.monotonic() + seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    # Whatever comes now belongs to a statement that nobody waits for: the connection is of no use.
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"the server did not answer within {seconds:g} seconds")
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value
