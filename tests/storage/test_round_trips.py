"""How often a call waits for PostgreSQL, counted on the wire: what a network costs is paid once for each."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import make_url
from support_remote import SCOPE
from support_stores import ChromaServer

from benchmarks.corpus import questions, statements
from benchmarks.wire import Relay
from engram_core import Engram
from engram_core.testing.fakes import WordHashEmbedder

LARGE = 20
"""`exact_limit` of these stores: their scope is above it."""
RECALL_TRIPS = 8
ADD_TRIPS = 19


@pytest.fixture
def relay(postgres_url: str) -> Iterator[Relay]:
    relay = Relay(make_url(postgres_url).port or 5432)
    yield relay
    relay.close()


@pytest.fixture
def engram(postgres_url: str, relay: Relay, chroma_server: ChromaServer) -> Iterator[Engram]:
    url = make_url(postgres_url).set(host="127.0.0.1", port=relay.port).render_as_string(hide_password=False)
    with Engram.open(url, index=chroma_server.url, embedder=WordHashEmbedder(), exact_limit=LARGE) as engram:
        engram.memory(SCOPE).add(statements(60))
        assert engram.flush(30)
        for question in questions(10, seed=1):
            engram.memory(SCOPE).recall(question)
        _settle()
        yield engram


def _settle() -> None:
    """Wait for what recalls set off: those threads ask the database, too."""
    for thread in threading.enumerate():
        if thread.name == "engram-rows":
            thread.join(30)


def test_a_recall_asks_each_thing_once_and_begins_no_transaction(engram: Engram, relay: Relay) -> None:
    memory = engram.memory(SCOPE)
    trips, texts = [], []
    for question in questions(5, seed=2):
        with relay.counting() as seen:
            assert not memory.recall(question).degraded
        trips.append(seen.trips)
        texts += seen.texts
    # The audit is written by a thread of its own, once a second: it meets one of the recalls at most.
    assert sorted(trips)[-2] <= RECALL_TRIPS
    assert min(trips) > 3, "or nothing was counted"
    told = {text.split()[0] for text in texts if text.split()}
    assert told <= {"SELECT", "WITH", "INSERT", "BEGIN", "COMMIT", "LOCK", "UPDATE"}, "no ping, no rollback"


def test_an_add_waits_for_few_answers(engram: Engram, relay: Relay) -> None:
    memory, trips = engram.memory(SCOPE), []
    for number in range(5):
        with relay.counting() as seen:
            memory.add(f"I painted the {number} boats in Bergen because the deadline moved.")
        trips.append(seen.trips)
    # The thread that fills the index and the one that writes the audit meet some of them.
    assert min(trips) <= ADD_TRIPS
    assert min(trips) > 3, "or nothing was counted"
