"""Bridges: any embedder as Engram's Embedder port, checked. They convert and validate, and import no framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.errors import EmbeddingFailed, InvalidInput
from engram_core.models.cache import TextCache
from engram_core.models.names import callable_name, is_async, model_name
from engram_core.models.wordllama import WordLlamaEmbedder
from engram_core.ports import Embedder

Floats = NDArray[np.float32]
CACHE_SIZE: Final = 4096
_PROBE: Final = "dimension probe"
_SAMPLES: Final = (
    "Alice moved to Lisbon in May and works at a small bakery.",
    "The quick brown fox jumps over the lazy dog.",
    "Never deploy on Fridays; the release window is Tuesday at 10:30.",
    "def main() -> int: return 0",
)
_ACCEPTED: Final = (
    "Pass None for the built-in one, a LangChain Embeddings, a LlamaIndex BaseEmbedding, an object with name, "
    "dimension and embed(texts), or a function from a list of texts to a list of vectors."
)


@runtime_checkable
class QueryEmbedder(Protocol):
    """An embedder that embeds questions differently from statements."""

    def embed_queries(self, texts: Sequence[str]) -> Floats:
        """Vectors for questions, shape (len(texts), dimension)."""
        ...


def as_embedder(source: object = None) -> Embedder:
    """The Embedder behind whatever the user passed. Nothing is loaded, embedded or sent yet.

    Args:
        source: None (the offline default), a LangChain `Embeddings`, a LlamaIndex `BaseEmbedding`, an object that is
            an Embedder already (returned as it is), or a callable `list[str]` → vectors.

    Returns:
        An Embedder; the bridged ones are also QueryEmbedders and learn their dimension at first use.

    Raises:
        InvalidInput: None of these; the message lists them.
    """
    if source is None:
        return WordLlamaEmbedder()
    if isinstance(source, type):
        raise InvalidInput(f"embedder= got the class {source.__qualname__}; pass an instance of it.")
    if _has(source, "embed_documents", "embed_query"):
        return _LangChainEmbedder(source)
    if _has(source, "get_text_embedding_batch", "get_query_embedding"):
        return _LlamaIndexEmbedder(source)
    # The class is asked about `dimension`: asking the object could embed something.
    if _has(source, "embed") and hasattr(source, "name") and _declares(source, "dimension"):
        return cast("Embedder", source)
    if callable(source):
        return _CallableEmbedder(source)
    raise InvalidInput(f"embedder= cannot use {type(source).__qualname__}. {_ACCEPTED}")


class _Bridged(ABC):
    """What all bridges share: the name, and a dimension learnt from the first vectors."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._dimension: int | None = None

    @property
    def name(self) -> str:
        """Framework, class and model; part of the fingerprint a store remembers."""
        return self._name

    @property
    def dimension(self) -> int:
        """Length of a vector. Embeds a probe text if nothing was embedded yet."""
        if self._dimension is None:
            self.embed([_PROBE])
        return cast("int", self._dimension)

    def embed(self, texts: Sequence[str]) -> Floats:
        """Vectors for statements, shape (len(texts), dimension), as the framework gives them."""
        return self._converted(texts, self._documents)

    def embed_queries(self, texts: Sequence[str]) -> Floats:
        """Vectors for questions; the same as for statements unless the framework distinguishes them."""
        return self._converted(texts, self._queries)

    def _converted(self, texts: Sequence[str], ask: Callable[[list[str]], Any]) -> Floats:
        if not texts:
            return np.zeros((0, self._dimension or 0), dtype=np.float32)
        vectors = _as_matrix(ask(list(texts)), len(texts), self._name)
        if self._dimension is None:
            self._dimension = vectors.shape[1]
        return vectors

    @abstractmethod
    def _documents(self, texts: list[str]) -> Any: ...

    def _queries(self, texts: list[str]) -> Any:
        return self._documents(texts)


class _LangChainEmbedder(_Bridged):
    def __init__(self, source: Any) -> None:
        super().__init__(f"langchain:{model_name(source)}")
        self._source = source

    def _documents(self, texts: list[str]) -> Any:
        return self._source.embed_documents(texts)

    def _queries(self, texts: list[str]) -> Any:
        return [self._source.embed_query(text) for text in texts]


class _LlamaIndexEmbedder(_Bridged):
    def __init__(self, source: Any) -> None:
        super().__init__(f"llamaindex:{model_name(source)}")
        self._source = source

    def _documents(self, texts: list[str]) -> Any:
        return self._source.get_text_embedding_batch(texts)

    def _queries(self, texts: list[str]) -> Any:
        return [self._source.get_query_embedding(text) for text in texts]


class _CallableEmbedder(_Bridged):
    def __init__(self, source: Callable[[list[str]], Any]) -> None:
        if is_async(source):
            raise InvalidInput("embedder= got an async function; Engram's core is synchronous, so pass a plain one.")
        super().__init__(f"callable:{callable_name(source)}")
        self._source = source

    def _documents(self, texts: list[str]) -> Any:
        return self._source(texts)


class CheckedEmbedder:
    """An embedder whose vectors can be trusted: right shape, finite, never zero, unit length, float32.

    Args:
        inner: The embedder to check; it may raise anything.
        cache_size: How many texts' vectors to keep, statements and questions each; 0 keeps none. One `add` may embed
            the same text twice.
    """

    def __init__(self, inner: Embedder, *, cache_size: int = CACHE_SIZE) -> None:
        self._inner = inner
        self._statements = TextCache[Floats](cache_size)
        # Asked once: whether an object fits a protocol takes longer to find out than a short text to embed.
        self._queries = inner if isinstance(inner, QueryEmbedder) else None
        self._questions = TextCache[Floats](cache_size) if self._queries is not None else self._statements

    @property
    def name(self) -> str:
        """The inner embedder's name."""
        return self._inner.name

    @property
    def dimension(self) -> int:
        """The inner embedder's dimension. Raises EmbeddingFailed when it cannot be told."""
        try:
            dimension = self._inner.dimension
        except Exception as error:
            raise self._failed(error) from error
        if isinstance(dimension, bool) or not isinstance(dimension, (int, np.integer)) or dimension < 1:
            raise EmbeddingFailed(f"Embedder {self.name} says its dimension is {dimension!r}; it must be at least 1.")
        return int(dimension)

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit vectors for statements.

        Args:
            texts: Any number; one that occurs twice is embedded once.

        Returns:
            Shape (len(texts), dimension), each row of length 1; a fresh array.

        Raises:
            EmbeddingFailed: The embedder raised, or gave a wrong count, length, NaN, infinity or a zero vector.
        """
        return self._unit_vectors(texts, self._inner.embed, self._statements)

    def embed_queries(self, texts: Sequence[str]) -> Floats:
        """Unit vectors for questions; the same as `embed` unless the inner embedder distinguishes them."""
        if self._queries is not None:
            return self._unit_vectors(texts, self._queries.embed_queries, self._questions)
        return self.embed(texts)

    def _unit_vectors(
        self, texts: Sequence[str], ask: Callable[[Sequence[str]], Floats], cache: TextCache[Floats]
    ) -> Floats:
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        known = {text: cache.get(text) for text in dict.fromkeys(texts)}
        missing = [text for text, vector in known.items() if vector is None]
        if missing:
            for text, vector in zip(missing, self._asked(missing, ask), strict=True):
                known[text] = vector
                cache.put(text, vector.copy())  # a view would keep the whole batch alive
        return np.stack([cast("Floats", known[text]) for text in texts])

    def _asked(self, texts: Sequence[str], ask: Callable[[Sequence[str]], Floats]) -> Floats:
        try:
            answer = ask(texts)
        except Exception as error:
            raise self._failed(error) from error
        vectors = _as_matrix(answer, len(texts), self.name)
        expected = self.dimension
        if vectors.shape[1] != expected:
            raise EmbeddingFailed(
                f"Embedder {self.name} returned vectors of length {vectors.shape[1]} but its dimension is {expected}. "
                "Correct its dimension, or run `engram reindex` if the model was changed."
            )
        return self._normalised(vectors, texts)

    def _normalised(self, vectors: Floats, texts: Sequence[str]) -> Floats:
        # float64: the square of a large float32 overflows
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        bad = np.flatnonzero(~np.isfinite(lengths) | (lengths < np.finfo(np.float32).tiny))
        if len(bad):
            row = int(bad[0])
            what = "a zero vector" if np.isfinite(lengths[row]) else "NaN or infinity"
            raise EmbeddingFailed(
                f"Embedder {self.name} returned {what} for {len(bad)} of {len(texts)} texts, first for text "
                f"{row + 1} ({len(texts[row])} characters). Check the model with that input; nothing was indexed."
            )
        unit: Floats = (vectors / lengths[:, None]).astype(np.float32)
        return unit

    def _failed(self, error: Exception) -> EmbeddingFailed:
        if isinstance(error, EmbeddingFailed):
            return error
        return EmbeddingFailed(
            f"Embedder {self.name} raised {type(error).__name__}: {str(error)[:300]}. Check its key, network and "
            "limits; facts stay stored and are embedded once it works again."
        )


def fingerprint(embedder: Embedder) -> str:
    """What a store remembers of its embedder: `name/dimension/sample-hash`.

    The sample hash is the start of a sha256 over, for each of four fixed texts, the index and sign of the strongest
    coordinate. Rounded coordinates would not do: among 1,536 values some always lie on a rounding boundary, and remote
    models answer the same text with slightly different numbers.

    Args:
        embedder: Any embedder; it embeds four short texts.

    Raises:
        EmbeddingFailed: As `CheckedEmbedder.embed`.
    """
    checked = embedder if isinstance(embedder, CheckedEmbedder) else CheckedEmbedder(embedder, cache_size=0)
    vectors = checked.embed(_SAMPLES)
    strongest = np.abs(vectors).argmax(axis=1)
    signs = np.where(vectors[np.arange(len(vectors)), strongest] < 0, "-", "+")
    sample = ",".join(f"{sign}{index}" for sign, index in zip(signs, strongest, strict=True))
    return f"{checked.name}/{checked.dimension}/{sha256(sample.encode()).hexdigest()[:12]}"


def _as_matrix(answer: Any, count: int, name: str) -> Floats:
    try:
        with np.errstate(all="ignore"):  # what overflows becomes infinity and is refused as such
            vectors = np.asarray(answer, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise EmbeddingFailed(
            f"Embedder {name} must return one list of numbers per text, all of one length; got "
            f"{type(answer).__name__} ({error})."
        ) from error
    if vectors.ndim != 2 or vectors.shape[0] != count or vectors.shape[1] == 0:
        raise EmbeddingFailed(
            f"Embedder {name} must return one vector per text, shape ({count}, dimension); got shape {vectors.shape}."
        )
    return vectors


def _has(source: object, *methods: str) -> bool:
    return all(callable(getattr(source, method, None)) for method in methods)


def _declares(source: object, attribute: str) -> bool:
    return hasattr(type(source), attribute) or attribute in getattr(source, "__dict__", {})
