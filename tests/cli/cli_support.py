"""What the command line's tests need: commands in this process, and whole programs with pipes or a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from engram_core import Engram
from engram_core.cli.app import app

SCOPE = "acme/support/alice"
PROGRAM = (sys.executable, "-m", "engram_core.cli")


@dataclass(frozen=True)
class Said:
    """What a command wrote and how it ended."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, str]]:
        """The first table of a pipe's output, by heading."""
        heading, *lines = [line.split("\t") for line in self.out.split("\n\n")[0].splitlines()]
        return [dict(zip(heading, line, strict=True)) for line in lines]


@dataclass(frozen=True)
class Cli:
    """Runs commands on one store."""

    store: Path

    def run(self, *arguments: str, stdin: str | bytes | None = None) -> Said:
        """Run a command in this process, whatever its exit code."""
        result = CliRunner().invoke(app, ["--store", str(self.store), *arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    def __call__(self, *arguments: str, stdin: str | bytes | None = None) -> Said:
        """Run a command that must succeed."""
        said = self.run(*arguments, stdin=stdin)
        assert said.code == 0, said.err
        return said

    def json(self, *arguments: str, stdin: str | bytes | None = None) -> Any:
        """Run a command that must succeed and print one JSON document and nothing else."""
        return json.loads(self(*arguments, "--json", stdin=stdin).out)

    def program(self, *arguments: str, stdin: bytes = b"", **environment: str) -> Said:
        """Run the whole program with pipes."""
        done = subprocess.run(
            [*PROGRAM, *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
            env={**os.environ, "ENGRAM_URL": str(self.store), "PYTHONIOENCODING": "utf-8", **environment},
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def terminal(self, *arguments: str, columns: int = 100, **environment: str) -> str:
        """Run the whole program on a terminal and return everything it wrote there."""
        reader, writer = pty.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        plain = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}}
        settings = {**plain, "ENGRAM_URL": str(self.store), "TERM": "xterm-256color", **environment}
        process = subprocess.Popen([*PROGRAM, *arguments], stdin=writer, stdout=writer, stderr=writer, env=settings)
        os.close(writer)
        written = bytearray()
        try:
            while chunk := os.read(reader, 65_536):
                written += chunk
        except OSError:
            pass  # Linux says so when the other side of a terminal is gone
        finally:
            os.close(reader)
            process.wait(timeout=60)
        return written.decode().replace("\r\n", "\n")

    def ids(self, scope: str = SCOPE) -> list[str]:
        """Ids of a scope's facts, oldest first, read behind the command line's back."""
        with Engram.open(self.store) as engram:
            return [fact.id for fact in engram.memory(scope).list(status="all")]
