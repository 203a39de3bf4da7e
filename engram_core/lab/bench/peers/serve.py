"""Serve: runs one peer's class in its own environment and talks JSON lines with the bench. Standard library only.

Requests come on stdin: open, add, search, close. Answers go to stdout, with the seconds the peer took. When the peer
wants vectors, an answer is a question back: {"embed": [...]}, and the next line on stdin holds them. Whatever the peer
prints goes to stderr. It may talk to this machine only: every other connection is refused.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any


class Wire:
    """Lines of JSON on what were stdin and stdout."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        self._in = os.fdopen(os.dup(0), encoding="utf-8")
        os.dup2(2, 1)  # what the peer prints must not stand between the answers
        self._asking = threading.Lock()
        self.waited = 0.0

    def send(self, message: dict[str, Any]) -> None:
        """One line."""
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def receive(self) -> dict[str, Any] | None:
        """The next line; None when there are no more."""
        line = self._in.readline()
        return json.loads(line) if line else None

    def embed(self, texts: list[str]) -> list[list[float]]:
        """Vectors from the host. Time spent here is not the peer's."""
        with self._asking:
            started = time.perf_counter()
            self.send({"embed": list(texts)})
            answer = self.receive()
            self.waited += time.perf_counter() - started
            if answer is None:
                raise EOFError("the bench is gone")
            vectors: list[list[float]] = answer["vectors"]
            return vectors


def keep_local() -> None:
    """Refuse connections to other machines; a benchmark of memories on one machine needs none."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            host = str(arguments[1][0])
            if host not in {"127.0.0.1", "::1", "localhost"}:
                raise PermissionError(f"the bench lets no memory connect to {host}")

    sys.addaudithook(watch)


def loaded(file: str, owner: str) -> Any:
    """A class from a file."""
    spec = importlib.util.spec_from_file_location("bench_peer", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, owner)


def version(name: str) -> str:
    """A distribution's version, or "" if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def carry_out(request: dict[str, Any], peer: Any, wire: Wire) -> Any:
    """One request on an open peer."""
    if request["do"] == "add":
        return peer.add(request["items"])
    if request["do"] == "search":
        return [[list(ids), text] for ids, text in peer.search(request["question"], request["k"])]
    return peer.close()


def main() -> None:
    """Answer until the bench hangs up."""
    wire = Wire()
    keep_local()
    peer: Any = None
    while (request := wire.receive()) is not None:
        started, wire.waited = time.perf_counter(), 0.0
        try:
            if request["do"] == "open":
                peer = loaded(request["file"], request["class"])(wire.embed, Path(request["folder"]))
                result: Any = {name: version(name) for name in request["versions"]}
            else:
                result = carry_out(request, peer, wire)
        except Exception as error:  # noqa: BLE001 - the edge of foreign code: told to the bench, which says so
            wire.send({"error": f"{type(error).__name__}: {error}"})
            continue
        wire.send({"result": result, "seconds": time.perf_counter() - started - wire.waited})


if __name__ == "__main__":
    main()
