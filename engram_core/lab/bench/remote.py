"""Remote: a peer in its own environment, driven over a pipe by peers/serve.py. It starts one process and ends it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from engram_core.domain.errors import EngramError, InvalidInput
from engram_core.lab.bench.peers import Peer
from engram_core.lab.bench.subject import Embed, Found, Item

_QUIET: Final = {
    "ANONYMIZED_TELEMETRY": "False",
    "MEM0_TELEMETRY": "False",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""Environment variables by which peers stay silent and offline."""
_PATIENCE_S: Final = 10.0
_TAIL: Final = 400


class PeerFailed(EngramError):
    """A peer raised, or its process ended. The message has what it said."""


def interpreter(environment: Path) -> Path:
    """The Python of a virtual environment.

    Raises:
        InvalidInput: There is none.
    """
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.is_file():
        raise InvalidInput(
            f"{environment} holds no Python environment. `engram bench setup-peer NAME --into {environment}` makes one."
        )
    return python


class Remote:
    """A subject in another process.

    Args:
        peer: Whose class to run.
        python: Its environment's interpreter.
        embed: Asked whenever the peer wants vectors.
        folder: Where the peer may write.

    Raises:
        PeerFailed: It could not be opened; also raised by every method.
    """

    def __init__(self, peer: Peer, python: Path, embed: Embed, folder: Path) -> None:
        here = files("engram_core.lab.bench.peers")
        self._name = peer.name
        self._embed = embed
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _end
        self._seconds = 0.0
        self._is_gone = False
        # -P: the folder of the peers must not come first on the path, or mem0.py there would be mem0.
        self._process = subprocess.Popen(
            [str(python), "-P", str(here / "serve.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            cwd=folder,
            env={**_inherited(), **_QUIET},
        )
        try:
            self._ask(
                {
                    "do": "open",
                    "file": str(here / f"{peer.file}.py"),
                    "class": peer.owner,
                    "folder": str(folder),
                    "versions": [],
                }
            )
        except BaseException:
            self._end()
            raise

    @property
    def seconds(self) -> float:
        """What the last call took the peer, without waiting for vectors and without the pipe."""
        return self._seconds

    def add(self, items: Sequence[Item]) -> None:
        """Remember."""
        self._ask({"do": "add", "items": list(items)})

    def search(self, question: str, k: int) -> Sequence[Found]:
        """Up to k hits, best first."""
        return [(tuple(ids), text) for ids, text in self._ask({"do": "search", "question": question, "k": k})]

    def close(self) -> None:
        """Let the peer close, and end its process."""
        try:
            if not self._is_gone:
                self._ask({"do": "close"})
        finally:
            self._end()

    def _ask(self, request: dict[str, Any]) -> Any:
        self._send(request)
        while True:
            answer = self._receive()
            if "embed" in answer:
                self._send({"vectors": self._embed(answer["embed"])})
            elif "error" in answer:
                raise PeerFailed(f"{self._name}: {answer['error']}")
            else:
                self._seconds = float(answer["seconds"])
                return answer["result"]

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._gone() from error

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._gone()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _gone(self) -> PeerFailed:
        self._is_gone = True
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip()[-_TAIL:]
        return PeerFailed(f"{self._name}: its process ended. It said: {said or 'nothing'}")

    def _end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # the other side is gone, and nothing is left to write
                    pipe.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


def versions(peer: Peer, python: Path) -> str:
    """The versions of the packages a peer asks pip for, as they are in its environment."""
    names = [requirement.partition(">")[0].partition("=")[0] for requirement in peer.requires]
    code = (
        "import sys, importlib.metadata as m\n"
        "for n in sys.argv[1:]:\n"
        "    try: print(n, m.version(n))\n"
        "    except m.PackageNotFoundError: pass\n"
    )
    done = subprocess.run(
        [str(python), "-c", code, *names], capture_output=True, text=True, check=False, env=_inherited()
    )
    return ", ".join(done.stdout.split("\n")).strip(", ")


def _inherited() -> dict[str, str]:
    """This process's environment without what would lead the peer to our packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
