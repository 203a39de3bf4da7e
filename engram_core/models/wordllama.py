"""WordLlamaEmbedder: the default embedder, offline. It loads a 16 MB table from the installed package and nothing else.

It must never touch the network: see docs/recall.md on embedders for why a plain `WordLlama.load()` may.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.errors import EmbeddingFailed

NAME: Final = "wordllama:l2_supercat_256:0.4"
DIMENSION: Final = 256
MAX_CHARACTERS: Final = 32_768
"""What is read of one text; four times a fact's limit, so that only a huge query is cut."""


_loading = threading.Lock()


class WordLlamaEmbedder:
    """Static word embeddings, 256 dimensions, about 0.03 ms per sentence.

    The table loads in about half a second at the first `embed`, once per process.
    """

    @property
    def name(self) -> str:
        """`wordllama:l2_supercat_256:0.4`: package, table, and the release line whose vectors it gives."""
        return NAME

    @property
    def dimension(self) -> int:
        """256."""
        return DIMENSION

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Mean word vectors, not normalised.

        Args:
            texts: Any number of texts. An empty one is read as a space; the first 32,768 characters of each count.

        Returns:
            Shape (len(texts), 256).

        Raises:
            EmbeddingFailed: The package or its files are missing or broken.
        """
        vectors = np.zeros((len(texts), DIMENSION), dtype=np.float32)
        if not texts:
            return vectors
        model = _model()
        for row, text in enumerate(texts):
            # Text by text, in this thread: the same numbers as `model.embed`, without padding a batch to its longest
            # text and without waking a pool of threads, which on a busy machine costs many times the work.
            tokens = np.array(model.tokenizer.encode(_clean(text), add_special_tokens=False).ids, dtype=np.intp)
            vectors[row] = model.embedding[tokens].sum(axis=0) / np.float32(max(len(tokens), 1))
        return vectors


def _model() -> Any:
    with _loading:
        return _load()


@functools.cache
def _load() -> Any:
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise EmbeddingFailed(
            "The default embedder needs the package wordllama, which is not installed. Install it with "
            "`pip install 'wordllama==0.4.0.post1'`, or pass embedder=."
        )
    try:
        with _root_logger_untouched():
            package = importlib.import_module("wordllama")
        return package.WordLlama.load(cache_dir=Path(spec.origin).parent, disable_download=True)
    except Exception as error:
        raise EmbeddingFailed(
            f"The default embedder could not load from {Path(spec.origin).parent} ({type(error).__name__}: {error}). "
            "Reinstall it with `pip install --force-reinstall 'wordllama==0.4.0.post1'`, or pass embedder=."
        ) from error


@contextmanager
def _root_logger_untouched() -> Iterator[None]:
    """Undo `logging.basicConfig`, which wordllama calls at import: logging is for the application to set up."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def _clean(text: str) -> str:
    """What the tokenizer accepts: no lone surrogates, never empty (an empty text would give a zero vector)."""
    head = text[:MAX_CHARACTERS]
    try:
        head.encode()
    except UnicodeEncodeError:
        head = head.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return head or " "
