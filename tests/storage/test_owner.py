"""One owner of the index among several processes; the others answer the same, and one of them takes over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support_finder import texts
from support_remote import SCOPE, Remote, answers

from engram_core import Engram
from engram_core.domain.errors import IndexUnavailable
from engram_core.storage.owner import Owner
from engram_core.testing.fakes import WordHashEmbedder, wait_until

LIMIT = 20
QUESTION = "red cat house"


@pytest.fixture
def remote() -> Iterator[Remote]:
    with Remote() as other:
        yield other


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def opened(store: Path, **options: Any) -> Engram:
    return Engram.open(store, **({"embedder": WordHashEmbedder(), "exact_limit": LIMIT} | options))


def found(engram: Engram, question: str = QUESTION) -> dict[str, Any]:
    recall = engram.memory(SCOPE).recall(question, k=8, max_tokens=100_000)
    return {"facts": answers(recall), "degraded": recall.degraded}


def test_a_second_process_is_degraded_and_answers_the_same(store: Path, remote: Remote) -> None:
    with opened(store) as engram:
        engram.memory(SCOPE).add(texts(60))
        assert engram.flush()
        remote.ask("open", url=str(store), exact_limit=LIMIT)
        mine, theirs = found(engram), remote.ask("recall", query=QUESTION)
        assert not mine["degraded"]
        assert theirs["degraded"]
        assert theirs["facts"] == mine["facts"]
        assert remote.ask("index")["state"] == "elsewhere or not opened"
        assert remote.ask("index")["owner_pid"] == json.loads((store / "index" / "owner.lock").read_text())["pid"]

        # Each sees the other's writes at once, and the owner's index follows.
        remote.ask("add", texts=["a red cat in a red house, said elsewhere"])
        assert found(engram)["facts"][0][0] == "a red cat in a red house, said elsewhere"
        engram.memory(SCOPE).add("one more red cat in the red house")
        theirs = remote.ask("recall", query=QUESTION)
        assert theirs["facts"] == found(engram)["facts"]
        assert "one more red cat in the red house" in {text for text, _ in theirs["facts"]}
        assert engram.flush()
        assert found(engram) == {"facts": theirs["facts"], "degraded": False}
        assert remote.ask("flush")


def test_only_the_owner_may_reindex(store: Path, remote: Remote) -> None:
    remote.ask("open", url=str(store), exact_limit=LIMIT)
    remote.ask("add", texts=texts(40))
    assert remote.ask("flush")
    with opened(store) as engram:
        with pytest.raises(IndexUnavailable, match=f"owned by process {remote.pid}"):
            engram.reindex()
        assert found(engram)["facts"] == remote.ask("recall", query=QUESTION)["facts"]
    assert remote.ask("reindex") == 40


def test_when_the_owner_is_killed_another_takes_over(store: Path, remote: Remote) -> None:
    remote.ask("open", url=str(store), exact_limit=LIMIT)
    remote.ask("add", texts=texts(60))
    assert remote.ask("flush")
    with opened(store) as engram:
        before = found(engram)
        assert before["degraded"]
        remote.send("add", texts=texts(20, start=500))
        remote.kill()
        assert wait_until(lambda: not found(engram)["degraded"], seconds=30)
        with opened(store, index="exact", exact_limit=100_000) as exact:
            assert found(engram)["facts"] == found(exact)["facts"]
        assert engram.doctor()["index"]["state"] == "ready"


def test_a_process_that_only_recalls_takes_over_too(store: Path, remote: Remote) -> None:
    """It was opened when there was nothing to index, and never writes: nothing but a recall tells it to look."""
    with opened(store) as engram:
        assert found(engram)["facts"] == []
        remote.ask("open", url=str(store), exact_limit=LIMIT)
        remote.ask("add", texts=texts(60))
        assert remote.ask("flush")
        assert found(engram)["degraded"]
        remote.kill()
        assert wait_until(lambda: not found(engram)["degraded"], seconds=30, every=0.1)


def test_when_the_owner_closes_another_takes_over_without_a_probe(store: Path, remote: Remote) -> None:
    remote.ask("open", url=str(store), exact_limit=LIMIT)
    remote.ask("add", texts=texts(60))
    assert remote.ask("flush")
    generation = remote.ask("index")["generation"]
    with opened(store) as engram:
        assert remote.ask("close")
        assert wait_until(lambda: not found(engram)["degraded"], seconds=30)
        assert engram.doctor()["index"]["generation"] == generation


def test_many_processes_may_open_a_new_store_at_once(store: Path) -> None:
    remotes = [Remote() for _ in range(3)]
    try:
        for number, other in enumerate(remotes):
            other.send("open", url=str(store), exact_limit=LIMIT)
            other.send("add", texts=texts(12, start=100 * number))
        for other in remotes:
            assert other.answer()
            assert len(other.answer()) == 12
        lists = [sorted(other.ask("texts")) for other in remotes]
        assert len(lists[0]) == 36
        assert all(items == lists[0] for items in lists)
        for other in remotes:
            assert other.ask("flush")
        states = [other.ask("index") for other in remotes]
        assert [state["state"] for state in states].count("ready") == 1
        assert {state["owner_pid"] for state in states} <= {other.pid for other in remotes}
        first = remotes[0].ask("recall", query=QUESTION)["facts"]
        assert all(other.ask("recall", query=QUESTION)["facts"] == first for other in remotes)
    finally:
        for other in remotes:
            other.__exit__(None, None, None)


def test_ownership_ends_with_the_process_or_the_call(tmp_path: Path) -> None:
    first, second = Owner(str(tmp_path / "index")), Owner(str(tmp_path / "index"))
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    assert second.holder() == first.holder()
    first.mark_dirty()
    assert second.is_dirty
    first.release()
    assert not first.is_held
    assert second.acquire()
    assert second.is_dirty
    second.mark_clean()
    assert not first.is_dirty
    second.release()
