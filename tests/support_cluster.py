"""A PostgreSQL server of our own, to be killed, stopped and restarted; the shared one is never touched."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

_HOMES = ("/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt/postgresql", "/usr/pgsql")
_USER = "postgres"


def binaries() -> Path | None:
    """Where `initdb` and `postgres` are; the newest if there are several."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    homes = [path for home in _HOMES for path in Path(home).glob("**/bin/initdb")]
    return max(homes).parent if homes else None


def as_another_user() -> list[str] | None:
    """The prefix that runs a command as somebody who may run PostgreSQL; None if there is nobody."""
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam(_USER)
    except KeyError:
        return None
    return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"] if shutil.which("setpriv") else None


def _quiet_port() -> int:
    """A free port that the system gives to nobody by itself: clients that call a stopped server would get it else."""
    for port in random.Random().sample(range(20_000, 30_000), 50):
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


class Cluster:
    """One throw-away PostgreSQL server on loopback."""

    def __init__(self, directory: Path) -> None:
        home, prefix = binaries(), as_another_user()
        if home is None or prefix is None or not Path("/proc/self").exists():
            pytest.skip("no tests that stop PostgreSQL: no initdb here, or nobody to run it as")
        self._home, self._prefix = home, prefix
        self._data = directory / "data"
        self.port = _quiet_port()
        self.url = f"postgresql://{_USER}@127.0.0.1:{self.port}/{_USER}"
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        if prefix:
            shutil.chown(directory, _USER)
            for above in [*directory.parents][:-1]:
                # pytest's directories let nobody else in; this one must be reached.
                if above.stat().st_uid == os.geteuid() and above.is_relative_to("/tmp"):
                    above.chmod(above.stat().st_mode | 0o011)
        self._run("initdb", "-D", self._data, "-U", _USER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")

    def _run(self, name: str, *arguments: object) -> None:
        command = [*self._prefix, str(self._home / name), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
        assert done.returncode == 0, done.stderr

    def start(self) -> Cluster:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 200,
            "shared_buffers": "16MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*self._prefix, str(self._home / "postgres"), "-D", str(self._data), *options]
        log = self._data.with_suffix(".log")
        deadline = time.monotonic() + 60
        with log.open("ab") as said:
            self._process = subprocess.Popen(command, cwd="/", stdout=said, stderr=said)
            while not self._answers():
                assert time.monotonic() < deadline, f"PostgreSQL did not come up:\n{log.read_text()[-2_000:]}"
                time.sleep(0.05)
                if self._process.poll() is not None:
                    # Something of the killed one is still there, its port or its shared memory: as a supervisor would.
                    time.sleep(0.5)
                    self._process = subprocess.Popen(command, cwd="/", stdout=said, stderr=said)
        return self

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def fresh(self) -> None:
        """Empty: no table, and nobody connected."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the server, its head first."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        for pid in [self._process.pid, *map(int, children.read_text().split())]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL to all, as when the machine takes the container away."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop as an operator does, cutting every connection, and start again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)
        self.start()

    def pause(self) -> None:
        """Hang: connections are there and nothing answers."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)
