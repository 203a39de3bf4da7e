"""Sandbox: one isolated process for one design and one scope. It starts, asks, caps and kills; it believes nothing.

The process gets no environment, no descriptor but two pipes, an empty directory and a session of its own; then it locks
itself in (`child`). From here come a deadline for every answer, a cap on its bytes, and a number drawn for each request
that its answer has to carry.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from engram_core.domain.errors import DesignFailed, SandboxUnavailable

_CHILD: Final = Path(__file__).with_name("child.py")
_HEADER: Final = struct.Struct(">I")
_MACHINES: Final = ("x86_64", "aarch64")
_CALLS: Final = 500
"""Requests after which a process is replaced: its processor time is limited for its whole life."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process may take.

    Attributes:
        seconds: For one answer, by the clock; 0.05 to 60.
        cpu_seconds: Processor time of the whole process.
        memory: Bytes of address space.
        answer: Bytes of one answer.
    """

    seconds: float = 2.0
    cpu_seconds: int = 20
    memory: int = 512 << 20
    answer: int = 2 << 20


class Sandbox:
    """A process that runs one design; started at the first call, and again when it died. Thread-safe.

    Args:
        source: The design's text.
        limits: See `Limits`.
    """

    def __init__(self, source: str, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self._source = source
        self._limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = ""
        self._calls = 0

    def call(self, function: str, arguments: Sequence[Any]) -> Any:
        """What a function of the design answers to JSON-able arguments. A claim: check every part of it.

        Raises:
            DesignFailed: It raised, took too long, answered too much or no JSON, or its process died.
            SandboxUnavailable: This machine cannot isolate it.
        """
        with self._lock:
            try:
                if self._process is None or self._calls >= _CALLS or self._process.poll() is not None:
                    self._stop()
                    self._start()
                self._calls += 1
                return self._asked({"call": function, "arguments": list(arguments)}, self._limits.seconds)
            except BaseException:
                # Whatever state it is in, the next request gets a new process.
                self._stop()
                raise

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._stop()

    def close(self) -> None:
        """Kill the process."""
        with self._lock:
            self._stop()

    # --- the process ---

    def _start(self) -> None:
        _known_machine()
        self._folder = tempfile.mkdtemp(prefix="engram-design-")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            env={},
            close_fds=True,
            start_new_session=True,
            bufsize=0,
        )
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self._calls = 0
        nonce = secrets.token_hex(16)
        deadline = time.monotonic() + max(10.0, self._limits.seconds)
        self._send({"memory": self._limits.memory, "seconds": self._limits.cpu_seconds, "nonce": nonce}, deadline)
        try:
            said = self._received(deadline)
        except DesignFailed as error:
            raise SandboxUnavailable(f"The isolated process did not start: {error}") from error
        if said.get("ready") != nonce:
            raise SandboxUnavailable(f"{said.get('unavailable', 'The isolated process did not lock in.')} {_INSTEAD}")
        self._asked({"source": self._source}, max(self._limits.seconds, 5.0))

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.wait()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    # --- the pipe ---

    def _asked(self, request: dict[str, Any], seconds: float) -> Any:
        nonce = secrets.token_hex(16)
        deadline = time.monotonic() + seconds
        self._send({**request, "nonce": nonce}, deadline)
        said = self._received(deadline)
        if said.get("nonce") != nonce:
            raise DesignFailed("The design's process answered something that it was not asked.")
        if "error" in said:
            raise DesignFailed(f"The design raised {str(said['error'])[:300]}")
        if "ok" not in said:
            raise DesignFailed("The design's process sent no answer.")
        return said["ok"]

    def _send(self, value: dict[str, Any], deadline: float) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        data = json.dumps(value, ensure_ascii=True).encode()
        data = _HEADER.pack(len(data)) + data
        pipe = self._process.stdin.fileno()
        view = memoryview(data)
        while view:
            _, ready, _ = select.select([], [pipe], [], max(deadline - time.monotonic(), 0.0))
            if not ready:
                raise DesignFailed("The design's process did not take its request in time.")
            try:
                view = view[os.write(pipe, view) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise DesignFailed(f"The design's process ended: {self._ending()}") from error

    def _received(self, deadline: float) -> dict[str, Any]:
        (size,) = _HEADER.unpack(self._exactly(_HEADER.size, deadline))
        if size > self._limits.answer:
            raise DesignFailed(f"The design answered {size:,} bytes; {self._limits.answer:,} are allowed.")
        try:
            value = json.loads(self._exactly(size, deadline))
        except (ValueError, RecursionError) as error:
            raise DesignFailed("The design's process answered no JSON.") from error
        if not isinstance(value, dict):
            raise DesignFailed("The design's process answered no object.")
        return value

    def _exactly(self, size: int, deadline: float) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        parts: list[bytes] = []
        while size:
            ready, _, _ = select.select([pipe], [], [], max(deadline - time.monotonic(), 0.0))
            if not ready:
                raise DesignFailed(f"The design gave no answer within {self._limits.seconds:g} s.")
            with contextlib.suppress(BlockingIOError):
                part = os.read(pipe, min(size, 1 << 16))
                if not part:
                    raise DesignFailed(f"The design's process ended: {self._ending()}")
                parts.append(part)
                size -= len(part)
        return b"".join(parts)

    def _ending(self) -> str:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(1.0)
            return f"signal {-code}" if code < 0 else f"exit {code}"
        return "its pipe is closed"


_INSTEAD: Final = "Use a genome, or run where Linux grants seccomp."


def _known_machine() -> None:
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        raise SandboxUnavailable(
            f"Code designs run on Linux on {' and '.join(_MACHINES)}; this is {sys.platform} on {platform.machine()}. "
            f"{_INSTEAD}"
        )


@cache
def require_sandbox() -> None:
    """Raise SandboxUnavailable unless a process can be locked in here. Tried once."""
    box = Sandbox("def update(*a): return []\ndef retrieve(*a): return []\ndef sleep(*a): return []\n")
    try:
        box.call("sleep", [{}])
    finally:
        box.close()
