"""A Chroma server that is slow, fails, hangs, trickles, refuses or is overloaded: recall is exact, and in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from support_finder import texts
from support_gateway import Gateway
from support_remote import SCOPE, answers
from support_stores import ChromaServer

from engram_core import ChromaServer as Address
from engram_core import Engram
from engram_core.testing.fakes import WordHashEmbedder, wait_until

LIMIT = 20
QUESTION = "red cat house"
DEADLINE = 0.5
"""Seconds a recall waits for the server here."""


@pytest.fixture
def gateway(chroma_server: ChromaServer) -> Iterator[Gateway]:
    gateway = Gateway(chroma_server.port)
    yield gateway
    gateway.close()


def opened(url: str, gateway: Gateway) -> Engram:
    address = Address(gateway.url, search_timeout=DEADLINE, timeout=1.0)
    return Engram.open(url, index=address, embedder=WordHashEmbedder(), exact_limit=LIMIT)


def found(engram: Engram) -> tuple[list[Any], bool]:
    recall = engram.memory(SCOPE).recall(QUESTION, k=8, max_tokens=100_000)
    return answers(recall), recall.degraded


def timed(engram: Engram) -> tuple[list[Any], bool, float]:
    started = time.monotonic()
    return *found(engram), time.monotonic() - started


def exactly(url: str) -> list[Any]:
    with Engram.open(url, index="exact", embedder=WordHashEmbedder(), exact_limit=100_000) as engram:
        return found(engram)[0]


@pytest.mark.parametrize(
    ("mode", "delay"),
    [
        ("slow", 5.0),
        ("fail", 0.0),
        ("refuse", 0.0),
        *(pytest.param(*mode, marks=pytest.mark.full) for mode in (("hang", 0.0), ("trickle", 0.2), ("busy", 0.0))),
    ],
)
def test_recall_is_exact_and_in_time_whatever_the_server_does(
    sqlite_url: str, gateway: Gateway, mode: str, delay: float
) -> None:
    with opened(sqlite_url, gateway) as engram:
        memory = engram.memory(SCOPE)
        memory.add(texts(60))
        assert engram.flush()
        assert not found(engram)[1]
        if mode == "refuse":
            gateway.refuse()
        else:
            gateway.mode, gateway.delay = mode, delay
        wanted, is_degraded, first = timed(engram)
        assert is_degraded
        assert first < 3 * DEADLINE + 1.5
        added = memory.add("a red cat in a red house, said meanwhile").facts
        spent = 0.0
        for _ in range(3):
            wanted, is_degraded, seconds = timed(engram)
            spent += seconds
            assert is_degraded
            assert wanted[0][0] == added[0].text
        # Only the first one waited: the rest do not ask a server that failed until it answered somebody else.
        assert spent < 3 * 0.4
        # And it stays so while the background tries again, and again.
        time.sleep(2.5)
        assert timed(engram)[1]
        if mode == "refuse":
            gateway.listen()
        gateway.mode = "pass"
        assert wait_until(lambda: not found(engram)[1], seconds=20, every=0.1)
        assert engram.flush()
        assert found(engram) == (exactly(sqlite_url), False)
        assert engram.doctor()["problems"] == []


def test_writes_are_tried_again_when_the_server_is_overloaded(sqlite_url: str, gateway: Gateway) -> None:
    gateway.often = 3
    with opened(sqlite_url, gateway) as engram:
        engram.memory(SCOPE).add(texts(500))
        assert engram.flush()
        assert engram.doctor()["index"]["behind"] == 0
        gateway.often = 0
        assert found(engram) == (exactly(sqlite_url), False)


def test_a_process_that_takes_over_goes_on_where_the_other_stopped(sqlite_url: str, gateway: Gateway) -> None:
    """It had the index open for asking only; the collections stay, and only what is new is written."""
    with opened(sqlite_url, gateway) as second:
        with opened(sqlite_url, gateway) as first:
            first.memory(SCOPE).add(texts(300))
            assert first.flush()
            assert wait_until(lambda: not found(second)[1], seconds=10, every=0.05)
        gateway.seen.clear()
        second.memory(SCOPE).add("a red cat in a red house, said to the one that is left")
        assert wait_until(lambda: second.doctor()["index"]["behind"] == 0, seconds=20, every=0.1)
        assert gateway.seen["drop"] == gateway.seen["create"] == 0
        assert 1 <= gateway.seen["add"] <= 2
        assert found(second) == (exactly(sqlite_url), False)


@pytest.mark.full
def test_a_collection_that_keeps_failing_is_built_anew(sqlite_url: str, gateway: Gateway) -> None:
    """The server is up and lists its collections, but one of them cannot be asked any more."""
    with opened(sqlite_url, gateway) as engram:
        engram.memory(SCOPE).add(texts(60))
        assert engram.flush()
        before = engram.doctor()["index"]["generation"]
        gateway.mode, gateway.only = "fail", "query"
        assert found(engram)[1]
        assert wait_until(lambda: engram.doctor()["index"]["generation"] != before, seconds=40, every=0.2)
        gateway.mode, gateway.only = "pass", None
        assert wait_until(lambda: not found(engram)[1], seconds=20, every=0.1)
        assert found(engram)[0] == exactly(sqlite_url)
