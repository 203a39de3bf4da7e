"""A hundred million facts, as far as one machine can tell: constants measured here, arithmetic, and a simulation.

    python -m benchmarks.scaling [--facts 5000] [--total 100000000] [--shards 20] [--scopes 2000000] [--recalls 200000]

It fills a store, measures what a fact costs (ledger bytes, index bytes, acknowledged and indexed facts a second, bytes
in memory when it is searched exactly), and multiplies. Then it simulates what it cannot build: scopes of a skewed size
dealt to shards by hash, and recalls of a skewed popularity meeting a cache of scopes in each worker. What is measured,
what is multiplied and what is simulated is said in every line.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.corpus import statements
from engram_core import Engram

GB = 1024**3


@dataclass(frozen=True)
class Constants:
    """What one fact costs, measured here."""

    ledger_bytes: float
    index_bytes: float
    memory_bytes: float
    acknowledged: float
    indexed: float
    rebuilt: float


def size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def measured(facts: int) -> Constants:
    """Fill a store with an index, and look at it."""
    directory = Path(tempfile.mkdtemp(prefix="engram-bench-"))
    try:
        messages = statements(facts)
        with Engram.open(directory / "store", exact_limit=0) as store:
            memory = store.memory("bench/scaling")
            memory.recall("warm up")
            started = time.process_time()
            for start in range(0, facts, 500):
                memory.add(messages[start : start + 500])
            acknowledged = time.process_time() - started
            store.flush(3_600)
            indexed = time.process_time() - started
            started = time.process_time()
            store.reindex()
            rebuilt = time.process_time() - started
            dimension = store.context.embedder.dimension
        index = size(directory / "store" / "index")
        ledger = size(directory / "store") - index
        return Constants(
            ledger_bytes=ledger / facts,
            index_bytes=index / facts,
            memory_bytes=4.0 * dimension,
            acknowledged=facts / acknowledged,
            indexed=facts / indexed,
            rebuilt=facts / rebuilt,
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def scope_sizes(scopes: int, total: int, rng: np.random.Generator) -> np.ndarray:
    """Facts by scope: log-normal, as accounts are: most hold little, a few hold very much."""
    raw = rng.lognormal(0.0, 1.8, scopes)
    return np.maximum(1, raw / raw.sum() * total).astype(np.int64)


def shard_of(scope: int, shards: int) -> int:
    """The shard with the highest hash of (shard, scope): one more shard moves one in so many scopes and no other."""
    return max(range(shards), key=lambda shard: hashlib.blake2b(f"{shard}/{scope}".encode(), digest_size=8).digest())


def simulate_shards(sizes: np.ndarray, shards: int, limit: int) -> None:
    """How evenly the facts lie, and what moves when a shard is added."""
    sample = np.flatnonzero(sizes > limit)
    if len(sample) > 20_000:
        sample = np.random.default_rng(3).choice(sample, 20_000, replace=False)
    homes = np.array([shard_of(int(scope), shards) for scope in sample])
    loads = np.bincount(homes, weights=sizes[sample], minlength=shards)
    more = np.array([shard_of(int(scope), shards + 1) for scope in sample])
    moved = sizes[sample][homes != more].sum() / sizes[sample].sum()
    print(
        f"  simulated: {len(sample):,} indexed scopes on {shards} shards: the fullest holds "
        f"{loads.max() / loads.mean():.2f} of the mean; shard {shards + 1} takes {100 * moved:.1f} % of the facts "
        f"(1/{shards + 1} is {100 / (shards + 1):.1f} %)"
    )


def simulate_cache(sizes: np.ndarray, constants: Constants, recalls: int, limit: int, gigabytes: float) -> None:
    """How often a worker finds a small scope in memory, when some are asked far more often than others."""
    rng = np.random.default_rng(5)
    small = np.flatnonzero(sizes <= limit)
    order = rng.permutation(small)
    asked = order[np.minimum(rng.zipf(1.2, recalls) - 1, len(order) - 1)]
    # A snapshot holds both vectors and the words of a fact: `storage.snapshots` reckons 3,000 bytes for the latter.
    each = 2 * constants.memory_bytes + 3_000
    held: OrderedDict[int, float] = OrderedDict()
    used, hits = 0.0, 0
    for scope in asked.tolist():
        if scope in held:
            hits += 1
            held.move_to_end(scope)
            continue
        held[scope] = sizes[scope] * each
        used += held[scope]
        while used > gigabytes * GB and len(held) > 1:
            used -= held.popitem(last=False)[1]
    print(
        f"  simulated: {recalls:,} recalls of {len(small):,} small scopes (Zipf 1.2) with {gigabytes:g} GB a worker: "
        f"{100 * hits / recalls:.1f} % in memory, {len(held):,} scopes held"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=int, default=5_000, help="facts to measure with")
    parser.add_argument("--total", type=int, default=100_000_000)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--scopes", type=int, default=2_000_000)
    parser.add_argument("--recalls", type=int, default=200_000)
    parser.add_argument("--limit", type=int, default=2_000, help="facts up to which a scope has no collection")
    parser.add_argument("--index-ram", type=float, default=2_100, help="bytes of Chroma's memory per vector in use")
    options = parser.parse_args()
    found = measured(options.facts)
    print(
        f"measured with {options.facts:,} facts: ledger {found.ledger_bytes:,.0f} B, index {found.index_bytes:,.0f} B, "
        f"exact search {found.memory_bytes:,.0f} B of memory a fact; {found.acknowledged:,.0f} acknowledged, "
        f"{found.indexed:,.0f} indexed, {found.rebuilt:,.0f} rebuilt facts per second of processor time"
    )
    rng = np.random.default_rng(1)
    sizes = scope_sizes(options.scopes, options.total, rng)
    indexed = int(sizes[sizes > options.limit].sum())
    each = indexed / options.shards
    print(f"{options.total:,} facts in {options.scopes:,} scopes (log-normal, sigma 1.8):")
    print(
        f"  simulated: {np.count_nonzero(sizes > options.limit):,} scopes above {options.limit:,} facts hold "
        f"{100 * indexed / sizes.sum():.0f} % of the facts; the largest holds {sizes.max():,}"
    )
    print(f"  multiplied: ledger {options.total * found.ledger_bytes / GB:,.0f} GB")
    print(
        f"  multiplied: index {indexed * found.index_bytes / GB:,.0f} GB of disk and up to "
        f"{indexed * options.index_ram / GB:,.0f} GB of memory if every collection is in use: "
        f"{each * found.index_bytes / GB:,.0f} and {each * options.index_ram / GB:,.1f} GB a shard"
    )
    print(
        f"  multiplied: to rebuild one shard of {each:,.0f} vectors takes {each / found.rebuilt / 60:,.0f} minutes of "
        "one core; all shards, a core each, the same"
    )
    print(
        f"  multiplied: to ingest it all in batches takes {options.total / found.acknowledged / 86_400:,.1f} days of "
        f"one core; a day of {options.total // 1_000:,} new facts, "
        f"{options.total / 1_000 / found.indexed / 60:,.1f} minutes"
    )
    simulate_shards(sizes, options.shards, options.limit)
    for gigabytes in (0.25, 1.0, 4.0):
        simulate_cache(sizes, found, options.recalls, options.limit, gigabytes)


if __name__ == "__main__":
    main()
