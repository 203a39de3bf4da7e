"""A store in another process, driven line by line: `Remote` is the caller's side, `main` the process.

Commands and answers are JSON lines. The process can be killed at any time, which is what it is for.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SCOPE = "acme/support/alice"


class RemoteDied(Exception):
    """The process ended or did not answer in time."""


class Remote:
    """One other process with at most one open store."""

    def __init__(self, *, timeout: float = 60.0) -> None:
        self._timeout = timeout
        command = [sys.executable, "-X", "faulthandler", str(Path(__file__).resolve())]
        # Unbuffered: a line that waits in a buffer would be invisible to select.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.pid = self._process.pid

    def ask(self, command: str, **arguments: Any) -> Any:
        """Run a command there and return its answer. Raises RemoteDied."""
        self.send(command, **arguments)
        return self.answer()

    def send(self, command: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([command, arguments]).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise RemoteDied(f"exit code {self._process.wait(10)}") from error

    def answer(self) -> Any:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], self._timeout)
        if not ready:
            self.kill()
            raise RemoteDied(f"no answer within {self._timeout} s")
        line = self._process.stdout.readline()
        if not line:
            raise RemoteDied(f"exit code {self._process.wait(10)}")
        kind, value = json.loads(line)
        if kind == "error":
            raise RuntimeError(f"in the other process: {value}")
        return value

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        self._process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def answers(recall: Any) -> list[list[Any]]:
    """What a recall found, comparable between stores: texts with their scores."""
    return [[item.fact.text, round(item.score, 4)] for item in recall.facts]


class _Server:
    def __init__(self) -> None:
        self.engram: Any = None

    def open(self, url: str, **options: Any) -> bool:
        from engram_core import Engram
        from engram_core.testing.fakes import WordHashEmbedder

        self.engram = Engram.open(url, embedder=WordHashEmbedder(), **options)
        return True

    def add(self, texts: list[str], scope: str = SCOPE, **options: Any) -> list[str]:
        return [fact.id for fact in self.engram.memory(scope).add(texts, **options).facts]

    def recall(self, query: str, k: int = 8, scope: str = SCOPE) -> dict[str, Any]:
        recall = self.engram.memory(scope).recall(query, k=k, max_tokens=100_000)
        return {"facts": answers(recall), "degraded": recall.degraded}

    def open_plain(self, url: str, **options: Any) -> bool:
        """Open with the default embedder."""
        from engram_core import Engram

        self.engram = Engram.open(url, index="exact", **options)
        return True

    def sleep(self, now: str) -> dict[str, int]:
        from datetime import datetime

        return dict(self.engram.sleep(now=datetime.fromisoformat(now)).totals)

    def texts(self, scope: str = SCOPE) -> list[str]:
        return [fact.text for fact in self.engram.memory(scope).list(limit=10_000)]

    def flush(self, timeout: float = 60.0) -> bool:
        return bool(self.engram.flush(timeout))

    def settle(self, seconds: float = 30.0) -> bool:
        """Wait, recalling, until the index answers; False if it does not in time."""
        deadline = time.monotonic() + seconds
        while self.recall("settled?")["degraded"]:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def index(self) -> dict[str, Any]:
        return dict(self.engram.doctor()["index"])

    def reindex(self) -> int:
        return int(self.engram.reindex()["vectors"])

    def close(self) -> bool:
        self.engram.close()
        return True


def main() -> None:
    """Answer commands until standard input ends."""
    server = _Server()
    for line in sys.stdin:
        command, arguments = json.loads(line)
        try:
            reply = ["value", getattr(server, command)(**arguments)]
        except Exception as error:
            reply = ["error", f"{type(error).__name__}: {error}"]
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
