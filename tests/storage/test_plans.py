"""Everyday calls read no table from end to end: SQLite's own query plans say how each row is found."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support_finder import ALICE, texts
from test_opening import watched

from engram_core import Engram
from engram_core.testing import samples
from engram_core.testing.fakes import WordHashEmbedder

GROWING = ("facts", "decisions", "episodes", "links", "audit", "recalls", "usage", "words", "lineage", "tallies")
"""Tables that get more rows as a store is used."""


def everyday(store: Engram) -> Iterator[str]:
    """The calls of an agent's day, one at a time; the name of each when it is done."""
    memory = store.memory(ALICE)
    memory.add("I moved from Oslo to Bergen last week.", session="monday")
    memory.add(["I live in Bergen now.", "My sister Ana plays the cello."], session="monday")
    yield "add"
    recall = memory.recall("Where do I live?")
    yield "recall"
    memory.observe(recall.id, "You live in Bergen now.")
    yield "observe"
    memory.explain(recall.facts[0].fact.id)
    yield "explain"
    memory.forget(recall.facts[0].fact.id)
    memory.restore(recall.facts[0].fact.id)
    yield "forget"


@pytest.mark.parametrize("exact_limit", [50, 10_000], ids=["indexed", "scanned"])
def test_everyday_calls_find_rows_by_index(tmp_path: Path, exact_limit: int) -> None:
    with watched() as watch:
        store = Engram.open(tmp_path / "store", embedder=WordHashEmbedder(samples.DIMENSION), exact_limit=exact_limit)
        with store:
            samples.add(store.context.ledger, ALICE, texts(300))
            assert store.flush(60)
            seen = len(watch.statements)
            said = {name: watch.statements[seen:] for name in everyday(store)}  # noqa: C420 - read after each step
    with sqlite3.connect(tmp_path / "store" / "engram.db") as connection:
        found = {
            name: [
                one for statement in filter(reads, statements) if (one := (statement, scans(connection, statement)))[1]
            ]
            for name, statements in said.items()
        }
    assert not any(found.values()), found


def reads(statement: str) -> bool:
    """Whether a traced statement is one of ours that looks for rows."""
    return statement.lstrip().upper().startswith(("SELECT", "WITH", "UPDATE", "DELETE", "INSERT"))


def scans(connection: sqlite3.Connection, statement: str) -> list[str]:
    """Steps of a statement's plan that read a growing table from end to end."""
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    scanned = [step for step in plan if step.startswith("SCAN ") and "VIRTUAL TABLE" not in step]
    words = statement.replace(",", " ").replace("(", " ").split()
    names = {alias: table for table, alias in pairwise(words) if table in GROWING}
    return [step for step in scanned if step.split()[1] in GROWING or step.split()[1] in names]


def test_a_scan_is_seen() -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE decisions (id INTEGER PRIMARY KEY, seq INTEGER)")
        assert scans(connection, "SELECT o.id FROM decisions o WHERE o.seq=1")
        assert not scans(connection, "SELECT o.id FROM decisions o WHERE o.id>1 AND o.seq=1")
