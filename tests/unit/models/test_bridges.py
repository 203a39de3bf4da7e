"""Bridges: every kind of embedder becomes the same port, and nothing broken gets past the check."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from engram_core.domain.errors import EmbeddingFailed, InvalidInput
from engram_core.models.bridges import CheckedEmbedder, QueryEmbedder, as_embedder, fingerprint
from engram_core.models.wordllama import WordLlamaEmbedder


def lengths(texts: list[str]) -> list[list[float]]:
    """A tiny real embedder: three numbers that depend on the text."""
    return [[1.0 + len(text), float(text.count("a")), -0.5] for text in texts]


class Own:
    """An embedder as a user might write one; counts its calls and can be told to misbehave."""

    name = "own"
    dimension = 3

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> Any:
        self.asked.append(list(texts))
        return np.array(lengths(list(texts))) if self.answer is None else self.answer


class LangChainLike:
    model = "tiny-1"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return lengths(texts)

    def embed_query(self, text: str) -> list[float]:
        return [9.0, 0.0, float(len(text))]


def test_none_is_the_offline_default() -> None:
    assert isinstance(as_embedder(None), WordLlamaEmbedder)


def test_an_embedder_is_returned_as_it_is() -> None:
    own = Own()
    assert as_embedder(own) is own


def test_a_real_langchain_embedding() -> None:
    embeddings = pytest.importorskip("langchain_core.embeddings")
    bridged = as_embedder(embeddings.DeterministicFakeEmbedding(size=12))
    assert bridged.name == "langchain:DeterministicFakeEmbedding"
    assert bridged.dimension == 12
    vectors = bridged.embed(["a", "b"])
    assert vectors.shape == (2, 12)
    assert vectors.dtype == np.float32


def test_a_real_llamaindex_embedding() -> None:
    embeddings = pytest.importorskip("llama_index.core.embeddings")
    bridged = as_embedder(embeddings.MockEmbedding(embed_dim=7))
    assert bridged.name.startswith("llamaindex:MockEmbedding")
    assert bridged.embed(["a", "b"]).shape == (2, 7)
    assert bridged.dimension == 7
    assert isinstance(bridged, QueryEmbedder)
    assert bridged.embed_queries(["a"]).shape == (1, 7)


def test_langchain_questions_go_through_embed_query() -> None:
    bridged = as_embedder(LangChainLike())
    assert bridged.name == "langchain:LangChainLike:tiny-1"
    assert isinstance(bridged, QueryEmbedder)
    assert bridged.embed_queries(["four"]).tolist() == [[9.0, 0.0, 4.0]]
    assert bridged.embed(["four"]).tolist() == [[5.0, 0.0, -0.5]]


def test_a_callable_is_named_and_learns_its_dimension_from_the_first_vectors() -> None:
    asked: list[list[str]] = []

    def tiny(texts: list[str]) -> list[list[float]]:
        asked.append(texts)
        return lengths(texts)

    bridged = as_embedder(tiny)
    assert bridged.name.startswith("callable:")
    assert bridged.name.endswith("tiny")
    assert asked == []
    bridged.embed(["x"])
    assert bridged.dimension == 3
    assert asked == [["x"]]
    assert isinstance(bridged, QueryEmbedder)
    assert bridged.embed_queries(["x"]).tolist() == bridged.embed(["x"]).tolist()


def test_the_dimension_costs_one_probe_at_most() -> None:
    own = Own()
    bridged = as_embedder(own.embed)
    assert own.asked == []
    assert (bridged.dimension, bridged.dimension) == (3, 3)
    assert len(own.asked) == 1


def test_a_partial_has_the_name_of_its_function() -> None:
    assert as_embedder(functools.partial(lengths)).name == "callable:lengths"


@pytest.mark.parametrize("source", [42, "openai:text-embedding-3-small", LangChainLike, object()])
def test_what_cannot_be_used_is_refused_with_advice(source: object) -> None:
    with pytest.raises(InvalidInput, match=r"pass an instance|Pass None"):
        as_embedder(source)


def test_an_async_function_is_refused() -> None:
    async def later(texts: list[str]) -> list[list[float]]:
        return lengths(texts)

    with pytest.raises(InvalidInput, match="synchronous"):
        as_embedder(later)


def test_checked_vectors_have_unit_length_and_keep_their_direction() -> None:
    vectors = CheckedEmbedder(Own()).embed(["banana", "x"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(vectors[0], np.array([7.0, 3.0, -0.5]) / np.linalg.norm([7.0, 3.0, -0.5]), atol=1e-6)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ([[1.0, 2.0, float("nan")]], "NaN"),
        ([[1.0, 2.0, float("inf")]], "NaN or infinity"),
        ([[1e300, 2.0, 1.0]], "NaN or infinity"),
        ([[0.0, 0.0, 0.0]], "a zero vector"),
        ([[1.0, 2.0]], "length 2 but its dimension is 3"),
        ([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], r"shape \(1, dimension\)"),
        ([], "shape"),
        ([1.0, 2.0, 3.0], "shape"),
        ([[1.0, 2.0, 3.0], [1.0]], "one list of numbers per text"),
        ([["a", "b", "c"]], "one list of numbers per text"),
        ({"embedding": [1.0]}, "one list of numbers per text"),
    ],
)
def test_broken_vectors_are_refused(answer: Any, complaint: str) -> None:
    with pytest.raises(EmbeddingFailed, match=complaint):
        CheckedEmbedder(Own(answer)).embed(["one text"])


def test_an_error_names_the_bad_text_by_number_and_never_quotes_it() -> None:
    answer = [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    with pytest.raises(EmbeddingFailed, match="text 2") as caught:
        CheckedEmbedder(Own(answer)).embed(["fine", "my secret"])
    assert "secret" not in str(caught.value)


def test_whatever_the_embedder_raises_becomes_embedding_failed() -> None:
    def down(texts: list[str]) -> list[list[float]]:
        raise ConnectionError("refused")

    checked = CheckedEmbedder(as_embedder(down))
    with pytest.raises(EmbeddingFailed, match="ConnectionError: refused") as caught:
        checked.embed(["x"])
    assert isinstance(caught.value.__cause__, ConnectionError)
    with pytest.raises(EmbeddingFailed, match="ConnectionError"):
        checked.dimension  # noqa: B018 - asking is the act


def test_a_changing_vector_length_is_caught() -> None:
    sizes = iter([3, 4])
    checked = CheckedEmbedder(as_embedder(lambda texts: [[1.0] * next(sizes) for _ in texts]))
    checked.embed(["first"])
    with pytest.raises(EmbeddingFailed, match="engram reindex"):
        checked.embed(["second"])


def test_large_and_tiny_vectors_are_scaled_without_overflow() -> None:
    checked = CheckedEmbedder(Own([[3e38, 3e38, 0.0]]))
    np.testing.assert_allclose(checked.embed(["x"])[0], [0.5**0.5, 0.5**0.5, 0.0], atol=1e-6)
    checked = CheckedEmbedder(Own([[3e-20, 4e-20, 0.0]]))
    np.testing.assert_allclose(checked.embed(["x"])[0], [0.6, 0.8, 0.0], atol=1e-6)


def test_a_text_is_embedded_once() -> None:
    own = Own()
    checked = CheckedEmbedder(own)
    first = checked.embed(["a", "b", "a"])
    second = checked.embed(["b", "c"])
    assert own.asked == [["a", "b"], ["c"]]
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(first[1], second[0])


def test_the_cache_is_bounded_and_a_caller_cannot_change_it() -> None:
    own = Own()
    checked = CheckedEmbedder(own, cache_size=1)
    vectors = checked.embed(["a"])
    vectors[:] = 0
    assert np.linalg.norm(checked.embed(["a"])) == pytest.approx(1.0)
    checked.embed(["b"])
    checked.embed(["a"])
    assert own.asked == [["a"], ["b"], ["a"]]


def test_a_cached_vector_does_not_hold_its_batch_in_memory() -> None:
    checked = CheckedEmbedder(Own())
    checked.embed(["a", "b", "c"])
    cached = checked._statements.get("b")
    assert cached is not None
    assert cached.base is None


def test_a_failure_is_not_cached() -> None:
    own = Own([[0.0, 0.0, 0.0]])
    checked = CheckedEmbedder(own)
    with pytest.raises(EmbeddingFailed):
        checked.embed(["a"])
    own.answer = None
    assert checked.embed(["a"]).shape == (1, 3)


def test_questions_and_statements_do_not_share_a_cache_when_they_differ() -> None:
    checked = CheckedEmbedder(as_embedder(LangChainLike()))
    statement, question = checked.embed(["same"])[0], checked.embed_queries(["same"])[0]
    assert not np.allclose(statement, question)
    np.testing.assert_allclose(np.linalg.norm(question), 1.0, atol=1e-6)


def test_questions_fall_back_to_embed() -> None:
    checked = CheckedEmbedder(Own())
    np.testing.assert_array_equal(checked.embed_queries(["x"]), checked.embed(["x"]))


def test_no_texts_give_no_rows() -> None:
    assert CheckedEmbedder(Own()).embed([]).shape == (0, 3)


class Noisy:
    """Random unit directions per text, the same for every instance of a seed, plus noise of a given size."""

    def __init__(self, seed: int, noise: float = 0.0, noise_seed: int = 0) -> None:
        self.name = "noisy"
        self.dimension = 256
        self._seed, self._noise, self._random = seed, noise, np.random.default_rng(noise_seed)

    def embed(self, texts: Sequence[str]) -> Any:
        rows = [np.random.default_rng([self._seed, *text.encode()]).normal(size=256) for text in texts]
        return np.array(rows) + self._noise * self._random.normal(size=(len(texts), 256))


def test_fingerprint_names_embedder_dimension_and_sample() -> None:
    name, dimension, sample = fingerprint(WordLlamaEmbedder()).rsplit("/", 2)
    assert (name, dimension, len(sample)) == ("wordllama:l2_supercat_256:0.4", "256", 12)
    assert fingerprint(CheckedEmbedder(WordLlamaEmbedder())) == fingerprint(WordLlamaEmbedder())


def test_fingerprint_survives_the_noise_of_remote_models() -> None:
    prints = {fingerprint(Noisy(5, noise=1e-4, noise_seed=seed)) for seed in range(20)}
    assert len(prints) == 1


def test_fingerprint_tells_other_weights_under_the_same_name() -> None:
    assert len({fingerprint(Noisy(seed)) for seed in range(20)}) == 20


def test_the_default_embedder_keeps_its_fingerprint() -> None:
    assert fingerprint(WordLlamaEmbedder()) == "wordllama:l2_supercat_256:0.4/256/9dccbca1c635"
