"""Rerankers: any cross-encoder or document compressor as Engram's Reranker port, bounded in time. It stores nothing.

It imports no framework of its own accord: what a LangChain or LlamaIndex reranker wants to be asked with comes from the
package that the reranker itself was loaded from.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final, cast

from engram_core.domain.errors import InvalidInput, ModelFailed
from engram_core.models.names import callable_name, is_async, model_name
from engram_core.ports import Reranker

TIMEOUT_S: Final = 2.0
MOST_RUNNING: Final = 4
"""Calls under way at once; while so many hang, no further one is begun."""
_PLACE: Final = "engram_place"


def as_reranker(source: object, *, timeout: float = TIMEOUT_S) -> Reranker:
    """The Reranker behind whatever the user passed. Nothing is loaded or asked yet.

    Args:
        source: A LangChain `BaseDocumentCompressor` or cross-encoder (`score(pairs)`), a LlamaIndex
            `BaseNodePostprocessor`, an object that is a Reranker already (name and rerank), or a callable from a
            question and a list of texts to a list of scores.
        timeout: Seconds one call may take, more than 0.

    Returns:
        A Reranker that raises ModelFailed for whatever goes amiss, the time included.

    Raises:
        InvalidInput: None of these; the message lists them.
    """
    if isinstance(source, type):
        raise InvalidInput(f"reranker= got the class {source.__qualname__}; pass an instance of it.")
    if not timeout > 0:
        raise InvalidInput(f"A reranker's timeout must be more than 0 seconds, not {timeout!r}.")
    return _Bounded(_bridged(source), timeout)


def _bridged(source: object) -> Reranker:
    if _has(source, "compress_documents"):
        return _LangChainCompressor(source)
    if _has(source, "postprocess_nodes"):
        return _LlamaIndexPostprocessor(source)
    if _has(source, "rerank") and isinstance(getattr(source, "name", None), str):
        return cast("Reranker", source)
    if _has(source, "score"):
        return _CrossEncoder(source)
    if callable(source):
        if is_async(source):
            raise InvalidInput("reranker= got an async function; Engram's core is synchronous, so pass a plain one.")
        return _CallableReranker(source)
    raise InvalidInput(
        f"reranker= cannot use {type(source).__qualname__}. Pass a LangChain document compressor or cross-encoder, a "
        "LlamaIndex node postprocessor, an object with name and rerank(question, texts), or a function from a question "
        "and texts to scores."
    )


class _Bridge(ABC):
    def __init__(self, source: Any, name: str) -> None:
        self._source = source
        self._name = name

    @property
    def name(self) -> str:
        """Framework, class and model."""
        return self._name

    @abstractmethod
    def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        """One score per text."""


class _CallableReranker(_Bridge):
    def __init__(self, source: Callable[[str, list[str]], Sequence[float]]) -> None:
        super().__init__(source, f"callable:{callable_name(source)}")

    def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        return cast("Sequence[float]", self._source(question, list(texts)))


class _CrossEncoder(_Bridge):
    def __init__(self, source: Any) -> None:
        super().__init__(source, f"langchain:{model_name(source)}")

    def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        return cast("Sequence[float]", self._source.score([(question, text) for text in texts]))


class _LangChainCompressor(_Bridge):
    def __init__(self, source: Any) -> None:
        super().__init__(source, f"langchain:{model_name(source)}")

    def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        document = import_module("langchain_core.documents").Document
        asked = [document(page_content=text, metadata={_PLACE: place}) for place, text in enumerate(texts)]
        kept = self._source.compress_documents(asked, question)
        return _scores([(item.metadata[_PLACE], item.metadata.get("relevance_score")) for item in kept], len(texts))


class _LlamaIndexPostprocessor(_Bridge):
    def __init__(self, source: Any) -> None:
        super().__init__(source, f"llamaindex:{model_name(source)}")

    def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        schema = import_module("llama_index.core.schema")
        asked = [
            schema.NodeWithScore(node=schema.TextNode(text=text, metadata={_PLACE: place}), score=None)
            for place, text in enumerate(texts)
        ]
        for item in asked:
            item.node.excluded_embed_metadata_keys = item.node.excluded_llm_metadata_keys = [_PLACE]
        kept = self._source.postprocess_nodes(asked, query_str=question)
        return _scores([(item.node.metadata[_PLACE], item.score) for item in kept], len(texts))


class _Bounded:
    """A reranker whose answer is checked and awaited no longer than `timeout` seconds."""

    def __init__(self, inner: Reranker, timeout: float) -> None:
        self._inner = inner
        self._timeout = timeout
        self._running = threading.Semaphore(MOST_RUNNING)

    @property
    def name(self) -> str:
        """The inner reranker's name."""
        return self._inner.name

    def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        """One finite score per text. Raises ModelFailed."""
        if not self._running.acquire(blocking=False):
            raise ModelFailed(
                f"{MOST_RUNNING} calls of the reranker {self.name} are still under way; it was not asked."
            )
        answer: list[Sequence[float]] = []
        failure: list[Exception] = []

        def ask() -> None:
            try:
                answer.append(self._inner.rerank(question, texts))
            except Exception as error:  # noqa: BLE001 - handed to the waiting thread
                failure.append(error)
            finally:
                self._running.release()

        thread = threading.Thread(target=ask, name="engram-rerank", daemon=True)
        thread.start()
        thread.join(self._timeout)
        if failure:
            raise ModelFailed(
                f"The reranker {self.name} raised {type(failure[0]).__name__}: {str(failure[0])[:300]}."
            ) from failure[0]
        if not answer:
            raise ModelFailed(f"The reranker {self.name} took longer than {self._timeout:g} seconds.")
        return _checked(answer[0], len(texts), self.name)


def _checked(answer: object, count: int, name: str) -> list[float]:
    try:
        scores = [float(score) for score in cast("Sequence[float]", answer)]
    except (TypeError, ValueError) as error:
        raise ModelFailed(f"The reranker {name} must return one number per text ({error}).") from error
    if len(scores) != count or not all(math.isfinite(score) for score in scores):
        raise ModelFailed(f"The reranker {name} must return one finite number per text, {count} of them.")
    return scores


def _scores(kept: Sequence[tuple[int, float | None]], count: int) -> list[float]:
    """Scores by place: as told, else by rank; what a reranker leaves out is below all that it keeps."""
    if any(score is None for _, score in kept):
        told = {place: float(len(kept) - rank) for rank, (place, _) in enumerate(kept)}
    else:
        told = {place: float(cast("float", score)) for place, score in kept}
    if not told:
        return [0.0] * count
    low, high = min(told.values()), max(told.values())
    return [told.get(place, low - 0.1 * (high - low)) for place in range(count)]


def _has(source: object, method: str) -> bool:
    return callable(getattr(source, method, None))
