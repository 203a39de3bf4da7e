"""LangGraph's InMemoryStore with a vector index. A peer: it imports nothing of Engram."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langgraph.store.memory import InMemoryStore

_NAMESPACE = ("bench",)


class Store:
    """`put` each item, `search` with a query."""

    def __init__(self, embed: Callable[[list[str]], list[list[float]]], folder: Path) -> None:
        dimension = len(embed(["dimension"])[0])
        self._store = InMemoryStore(
            index={"dims": dimension, "embed": lambda texts: embed(list(texts)), "fields": ["text"]}
        )

    def add(self, items: Sequence[dict[str, Any]]) -> None:
        """One `put` per item."""
        for item in items:
            self._store.put(_NAMESPACE, item["id"], {"text": item["text"]})

    def search(self, question: str, k: int) -> list[tuple[list[str], str]]:
        """The k nearest."""
        found = self._store.search(_NAMESPACE, query=question, limit=k)
        return [([item.key], item.value["text"]) for item in found]

    def close(self) -> None:
        """Nothing to let go."""
