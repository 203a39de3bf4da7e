"""Rebuilding the index while recalls, writes and closes go on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from support_finder import texts
from support_remote import SCOPE, answers

from engram_core import Engram
from engram_core.domain.errors import EmbedderMismatch, IndexUnavailable, InvalidInput
from engram_core.testing.fakes import FailingEmbedder, WordHashEmbedder

LIMIT = 20
QUESTION = "red cat house"


def opened(place: Path, **options: Any) -> Engram:
    return Engram.open(place, **({"embedder": WordHashEmbedder(), "exact_limit": LIMIT} | options))


def test_recalls_go_on_while_the_index_is_rebuilt(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as engram:
        memory = engram.memory(SCOPE)
        memory.add(texts(400))
        assert engram.flush()
        wanted = answers(memory.recall(QUESTION, k=8))
        stop, failures, count = threading.Event(), [], []

        def ask() -> None:
            try:
                while not stop.is_set():
                    assert answers(memory.recall(QUESTION, k=8)) == wanted
                    count.append(1)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        places = set()
        for _ in range(3):
            seen: list[tuple[int, int]] = []
            assert engram.reindex(progress=lambda done, total, seen=seen: seen.append((done, total))) == {
                "vectors": 400
            }
            assert seen[-1] == (400, 400)
            assert seen == sorted(seen)
            places.add(engram.doctor()["index"]["generation"])
        stop.set()
        for thread in threads:
            thread.join(30)
        assert not failures
        assert len(count) > 10
        assert len(places) == 3
        assert not memory.recall(QUESTION).degraded
        directories = [path.name for path in (tmp_path / "store" / "index").iterdir() if path.is_dir()]
        assert directories == [engram.doctor()["index"]["generation"]]


def test_what_is_written_during_a_rebuild_is_in_it_afterwards(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as engram:
        memory = engram.memory(SCOPE)
        memory.add(texts(300))
        assert engram.flush()
        written, gone, is_done = [], [], threading.Event()

        def write() -> None:
            number = 0
            while not is_done.is_set():
                written.extend(memory.add(f"a red cat in red house {number}").facts)
                if number % 3 == 0:
                    gone.append(memory.forget(written[-1].id).id)
                number += 1

        writer = threading.Thread(target=write)
        writer.start()
        engram.reindex()
        is_done.set()
        writer.join(30)
        assert engram.flush()
        recall = memory.recall("red cat house", k=300, max_tokens=1_000_000)
        assert not recall.degraded
        shown = {item.fact.id for item in recall.facts}
        assert {fact.id for fact in written} - set(gone) <= shown
        assert not shown & set(gone)
        assert engram.doctor()["index"]["behind"] == 0


def test_closing_during_a_rebuild_ends_it_cleanly(tmp_path: Path) -> None:
    engram = opened(tmp_path / "store")
    engram.memory(SCOPE).add(texts(2_000))
    started, outcome = threading.Event(), []

    def rebuild() -> None:
        try:
            outcome.append(engram.reindex(progress=lambda done, total: started.set()))
        except IndexUnavailable as error:
            outcome.append(error)

    thread = threading.Thread(target=rebuild)
    thread.start()
    assert started.wait(30)
    engram.close()
    thread.join(30)
    assert not thread.is_alive()
    assert outcome
    with opened(tmp_path / "store") as again:
        assert again.flush()
        assert not again.memory(SCOPE).recall(QUESTION).degraded


def test_a_store_without_an_index_says_so(tmp_path: Path) -> None:
    with opened(tmp_path / "store", index="exact") as engram, pytest.raises(InvalidInput, match="no index to rebuild"):
        engram.reindex()


def test_embedding_anew_with_another_embedder(tmp_path: Path) -> None:
    from engram_core.bootstrap import reembed

    store = tmp_path / "store"
    with opened(store) as engram:
        engram.memory(SCOPE).add(texts(50))
        assert engram.flush()
        before = engram.doctor()["index"]["generation"]
    other = WordHashEmbedder(48, name="other")
    with pytest.raises(EmbedderMismatch, match="reindex"):
        opened(store, embedder=other)
    assert reembed(str(store), embedder=other)["facts"] == 50
    with pytest.raises(EmbedderMismatch):
        opened(store)
    with opened(store, embedder=other) as engram, opened(store, embedder=other, index="exact") as exact:
        assert engram.flush()
        recall = engram.memory(SCOPE).recall(QUESTION)
        assert not recall.degraded
        assert answers(recall) == answers(exact.memory(SCOPE).recall(QUESTION))
        assert engram.doctor()["index"]["generation"] != before


def test_a_failing_new_embedder_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    from engram_core.bootstrap import reembed
    from engram_core.domain.errors import EmbeddingFailed

    store = tmp_path / "store"
    with opened(store) as engram:
        engram.memory(SCOPE).add(texts(50))
        wanted = answers(engram.memory(SCOPE).recall(QUESTION))
    broken = FailingEmbedder(WordHashEmbedder(48, name="other"), is_failing=False, refuses=lambda text: "n40" in text)
    with pytest.raises(EmbeddingFailed):
        reembed(str(store), embedder=broken)
    with opened(store) as engram:
        assert engram.flush()
        assert answers(engram.memory(SCOPE).recall(QUESTION)) == wanted
