"""Ranking terms on hand-made columns: each does what docs/recall.md says, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from engram_core import Candidates, MemoryPolicy, Statistics
from engram_core.designs.pipeline import rank
from engram_core.measure import words

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def candidates(bodies, *, speakers=None, sessions=None, said=None, complete=True, **arrays):
    n = len(bodies)
    stems = sorted({stem for body in bodies for stem in words.stems(body)})
    counts = np.array([[words.stems(body).count(stem) for stem in stems] for body in bodies], dtype=np.float32)
    lengths = counts.sum(axis=1)
    zeros = np.zeros(n, dtype=np.float32)
    links = np.arange(n)
    statistics = Statistics(n, int(lengths.sum()), int(lengths.sum()), (counts > 0).sum(0), (counts > 0).sum(0))
    columns = {
        "ids": [f"f{i}" for i in range(n)],
        "speakers": speakers or [None] * n,
        "kinds": ["observation"] * n,
        "content": np.eye(n, 8, dtype=np.float32),
        "context": np.eye(n, 8, dtype=np.float32),
        "body_counts": counts,
        "context_counts": counts,
        "body_length": lengths,
        "context_length": lengths,
        "said_at": np.array(said or [NOW.timestamp() - 86400 * (n - i) for i in range(n)], dtype=np.float64),
        "session": np.array(sessions or [-1] * n, dtype=np.int64),
        "previous": links - 1,
        "following": np.where(links + 1 < n, links + 1, -1),
        "time_words": zeros,
        "asks": zeros,
        "importance": np.full(n, 0.5, dtype=np.float32),
        "usefulness": zeros,
        "useful_alike": zeros,
        "statistics": statistics,
        "complete": complete,
    }
    return Candidates(**(columns | arrays)), stems


def terms(question, found, stems, policy=None, vector=None, weights=None):
    asked = rank.Question(
        vector=vector,
        stems=tuple(stems),
        stem_counts=tuple(words.stems(question).count(stem) for stem in stems),
        person=rank.person_meant(question, frozenset(name for name in found.speakers if name)),
        dates=(),
        asks_when=False,
    )
    return rank.score(asked, found, policy or MemoryPolicy(), NOW, weights or rank.Weights())


def test_the_best_lexical_match_has_the_whole_weight():
    found, stems = candidates(
        ["red kayak", "blue kayak", "green tent"], previous=np.full(3, -1), following=np.full(3, -1)
    )
    scored = terms("the red kayak", found, stems)
    assert scored["bm25"][0] == pytest.approx(0.15, abs=1e-4)
    assert scored["bm25"][0] > scored["bm25"][1] > scored["bm25"][2] == 0


def test_a_neighbour_lends_its_score_and_the_session_its_best():
    found, stems = candidates(["red kayak", "how nice", "green tent"], sessions=[0, 0, 1])
    scored = terms("red kayak", found, stems)
    assert scored["neighbour"][1] > 0
    assert scored["session"][0] == scored["session"][1] > scored["session"][2] >= 0


def test_who_counts_only_when_one_person_is_meant():
    found, stems = candidates(["a", "b"], speakers=["Ana", "Ben"])
    assert terms("What did Ana paint?", found, stems)["who"].tolist() == pytest.approx([0.2, 0.0])
    assert "who" not in terms("What did Ana and Ben paint?", found, stems)
    assert "who" not in terms("What did ana paint?", found, stems)


def test_first_person_means_the_user():
    assert rank.person_meant("Where do I live?", frozenset({"User", "Assistant"})) == "User"
    assert rank.person_meant("Where does she live?", frozenset({"User", "Assistant"})) is None


def test_policy_terms_are_zero_when_neutral_and_named_when_not():
    found, stems = candidates(["a", "b"], importance=np.array([0.9, 0.5], dtype=np.float32))
    neutral = terms("x", found, stems)
    assert set(neutral) == {"importance"}
    policy = MemoryPolicy(recency_weight=0.1, decay_rate=0.5, prioritize_types=("observation",))
    weighted = terms("x", found, stems, policy)
    assert weighted["recency"][1] > weighted["recency"][0] > 0
    assert weighted["priority"].tolist() == pytest.approx([0.05, 0.05])


def test_every_term_can_be_switched_off():
    found, stems = candidates(["red kayak", "blue tent"], sessions=[0, 0])
    off = rank.Weights(*[0.0] * 10)
    assert terms("red kayak", found, stems, weights=off, vector=np.eye(8, dtype=np.float32)[0]) == {}


def test_ties_go_to_the_older_fact_and_nothing_is_lost_at_the_cut():
    found, _ = candidates([f"n{i}" for i in range(6)], said=[5, 4, 3, 2, 1, 0])
    flat = {"dense": np.ones(6, dtype=np.float32)}
    assert rank.best(flat, found, 2) == [5, 4]
    assert rank.best(flat, found, 10) == [5, 4, 3, 2, 1, 0]


def test_bm25_against_the_formula_by_hand():
    counts = np.array([[2.0, 0.0], [1.0, 1.0]], dtype=np.float32)
    df = np.array([2.0, 1.0], dtype=np.float32)
    got = rank.bm25(counts, np.array([4.0, 2.0], dtype=np.float32), np.array([1.0, 1.0]), 2, 6, df)
    idf = [np.log(1 + (2 - d + 0.5) / (d + 0.5)) for d in df]
    norm = [0.9 * (0.25 + 0.75 * length / 3) for length in (4, 2)]
    assert got[0] == pytest.approx(idf[0] * 2 / (2 + norm[0]), rel=1e-5)
    assert got[1] == pytest.approx(idf[0] / (1 + norm[1]) + idf[1] / (1 + norm[1]), rel=1e-5)
