"""Clusters: leaders and their followers, the same every time, and nearly the same with cells as without."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.measure import clusters, likeness
from engram_core.measure.clusters import unit


def around(centres: int, each: int, spread: float, seed: int = 0, dimension: int = 32) -> np.ndarray:
    chance = np.random.default_rng(seed)
    middle = unit(chance.standard_normal((centres, dimension)))
    return unit(np.repeat(middle, each, axis=0) + spread * chance.standard_normal((centres * each, dimension)))


def test_what_lies_close_together_is_one_cluster() -> None:
    vectors = around(4, 6, 0.03)
    found = clusters.clusters(vectors, 0.8, 5)
    assert found.groups == tuple(tuple(range(start, start + 6)) for start in (0, 6, 12, 18))
    assert found.joined == {}


def test_a_cluster_needs_its_size() -> None:
    vectors = around(3, 4, 0.03)
    assert clusters.clusters(vectors, 0.8, 5).groups == ()
    assert len(clusters.clusters(vectors, 0.8, 4).groups) == 3


def test_a_chain_is_not_a_cluster() -> None:
    """Each link is close to the next, the ends have nothing in common: connected components would take them all."""
    angles = np.linspace(0, np.pi / 2, 30)
    vectors = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    for group in clusters.clusters(vectors, 0.9, 3).groups:
        members = vectors[list(group)]
        assert (members @ unit(members.mean(axis=0))).min() >= 0.9


def test_newcomers_join_the_nearest_seed() -> None:
    vectors = around(3, 5, 0.03)
    seeds = unit(vectors.reshape(3, 5, -1).mean(axis=1))
    found = clusters.clusters(vectors[::5], 0.8, 2, seeds)
    assert found.joined == {0: 0, 1: 1, 2: 2}
    assert found.groups == ()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 60), st.floats(0.0, 0.95), st.integers(2, 5))
def test_groups_are_disjoint_large_enough_and_the_same_every_time(
    seed: int, count: int, least: float, size: int
) -> None:
    vectors = unit(np.random.default_rng(seed).standard_normal((count, 4)))
    found = clusters.clusters(vectors, least, size)
    rows = [row for group in found.groups for row in group]
    assert len(rows) == len(set(rows))
    assert all(len(group) >= size for group in found.groups)
    assert found == clusters.clusters(vectors, least, size)
    leader = clusters.leaders(vectors, least)
    assert all(vectors[row] @ vectors[head] >= least - 1e-5 or row == head for row, head in enumerate(leader))


def test_cells_find_what_comparing_with_every_leader_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = around(300, 10, 0.12, seed=3)[np.random.default_rng(4).permutation(3_000)]
    exact = clusters.leaders(vectors, 0.6)
    monkeypatch.setattr(clusters, "EXACT", 1_000)
    near = clusters.leaders(vectors, 0.6)
    assert (exact == near).mean() >= 0.95


def test_no_vectors_no_clusters() -> None:
    nothing = np.zeros((0, 8), dtype=np.float32)
    assert clusters.clusters(nothing, 0.5, 2) == clusters.Clusters((), {})
    assert clusters.clusters(nothing, 0.5, 2, around(2, 1, 0.0, dimension=8)) == clusters.Clusters((), {})


def test_a_nominal_similarity_becomes_a_raw_one() -> None:
    assert likeness.raw(0.8, 0.5) == 0.5
    assert likeness.raw(1.0, 0.5) == 1.0
    assert likeness.raw(0.0, 0.5) == 0.0
    assert likeness.raw(0.9, 0.5) == pytest.approx(0.75)


def test_an_unknown_embedder_is_measured_on_sentences() -> None:
    """Whatever the spread of its cosines: scaling the part that all vectors share moves the threshold along."""
    chance = np.random.default_rng(1)
    matters = unit(chance.standard_normal((len(likeness.PAIRS), 64)))
    own = unit(np.repeat(matters, 2, axis=0) + 0.08 * chance.standard_normal((len(likeness.SENTENCES), 64)))
    shared = unit(own + 1.5 * unit(np.ones((1, 64))))
    plain, crowded = likeness.related(own), likeness.related(shared)
    assert 0.3 < plain < 0.8
    assert crowded > plain
    assert crowded < float((shared[::2] * shared[1::2]).sum(axis=1).mean())


def test_measured_embedders_are_known_by_name() -> None:
    assert likeness.measured("wordllama:l2_supercat_256:0.4") == 0.48
    assert likeness.measured("langchain:HuggingFaceEmbeddings:all-MiniLM-L6-v2") == 0.60
    assert likeness.measured("callable:mine") is None
