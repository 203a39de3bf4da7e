"""mem0 without its language model: messages are stored as they are. A peer: it imports nothing of Engram."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["MEM0_TELEMETRY"] = "False"

_USER = "bench"
_STOP_WORDS = (
    "a about after again ain all am an and any are aren as at be because been before being below between both but by "
    "can couldn d did didn do does doesn doing don down during each few for from further had hadn has hasn have haven "
    "having he her here hers herself him himself his how i if in into is isn it its itself just ll m ma me mightn more "
    "most mustn my myself needn no nor not now o of off on once only or other our ours ourselves out over own re s "
    "same shan she should shouldn so some such t than that the their theirs them themselves then there these they this "
    "those through to too under until up ve very was wasn we were weren what when where which while who whom why will "
    "with won wouldn y you your yours yourself yourselves"
)


class Given:
    """The host's vectors as mem0 asks for them."""

    def __init__(self, embed: Callable[[list[str]], list[list[float]]]) -> None:
        self._embed = embed

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        """One vector."""
        return self._embed([text])[0]

    def embed_batch(self, texts: list[str], memory_action: str | None = None) -> list[list[float]]:
        """One vector per text."""
        return self._embed(list(texts))


class OnChroma:
    """`add(infer=False)` and `search` on Chroma, on disk."""

    provider = "chroma"

    def __init__(self, embed: Callable[[list[str]], list[list[float]]], folder: Path) -> None:
        os.environ["MEM0_DIR"] = str(folder / "home")
        from mem0 import Memory  # noqa: PLC0415 - it reads the variables above when it loads

        # Neither is ever asked: the embedder is replaced, and infer=False needs no model.
        nobody = {"provider": "openai", "config": {"api_key": "none"}}
        self._memory = Memory.from_config(
            {
                "vector_store": {
                    "provider": self.provider,
                    "config": self._place(folder, len(embed(["dimension"])[0])),
                },
                "embedder": nobody,
                "llm": nobody,
                "history_db_path": str(folder / "history.db"),
            }
        )
        self._memory.embedding_model = Given(embed)

    def _place(self, folder: Path, dimension: int) -> dict[str, Any]:
        return {"collection_name": "bench", "path": str(folder / "vectors")}

    def add(self, items: Sequence[dict[str, Any]]) -> None:
        """One `add` per item."""
        for item in items:
            said = [{"role": "user", "content": item["text"]}]
            self._memory.add(said, user_id=_USER, infer=False, metadata={"source": item["id"]})

    def search(self, question: str, k: int) -> list[tuple[list[str], str]]:
        """What `search` returns, without its threshold."""
        found = self._memory.search(question, top_k=k, filters={"user_id": _USER}, threshold=0.0)
        return [([item["metadata"]["source"]], item["memory"]) for item in found["results"]]

    def close(self) -> None:
        """Let the files go."""
        self._memory.close()


class OnQdrant(OnChroma):
    """The same on Qdrant's local mode, on disk. Without fastembed it has no BM25."""

    provider = "qdrant"

    def _place(self, folder: Path, dimension: int) -> dict[str, Any]:
        path = str(folder / "vectors")
        return {"collection_name": "bench", "embedding_model_dims": dimension, "path": path, "on_disk": True}

    def __init__(self, embed: Callable[[list[str]], list[list[float]]], folder: Path) -> None:
        super().__init__(embed, folder)
        self._memory.vector_store._bm25_encoder = self._encoder(folder)

    def _encoder(self, folder: Path) -> Any:
        return False  # what it holds when there is none

    def close(self) -> None:
        """Let the files go; the lock on them, too."""
        super().close()
        self._memory.vector_store.client.close()


class OnQdrantWithWords(OnQdrant):
    """The same with its BM25. Its stop words, which it would download, are given; spaCy's model for lemmas is not."""

    def _encoder(self, folder: Path) -> Any:
        from fastembed import SparseTextEmbedding  # noqa: PLC0415 - only this class needs it

        words = folder / "words"
        words.mkdir()
        (words / "english.txt").write_text("\n".join(_STOP_WORDS.split()))
        return SparseTextEmbedding(model_name="Qdrant/bm25", specific_model_path=str(words))
