"""`doctor` shows what is wrong with the storage, and recall goes on."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from support_finder import texts
from support_remote import SCOPE, Remote, answers

from engram_core import Engram
from engram_core.testing.fakes import FailingEmbedder, WordHashEmbedder, wait_until

LIMIT = 20


def opened(place: Path | str, **options: object) -> Engram:
    return Engram.open(place, **({"embedder": WordHashEmbedder(), "exact_limit": LIMIT} | options))


def test_a_healthy_store_has_no_problems(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as engram:
        assert engram.doctor()["index"]["state"] == "not needed"
        engram.memory(SCOPE).add(texts(40))
        assert engram.flush()
        report = engram.doctor()
        assert report["problems"] == []
        assert (report["live"], report["pending"]) == (40, 0)
        index = report["index"]
        assert (index["kind"], index["state"], index["collections"], index["behind"]) == ("embedded", "ready", 1, 0)
        json.dumps(report)


@pytest.mark.parametrize("obstacle", ["file", "unwritable"])
def test_an_index_directory_that_cannot_be_used(tmp_path: Path, obstacle: str) -> None:
    place = tmp_path / "place" if obstacle == "file" else Path("/proc/engram-index")
    if obstacle == "file":
        place.write_text("in the way")
    with opened(tmp_path / "store", index=str(place)) as engram, opened(tmp_path / "store", index="exact") as exact:
        engram.memory(SCOPE).add(texts(40))
        assert not engram.flush(5)
        recall = engram.memory(SCOPE).recall("red cat house")
        assert recall.degraded
        assert answers(recall) == answers(exact.memory(SCOPE).recall("red cat house"))
        (problem,) = engram.doctor()["problems"]
        assert str(place) in problem
        assert any(thread.name == "engram-index" for thread in threading.enumerate())  # it goes on trying
        if obstacle == "file":
            place.unlink()
            assert wait_until(lambda: not engram.memory(SCOPE).recall("red cat house").degraded, seconds=10, every=0.1)
            assert engram.doctor()["problems"] == []


def test_an_index_that_is_elsewhere(tmp_path: Path) -> None:
    with Remote() as owner:
        owner.ask("open", url=str(tmp_path / "store"), exact_limit=LIMIT)
        owner.ask("add", texts=texts(40))
        assert owner.ask("flush")
        with opened(tmp_path / "store") as engram:
            index = engram.doctor()["index"]
            assert (index["state"], index["owner_pid"]) == ("elsewhere or not opened", owner.pid)
            assert (index["collections"], index["behind"]) == (1, 0)


def test_pending_facts_and_their_recovery(tmp_path: Path) -> None:
    embedder = FailingEmbedder()
    with opened(tmp_path / "store", embedder=embedder) as engram:
        engram.memory(SCOPE).add(texts(3))
        report = engram.doctor()
        assert report["pending"] == 3
        assert "3 facts are not embedded" in report["problems"][0]
        embedder.is_failing = False
        assert engram.flush()
        assert engram.doctor()["problems"] == []


def test_what_adapters_skipped(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as engram:
        engram.note_failure(SCOPE, "after_model", ValueError("no such thing"))
        report = engram.doctor()
        assert report["parked"] == {"adapter": 1}
        assert "after_model: ValueError: no such thing" in report["failures"][0]["error"]
        assert "1 adapter" in report["problems"][0]
