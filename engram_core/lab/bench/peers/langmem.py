"""LangMem's tools over a LangGraph store, called as an agent would call them. A peer: it imports nothing of Engram."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langgraph.store.memory import InMemoryStore
from langmem import create_manage_memory_tool, create_search_memory_tool

_NAMESPACE = ("bench",)


class Tools:
    """`manage_memory` to remember, `search_memory` to find. Its extraction by a language model is not measured."""

    def __init__(self, embed: Callable[[list[str]], list[list[float]]], folder: Path) -> None:
        dimension = len(embed(["dimension"])[0])
        store = InMemoryStore(
            index={"dims": dimension, "embed": lambda texts: embed(list(texts)), "fields": ["content"]}
        )
        self._manage = create_manage_memory_tool(_NAMESPACE, store=store)
        self._search = create_search_memory_tool(_NAMESPACE, store=store)
        # The tool names its memories itself; what they say leads back to where it was said.
        self._sources: dict[str, list[str]] = defaultdict(list)

    def add(self, items: Sequence[dict[str, Any]]) -> None:
        """One call of the tool per item."""
        for item in items:
            self._sources[item["text"]].append(item["id"])
            self._manage.invoke({"content": item["text"], "action": "create"})

    def search(self, question: str, k: int) -> list[tuple[list[str], str]]:
        """What the search tool answers."""
        found = json.loads(self._search.invoke({"query": question, "limit": k}))
        texts = [item["value"]["content"] for item in found]
        return [(self._sources[text], text) for text in texts]

    def close(self) -> None:
        """Nothing to let go."""
