"""Peers: other memories the bench can be run with, each one small class. This lists them; it loads none.

A peer's file imports nothing of Engram and only what its own package needs, so that it also runs in an environment in
which Engram is not installed (engram_core/lab/bench/remote.py).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Peer:
    """Another memory, and what it takes to run it.

    Attributes:
        name: As given to `--peer`.
        file: The module of this package that holds its class.
        owner: Name of the class in it.
        about: What it is, in a line.
        needs: Modules it imports; if all are there it can run in this process.
        requires: What pip installs for it.
    """

    name: str
    file: str
    owner: str
    about: str
    needs: tuple[str, ...]
    requires: tuple[str, ...]

    @property
    def is_here(self) -> bool:
        """Whether this environment can run it."""
        return all(map(_is_there, self.needs))

    @property
    def module(self) -> str:
        """Its module's full name."""
        return f"{__name__}.{self.file}"


def _is_there(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # of the package around it
        return False
    return spec is not None and spec.origin is not None  # a mere folder of that name has no origin


_MEM0: Final = ("mem0ai>=2", "qdrant-client>=1.12")
_ALL: Final = (
    Peer("chroma", "chroma", "PlainChroma", "a plain Chroma collection on disk", ("chromadb",), ("chromadb>=1.5.9",)),
    Peer(
        "langchain",
        "langchain",
        "VectorStore",
        "LangChain's InMemoryVectorStore as a retriever",
        ("langchain_core",),
        ("langchain-core>=1.4.7", "numpy"),
    ),
    Peer(
        "langchain-chroma",
        "langchain",
        "ChromaRetriever",
        "LangChain's Chroma as a retriever",
        ("langchain_core", "langchain_chroma"),
        ("langchain-chroma>=1.1",),
    ),
    Peer(
        "langgraph",
        "langgraph",
        "Store",
        "LangGraph's InMemoryStore with an index",
        ("langgraph.store.memory",),
        ("langgraph>=1.2", "numpy"),
    ),
    Peer(
        "langmem",
        "langmem",
        "Tools",
        "LangMem's manage and search tools over a LangGraph store, without a model",
        ("langmem", "langgraph.store.memory"),
        ("langmem>=0.0.30", "numpy"),
    ),
    Peer(
        "llamaindex",
        "llamaindex",
        "Index",
        "LlamaIndex' VectorStoreIndex as a retriever",
        ("llama_index.core",),
        ("llama-index-core>=0.14.25",),
    ),
    Peer(
        "llamaindex-memory",
        "llamaindex",
        "MemoryBlock",
        "LlamaIndex' VectorMemoryBlock on Chroma, context window 1",
        ("llama_index.core", "llama_index.vector_stores.chroma"),
        ("llama-index-core>=0.14.25", "llama-index-vector-stores-chroma"),
    ),
    Peer(
        "mem0-chroma",
        "mem0",
        "OnChroma",
        "mem0 on Chroma, infer=False",
        ("mem0", "chromadb"),
        (*_MEM0, "chromadb>=1.5.9"),
    ),
    Peer("mem0-qdrant", "mem0", "OnQdrant", "mem0 on Qdrant, infer=False", ("mem0", "qdrant_client"), _MEM0),
    Peer(
        "mem0-qdrant-bm25",
        "mem0",
        "OnQdrantWithWords",
        "mem0 on Qdrant with its BM25, infer=False",
        ("mem0", "qdrant_client", "fastembed"),
        (*_MEM0, "fastembed>=0.7"),
    ),
)
PEERS: Final[Mapping[str, Peer]] = {peer.name: peer for peer in _ALL}
