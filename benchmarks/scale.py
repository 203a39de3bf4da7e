"""Recall, ingestion, opening, memory and load as a store grows, each beside raw Chroma, as Markdown tables.

    python -m benchmarks.scale [--parts recall,trips,degraded,load,scopes,deep,ingest] [--sizes 1000,10000,100000]
                               [--keep DIR] [--queries 200] [--raw-limit 100000] [--peer module:function]
                               [--url postgresql://… --index http://…]

With `--keep` a store is built once and found again; a million facts take an hour. `recall` shows one big scope: p50,
p95 and p99 with the share of each stage, opening, memory and disk. `degraded` asks from a second process, which does
not own the index. `load` recalls from 8 threads and from 4 processes while somebody writes. `scopes` opens many small
scopes in one process with few file handles; `deep` recalls at the end of a path of eight scopes. `ingest` adds one
by one, a hundred and a thousand at a time. Raw Chroma holds the same vectors and texts and is asked for 8 with its
defaults. Times are milliseconds of the clock, and in brackets of the asking thread's processor: on a machine with
neighbours compare within a line. `--peer` names a function that takes a directory, texts and vectors and returns a
function from a question to whatever it finds; it is asked alternately with the others. With `--url` and `--index`
Engram's store is that database with that Chroma server, each size in a scope of its own that stays there, and raw
Chroma is a collection on the same server; `trips` counts what a call waits for, and puts a network between; `scopes`
and `deep` are about one process and leave them alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from sqlalchemy import make_url

from benchmarks import big_stores, load, wire
from benchmarks.corpus import questions, told
from engram_core import Engram
from engram_core.cli.progress import bar

K = 8
BIG = "bench/big"
WARM = 20
SMALL_SCOPES = 10_000
FACTS_EACH = 8
FEW_HANDLES = 256
Ask = Callable[[str], object]


class Times:
    """Milliseconds of calls, by the clock and by the thread's processor."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.own: list[float] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        wall, own = time.perf_counter(), time.thread_time()
        yield
        self.own.append((time.thread_time() - own) * 1000)
        self.wall.append((time.perf_counter() - wall) * 1000)

    def at(self, share: float) -> str:
        return f"{np.percentile(self.wall, share):.1f} ({np.percentile(self.own, share):.1f})"

    def cells(self) -> list[str]:
        return [self.at(50), self.at(95), self.at(99)]


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    sys.stdout.flush()


def resident() -> tuple[float, float]:
    """Megabytes of this process that are its own, and all of it, mapped files included."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(status[name].split()[0]) / 1024 for name in ("RssAnon", "VmRSS"))  # type: ignore[return-value]


def on_disk(path: Path) -> float:
    """Megabytes that a directory takes, as allocated."""
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file()) / 2**20


def built(home: Path, size: int, options: argparse.Namespace) -> tuple[load.Where, str]:
    """A filled store: what opens it, and its scope."""
    where, scope = {"url": str(home / f"store-{size}")}, BIG
    if options.url is not None:
        where, scope = {"url": options.url, "index": options.index}, f"{BIG}-{size}"
    with bar(f"{size:,} facts", shown=None) as move:
        big_stores.filled(where["url"], scope, size, move, index=where.get("index")).close()
    return where, scope


def raw_chroma(home: Path, size: int, store: Engram, index: str | None) -> Ask:
    """A plain collection with documents and the store's content vectors; found again if it is complete."""
    client = load.raw_client(home / f"raw-{size}", index)
    options = {"embedding_function": None, "configuration": {"hnsw": {"space": "cosine"}}}
    collection = client.get_or_create_collection("raw" if index is None else f"raw-{size}", **options)
    have = collection.count()
    with bar(f"{size:,} in raw Chroma", shown=None) as move:
        for chunk in big_stores.chunks(islice(told(size), have, None), 1_000):
            texts = [f"{message.speaker}: {message.content}" for message in chunk]
            ids = [str(number) for number in range(have, have + len(chunk))]
            collection.add(ids=ids, embeddings=store.context.embedder.embed(texts), documents=texts)
            have += len(chunk)
            move(have, size)
    embed = store.context.embedder.embed_queries
    return lambda question: collection.query(query_embeddings=embed([question]), n_results=K)


def peer(name: str, place: Path, size: int, store: Engram) -> Ask:
    """The function that `module:function` makes of a directory, texts and vectors."""
    module, _, function = name.partition(":")
    texts = [f"{message.speaker}: {message.content}" for message in told(size)]
    made: Ask = getattr(importlib.import_module(module), function)(place, texts, store.context.embedder.embed(texts))
    return made


def in_turn(asks: Mapping[str, Ask], queries: int) -> dict[str, Times]:
    """Ask each the same questions alternately."""
    times = {name: Times() for name in asks}
    for number, question in enumerate(questions(queries + WARM)):
        for name, ask in asks.items():
            with times[name].one():
                ask(question)
            if number < WARM:
                times[name].wall.clear()
                times[name].own.clear()
    return times


def recall(home: Path, options: argparse.Namespace) -> None:
    """One big scope through the facade."""
    speeds, shares, stores = [], [], []
    for size in options.sizes:
        where, scope = built(home, size, options)
        before = resident()
        started = time.perf_counter()
        store = Engram.open(**where)
        opened = time.perf_counter() - started
        memory = store.memory(scope)
        memory.recall("Which is the first question?", k=K)
        first = time.perf_counter() - started - opened
        store.flush(600)
        stages: dict[str, list[float]] = defaultdict(list)

        def ours(question: str) -> None:
            for stage, spent in memory.recall(question, k=K).stages.items():  # noqa: B023 - called in this turn only
                stages[stage].append(spent)  # noqa: B023

        asks: dict[str, Ask] = {"Engram": ours}
        if size <= options.raw_limit:
            asks["raw Chroma"] = raw_chroma(home, size, store, options.index)
        if options.peer:
            asks["peer"] = peer(options.peer, home / f"peer-{size}", size, store)
        settle(store, scope)
        times = in_turn(asks, options.queries)
        own, all_ = resident()
        for name, spent in times.items():
            against = np.percentile(times["Engram"].wall, 95) / np.percentile(spent.wall, 95)
            speeds.append([f"{size:,}", name, *spent.cells(), "" if name == "Engram" else f"{against:.1f}"])
        shares.append([f"{size:,}", *(f"{np.median(spent):.2f}" for spent in stages.values())])
        stores.append(
            [f"{size:,}", f"{opened * 1000:.0f}", f"{first * 1000:.0f}", f"{own - before[0]:.0f}",
             f"{all_ - before[1]:.0f}", f"{on_disk(Path(where['url'])):.0f}" if options.url is None else "elsewhere"]
        )  # fmt: skip
        store.close()
    table("Recall, one scope", ["facts", "", "p50", "p95", "p99", "p95: Engram is times"], speeds)
    table("Stages, median ms", ["facts", *stages], shares)
    table("Store", ["facts", "open ms", "first recall ms", "own MB", "with mapped files MB", "disk MB"], stores)


def settle(store: Engram, scope: str, seconds: float = 300.0) -> None:
    """Give what recalls set off in the background time to end: this is how a store is that has been up for a while."""
    memory, until = store.memory(scope), time.monotonic() + seconds
    for question in questions(WARM, seed=3):
        memory.recall(question, k=K)
    decks = store.context.finder._decks  # type: ignore[attr-defined]  # noqa: SLF001 - nothing public tells
    while decks._worker is not None and time.monotonic() < until:  # noqa: SLF001
        time.sleep(0.2)


def degraded(home: Path, options: argparse.Namespace) -> None:
    """Recall in a process that does not own the index, with somebody adding in between."""
    rows = []
    for size in (size for size in options.sizes if size > 2_000):
        where, scope = built(home, size, options)
        with Engram.open(**where) as owner:
            memory = owner.memory(scope)
            memory.recall("Who owns the index?")
            owner.flush(600)
            found = load.asked_elsewhere(where, scope, options.queries, lambda: memory.add("One more thing."))  # noqa: B023
        spent = Times()
        spent.wall, spent.own = found["wall"], found["own"]
        share = f"{found['degraded']} of {options.queries}"
        rows.append([f"{size:,}", *spent.cells(), share, f"{found['first']:.0f}", f"{found['megabytes']:.0f}"])
    table("Not the owner of the index", ["facts", "p50", "p95", "p99", "degraded", "first ms", "own MB"], rows)


def under_load(home: Path, options: argparse.Namespace) -> None:
    """8 threads and 4 processes that recall, alone and while a thread adds."""
    rows = []
    for size in options.sizes:
        where, scope = built(home, size, options)
        for readers in ("8 threads", "4 processes"):
            for writing in (0, 1, 100):
                found = load.run(where, scope, readers, writing, options.seconds)
                wrote = f"{found['added']:.0f}/s" if writing else "nobody"
                batch = f", {writing} at a time" if writing > 1 else ""
                walls = found["wall"]
                cells = [f"{np.percentile(walls, share):.0f}" for share in (50, 95, 99)]
                rows.append([f"{size:,}", readers, wrote + batch, *cells, f"{len(walls) / options.seconds:.0f}/s"])
    table("Under load", ["facts", "recalling", "adding", "p50 ms", "p95", "p99", "recalls"], rows)


def scopes(home: Path, options: argparse.Namespace) -> None:
    """Ten thousand small scopes: filled, and all of them recalled in one process with few file handles."""
    place = home / f"scopes-{options.scopes}"
    with Engram.open(place) as store, bar("scopes", shown=None) as move:
        have = len(store.context.ledger.scopes())
        messages = islice(told(options.scopes * FACTS_EACH), have * FACTS_EACH, None)
        for number, chunk in enumerate(big_stores.chunks(messages, FACTS_EACH), have):
            big_stores.write(store, big_stores.Scope(f"bench/many/user{number}"), chunk)
            move(number + 1, options.scopes)
    code = f"import benchmarks.load as load; load.visit({str(place)!r}, {options.scopes}, {FEW_HANDLES})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    spent = Times()
    spent.wall, spent.own = found["wall"], found["own"]
    cells = [f"{found['open']:.0f}", *spent.cells(), f"{found['own MB']:.0f}", f"{found['MB']:.0f}", found["handles"]]
    head = ["scopes", "open ms", "p50", "p95", "p99", "own MB", "with mapped files MB", f"handles, of {FEW_HANDLES}"]
    table("Many small scopes", head, [[f"{options.scopes:,}", *cells]])


def deep(home: Path, options: argparse.Namespace) -> None:
    """Recall at the end of a path of eight scopes, every level with facts, beside one scope with all of them."""
    del home
    parts = [f"l{level}" for level in range(8)]
    paths = ["/".join(parts[: level + 1]) for level in range(8)]
    rows = []
    with Engram.open(":memory:") as flat, tempfile.TemporaryDirectory() as place, Engram.open(place) as store:
        messages = list(told(1_600))
        for level, path in enumerate(paths):
            store.memory(path).add(messages[200 * level : 200 * (level + 1)])
        with Engram.open(Path(place, "flat")) as one:
            one.memory("flat").add(messages)
            asks: dict[str, Ask] = {
                "eight scopes of 200": lambda question: store.memory(paths[-1]).recall(question, k=K),
                "one scope of 1,600": lambda question: one.memory("flat").recall(question, k=K),
            }
            rows = [[name, *spent.cells()] for name, spent in in_turn(asks, options.queries).items()]
        del flat
    table("Deep paths", ["", "p50", "p95", "p99"], rows)


def ingest(home: Path, options: argparse.Namespace) -> None:
    """Facts acknowledged per second, in turns with raw Chroma: clock, and processor time per fact."""
    del home
    rows = []
    for batch, facts in ((1, options.adds), (100, 20 * options.adds), (1_000, 20 * options.adds)):
        place = Path(tempfile.mkdtemp(prefix="engram-bench-"))
        try:
            where = (
                {"url": str(place / "store")} if options.url is None else {"url": options.url, "index": options.index}
            )
            found = load.ingested(place, where, facts, batch)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        ours, indexed, raw = (found[name] for name in ("engram", "indexed", "raw"))
        rows.append(
            [f"{batch:,}", f"{ours[0]:,.0f}", f"{indexed[0]:,.0f}", f"{raw[0]:,.0f}", f"{ours[0] / raw[0]:.2f}",
             f"{ours[1]:.2f}", f"{indexed[1]:.2f}", f"{raw[1]:.2f}", f"{raw[1] / ours[1]:.2f}"]
        )  # fmt: skip
    head = ["at a time", "Engram acknowledged /s", "index too /s", "raw Chroma /s", "ratio", "Engram CPU ms per fact",
            "index too", "raw Chroma", "ratio"]  # fmt: skip
    table("Ingestion", head, rows)


def trips(home: Path, options: argparse.Namespace) -> None:
    """What a recall and an add wait for, counted between the client and PostgreSQL, near it and a network away."""
    if options.url is None:
        return
    rows = []
    for size in options.sizes:
        where, scope = built(home, size, options)
        for lag in (0.0, options.lag / 1000):
            relay = wire.Relay(make_url(options.url).port or 5432, lag=lag)
            near = make_url(options.url).set(host="127.0.0.1", port=relay.port).render_as_string(hide_password=False)
            with Engram.open(near, index=where["index"]) as store:
                settle(store, scope)
                calls: dict[str, Ask] = {
                    "recall": lambda question: store.memory(scope).recall(question, k=K),  # noqa: B023
                    "add": lambda question: store.memory(f"{scope}-adds").add(f"{question} {time.time_ns()}"),  # noqa: B023
                }
                for name, call in calls.items():
                    spent, asked = Times(), []
                    for question in questions(options.queries, seed=5):
                        with relay.counting() as seen, spent.one():
                            call(question)
                        asked.append((seen.trips, seen.statements))
                    waited, said = np.median(asked, axis=0)
                    rows.append([f"{size:,}", name, f"{lag * 1000:g}", f"{waited:.0f}", f"{said:.0f}", spent.at(50)])
            relay.close()
    table("Asked of PostgreSQL", ["facts", "", "lag each way, ms", "round trips", "statements", "p50"], rows)


PARTS = {
    "recall": recall,
    "trips": trips,
    "degraded": degraded,
    "load": under_load,
    "scopes": scopes,
    "deep": deep,
    "ingest": ingest,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument(
        "--sizes", default="1000,10000,100000", type=lambda text: [int(part) for part in text.split(",")]
    )
    parser.add_argument("--keep", type=Path, default=None, help="where stores are kept and found again")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0, help="of load, each")
    parser.add_argument("--adds", type=int, default=300, help="facts added one by one; twenty times as many in batches")
    parser.add_argument("--scopes", type=int, default=SMALL_SCOPES)
    parser.add_argument("--raw-limit", type=int, default=100_000, help="facts up to which raw Chroma is built, too")
    parser.add_argument("--url", default=None, help="a PostgreSQL database; default directories below --keep")
    parser.add_argument("--index", default=None, help="with --url: the address of a Chroma server")
    parser.add_argument("--lag", type=float, default=1.0, help="milliseconds each way of the network of `trips`")
    parser.add_argument("--peer", default=None, help="module:function, another memory to ask")
    options = parser.parse_args()
    if (options.url is None) != (options.index is None):
        parser.error("--url and --index go together: a database and a Chroma server")
    home = options.keep or Path(tempfile.mkdtemp(prefix="engram-scale-"))
    home.mkdir(parents=True, exist_ok=True)
    try:
        for part in options.parts.split(","):
            PARTS[part](home, options)
    finally:
        if options.keep is None:
            shutil.rmtree(home, ignore_errors=True)
    print(f"\nPeak of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB.")


if __name__ == "__main__":
    main()
