"""Run by test_fork.py: opens a store, forks, and lets parent and child go on. Exit code 0 when both did well."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any

import uuid_utils

from engram_core import Engram
from engram_core.domain.scope import Scope
from engram_core.testing import samples
from engram_core.testing.fakes import WordHashEmbedder

SCOPE = "acme/support/alice"


def found(engram: Engram) -> list[Any]:
    recall = engram.memory(SCOPE).recall("red cat house", k=8, max_tokens=100_000)
    return [[item.fact.text, round(item.score, 4)] for item in recall.facts]


def texts(prefix: str, count: int) -> list[str]:
    return [f"{prefix} {number}: the red cat sat in house number {number}" for number in range(count)]


def main(url: str, index: str, how: str) -> int:
    signal.alarm(50)  # a hang ends the test with a signal instead of its own time-out
    engram = Engram.open(url, index=index or None, embedder=WordHashEmbedder(), exact_limit=20)
    memory = engram.memory(SCOPE)
    memory.add(texts("before", 60))
    assert engram.flush()
    before = found(engram)
    stop = threading.Event()
    busy = [threading.Thread(target=_work_until, args=(engram, stop)) for _ in range(2)] if how == "busy" else []
    for thread in busy:
        thread.start()
    reader, writer = os.pipe()
    gate, opener = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.close(opener)
        signal.alarm(40)
        answer = _in_child(engram, before, gate, how)
        os.write(writer, json.dumps(answer).encode())
        os.close(writer)
        if how == "exit":
            sys.exit(0)  # through every atexit and finaliser
        os._exit(0)
    os.close(writer)
    os.close(gate)
    mine = [fact.id for text in texts("parent", 10) for fact in memory.add(text).facts]
    if how == "close":
        engram.close()  # the last connection of this process: SQLite tidies up its files now
    os.close(opener)
    with os.fdopen(reader) as pipe:
        answer = json.loads(pipe.read())
    _, status = os.waitpid(child, 0)
    again_and_again = [id_ for _ in range(8) for id_ in _fork_once_more(engram)] if how == "busy" else []
    stop.set()
    for thread in busy:
        thread.join()
    if how != "close":
        assert found(engram)
        engram.close()
    theirs = [*answer["added"], *again_and_again]
    again = Engram.open(url, index="exact", embedder=WordHashEmbedder(), exact_limit=100_000)
    kept = {fact.id for fact in again.memory(SCOPE).list(limit=1_000)}
    again.close()
    print(
        json.dumps(
            {
                "status": status,
                "same": answer["same"],
                "lost": sorted({*mine, *theirs} - kept),
                "degraded": answer["degraded"],
            }
        )
    )
    return 0


def _in_child(engram: Engram, before: list[Any], gate: int, how: str) -> dict[str, Any]:
    memory = engram.memory(SCOPE)
    recall = memory.recall("red cat house", k=8)
    memory.add(texts("early", 1))
    os.read(gate, 1)  # until the parent has written, and closed if it is to
    same = [text for text, _ in before][:3]
    answer = {
        "same": all(text.startswith(("before", "parent")) for text, _ in found(engram)) and bool(same),
        "degraded": recall.degraded,
        "added": [fact.id for text in texts("child", 20) for fact in memory.add(text).facts],
    }
    sees_its_own = {fact.id for fact in memory.list(limit=1_000)}
    assert set(answer["added"]) <= sees_its_own
    assert engram.flush(5)
    if how == "exit":
        engram.close()
    return answer  # otherwise it ends as if it were killed: what was acknowledged must be on disk already


def _fork_once_more(engram: Engram) -> list[str]:
    """Fork while other threads are at it; the ids of what the child added."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os.write(writer, engram.memory(SCOPE).add(f"once more {os.getpid()}").facts[0].id.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        id_ = pipe.read()
    os.waitpid(child, 0)
    return [id_ or "nothing"]


def _work_until(engram: Engram, stop: threading.Event) -> None:
    """What a recall does to the storage, over and over: reads, searches, caches, a short transaction."""
    context = engram.context
    scope = Scope(SCOPE)
    while not stop.is_set():
        state = samples.state(context.ledger, scope)
        hits = context.finder.nearest(state, WordHashEmbedder().embed(["red cat"])[0], 20).hits
        assert context.finder.rows(state, [hit.id for hit in hits])
        context.ledger.record_recall(samples.recall_row(scope, id=str(uuid_utils.uuid7())))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
