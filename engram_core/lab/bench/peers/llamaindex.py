"""LlamaIndex' index and its vector memory block. A peer: it imports nothing of Engram."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.memory import VectorMemoryBlock
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

Embed = Callable[[list[str]], list[list[float]]]


class Given(BaseEmbedding):
    """The host's vectors as LlamaIndex asks for them."""

    _embed: Any = PrivateAttr()

    def __init__(self, embed: Embed) -> None:
        super().__init__(model_name="given", embed_batch_size=1_000)
        self._embed = embed

    def _get_text_embedding(self, text: str) -> list[float]:
        return list(self._embed([text])[0])

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return list(self._embed(texts))

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embedding(text)


class Index:
    """VectorStoreIndex.as_retriever(), one node per item."""

    def __init__(self, embed: Embed, folder: Path) -> None:
        self._index = VectorStoreIndex([], embed_model=Given(embed))

    def add(self, items: Sequence[dict[str, Any]]) -> None:
        """One `insert_nodes` call."""
        self._index.insert_nodes([TextNode(text=item["text"], id_=item["id"]) for item in items])

    def search(self, question: str, k: int) -> list[tuple[list[str], str]]:
        """What the retriever returns."""
        found = self._index.as_retriever(similarity_top_k=k).retrieve(question)
        return [([item.node.node_id], item.node.get_content()) for item in found]

    def close(self) -> None:
        """Nothing to let go."""


class _Watch(BaseNodePostprocessor):
    """Sees the nodes behind the text that the block returns."""

    _seen: list[str] = PrivateAttr(default_factory=list)

    @property
    def seen(self) -> list[str]:
        """Texts of the nodes of the last retrieval."""
        return self._seen

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        self._seen = [item.node.get_content() for item in nodes]
        return nodes


class MemoryBlock:
    """VectorMemoryBlock on Chroma: a batch per message, as a chat fills it; asked with the last message alone."""

    def __init__(self, embed: Embed, folder: Path) -> None:
        import chromadb  # noqa: PLC0415 - only this class needs it
        from llama_index.vector_stores.chroma import ChromaVectorStore  # noqa: PLC0415 - a package of its own

        settings = chromadb.Settings(anonymized_telemetry=False)
        self._client: Any = chromadb.PersistentClient(path=str(folder), settings=settings)
        collection = self._client.create_collection(
            "bench", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )
        self._watch = _Watch()
        self._block = VectorMemoryBlock(
            vector_store=ChromaVectorStore(chroma_collection=collection),
            embed_model=Given(embed),
            retrieval_context_window=1,
            node_postprocessors=[self._watch],
        )
        self._sources: dict[str, list[str]] = defaultdict(list)
        self._loop = asyncio.new_event_loop()

    def add(self, items: Sequence[dict[str, Any]]) -> None:
        """One `aput` per item."""
        for item in items:
            message = ChatMessage(role=item["role"], content=item["text"])
            self._sources[f"<message role='{message.role.value}'>{item['text']}</message>"].append(item["id"])
            self._loop.run_until_complete(self._block.aput([message]))

    def search(self, question: str, k: int) -> list[tuple[list[str], str]]:
        """The nodes behind what the block would put into the prompt."""
        self._block.similarity_top_k = k
        self._loop.run_until_complete(self._block.aget([ChatMessage(role="user", content=question)]))
        return [(self._sources[text], text) for text in self._watch.seen]

    def close(self) -> None:
        """Let the files and the loop go."""
        self._loop.close()
        self._client.close()
