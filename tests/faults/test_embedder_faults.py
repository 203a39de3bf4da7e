"""An embedder that raises, lies or is slow: nothing is dropped, nothing wrong is stored, and it recovers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from support_finder import texts
from support_remote import SCOPE

from engram_core import Engram
from engram_core.domain.scope import Scope
from engram_core.testing.fakes import FailingEmbedder, LyingEmbedder, SlowEmbedder, WordHashEmbedder, Wrong, wait_until
from engram_core.testing.samples import outbox, state

LIMIT = 20
FAULTS = ("raises", *get_args(Wrong))
WHEN = ("from the start", "later")


def faulty(fault: str) -> tuple[FailingEmbedder | LyingEmbedder, Callable[[bool], None]]:
    """An embedder that works, and a switch to break or mend it."""
    if fault == "raises":
        failing = FailingEmbedder(is_failing=False)

        def fail(is_broken: bool) -> None:
            failing.is_failing = is_broken

        return failing, fail
    lying = LyingEmbedder(None)

    def lie(is_broken: bool) -> None:
        lying.wrong = fault if is_broken else None  # type: ignore[assignment]

    return lying, lie


def vectors(engram: Engram) -> dict[str, tuple[bytes | None, bytes | None]]:
    ledger = engram.context.ledger
    return {row.id: (row.content, row.context) for row in outbox(ledger, state(ledger, Scope(SCOPE)).id)}


def all_finite(engram: Engram) -> bool:
    found = [blob for pair in vectors(engram).values() for blob in pair if blob is not None]
    lengths = [float(np.linalg.norm(np.frombuffer(blob, dtype="<f2").astype(np.float32))) for blob in found]
    return all(math.isclose(length, 1.0, abs_tol=0.01) for length in lengths)


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_embedder_costs_no_fact(tmp_path: Path, fault: str, when: str) -> None:
    embedder, broken = faulty(fault)
    with Engram.open(tmp_path / "store", embedder=embedder, exact_limit=LIMIT) as engram:
        memory = engram.memory(SCOPE)
        if when == "later":
            memory.add(texts(30), session="s1")
            assert engram.flush()
        broken(True)
        added = memory.add(["the red cat sat in house 4711", "it rained on the garden"], session="s1")
        assert added.pending == 2
        assert [outcome.action for outcome in added.outcomes] == ["stored", "stored"]
        assert [fact.status for fact in added.facts] == ["pending", "pending"]
        recall = memory.recall("Who sat in house 4711?")
        assert recall.degraded
        assert recall.facts[0].fact.id == added.facts[0].id
        edited = memory.update(added.facts[1].id, text="it snowed on the garden")
        assert edited.status == "pending"
        assert memory.recall("snowed garden").facts[0].fact.id == edited.id
        assert memory.forget(added.facts[0].id).status == "archived"
        assert memory.restore(added.facts[0].id).status == "pending"
        assert all_finite(engram)
        assert not engram.flush(5)

        broken(False)
        assert engram.flush()
        assert engram.doctor()["pending"] == 0
        assert memory.get(added.facts[0].id).status == "live"
        assert all_finite(engram)
        assert all(None not in pair for pair in vectors(engram).values())
        recall = memory.recall("Who sat in house 4711?")
        assert not recall.degraded
        assert recall.facts[0].fact.id == added.facts[0].id
        assert [item.action for item in memory.history(added.facts[0].id)] == ["add", "archive", "restore", "embed"]


def test_pending_facts_are_retried_without_being_asked(tmp_path: Path) -> None:
    embedder = FailingEmbedder()
    with Engram.open(tmp_path / "store", embedder=embedder, exact_limit=LIMIT) as engram:
        memory = engram.memory(SCOPE)
        (fact,) = memory.add("the red cat sat in house 4711").facts
        assert fact.status == "pending"
        embedder.is_failing = False
        assert wait_until(lambda: memory.get(fact.id).status == "live", seconds=15)


def test_pending_facts_are_retried_by_the_next_process(tmp_path: Path) -> None:
    with Engram.open(tmp_path / "store", embedder=FailingEmbedder(), exact_limit=LIMIT) as engram:
        ids = [fact.id for fact in engram.memory(SCOPE).add(texts(25)).facts]
        assert engram.doctor()["pending"] == 25
    with Engram.open(tmp_path / "store", embedder=WordHashEmbedder(), exact_limit=LIMIT) as engram:
        assert wait_until(lambda: engram.doctor()["pending"] == 0, seconds=15)
        assert engram.flush()
        assert not engram.memory(SCOPE).recall("red cat").degraded
        assert {fact.id for fact in engram.memory(SCOPE).list(limit=1_000)} == set(ids)


def test_a_text_that_cannot_be_embedded_does_not_hold_up_the_others(tmp_path: Path) -> None:
    embedder = FailingEmbedder(is_failing=False, refuses=lambda text: "poison" in text)
    with Engram.open(tmp_path / "store", embedder=embedder, exact_limit=LIMIT) as engram:
        memory = engram.memory(SCOPE)
        added = memory.add(["a poison text", "a red cat", "a green dog"])
        assert len(added.facts) == 3
        engram.flush(5)
        assert [memory.get(fact.id).status for fact in added.facts] == ["pending", "live", "live"]
        assert memory.recall("poison").facts[0].fact.id == added.facts[0].id
        assert engram.doctor()["pending"] == 1


def test_correcting_a_forgotten_fact_does_not_bring_it_back(tmp_path: Path) -> None:
    embedder = FailingEmbedder(is_failing=False)
    with Engram.open(tmp_path / "store", embedder=embedder, exact_limit=LIMIT) as engram:
        memory = engram.memory(SCOPE)
        fact, _ = memory.add(["the red cat sat in house 4711", "it rained on the garden"]).facts
        memory.forget(fact.id)
        embedder.is_failing = True
        assert memory.update(fact.id, text="the red cat sat in house 4712").status == "archived"
        assert "471" not in memory.recall("Who sat in house 4711 or 4712?").text
        embedder.is_failing = False
        assert engram.flush()
        assert memory.get(fact.id).status == "archived"
        assert memory.restore(fact.id).status == "pending"
        assert engram.flush()
        assert memory.get(fact.id).status == "live"
        assert "4712" in memory.recall("Who sat in the house?").text


def test_a_slow_embedder_holds_up_its_own_scope_only(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    embedder = SlowEmbedder(seconds=0.0)
    with Engram.open(tmp_path / "store", embedder=embedder, exact_limit=LIMIT) as engram:
        engram.memory("warm/up").add("the embedder's first words")
        embedder.seconds = 0.4
        with ThreadPoolExecutor(6) as pool:
            import time

            started = time.monotonic()
            done = list(pool.map(lambda number: engram.memory(f"team/u{number}").add(f"note {number}"), range(6)))
            assert time.monotonic() - started < 6 * 0.4
        assert all(len(result.facts) == 1 for result in done)
        embedder.release()
