"""Run by test_server_load.py: imports everything once and forks the writers it is asked for, one line of JSON.

Each writer opens the store itself, adds facts and recalls them as fast as it can, notes what happened in a file of its own,
and goes on through every trouble until the file `stop` appears beside the notes. Nothing is open when it forks.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import chromadb  # noqa: F401 - loaded before the fork, so that a writer starts in milliseconds
import httpx  # noqa: F401
import psycopg  # noqa: F401
import sqlalchemy.dialects.postgresql  # noqa: F401

from engram_core import ChromaServer, Engram
from engram_core.domain.errors import StoreUnavailable
from engram_core.testing.fakes import WordHashEmbedder

SCOPE = "acme/support/alice"
THINGS = "red green blue cat dog house lisbon train coffee rain tea music book garden winter phone".split()


def write(who: int, url: str, index: str, notes: str, exact_limit: int) -> None:
    """Add for ever; a call that was refused is made again until it is acknowledged, as its message says."""
    chance = random.Random(who)
    stop = Path(notes) / "stop"
    file = os.open(Path(notes) / f"{who}.notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what: str, id_: str, text: str) -> None:
        os.write(file, (json.dumps([what, id_, text]) + "\n").encode())

    server = ChromaServer(index, search_timeout=0.5, timeout=2.0)
    engram = Engram.open(url, index=server, embedder=WordHashEmbedder(), exact_limit=exact_limit)
    memory = engram.memory(SCOPE)
    note("opened", "", "")
    for number in range(10**9):
        if stop.exists():
            break
        time.sleep(0.02)  # load enough to be hit by everything, and cores left for whom it is about
        text = f"{' '.join(chance.sample(THINGS, 3))} w{who}n{number}"
        id_ = ""
        while not id_ and not stop.exists():
            started = time.monotonic()
            try:
                outcome = memory.add(text, session="shared").outcomes[0]
                id_ = outcome.fact_ids[0]
                note("added", id_, text)
            except StoreUnavailable as error:
                note("refused", f"{time.monotonic() - started:.2f}", str(error))
                time.sleep(0.05)
        if id_ and number % 4 == 0:
            started = time.monotonic()
            try:
                # Not the very words: a fact that only repeats the question is no answer.
                recall = memory.recall(f"What about {text}?", k=3)
                seen = id_ in {item.fact.id for item in recall.facts}
                note("recalled" if seen else "unseen", id_, f"{time.monotonic() - started:.2f} {recall.degraded}")
            except StoreUnavailable as error:
                note("refused", f"{time.monotonic() - started:.2f}", str(error))
    engram.close()
    note("closed", "", "")


def main() -> None:
    """Fork the writers, say their process ids, then wait for all and say how they ended."""
    request: dict[str, Any] = json.loads(sys.stdin.readline())
    children = []
    for who in range(request.pop("count")):
        child = os.fork()
        if child == 0:
            signal.alarm(300)
            try:
                write(who, **request)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        children.append(child)
    print(json.dumps(children), flush=True)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    main()
