"""Opening a store reads books, never facts: what SQLite does for it does not grow with what the store holds."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from support_finder import ALICE, texts

from engram_core import Engram
from engram_core.testing import samples
from engram_core.testing.fakes import WordHashEmbedder

STEPS = 50


class Watch:
    """The statements that SQLite ran on connections opened meanwhile, and its virtual machine's steps."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.steps = 0

    def connected(self, connection: Any, _record: object) -> None:
        connection.set_trace_callback(self.statements.append)
        connection.set_progress_handler(self._stepped, STEPS)

    def _stepped(self) -> int:
        self.steps += STEPS
        return 0


@contextmanager
def watched() -> Iterator[Watch]:
    watch = Watch()
    event.listen(Engine, "connect", watch.connected)
    try:
        yield watch
    finally:
        event.remove(Engine, "connect", watch.connected)


def opened(place: Path, facts: int) -> Watch:
    """What opening and closing costs in a store of so many facts, with an index that is up to date."""
    with Engram.open(place, embedder=WordHashEmbedder(samples.DIMENSION), exact_limit=50) as store:
        store.memory("acme/warm").add("The embedder has to be known.")
        for start in range(0, facts, 500):
            samples.add(store.context.ledger, ALICE, texts(500, start=start))
        assert store.flush(60)
    with watched() as watch:
        store = Engram.open(place, embedder=WordHashEmbedder(samples.DIMENSION), exact_limit=50)
        assert store.flush(60)
        store.close()
    return watch


def test_opening_does_not_read_facts(tmp_path: Path) -> None:
    small, large = opened(tmp_path / "small", 500), opened(tmp_path / "large", 4_000)
    assert len(large.statements) <= len(small.statements) + 10
    assert large.steps < 1.3 * small.steps + 2_000, (small.steps, large.steps)
    with sqlite3.connect(tmp_path / "large" / "engram.db") as connection:
        for statement in large.statements:
            if statement.lstrip().upper().startswith(("SELECT", "WITH")):
                plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
                assert not any(step.startswith(("SCAN facts", "SCAN f")) for step in plan), (statement, plan)


FIRST = """
import sys
from engram_core import Engram
from engram_core.testing import samples
from engram_core.testing.fakes import WordHashEmbedder

with Engram.open(sys.argv[1], embedder=WordHashEmbedder(samples.DIMENSION), exact_limit=50) as store:
    found = store.memory(sys.argv[2]).recall("coffee in the garden")
    print(len(found.facts), found.degraded)
"""


def test_the_first_recall_waits_for_the_index_instead_of_reading_every_vector(tmp_path: Path) -> None:
    place = tmp_path / "store"
    with Engram.open(place, embedder=WordHashEmbedder(samples.DIMENSION), exact_limit=50) as store:
        samples.add(store.context.ledger, ALICE, texts(700))
        assert store.flush(60)
    # In a process of its own: there the index's package has to be imported first, which takes a second.
    command = [sys.executable, "-c", FIRST, str(place), ALICE.path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["8", "False"]
