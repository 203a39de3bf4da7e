"""An index that grows: how often it is written to disk, and that recall goes on while it is opened anew for that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support_finder import ALICE, opened, query, same, texts, truth

from engram_core.ports import Ledger, Point
from engram_core.storage import chroma
from engram_core.testing import samples

DIMENSION = 16


def times_written(directory: Path, *, fitted: int) -> int:
    """How often Chroma writes out a collection that was fitted to a size, while it gets 2,000 vectors."""
    index = chroma.embedded(str(directory))
    index.create("growing", DIMENSION)
    index.fit("growing", fitted)
    rng = np.random.default_rng(1)
    seen = set()
    for start in range(0, 2_000, 200):
        vectors = rng.normal(size=(200, DIMENSION)).astype(np.float32)
        index.put("growing", [Point(f"id-{start + at}", vector) for at, vector in enumerate(vectors)])
        seen |= {path.stat().st_mtime_ns for path in directory.rglob("index_metadata.pickle")}
    assert index.count("growing") == 2_000
    index.close()
    return len(seen)


def test_a_large_collection_is_written_out_less_often(tmp_path: Path) -> None:
    assert times_written(tmp_path / "small", fitted=2_000) == 10
    assert times_written(tmp_path / "large", fitted=200_000) == 2


def test_fitting_says_whether_it_changed_anything(tmp_path: Path) -> None:
    index = chroma.embedded(str(tmp_path))
    index.create("growing", DIMENSION)
    assert [index.fit("growing", size) for size in (50_000, 100_000, 100_000, 150_000, 1_000_000)] == [
        False, True, False, False, True,
    ]  # fmt: skip
    index.close()
    again = chroma.embedded(str(tmp_path))
    assert not again.fit("growing", 1_000_000)
    again.close()


@pytest.mark.full
def test_an_index_that_grows_large_is_opened_anew_and_goes_on(
    open_sqlite: Callable[[], Ledger], tmp_path: Path
) -> None:
    ledger = open_sqlite()
    finder = opened(ledger, tmp_path / "index")
    generations = set()
    for start in range(0, 100_000, 1_000):
        samples.add(ledger, ALICE, texts(1_000, start=start))
        finder.wake()
        if start % 10_000 == 9_000:
            state, vector = samples.state(ledger, ALICE), query(f"coffee n{start + 7}")
            same(finder.nearest(state, vector, 5), truth(ledger, vector, 5))
            generations |= {item.id for item in ledger.generations()}
    assert finder.flush(600)
    assert len(generations | {item.id for item in ledger.generations()}) == 1, "it was built anew"
    vector = query("coffee in the garden")
    found = finder.nearest(samples.state(ledger, ALICE), vector, 5)
    assert not found.degraded
    same(found, truth(ledger, vector, 5))
    finder.close()
    again = opened(ledger, tmp_path / "index")
    assert again.flush(60)
    assert {item.id for item in ledger.generations()} == generations
    assert again.health()["state"] == "ready"
    again.close()
    ledger.close()
