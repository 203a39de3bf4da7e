"""A Chroma server as the index: it may stop, hang, restart or lose everything, and recall goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support_finder import texts
from support_remote import SCOPE, answers
from support_stores import ChromaServer, free_port

from engram_core import Engram
from engram_core.domain.errors import IndexUnavailable, InvalidInput
from engram_core.storage import chroma
from engram_core.testing.fakes import WordHashEmbedder, wait_until

LIMIT = 20
QUESTION = "red cat house"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChromaServer]:
    server = ChromaServer(tmp_path / "chroma" / "data")
    server.directory.parent.mkdir()
    yield server.start()
    server.stop()


def opened(url: str, server: ChromaServer) -> Engram:
    return Engram.open(url, index=server.url, embedder=WordHashEmbedder(), exact_limit=LIMIT)


def found(engram: Engram) -> dict[str, Any]:
    recall = engram.memory(SCOPE).recall(QUESTION, k=8, max_tokens=100_000)
    return {"facts": answers(recall), "degraded": recall.degraded}


def exactly(url: str) -> list[Any]:
    with Engram.open(url, index="exact", embedder=WordHashEmbedder(), exact_limit=100_000) as engram:
        facts: list[Any] = found(engram)["facts"]
        return facts


def test_a_server_that_stops_and_restarts(sqlite_url: str, server: ChromaServer) -> None:
    with opened(sqlite_url, server) as engram:
        memory = engram.memory(SCOPE)
        memory.add(texts(60))
        assert engram.flush()
        assert found(engram) == {"facts": exactly(sqlite_url), "degraded": False}

        server.stop()
        started = time.monotonic()
        assert found(engram) == {"facts": exactly(sqlite_url), "degraded": True}
        assert time.monotonic() - started < 7
        memory.add("a red cat in a red house while the server was down")
        down = found(engram)
        assert down["degraded"]
        assert down["facts"][0][0] == "a red cat in a red house while the server was down"
        assert not engram.flush(1)
        assert "Chroma" in str(engram.doctor()["index"]["problem"])
        assert engram.doctor()["problems"]

        server.start()
        assert wait_until(lambda: not found(engram)["degraded"], seconds=20, every=0.1)
        assert engram.flush()
        assert found(engram) == {"facts": exactly(sqlite_url), "degraded": False}
        assert engram.doctor()["problems"] == []


def test_a_server_that_hangs_does_not_hang_recall(sqlite_url: str, server: ChromaServer) -> None:
    with opened(sqlite_url, server) as engram:
        memory = engram.memory(SCOPE)
        memory.add(texts(60))
        assert engram.flush()
        before = found(engram)
        server.pause()
        try:
            started = time.monotonic()
            assert found(engram) == {"facts": before["facts"], "degraded": True}
            assert time.monotonic() - started < 4, "a recall waits one second for the server"
            for number in range(3):
                started = time.monotonic()
                memory.add(f"a note {number} while the server hangs")
                assert found(engram)["degraded"]
                assert time.monotonic() - started < 1.5
        finally:
            server.resume()
        assert wait_until(lambda: not found(engram)["degraded"], seconds=30, every=0.1)
        assert found(engram)["facts"] == exactly(sqlite_url)


def test_a_server_that_lost_everything_is_filled_again(sqlite_url: str, server: ChromaServer, tmp_path: Path) -> None:
    with opened(sqlite_url, server) as engram:
        engram.memory(SCOPE).add(texts(60))
        assert engram.flush()
        server.stop()
        server.directory = tmp_path / "chroma" / "empty"
        server.start()
        assert found(engram) == {"facts": exactly(sqlite_url), "degraded": True}
        assert wait_until(lambda: not found(engram)["degraded"], seconds=20, every=0.1)
        assert found(engram)["facts"] == exactly(sqlite_url)


def test_several_processes_share_a_server(postgres_url: str, chroma_server: ChromaServer) -> None:
    """One projects, all search it; when the one leaves, another goes on."""
    with opened(postgres_url, chroma_server) as second:
        with opened(postgres_url, chroma_server) as first:
            first.memory(SCOPE).add(texts(60))
            assert first.flush()
            assert not found(first)["degraded"]
            assert wait_until(lambda: not found(second)["degraded"], seconds=10, every=0.1)
            second.memory(SCOPE).add("a red cat in a red house, said to the second")
            assert found(first)["facts"] == found(second)["facts"] == exactly(postgres_url)
            holders = [engram.context.finder.health()["state"] for engram in (first, second)]
            assert "ready" in holders
        second.memory(SCOPE).add("a red cat in a red house, said to the one that is left")
        assert found(second)["facts"] == exactly(postgres_url)
        assert wait_until(lambda: second.doctor()["index"]["behind"] == 0, seconds=10, every=0.1)


def test_stores_on_one_server_do_not_meet(sqlite_url: str, chroma_server: ChromaServer, tmp_path: Path) -> None:
    other_url = f"sqlite:///{tmp_path / 'other.db'}"
    with opened(sqlite_url, chroma_server) as one, opened(other_url, chroma_server) as other:
        one.memory(SCOPE).add([f"one {text}" for text in texts(40)])
        other.memory(SCOPE).add([f"other {text}" for text in texts(40)])
        for engram in (one, other):
            assert engram.flush()
        one.reindex()
        assert found(one) == {"facts": exactly(sqlite_url), "degraded": False}
        assert found(other) == {"facts": exactly(other_url), "degraded": False}
        assert all(text.startswith("one") for text, _ in found(one)["facts"])


def test_nothing_answers_at_the_address(sqlite_url: str, tmp_path: Path) -> None:
    nobody = ChromaServer(tmp_path, port=free_port())
    with opened(sqlite_url, nobody) as engram:
        engram.memory(SCOPE).add(texts(40))
        assert found(engram) == {"facts": exactly(sqlite_url), "degraded": True}
        assert not engram.flush(2)
        (problem,) = engram.doctor()["problems"]
        assert "cannot be opened" in problem
        with pytest.raises(IndexUnavailable):
            engram.reindex()


def test_an_address_that_makes_no_sense_is_refused() -> None:
    for address in ("ftp://127.0.0.1", "http://", "127.0.0.1:8000", ""):
        with pytest.raises(InvalidInput):
            chroma.server(address)
