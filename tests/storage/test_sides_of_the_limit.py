"""Exact search below the limit, the index above it: same answers, no flapping."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support_remote import SCOPE, answers

from engram_core import Engram
from engram_core.testing.fakes import FixedClock, SequentialIds, WordHashEmbedder

LIMIT = 20
QUERIES = ("fact about cats", "number 7", "where is the red house", "nothing of that kind")
THINGS = ("cats", "dogs", "the red house", "lisbon", "trains", "coffee", "rain")


def text(number: int) -> str:
    return f"fact number {number} is about {THINGS[number % len(THINGS)]} and {THINGS[number // 3 % len(THINGS)]}"


def opened(place: Path, design: str, *, index: str | None, exact_limit: int) -> Engram:
    engram = Engram.open(
        place,
        index=index,
        exact_limit=exact_limit,
        embedder=WordHashEmbedder(),
        ids=SequentialIds(),
        clock=FixedClock(),
    )
    engram.memory(SCOPE).set_policy(design=design)
    return engram


@pytest.fixture(params=["similarity", "pipeline"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Engram, Engram]]:
    """A store with an index, and one that always searches exactly."""
    with (
        opened(tmp_path / "indexed", request.param, index=None, exact_limit=LIMIT) as indexed,
        opened(tmp_path / "exact", request.param, index="exact", exact_limit=100_000) as exact,
    ):
        yield indexed, exact


def agree(indexed: Engram, exact: Engram) -> None:
    for query in QUERIES:
        found = indexed.memory(SCOPE).recall(query, k=10, max_tokens=100_000)
        wanted = exact.memory(SCOPE).recall(query, k=10, max_tokens=100_000)
        assert answers(found) == answers(wanted)
        assert not found.degraded


def collections(engram: Engram) -> int:
    count: int = engram.doctor()["index"]["collections"]
    return count


def test_answers_are_the_same_on_both_sides_and_nothing_flaps(pair: tuple[Engram, Engram]) -> None:
    indexed, exact = pair
    size = 0
    for target in (0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 2 * LIMIT):
        for number in range(size, target):
            for engram in pair:
                engram.memory(SCOPE).add(text(number))
        size = target
        assert indexed.flush()
        assert collections(indexed) == (1 if size > LIMIT else 0)
        agree(indexed, exact)
    for target in (LIMIT + 1, LIMIT, LIMIT - 1, LIMIT // 2, LIMIT // 2 - 1):
        for engram in pair:
            for fact in engram.memory(SCOPE).list()[target:]:
                engram.memory(SCOPE).forget(fact.id)
        assert indexed.flush()
        assert collections(indexed) == (1 if target >= LIMIT // 2 else 0), target
        agree(indexed, exact)
    for target in (LIMIT // 2, LIMIT, LIMIT + 1):
        for number in range(100 + len(indexed.memory(SCOPE).list()), 100 + target):
            for engram in pair:
                engram.memory(SCOPE).add(text(number))
        assert indexed.flush()
        assert collections(indexed) == (1 if target > LIMIT else 0), target
        agree(indexed, exact)


def test_a_limit_of_zero_always_uses_the_index(tmp_path: Path) -> None:
    with opened(tmp_path / "store", "similarity", index=None, exact_limit=0) as engram:
        memory = engram.memory(SCOPE)
        assert engram.flush()
        assert collections(engram) == 0
        assert not memory.recall("anything at all?").facts
        (fact,) = memory.add("the only fact").facts
        assert engram.flush()
        assert collections(engram) == 1
        recall = memory.recall("What is the only fact here?")
        assert [item.fact.id for item in recall.facts] == [fact.id]
        assert not recall.degraded
        memory.forget(fact.id)
        assert engram.flush()
        assert not memory.recall("What is the only fact here?").facts


def test_each_large_scope_has_its_own_collection(tmp_path: Path) -> None:
    with opened(tmp_path / "store", "similarity", index=None, exact_limit=5) as engram:
        scopes = [f"team/user{number}" for number in range(4)]
        for place, scope in enumerate(scopes):
            engram.memory(scope).add([f"{scope} says {text(number)}" for number in range(4 + place)])
        assert engram.flush()
        assert collections(engram) == 2
        for scope in scopes:
            recall = engram.memory(scope).recall("fact about cats", k=20, max_tokens=100_000)
            assert recall.facts
            assert all(item.fact.scope.path == scope for item in recall.facts)
            assert not recall.degraded
