"""Run by test_kill.py: imports everything once and forks a writer for every line it reads.

A writer opens the store itself, adds facts through the facade as fast as it can, and notes the id of each acknowledged fact
in a file. It goes on until it is killed. Nothing is open when it forks, so it is a process like any other.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import chromadb  # noqa: F401 - loaded before the fork, so that a writer starts in milliseconds
import sqlalchemy.dialects.sqlite  # noqa: F401

from engram_core import Engram
from engram_core.testing.fakes import WordHashEmbedder

SCOPE = "acme/support/alice"
CAP = 90
"""Facts that a night leaves in a scope."""
THINGS = "red green blue cat dog house lisbon train coffee rain tea music book garden winter phone".split()


Note = Callable[[str, str, str], None]


def noting(notes: str) -> Note:
    """A function that appends what was done, to which fact, with which text, in one write."""
    file = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what: str, id_: str, text: str) -> None:
        os.write(file, (json.dumps([what, id_, text]) + "\n").encode())

    return note


def write(url: str, notes: str, seed: int, exact_limit: int) -> None:
    """Add, forget and correct facts for ever; note what was acknowledged."""
    chance = random.Random(seed)
    note = noting(notes)
    engram = Engram.open(url, embedder=WordHashEmbedder(), exact_limit=exact_limit)
    memory = engram.memory(SCOPE)
    note("opened", "", "")
    mine: list[tuple[str, str]] = []
    for number in range(10**9):
        size = chance.choice((1, 1, 1, 5, 40))
        texts = [f"{' '.join(chance.sample(THINGS, 4))} s{seed}n{number}p{part}" for part in range(size)]
        for fact in memory.add(texts, session=f"session {seed}").facts:
            mine.append((fact.id, fact.text))
            note("added", fact.id, fact.text)
        if mine and chance.random() < 0.1:
            id_, text = mine.pop(chance.randrange(len(mine)))
            memory.forget(id_)
            note("forgotten", id_, text)
        if mine and chance.random() < 0.1:
            place = chance.randrange(len(mine))
            id_, text = mine[place]
            mine[place] = (id_, f"{text} corrected")
            memory.update(id_, text=mine[place][1])
            note("corrected", *mine[place])
        if chance.random() < 0.2:
            assert memory.recall(" ".join(chance.sample(THINGS, 2))).facts


def nights(url: str, notes: str, seed: int, exact_limit: int) -> None:
    """Add facts about a few matters, consolidate them and forget down to a cap, for ever; note what was acknowledged."""
    chance = random.Random(seed)
    note = noting(notes)
    engram = Engram.open(url, embedder=WordHashEmbedder(), exact_limit=exact_limit)
    memory = engram.memory(SCOPE)
    if memory.policy.max_facts != CAP:
        memory.set_policy(max_facts=CAP, auto_forget=True, protect_days=0.0)
    note("opened", "", "")
    for number in range(10**9):
        matters = [" ".join(f"{thing}{number}m{m}" for thing in chance.sample(THINGS, 6)) for m in range(4)]
        texts = [f"{matter} s{seed}n{number}p{part}" for matter in matters for part in range(chance.choice((5, 7, 9)))]
        for fact in memory.add(texts, session=f"session {seed} {number}").facts:
            note("added", fact.id, fact.text)
        if number % 3:
            memory.consolidate()
        else:
            engram.sleep()
        merged = [fact for fact in memory.list(limit=10_000) if fact.is_consolidated]
        if merged and chance.random() < 0.3:
            memory.restore(chance.choice(merged[0].consolidated_from))
        if merged and chance.random() < 0.1:
            memory.split(merged[-1].id)


def erasures(url: str, notes: str, seed: int, exact_limit: int) -> None:
    """Add facts with a word of their own each and erase some, for ever; note what was begun and what was acknowledged."""
    chance = random.Random(seed)
    note = noting(notes)
    engram = Engram.open(url, embedder=WordHashEmbedder(), exact_limit=exact_limit)
    memory = engram.memory(SCOPE)
    note("opened", "", "")
    mine: list[tuple[str, str]] = []
    for number in range(10**9):
        texts = [f"{' '.join(chance.sample(THINGS, 4))} Xq{seed}q{number}p{part}zv" for part in range(8)]
        for fact in memory.add(texts, session=f"session {seed}").facts:
            mine.append((fact.id, fact.text))
            note("added", *mine[-1])
        for _ in range(2):
            gone = mine.pop(chance.randrange(len(mine)))
            note("erasing", *gone)
            memory.erase(gone[0])
            note("erased", *gone)


WORK = {"write": write, "nights": nights, "erasures": erasures}


def main() -> None:
    """Fork a writer per line; report its pid, then wait until it is dead and say so."""
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.alarm(120)
            try:
                WORK[request.pop("work")](**request)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
