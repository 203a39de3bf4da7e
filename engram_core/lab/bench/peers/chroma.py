"""A plain Chroma collection on disk: what most memory adapters are underneath. A peer: it imports nothing of Engram."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import chromadb


class PlainChroma:
    """`collection.add` and `collection.query`, cosine, with given vectors."""

    def __init__(self, embed: Callable[[list[str]], list[list[float]]], folder: Path) -> None:
        settings = chromadb.Settings(anonymized_telemetry=False)
        self._client: Any = chromadb.PersistentClient(path=str(folder), settings=settings)
        self._collection = self._client.create_collection(
            "bench", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )
        self._embed = embed

    def add(self, items: Sequence[dict[str, Any]]) -> None:
        """One `add` call."""
        texts = [item["text"] for item in items]
        self._collection.add(ids=[item["id"] for item in items], documents=texts, embeddings=self._embed(texts))

    def search(self, question: str, k: int) -> list[tuple[list[str], str]]:
        """The k nearest."""
        wanted = min(k, self._collection.count())
        found = self._collection.query(
            query_embeddings=self._embed([question]), n_results=wanted, include=["documents"]
        )
        return [([id_], text) for id_, text in zip(found["ids"][0], found["documents"][0], strict=True)]

    def close(self) -> None:
        """Let the files go."""
        self._client.close()
