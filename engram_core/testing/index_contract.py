"""The contract of a VectorIndex: names, ids and vectors, replayable, nearly exact. Clauses only; no backend.

Subclass `IndexContract` and override `open_index`. Needs pytest and hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engram_core.domain.errors import IndexUnavailable
from engram_core.ports import Point, VectorIndex
from engram_core.testing.exact_index import ExactIndex

Floats = NDArray[np.float32]
OpenIndex = Callable[[], VectorIndex]

DIMENSION = 48
NAME = "engram-contract-1"
_CLOSE = 2e-4

_id = st.integers(0, 7).map(lambda number: f"id-{number}")
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.dictionaries(_id, st.integers(0, 50), min_size=1, max_size=4)),
        st.tuples(st.just("remove"), st.lists(_id, min_size=1, max_size=3, unique=True)),
    ),
    min_size=1,
    max_size=6,
)


def clustered(count: int, *, clusters: int = 25, dimension: int = DIMENSION, seed: int = 7) -> Floats:
    """Unit vectors around a few centres, as embeddings of texts are."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, dimension))
    values = centres[rng.integers(0, clusters, count)] + 0.35 * rng.standard_normal((count, dimension))
    unit: Floats = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return unit


def points(vectors: Floats, *, prefix: str = "id") -> list[Point]:
    """One point per row, `id-0`, `id-1` and so on."""
    return [Point(f"{prefix}-{number}", vector) for number, vector in enumerate(vectors)]


class IndexContract:
    """Every clause."""

    is_reopenable: ClassVar[bool] = True
    """Whether an index opened later holds what an earlier one was given before it was closed."""
    many: ClassVar[int] = 105
    """How many collections to make at once: more than a page of a server that lists them in pages."""

    @pytest.fixture
    def open_index(self) -> OpenIndex:
        """Override: a function that opens the same index, empty at first, each time it is called."""
        raise NotImplementedError

    @pytest.fixture
    def index(self, open_index: OpenIndex) -> Iterator[VectorIndex]:
        """One open index."""
        opened = open_index()
        yield opened
        opened.close()

    def test_scores_and_order_equal_exact_search(self, index: VectorIndex) -> None:
        vectors = clustered(1_500)
        oracle = ExactIndex()
        for own in (index, oracle):
            own.create(NAME, DIMENSION)
            own.put(NAME, points(vectors))
        found, wanted = 0, 0
        for query in clustered(40, seed=8):
            hits, truth = index.search(NAME, query, 10), oracle.search(NAME, query, 10)
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            exact = dict(oracle.search(NAME, query, len(vectors)))
            assert all(abs(exact[hit.id] - hit.score) < _CLOSE for hit in hits)
            found += len({hit.id for hit in hits} & {hit.id for hit in truth})
            wanted += len(truth)
        assert wanted == 400
        assert found / wanted >= 0.99

    def test_opposite_and_orthogonal_vectors_have_their_cosine(self, index: VectorIndex) -> None:
        east = np.zeros(DIMENSION, dtype=np.float32)
        east[0] = 1.0
        north = np.roll(east, 1)
        index.create(NAME, DIMENSION)
        index.put(NAME, [Point("same", east), Point("across", north), Point("against", -east)])
        hits = index.search(NAME, east, 3)
        assert [hit.id for hit in hits] == ["same", "across", "against"]
        assert [hit.score for hit in hits] == pytest.approx([1.0, 0.0, -1.0], abs=_CLOSE)

    def test_putting_again_changes_nothing(self, index: VectorIndex) -> None:
        vectors = clustered(30)
        index.create(NAME, DIMENSION)
        index.put(NAME, points(vectors))
        before = self._content(index, vectors)
        index.put(NAME, points(vectors))
        index.put(NAME, points(vectors[:5]))
        assert self._content(index, vectors) == before
        assert index.count(NAME) == 30

    def test_fitting_changes_nothing_that_is_found(self, index: VectorIndex) -> None:
        vectors = clustered(60)
        index.create(NAME, DIMENSION)
        index.fit(NAME, 1_000_000)
        index.put(NAME, points(vectors[:30]))
        index.fit(NAME, 30)
        index.put(NAME, [Point(f"id-{number}", vector) for number, vector in enumerate(vectors[30:], 30)])
        oracle = ExactIndex()
        oracle.create(NAME, DIMENSION)
        oracle.put(NAME, points(vectors))
        assert self._content(index, vectors) == self._content(oracle, vectors)

    def test_putting_replaces_the_vector(self, index: VectorIndex) -> None:
        old, new = clustered(2, clusters=2, seed=3)
        index.create(NAME, DIMENSION)
        index.put(NAME, [Point("moved", old), Point("other", old)])
        index.put(NAME, [Point("moved", new)])
        assert index.count(NAME) == 2
        assert dict(index.search(NAME, new, 2))["moved"] == pytest.approx(1.0, abs=_CLOSE)
        assert dict(index.search(NAME, old, 2))["moved"] == pytest.approx(float(old @ new), abs=_CLOSE)

    def test_removing_again_changes_nothing(self, index: VectorIndex) -> None:
        vectors = clustered(10)
        index.create(NAME, DIMENSION)
        index.put(NAME, points(vectors))
        for _ in range(2):
            index.remove(NAME, ["id-3", "unknown", "id-4"])
        assert index.ids(NAME) == {f"id-{number}" for number in range(10)} - {"id-3", "id-4"}
        assert "id-3" not in {hit.id for hit in index.search(NAME, vectors[3], 10)}
        assert index.count(NAME) == 8

    def test_what_was_removed_can_come_back(self, index: VectorIndex) -> None:
        old, new = clustered(2, clusters=2, seed=3)
        index.create(NAME, DIMENSION)
        index.put(NAME, [Point("it", old)])
        index.remove(NAME, ["it"])
        index.put(NAME, [Point("it", new)])
        (hit,) = index.search(NAME, new, 5)
        assert hit.id == "it"
        assert hit.score == pytest.approx(1.0, abs=_CLOSE)

    def test_nothing_to_put_or_remove_is_fine(self, index: VectorIndex) -> None:
        index.create(NAME, DIMENSION)
        index.put(NAME, [])
        index.remove(NAME, [])
        assert index.count(NAME) == 0

    def test_an_empty_collection_answers_nothing(self, index: VectorIndex) -> None:
        query = clustered(1)[0]
        index.create(NAME, DIMENSION)
        assert index.search(NAME, query, 5) == []
        index.put(NAME, points(clustered(3)))
        index.remove(NAME, ["id-0", "id-1", "id-2"])
        assert index.search(NAME, query, 5) == []
        assert index.ids(NAME) == set()

    def test_asking_for_more_than_there_is_gives_what_there_is(self, index: VectorIndex) -> None:
        vectors = clustered(7)
        index.create(NAME, DIMENSION)
        index.put(NAME, points(vectors))
        assert {hit.id for hit in index.search(NAME, vectors[0], 100)} == index.ids(NAME)

    def test_a_batch_of_any_size_is_taken(self, index: VectorIndex) -> None:
        vectors = clustered(701)
        index.create(NAME, DIMENSION)
        index.put(NAME, points(vectors))
        assert index.count(NAME) == 701
        index.remove(NAME, [f"id-{number}" for number in range(650)])
        assert index.ids(NAME) == {f"id-{number}" for number in range(650, 701)}

    def test_creating_again_empties(self, index: VectorIndex) -> None:
        index.create(NAME, DIMENSION)
        index.put(NAME, points(clustered(5)))
        index.create(NAME, DIMENSION // 2)
        assert index.count(NAME) == 0
        index.put(NAME, points(clustered(2, dimension=DIMENSION // 2)))
        assert index.count(NAME) == 2

    def test_collections_do_not_see_each_other(self, index: VectorIndex) -> None:
        names = [NAME, f"{NAME}0", "engram-contract-2"]
        vectors = clustered(3)
        for name, vector in zip(names, vectors, strict=True):
            index.create(name, DIMENSION)
            index.put(name, [Point(f"of-{name}", vector)])
        for name in names:
            assert [hit.id for hit in index.search(name, vectors[0], 10)] == [f"of-{name}"]
        index.drop(names[0])
        assert index.names() == sorted(names[1:])
        assert index.count(names[1]) == 1

    def test_dropping_what_is_not_there_is_ignored(self, index: VectorIndex) -> None:
        index.drop("engram-never-made")
        index.create(NAME, DIMENSION)
        index.drop(NAME)
        index.drop(NAME)
        assert index.names() == []

    def test_every_collection_is_named(self, index: VectorIndex) -> None:
        names = sorted(f"engram-many-{number}" for number in range(self.many))
        for name in names:
            index.create(name, DIMENSION)
        assert index.names() == names
        for name in names:
            index.drop(name)

    def test_an_unknown_collection_is_unavailable(self, index: VectorIndex) -> None:
        vector = clustered(1)[0]
        calls: list[Callable[[], object]] = [
            lambda: index.search("engram-unknown", vector, 1),
            lambda: index.put("engram-unknown", [Point("x", vector)]),
            lambda: index.remove("engram-unknown", ["x"]),
            lambda: index.count("engram-unknown"),
            lambda: index.ids("engram-unknown"),
        ]
        for call in calls:
            with pytest.raises(IndexUnavailable):
                call()

    def test_a_dropped_collection_is_unavailable(self, index: VectorIndex) -> None:
        index.create(NAME, DIMENSION)
        index.put(NAME, points(clustered(3)))
        index.drop(NAME)
        with pytest.raises(IndexUnavailable):
            index.search(NAME, clustered(1)[0], 1)

    def test_a_closed_index_is_unavailable(self, open_index: OpenIndex) -> None:
        index = open_index()
        index.create(NAME, DIMENSION)
        vector = clustered(1)[0]
        index.put(NAME, [Point("x", vector)])
        index.close()
        index.close()
        calls: list[Callable[[], object]] = [
            lambda: index.search(NAME, vector, 1),
            lambda: index.put(NAME, [Point("y", vector)]),
            lambda: index.remove(NAME, ["x"]),
            lambda: index.count(NAME),
            lambda: index.ids(NAME),
            lambda: index.create("engram-late", DIMENSION),
            index.names,
        ]
        for call in calls:
            with pytest.raises(IndexUnavailable):
                call()

    def test_reopening_finds_everything(self, open_index: OpenIndex) -> None:
        if not self.is_reopenable:
            pytest.skip("this index declares that nothing outlives it")
        vectors = clustered(450)
        first = open_index()
        first.create(NAME, DIMENSION)
        first.put(NAME, points(vectors))
        first.remove(NAME, ["id-0"])
        before = self._content(first, vectors[1:40])
        first.close()
        later = open_index()
        assert later.names() == [NAME]
        assert later.count(NAME) == 449
        assert self._content(later, vectors[1:40]) == before
        later.close()

    def test_replaying_from_any_point_gives_the_same_content(self, index: VectorIndex) -> None:
        vectors = clustered(51, clusters=51)

        def play(steps: Sequence[tuple[str, dict[str, int] | list[str]]]) -> None:
            for _, change in steps:
                if isinstance(change, dict):
                    index.put(NAME, [Point(id_, vectors[place]) for id_, place in change.items()])
                else:
                    index.remove(NAME, change)

        @settings(max_examples=5, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(_steps, st.integers(0, 5), st.integers(0, 5))
        def run(steps: list[tuple[str, dict[str, int] | list[str]]], from_here: int, and_here: int) -> None:
            held: dict[str, int] = {}
            for _, change in steps:
                if isinstance(change, dict):
                    held |= change
                else:
                    held = {id_: place for id_, place in held.items() if id_ not in change}
            index.create(NAME, DIMENSION)
            play(steps)
            play(steps[min(from_here, len(steps) - 1) :])
            play(steps[min(and_here, len(steps) - 1) :])
            assert index.ids(NAME) == set(held)
            scores = dict(index.search(NAME, vectors[0], 10))
            exact = {id_: float(vectors[0] @ vectors[place]) for id_, place in held.items()}
            assert scores == pytest.approx(exact, abs=_CLOSE)

        run()

    @staticmethod
    def _content(index: VectorIndex, vectors: Floats) -> tuple[list[str], list[tuple[str, float]]]:
        nearest = [index.search(NAME, vector, 1)[0] for vector in vectors]
        return sorted(index.ids(NAME)), [(hit.id, round(hit.score, 3)) for hit in nearest]
