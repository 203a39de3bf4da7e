"""Ingest through the facade against raw `collection.add` with the same vectors, in one run, batch of 1 and of 1,000.

    python -m benchmarks.ingest [--facts 3000] [--url postgresql+psycopg://… --index http://…]

With `--url` Engram's store is that database, in a scope of its own that stays there; else a directory that goes again.
Engram acknowledges when the ledger has the fact on disk (fsync) and the index follows; raw Chroma when `add` returns.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.corpus import statements
from engram_core import Engram


def engram_rate(place: Path | str, index: str | None, facts: int, batch: int) -> tuple[float, float]:
    """Acknowledged facts per second, and facts per second until the index has them too."""
    messages = statements(facts)
    with Engram.open(place, index=index, exact_limit=0) as store:
        memory = store.memory(f"bench/ingest-{time.time_ns()}")
        memory.add("warm up")
        memory.recall("warm up")
        started = time.perf_counter()
        for start in range(0, facts, batch):
            memory.add(messages[start : start + batch])
        acknowledged = time.perf_counter() - started
        store.flush(3_600)
        return facts / acknowledged, facts / (time.perf_counter() - started)


def chroma_rate(directory: Path, facts: int, batch: int) -> float:
    """Facts per second into a plain persistent collection, embedding included as it is for Engram."""
    import chromadb
    from chromadb.config import Settings

    messages = statements(facts)
    with Engram.open(":memory:") as store:
        embedder = store.context.embedder
        embedder.embed(["warm up"])
        client = chromadb.PersistentClient(path=str(directory), settings=Settings(anonymized_telemetry=False))
        collection = client.create_collection("raw", embedding_function=None)
        started = time.perf_counter()
        for start in range(0, facts, batch):
            chunk = messages[start : start + batch]
            texts = [f"{message.speaker}: {message.content}" for message in chunk]
            collection.add(ids=[message.id for message in chunk], embeddings=embedder.embed(texts), documents=texts)
        return facts / (time.perf_counter() - started)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=int, default=3_000)
    parser.add_argument("--url", default=None, help="the store: a database URL; default a temporary directory")
    parser.add_argument("--index", default=None, help="with --url: the address of a Chroma server")
    options = parser.parse_args()
    for batch in (1, 1_000):
        facts = min(options.facts, 600) if batch == 1 else options.facts
        directory = Path(tempfile.mkdtemp(prefix="engram-bench-"))
        try:
            ours, indexed = engram_rate(options.url or directory / "store", options.index, facts, batch)
            raw = chroma_rate(directory / "raw", facts, batch)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        print(
            f"batch {batch:>5}: engram acknowledged {ours:8,.0f}/s (index too {indexed:8,.0f}/s)   raw Chroma "
            f"{raw:8,.0f}/s   ratio {ours / raw:5.2f}"
        )


if __name__ == "__main__":
    main()
