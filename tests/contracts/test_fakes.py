"""The shipped fakes keep what they promise, because tests elsewhere stand on them."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from engram_core.domain.errors import EmbeddingFailed
from engram_core.models.bridges import CheckedEmbedder, as_embedder, fingerprint
from engram_core.models.language import as_language_model
from engram_core.testing.fakes import (
    FailingEmbedder,
    FixedClock,
    LyingEmbedder,
    ScriptedModel,
    SequentialIds,
    SlowEmbedder,
    WordHashEmbedder,
    wait_until,
)


def test_word_hashes_are_near_when_words_are_shared() -> None:
    cat, cats, dog, empty = WordHashEmbedder().embed(["the red cat", "a red cat sat", "green dogs ran", ""])
    assert cat @ cats > 0.7 > 0.3 > abs(float(cat @ dog))
    assert np.linalg.norm(empty) == pytest.approx(1.0)


def test_word_hashes_are_the_same_in_every_process() -> None:
    code = (
        "from engram_core.testing.fakes import *; print(WordHashEmbedder().embed(['the red cat'])[0].tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == WordHashEmbedder().embed(["the red cat"])[0].tobytes().hex()


def test_broken_embedders_pass_for_the_one_they_wrap() -> None:
    whole = WordHashEmbedder()
    for broken in (FailingEmbedder(is_failing=False), SlowEmbedder(seconds=0.0), LyingEmbedder(None)):
        assert as_embedder(broken) is broken
        assert fingerprint(broken) == fingerprint(whole)


@pytest.mark.parametrize("wrong", ["nan", "infinite", "zero", "too long", "too short", "too few"])
def test_every_lie_is_found_out(wrong: str) -> None:
    liar = LyingEmbedder(wrong)  # type: ignore[arg-type]
    with pytest.raises(EmbeddingFailed):
        CheckedEmbedder(liar).embed(["a", "b"])
    liar.wrong = None
    assert CheckedEmbedder(liar).embed(["a", "b"]).shape == (2, 64)


def test_a_failing_embedder_can_be_mended_and_may_be_picky() -> None:
    failing = FailingEmbedder(refuses=lambda text: "poison" in text)
    with pytest.raises(ConnectionError):
        failing.embed(["fine"])
    failing.is_failing = False
    assert failing.embed(["fine"]).shape == (1, 64)
    with pytest.raises(ConnectionError):
        failing.embed(["fine", "a poison"])
    assert failing.calls == 3


def test_a_slow_embedder_waits_until_released() -> None:
    slow = SlowEmbedder(seconds=0.05)
    started = time.monotonic()
    slow.embed(["a"])
    assert time.monotonic() - started >= 0.05
    slow.seconds = 60.0
    slow.release()
    slow.embed(["a"])
    assert time.monotonic() - started < 10


def test_a_scripted_model_answers_in_order_and_then_not_at_all() -> None:
    model = ScriptedModel(["one", ValueError("two"), lambda prompt: prompt.upper()])
    assert as_language_model(model).name == "scripted"
    assert model.complete("a") == "one"
    with pytest.raises(ValueError, match="two"):
        model.complete("b")
    assert model.complete("c") == "C"
    with pytest.raises(AssertionError):
        model.complete("d")
    assert model.prompts == ["a", "b", "c", "d"]


def test_a_fixed_clock_moves_when_told() -> None:
    clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC), step=timedelta(seconds=1))
    assert clock().second == 0
    assert clock().second == 1
    clock.advance(timedelta(days=-1))
    assert clock() == datetime(2025, 12, 31, 0, 0, 2, tzinfo=UTC)


def test_sequential_ids_are_uuids_in_order() -> None:
    ids = SequentialIds()
    made = [ids() for _ in range(70_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(uuid.UUID(made[place]).version == 7 for place in (0, 1, 65_536, 69_999))
    assert SequentialIds()() == made[0]


def test_waiting_ends_at_once_or_in_time() -> None:
    assert wait_until(lambda: True, seconds=0)
    assert not wait_until(lambda: False, seconds=0.05)


def test_the_package_imports_no_test_tool() -> None:
    code = "import sys, engram_core.testing, engram_core.testing.memory_ledger, engram_core.testing.fakes, engram_core.testing.samples\nassert not {'pytest', 'hypothesis', 'sqlalchemy', 'chromadb'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
