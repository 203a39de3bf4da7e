"""Brings a database to the newest schema. Alembic is imported only when something has to be done."""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from engram_core.domain.errors import SchemaTooNew
from engram_core.storage.engines import Engines
from engram_core.storage.schema import HEAD

_LOCK = 0x656E6772  # any constant: the advisory lock that keeps two starting processes from migrating at once

_alembic = threading.Lock()


def migrate(engines: Engines) -> None:
    """Upgrade to `HEAD` in one transaction; does nothing when it is there already.

    Raises:
        SchemaTooNew: The store was written by a newer Engram.
    """
    if revision(engines) == HEAD:
        return
    with engines.writer.begin() as connection:
        engines.take_time(connection)
        if engines.dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        if _revision(connection) != HEAD:
            _upgrade(connection)


def revision(engines: Engines) -> str | None:
    """The migration a database is at; None where no ledger was ever opened. Changes nothing."""
    with engines.reading() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    # Alembic keeps what it is doing in module globals: two threads that create two stores would mix them up.
    with _alembic:
        _run_scripts(connection)


def _run_scripts(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - costs 150 ms and is needed once per store
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SchemaTooNew(
            f"This store has schema {_revision(connection)!r}, newer than this Engram's {HEAD!r}. Upgrade Engram."
        ) from error
