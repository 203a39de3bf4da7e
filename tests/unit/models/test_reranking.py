"""Rerankers: the frameworks' own classes as one port, their scores checked, their time bounded; recalls go on without."""

from __future__ import annotations

import threading

import pytest
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
from langchain_classic.retrievers.document_compressors.cross_encoder import BaseCrossEncoder
from langchain_core.documents.compressor import BaseDocumentCompressor
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore

from engram_core import Engram, InvalidInput, ModelFailed
from engram_core.models.reranking import MOST_RUNNING, as_reranker

TEXTS = ["Ana likes tea.", "Ben likes tea and rye bread.", "Rye bread is baked by Ben."]
QUESTION = "who likes rye bread"


def shared(question, text):
    return float(len(set(question.lower().split()) & set(text.lower().rstrip(".").split())))


class SharedWords(BaseCrossEncoder):
    """A cross-encoder of LangChain's that counts shared words."""

    def score(self, text_pairs):
        return [shared(*pair) for pair in text_pairs]


class Shortest(BaseDocumentCompressor):
    """A compressor that orders without scores, and lets one go."""

    def compress_documents(self, documents, query, callbacks=None):
        return sorted(documents, key=lambda document: len(document.page_content))[:2]


class WordScore(BaseNodePostprocessor):
    """A postprocessor of LlamaIndex's with scores of its own."""

    def _postprocess_nodes(self, nodes, query_bundle=None):
        found = [
            NodeWithScore(node=item.node, score=shared(query_bundle.query_str, item.node.get_content()))
            for item in nodes
        ]
        return sorted(found, key=lambda item: -item.score)


def by_words(question, texts):
    return [shared(question, text) for text in texts]


class OwnPort:
    name = "own"

    def rerank(self, question, texts):
        return by_words(question, texts)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (SharedWords(), [1, 3, 2]),
        (WordScore(), [1, 3, 2]),
        (by_words, [1, 3, 2]),
        (OwnPort(), [1, 3, 2]),
        (CrossEncoderReranker(model=SharedWords(), top_n=2), [0.9, 2, 1]),
        (Shortest(), [2, 0.9, 1]),
        (SimilarityPostprocessor(similarity_cutoff=0.5), [0, 0, 0]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_score_per_text(source, expected):
    assert list(as_reranker(source).rerank(QUESTION, TEXTS)) == pytest.approx(expected)


@pytest.mark.parametrize("source", [SharedWords, 3, "model", None])
def test_what_is_no_reranker_is_refused(source):
    with pytest.raises(InvalidInput, match="reranker="):
        as_reranker(source)
    with pytest.raises(InvalidInput, match="timeout"):
        as_reranker(by_words, timeout=0)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda q, t: [1.0], "3 of them"),
        (lambda q, t: [1.0, float("nan"), 2.0], "finite"),
        (lambda q, t: "abc", "one number per text"),
        (lambda q, t: None, "one number per text"),
        (lambda q, t: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_amiss_answers_are_model_failures(answer, complaint):
    with pytest.raises(ModelFailed, match=complaint):
        as_reranker(answer).rerank(QUESTION, TEXTS)


def test_a_hanging_reranker_is_not_waited_for_nor_asked_again_and_again():
    free = threading.Event()
    reranker = as_reranker(lambda question, texts: free.wait(30) and [1.0] * len(texts), timeout=0.02)
    try:
        for _ in range(MOST_RUNNING):
            with pytest.raises(ModelFailed, match="longer than"):
                reranker.rerank(QUESTION, TEXTS)
        with pytest.raises(ModelFailed, match="under way"):
            reranker.rerank(QUESTION, TEXTS)
    finally:
        free.set()


def test_its_opinion_is_one_term_and_the_order_follows():
    with Engram.open(":memory:", reranker=lambda q, t: [100.0 if "chess" in text else -5.0 for text in t]) as store:
        memory = store.memory("home")
        memory.set_policy(rerank_weight=1.0)
        memory.add(["Ana plays chess on Mondays.", "Ana drinks green tea in the morning.", "Ana has tea for guests."])
        found = memory.recall("What tea does Ana drink?")
        assert found.facts[0].fact.text == "Ana plays chess on Mondays."
        assert found.facts[0].terms["rerank"] == 1.0
        assert all("rerank" not in item.terms for item in found.facts[1:])
        assert all(sum(item.terms.values()) == pytest.approx(item.score) for item in found)
        assert (found.degraded, found.notes) == (False, ())
        memory.set_policy(rerank_weight=0.0)
        assert memory.recall("What tea does Ana drink?").facts[0].fact.text != "Ana plays chess on Mondays."


def test_a_recall_goes_on_without_it_and_says_so(caplog):
    def broken(question, texts):
        raise RuntimeError("no memory left on the device")

    said = ["Ana plays chess on Mondays.", "Ana drinks green tea in the morning."]
    with Engram.open(":memory:") as plain, Engram.open(":memory:", reranker=broken) as store:
        plain.memory("home").add(said)
        store.memory("home").add(said)
        expected = plain.memory("home").recall("What tea does Ana drink?")
        found = store.memory("home").recall("What tea does Ana drink?")
        assert [item.fact.text for item in found] == [item.fact.text for item in expected]
        assert found.degraded
        assert "no memory left on the device" in found.notes[0]
    assert "without the reranker" in caplog.text


def test_it_reads_only_what_the_caller_may_read():
    seen = []
    with Engram.open(":memory:", reranker=lambda q, t: seen.extend(t) or [1.0] * len(t)) as store:
        store.memory("acme/ana").add(["The safe opens with 4711.", "Ana likes tea."])
        store.memory("acme/ben").add(["Ben likes bread.", "Ben likes rye."])
        store.memory("acme/ben").recall("What opens the safe?")
    assert seen
    assert not any("4711" in text or "Ana" in text for text in seen)
