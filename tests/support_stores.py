"""Real databases and servers for tests: PostgreSQL if one answers, a Chroma server of our own, SQLite files."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DEFAULT_POSTGRES = "postgresql://postgres@127.0.0.1:5432/"


PLACES = ("memory", "sqlite", "server")
"""Where the stores of a test file's fixture are: in memory, in a directory, and on PostgreSQL with a Chroma server."""
PLACES_FULL = ("memory", "sqlite", pytest.param("server", marks=pytest.mark.full))
"""The same for a file whose behaviour hardly depends on it: server mode in the full form only."""


def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """What `Engram.open` takes for the place that a fixture's parameter names; on servers every scope is in the index."""
    match request.param:
        case "memory":
            return {"url": ":memory:"}
        case "sqlite":
            return {"url": tmp_path / "store"}
        case "server":
            url, server = (request.getfixturevalue(name) for name in ("postgres_url", "chroma_server"))
            return {"url": url, "index": server.url, "exact_limit": 0}
        case _:
            raise ValueError(request.param)


class Postgres:
    """A server on which databases can be made and thrown away."""

    def __init__(self, url: str) -> None:
        self.server = url.replace("postgresql+psycopg://", "postgresql://").rstrip("/")
        self._template: str | None = None
        self._shared: str | None = None
        self._made: list[str] = []

    def database(self) -> str:
        """The URL of a fresh database with the newest schema."""
        from engram_core.storage.ledger import SqlLedger

        if self._template is None:
            self._template = self._create("")
            SqlLedger(self._url(self._template)).close()
        return self._url(self._create(f"TEMPLATE {self._template}"))

    def shared(self) -> str:
        """The URL of one database for the whole session, emptied now: ten times faster than a new one."""
        import psycopg

        from engram_core.storage.schema import metadata

        if self._shared is None:
            self._shared = self.database()
        with psycopg.connect(self._shared, autocommit=True, connect_timeout=5) as connection:
            tables = ["fact_words", *(table.name for table in reversed(metadata.sorted_tables))]
            connection.execute(";".join(f'DELETE FROM "{name}"' for name in tables if name != "counter"))
        return self._shared

    def empty_database(self) -> str:
        """The URL of a fresh database without any table."""
        return self._url(self._create(""))

    def drop(self, url: str) -> None:
        self._run(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def close(self) -> None:
        for name in self._made:
            self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _create(self, how: str) -> str:
        name = f"engram_test_{uuid.uuid4().hex[:12]}"
        # The file copy strategy is several times faster than the default for a small template.
        self._run(f"CREATE DATABASE {name} {how} STRATEGY file_copy" if how else f"CREATE DATABASE {name}")
        self._made.append(name)
        return name

    def _url(self, name: str) -> str:
        return f"{self.server}/{name}"

    def _run(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(f"{self.server}/postgres", autocommit=True, connect_timeout=5) as connection:
            connection.execute(statement)


def find_postgres() -> Postgres | str:
    """The server of ENGRAM_TEST_POSTGRES or of this machine, or one line that says why there is none."""
    url = os.environ.get("ENGRAM_TEST_POSTGRES", DEFAULT_POSTGRES)
    try:
        import psycopg
    except ModuleNotFoundError:
        return "no PostgreSQL tests: psycopg is not installed"
    found = Postgres(url)
    try:
        psycopg.connect(f"{found.server}/postgres", connect_timeout=3).close()
    except psycopg.OperationalError as error:
        where = url.rpartition("@")[2]
        why = str(error).splitlines()[0]
        return f"no PostgreSQL tests: nothing usable at {where}; set ENGRAM_TEST_POSTGRES ({why})"
    return found


class ChromaServer:
    """A real `chroma run` of the installed package, on loopback only."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> ChromaServer:
        command = shutil.which("chroma", path=str(Path(sys.executable).parent)) or "chroma"
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--path", str(self.directory)]
        log = (self.directory.parent / f"{self.directory.name}.log").open("ab")
        with log:
            self._process = subprocess.Popen([command, "run", *where], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"chroma run did not come up on {self.url}")
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v2/heartbeat", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def pause(self) -> None:
        """Hang: connections are accepted and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def python(script: Path, *arguments: Any, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A Python process of the same interpreter running `script`; killed when the block is left, if it still runs."""
    command = [sys.executable, "-X", "faulthandler", str(script), *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
