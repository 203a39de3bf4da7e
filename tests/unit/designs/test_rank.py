"""Ranking terms on hand-made columns: each does what docs/recall.md says, and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime

import numpy as np
import pytest

from engram_core import Candidates, MemoryPolicy, Statistics
from engram_core.designs.pipeline import rank
from engram_core.measure import marks, words

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
    assert scored["bm25"][0] == pytest.approx(rank.Weights().bm25, abs=1e-4)
    assert scored["bm25"][0] > scored["bm25"][1] > scored["bm25"][2] == 0


def test_a_neighbour_lends_its_score_and_the_session_its_best():
    found, stems = candidates(["red kayak", "how nice", "green tent"], sessions=[0, 0, 1])
    scored = terms("red kayak", found, stems)
    assert scored["neighbour"][1] > 0
    assert scored["session"][0] == scored["session"][1] > scored["session"][2] >= 0


def test_who_counts_only_when_one_person_is_meant():
    found, stems = candidates(["a", "b"], speakers=["Ana", "Ben"])
    assert terms("What did Ana paint?", found, stems)["who"].tolist() == pytest.approx([rank.Weights().who, 0.0])
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
    off = rank.Weights(*[0.0] * len(fields(rank.Weights)))
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


def test_words_said_around_a_statement_count_less_the_farther_they_are():
    found, stems = candidates(["kayak", "yes", "oh", "hm", "tent"], sessions=[0] * 5)
    around = terms("kayak", found, stems, weights=rank.Weights(neighbour=0, session=0))["bm25_around"]
    assert around[0] > around[1] > around[2] > around[3] == around[4] == 0


def test_a_long_neighbour_lends_no_more_than_a_short_one():
    long = "kayak " + " ".join(f"word{n}" for n in range(300))
    found, stems = candidates([long, "yes"], sessions=[0, 0])
    around = terms("kayak", found, stems, weights=rank.Weights(neighbour=0, session=0))["bm25_around"]
    short, its_stems = candidates(["kayak", "yes"], sessions=[0, 0])
    beside = terms("kayak", short, its_stems, weights=rank.Weights(neighbour=0, session=0))["bm25_around"]
    assert around[1] / around[0] < beside[1] / beside[0]


def test_what_leads_to_a_better_match_steps_back():
    found, stems = candidates(["did you buy a kayak", "a red kayak"], sessions=[0, 0])
    scored = terms("red kayak", found, stems)
    assert scored["leads"][0] < 0 == scored["leads"][1]


def marked(bodies, question, **more):
    """Candidates with the marks of their bodies, and the question that asks for its own."""
    found, _stems = candidates(bodies, **more)
    asked = rank.Question.of(words.stems(question), None, question, frozenset())
    every = [[*words.stems(body), *marks.of_statement(body)] for body in bodies]
    counts = np.array([[own.count(name) for name in asked.columns] for own in every], dtype=np.float32)
    df = (counts > 0).sum(axis=0).astype(np.float32)
    statistics = replace(found.statistics, body_df=df, context_df=df)
    return asked, replace(found, body_counts=counts, context_counts=counts, statistics=statistics)


def test_a_question_for_a_place_likes_statements_with_names():
    asked, found = marked(["I paddled to Oslo", "I paddled home"], "Where did she paddle?")
    scored = rank.score(asked, found, MemoryPolicy(), NOW, rank.Weights())
    assert scored["names"].tolist() == pytest.approx([rank.Weights().names, 0.0])
    assert scored["bm25"][1] == pytest.approx(scored["bm25"][0], rel=0.2), "a mark is no word of the question"
    asked, found = marked(["I paddled to Oslo", "I paddled home"], "Did she paddle?")
    assert "names" not in rank.score(asked, found, MemoryPolicy(), NOW, rank.Weights())


def test_a_question_for_many_things_looks_at_many_sessions():
    bodies = ["a kayak of wood", "a kayak of tin", "a kayak of wax", "my boat, a kayak I like"]
    own = np.arange(4)
    asked, found = marked(
        bodies, "Which kayaks did she build?", sessions=[0, 0, 0, 1], previous=own * 0 - 1, following=own * 0 - 1
    )
    terms_ = rank.score(asked, found, MemoryPolicy(), NOW, rank.Weights(session=0, scattered=0))
    rows = rank.best(terms_, found, 4)
    assert rows[-1] == 3
    spread = rank.spread_out(terms_, rows, asked, found, rank.Weights(session=0, scattered=0, again=-0.5))
    assert spread[1] == 3
    assert sorted(spread) == sorted(rows)
    total = sum(terms_.values())
    assert [total[row] for row in spread] == sorted(total, reverse=True), "scores still sum up, and order the facts"
    assert terms_["again"].tolist() == pytest.approx([0.0, -0.5, -1.0, 0.0])
    other = replace(asked, asks_many=0.5)
    assert rank.spread_out(dict(terms_), rows, other, found, rank.Weights()) == rows


@pytest.mark.parametrize(("apart", "together"), [(0.016, 0.585), (0.65, 0.85), (-0.2, 0.9)])
def test_cosines_of_any_spread_end_on_one_scale(apart, together):
    found, stems = candidates(["a", "b", "c"])
    vectors = np.zeros((3, 8), dtype=np.float32)
    vectors[0, 0], vectors[0, 1] = together, np.sqrt(1 - together**2)
    vectors[1, 0], vectors[1, 1] = apart, np.sqrt(1 - apart**2)
    found = replace(found, content=vectors, context=vectors)  # the third is not embedded yet
    asked = replace(
        rank.Question.of(["x"], np.eye(8, dtype=np.float32)[0], "x", frozenset(), (apart, together)), stems=tuple(stems)
    )
    asked = replace(asked, stem_counts=(0,) * len(stems))
    dense = rank.score(asked, found, MemoryPolicy(), NOW, rank.Weights())["dense"]
    assert dense.tolist() == pytest.approx([rank.Weights().dense * rank.RELATED, 0.0, 0.0], abs=1e-5)


@pytest.mark.parametrize(
    ("asked", "subject"),
    [
        ("What did Ana say to Ben?", "Ana"),
        ("what did ben say to ana?", "Ben"),
        ("What did Ana and Ben paint?", None),
        ("What have both Ana, Ben seen?", None),
        ("What did Ana paint?", None),
    ],
)
def test_of_two_people_the_first_is_the_subject_unless_it_is_about_both(asked, subject):
    names = frozenset({"Ana", "Ben"})
    assert rank.subject_of(asked, names) == subject
    found, _ = candidates(["a", "b"], speakers=["Ana", "Ben"])
    nothing = {"vector": None, "stems": (), "stem_counts": (), "person": None, "dates": (), "asks_when": False}
    question = rank.Question(**nothing, subject=subject)
    told = rank.score(question, found, MemoryPolicy(), NOW, rank.Weights()).get("subject", np.zeros(2))
    assert told.tolist() == pytest.approx([0.18 * (name == subject) for name in ("Ana", "Ben")])


def test_the_next_statement_of_the_same_speaker_lends_fewer_words():
    texts = ["red kayak", "green tent"]
    lent = {}
    for apart, speakers, at in ((0, "AB", [1, 2]), (1, "AA", [1, 2]), (2, "AA", [1, 1])):
        found, stems = candidates(texts, speakers=list(speakers), said_at=np.array(at, dtype=np.float64))
        lent[apart] = float(terms("red kayak", found, stems)["bm25_around"][1])
    assert 0 < lent[1] < lent[0] == lent[2], "pieces of one message bear one time and belong together"
