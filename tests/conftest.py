"""Fixtures shared by all tests: real PostgreSQL and Chroma servers, and ledgers on every backend."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_stores import ChromaServer, Postgres, find_postgres

from engram_core.ports import Ledger
from engram_core.storage.ledger import SqlLedger


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for throw-away databases, or a skip with one clear line."""
    found = find_postgres()
    if isinstance(found, str):
        pytest.skip(found)
    yield found
    found.close()


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """A migrated PostgreSQL database with nothing in it; the sequence numbers go on from earlier tests."""
    return postgres.shared()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the newest schema and nothing in it; copied, which is faster than migrating."""
    path = tmp_path_factory.mktemp("template") / "engram.db"
    SqlLedger(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """A fresh, migrated SQLite database."""
    path = tmp_path / "engram.db"
    shutil.copyfile(migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture
def open_sqlite(sqlite_url: str) -> Callable[[], Ledger]:
    """Opens the same SQLite ledger each time."""
    return lambda: SqlLedger(sqlite_url)


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    """A Chroma server for the whole session; use other collection names than your neighbours."""
    server = ChromaServer(tmp_path_factory.mktemp("chroma") / "data").start()
    yield server
    server.stop()
