"""The embedder of one store: checked, and the same one the store was written with. It refuses; it converts nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from engram_core.domain.errors import EmbedderMismatch
from engram_core.models.bridges import CheckedEmbedder, Floats, fingerprint
from engram_core.ports import Embedder


class SealedEmbedder:
    """An embedder that is compared with what the store remembers: by name when opened, by sample at first use.

    Nothing is embedded, loaded or sent before the first `embed`.

    Args:
        inner: Any embedder.
        remembered: The store's fingerprint `name/dimension/sample-hash`, or None for a new store.
        remember: Stores a new store's fingerprint and returns what is stored then (another process may be first).

    Raises:
        EmbedderMismatch: The names differ.
    """

    def __init__(self, inner: Embedder, remembered: str | None, remember: Callable[[str], str]) -> None:
        self._checked = inner if isinstance(inner, CheckedEmbedder) else CheckedEmbedder(inner)
        self._remembered = remembered
        self._remember = remember
        self._is_verified = False
        self._lock = threading.Lock()
        if remembered is not None and remembered.rsplit("/", 2)[0] != self.name:
            raise EmbedderMismatch(_mismatch(remembered, self.name))

    @property
    def name(self) -> str:
        """The embedder's name."""
        return self._checked.name

    @property
    def dimension(self) -> int:
        """Length of a vector; known without asking the embedder once the store remembers it."""
        if self._remembered is not None:
            return int(self._remembered.rsplit("/", 2)[1])
        return self._checked.dimension

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit vectors for statements, (len(texts), dimension). Raises EmbeddingFailed, EmbedderMismatch."""
        self._verify()
        return self._checked.embed(texts)

    def embed_queries(self, texts: Sequence[str]) -> Floats:
        """Unit vectors for questions, (len(texts), dimension). Raises EmbeddingFailed, EmbedderMismatch."""
        self._verify()
        return self._checked.embed_queries(texts)

    def _verify(self) -> None:
        if self._is_verified:
            return
        with self._lock:
            if self._is_verified:
                return
            mark = fingerprint(self._checked)
            remembered = self._remembered or self._remember(mark)
            if remembered != mark:
                raise EmbedderMismatch(_mismatch(remembered, mark))
            self._remembered = remembered
            self._is_verified = True


def _mismatch(remembered: str, offered: str) -> str:
    return (
        f"This store was embedded with {remembered!r}, not with {offered!r}. Open it with that embedder, or embed "
        "everything anew with `engram reindex --embed`."
    )
