"""Recalls are recorded without waiting for another writer, and nobody who reads them misses one."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support_finder import ALICE, add

from engram_core.domain.errors import StoreUnavailable
from engram_core.ports import Ledger
from engram_core.storage import logbook
from engram_core.storage.logbook import Logbook
from engram_core.testing import samples


@pytest.fixture
def ledger(open_sqlite: Callable[[], Ledger]) -> Iterator[Ledger]:
    ledger = open_sqlite()
    yield ledger
    ledger.close()


@contextmanager
def a_writer_at_work(ledger: Ledger) -> Iterator[sqlite3.Connection]:
    """Another connection that holds the database's write lock."""
    with closing(sqlite3.connect(Path(ledger.url.removeprefix("sqlite:///")), isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        yield writer
        if writer.in_transaction:
            writer.execute("COMMIT")


def test_a_recall_waits_for_no_writer_and_is_read_once_it_can_be_written(ledger: Ledger) -> None:
    (fact,) = add(ledger, 1)
    rows = [samples.recall_row(ALICE, fact) for _ in range(5)]
    ledger.record_recall(rows[0])
    with a_writer_at_work(ledger) as writer:
        for row in rows[1:]:
            ledger.record_recall(row)  # would hang for half a minute
        # Whoever asks meanwhile waits for the writer, and misses nothing.
        found: list[object] = []
        reader = threading.Thread(target=lambda: found.append(ledger.recall(rows[4].id)))
        reader.start()
        reader.join(0.2)
        assert found == []
        writer.execute("COMMIT")
        reader.join(30)
    assert found == [rows[4]]
    assert [row.id for row in ledger.recalls_of(fact.id, 10)] == [row.id for row in rows]
    usage = ledger.fact_usage(fact.id)
    assert usage is not None
    assert usage.shown == 5


def test_what_waits_is_written_in_the_background_or_at_the_end(open_sqlite: Callable[[], Ledger]) -> None:
    ledger = open_sqlite()
    (fact,) = add(ledger, 1)
    first, second = samples.recall_row(ALICE, fact), samples.recall_row(ALICE, fact)
    with a_writer_at_work(ledger):
        ledger.record_recall(first)
    other = open_sqlite()
    deadline = time.monotonic() + 60
    while not other.recall(first.id):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with a_writer_at_work(ledger):
        ledger.record_recall(second)
    ledger.close()
    assert other.recall(second.id) == second
    other.close()


def test_trouble_is_told_and_what_waited_is_kept() -> None:
    book = Logbook()
    written: list[int] = []
    is_down = [True]

    def busy() -> bool:
        return False

    def write(number: int) -> None:
        if is_down[0]:
            raise StoreUnavailable("No space left.")
        written.append(number)

    for number in range(3):
        book.note(busy, lambda number=number: write(number))
    with pytest.raises(StoreUnavailable):
        book.flush()
    for number in range(3, logbook.MOST_WAITING):
        book.note(busy, lambda number=number: write(number))
    with pytest.raises(StoreUnavailable):  # no recall is recorded nowhere without a word
        book.note(busy, lambda: write(logbook.MOST_WAITING))
    is_down[0] = False
    book.flush()
    assert written == list(range(logbook.MOST_WAITING + 1))
