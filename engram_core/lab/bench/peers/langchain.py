"""LangChain's vector stores through their retrievers. A peer: it imports nothing of Engram."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

Embed = Callable[[list[str]], list[list[float]]]


class Given(Embeddings):
    """The host's vectors as LangChain asks for them."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector per text."""
        return self._embed(texts)

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question."""
        return self._embed([text])[0]


class VectorStore:
    """InMemoryVectorStore.as_retriever()."""

    def __init__(self, embed: Embed, folder: Path) -> None:
        self._store: Any = self._made(Given(embed), folder)

    def _made(self, embeddings: Embeddings, folder: Path) -> Any:
        return InMemoryVectorStore(embeddings)

    def add(self, items: Sequence[dict[str, Any]]) -> None:
        """One `add_documents` call."""
        self._store.add_documents(
            [Document(item["text"], id=item["id"], metadata={"source": item["id"]}) for item in items]
        )

    def search(self, question: str, k: int) -> list[tuple[list[str], str]]:
        """What the retriever returns."""
        found = self._store.as_retriever(search_kwargs={"k": k}).invoke(question)
        return [([document.metadata["source"]], document.page_content) for document in found]

    def close(self) -> None:
        """Nothing to let go."""


class ChromaRetriever(VectorStore):
    """Chroma.as_retriever(), on disk."""

    def _made(self, embeddings: Embeddings, folder: Path) -> Any:
        import chromadb  # noqa: PLC0415 - only this class needs it
        from langchain_chroma import Chroma  # noqa: PLC0415 - a package of its own

        settings = chromadb.Settings(anonymized_telemetry=False)
        client = chromadb.PersistentClient(path=str(folder), settings=settings)
        space = {"hnsw": {"space": "cosine"}}
        return Chroma("bench", embeddings, client=client, collection_configuration=space)
