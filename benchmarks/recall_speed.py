"""Recall through the facade against a raw Chroma query on the same vectors, in one run, with the share of each stage.

    python -m benchmarks.recall_speed [--sizes 1000,10000,100000] [--queries 200]
                                      [--url postgresql+psycopg://… --index http://…]

With `--url` Engram's store is that database, in a scope of its own that stays there; else a directory that goes again.

Raw Chroma is asked for k=8 with its defaults (documents, metadatas, distances), which is what a plain retriever does.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.corpus import questions, statements
from engram_core import Engram

K = 8


def raw_chroma(directory: Path, texts: list[str], vectors: np.ndarray):
    """A plain persistent collection with documents."""
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(path=str(directory), settings=Settings(anonymized_telemetry=False))
    collection = client.create_collection("raw", embedding_function=None, configuration={"hnsw": {"space": "cosine"}})
    for start in range(0, len(texts), 1000):
        chunk = slice(start, start + 1000)
        ids = [str(number) for number in range(start, start + len(texts[chunk]))]
        collection.add(ids=ids, embeddings=vectors[chunk], documents=texts[chunk])
    return client, collection


def percentile(values: list[float], share: float) -> float:
    return float(np.percentile(values, share))


def measure(size: int, queries: int, url: str | None, index: str | None) -> None:
    """One size: build both, ask both the same questions alternately, print one row and the stages."""
    directory = Path(tempfile.mkdtemp(prefix="engram-bench-"))
    try:
        messages = statements(size)
        store = Engram.open(url or directory / "store", index=index)
        memory = store.memory(f"bench/speed-{time.time_ns()}")
        started = time.perf_counter()
        for start in range(0, size, 5_000):
            memory.add(messages[start : start + 5_000])
        acknowledged = time.perf_counter() - started
        store.flush(3_600)
        indexed = time.perf_counter() - started
        texts = [f"{message.speaker}: {message.content}" for message in messages]
        vectors = store.context.embedder.embed(texts)
        started = time.perf_counter()
        client, collection = raw_chroma(directory / "raw", texts, vectors)
        raw_built = time.perf_counter() - started
        asked = questions(queries + 20)
        raw, ours, stages, degraded = [], [], defaultdict(list), 0
        for number, question in enumerate(asked):
            vector = store.context.embedder.embed_queries([question])[0]
            started = time.perf_counter()
            collection.query(query_embeddings=[vector], n_results=K)
            middle = time.perf_counter()
            found = memory.recall(question, k=K)
            ended = time.perf_counter()
            if number < 20:
                continue  # both warm
            raw.append((middle - started) * 1000)
            ours.append((ended - middle) * 1000)
            degraded += found.degraded
            for name, spent in found.stages.items():
                stages[name].append(spent)
        print(
            f"{size:>8,} facts  raw p50 {percentile(raw, 50):6.2f} p95 {percentile(raw, 95):6.2f} ms   engram p50 "
            f"{percentile(ours, 50):6.2f} p95 {percentile(ours, 95):6.2f} ms   ratio of p95 "
            f"{percentile(ours, 95) / percentile(raw, 95):5.2f}   goal 3x+5 = {3 * percentile(raw, 95) + 5:6.2f} ms   "
            f"degraded {degraded}"
        )
        total = sum(np.mean(values) for values in stages.values())
        shares = "  ".join(
            f"{name} {np.mean(values):.2f} ms ({100 * np.mean(values) / total:.0f}%)" for name, values in stages.items()
        )
        print(f"          stages, mean: {shares}")
        print(
            f"          ingest: acknowledged {size / acknowledged:,.0f}/s, indexed {size / indexed:,.0f}/s, raw Chroma "
            f"{size / raw_built:,.0f}/s"
        )
        store.close()
        del client
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--url", default=None, help="the store: a database URL; default a temporary directory")
    parser.add_argument("--index", default=None, help="with --url: the address of a Chroma server")
    options = parser.parse_args()
    for size in options.sizes.split(","):
        measure(int(size), options.queries, options.url, options.index)


if __name__ == "__main__":
    main()
