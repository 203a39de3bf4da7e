"""Work in other threads and processes for `benchmarks.scale`: recalls and adds at the same time. It prints no table."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.corpus import questions, statements
from engram_core import Engram, Message

K = 8


def _own_megabytes() -> tuple[float, float]:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) / 1024, int(status["VmRSS"].split()[0]) / 1024


# --- a second process ---


Where = dict[str, Any]
"""What `Engram.open` takes: `url`, and `index` for a server."""


def asked_elsewhere(where: Where, scope: str, queries: int, between: Callable[[], object]) -> dict[str, Any]:
    """Recall in another process while this one owns the index; `between` is called before every tenth question."""
    code = f"import benchmarks.load as load; load.answer({where!r}, {scope!r})"
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdin is not None
    assert worker.stdout is not None
    found: dict[str, Any] = {"wall": [], "own": [], "degraded": 0}
    for number, question in enumerate(["Which is the first question?", *questions(queries)]):
        if number % 10 == 5:
            between()
        worker.stdin.write(json.dumps(question) + "\n")
        worker.stdin.flush()
        answer = json.loads(worker.stdout.readline())
        if number == 0:
            found["first"] = answer["wall"]
            continue
        found["wall"].append(answer["wall"])
        found["own"].append(answer["own"])
        found["degraded"] += answer["degraded"]
        found["megabytes"] = answer["megabytes"]
    worker.stdin.close()
    worker.wait(60)
    return found


def answer(where: Where, scope: str) -> None:
    """In the second process: a question per line in, what the recall cost out."""
    with Engram.open(**where) as store:
        memory = store.memory(scope)
        for line in sys.stdin:
            wall, own = time.perf_counter(), time.thread_time()
            found = memory.recall(json.loads(line), k=K)
            row = {"wall": (time.perf_counter() - wall) * 1000, "own": (time.thread_time() - own) * 1000}
            print(json.dumps(row | {"degraded": found.degraded, "megabytes": _own_megabytes()[0]}), flush=True)


# --- load ---


def run(where: Where, scope: str, readers: str, writing: int, seconds: float) -> dict[str, Any]:
    """Recall from 8 threads or 4 processes for some seconds while one thread adds `writing` facts at a time."""
    walls: list[float] = []
    with Engram.open(**where) as store:
        store.memory(scope).recall("Who is there?", k=K)
        store.flush(600)
        if readers == "4 processes":
            code = f"import benchmarks.load as load; load.ask_for({where!r}, {scope!r}, {seconds})"
            workers = [
                subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                for _ in range(4)
            ]
            for worker in workers:
                assert worker.stdout is not None
                worker.stdout.readline()  # it is open and warm
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
            added = _while_adding(store, scope, writing, seconds, lambda: None)
            for worker in workers:
                walls += json.loads(worker.communicate(timeout=seconds + 120)[0])
        else:
            threads = [
                threading.Thread(target=_recall_on, args=(store, scope, seed, seconds, walls)) for seed in range(8)
            ]
            added = _while_adding(store, scope, writing, seconds, lambda: [thread.start() for thread in threads])
            for thread in threads:
                thread.join()
    return {"wall": walls, "added": added / seconds}


def _while_adding(store: Engram, scope: str, writing: int, seconds: float, start: Callable[[], object]) -> int:
    """Start the others, then add for some seconds; return how many facts."""
    start()
    until, added = time.monotonic() + seconds, 0
    messages = cycle(statements(2_000, seed=int(time.time())))
    while time.monotonic() < until:
        if not writing:
            time.sleep(0.05)
            continue
        # A session of its own for each: what is measured is adding, not finding repeats.
        batch = [_anew(next(messages), f"{time.time_ns()}") for _ in range(writing)]
        store.memory(scope).add(batch)
        added += len(batch)
    return added


def _anew(message: Message, mark: str) -> Message:
    return Message("user", f"{message.content} ({mark})", speaker=message.speaker, session=f"load-{mark[:-10]}")


def _recall_on(store: Engram, scope: str, seed: int, seconds: float, walls: list[float]) -> None:
    memory, until = store.memory(scope), time.monotonic() + seconds
    for question in cycle(questions(500, seed=100 + seed)):
        if time.monotonic() >= until:
            return
        started = time.perf_counter()
        memory.recall(question, k=K)
        walls.append((time.perf_counter() - started) * 1000)


def ask_for(where: Where, scope: str, seconds: float) -> None:
    """In a process of its own: get warm, wait for the start, recall for some seconds, print what each cost."""
    walls: list[float] = []
    with Engram.open(**where) as store:
        store.memory(scope).recall("Who is there?", k=K)
        print("ready", flush=True)
        sys.stdin.readline()
        _recall_on(store, scope, hash(time.time()) % 1_000, seconds, walls)
    print(json.dumps(walls), flush=True)


# --- many scopes ---


def visit(place: str, scopes: int, handles: int) -> None:
    """Recall once in every scope, then in some again, with few file handles; print the cost and what is held."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (handles, hard))
    wall: list[float] = []
    own: list[float] = []
    started = time.perf_counter()
    with Engram.open(place) as store:
        opened = (time.perf_counter() - started) * 1000
        for number, question in zip(range(scopes), cycle(questions(500)), strict=False):
            began, mine = time.perf_counter(), time.thread_time()
            store.memory(f"bench/many/user{number}").recall(question, k=K)
            own.append((time.thread_time() - mine) * 1000)
            wall.append((time.perf_counter() - began) * 1000)
        anonymous, whole = _own_megabytes()
        open_files = len(list(Path("/proc/self/fd").iterdir()))
    found = {"open": opened, "wall": wall, "own": own, "own MB": anonymous, "MB": whole, "handles": open_files}
    print(json.dumps(found))


# --- ingestion ---


def raw_client(place: Path, index: str | None) -> Any:
    """A plain client of Chroma: of the same server as Engram's index, or of a directory."""
    import chromadb
    from chromadb.config import Settings

    settings = Settings(anonymized_telemetry=False)
    if index is None:
        return chromadb.PersistentClient(path=str(place), settings=settings)
    address = urlsplit(index)
    return chromadb.HttpClient(host=address.hostname or "", port=address.port or 8000, settings=settings)


def ingested(place: Path, where: Where, facts: int, batch: int) -> dict[str, tuple[float, float]]:
    """Facts per second and processor milliseconds per fact: acknowledged, with the index, and raw Chroma."""
    messages = statements(facts)
    chunks = [messages[start : start + batch] for start in range(0, facts, batch)]
    own_name = f"raw-{time.time_ns()}"
    client = raw_client(place / "raw", where.get("index"))
    collection = client.create_collection(own_name, embedding_function=None)
    spent = {"engram": [0.0, 0.0], "raw": [0.0, 0.0]}
    with Engram.open(**where, exact_limit=0) as store:
        memory, embed = store.memory(f"bench/ingest/{own_name}"), store.context.embedder.embed
        memory.add("warm up")
        memory.recall("warm up")
        store.flush(600)
        collection.add(ids=["warm"], embeddings=embed(["warm up"]), documents=["warm up"])

        def raw(chunk: list[Message]) -> None:
            texts = [f"{message.speaker}: {message.content}" for message in chunk]
            collection.add(ids=[message.id for message in chunk], embeddings=embed(texts), documents=texts)

        # In blocks that take turns, so that both meet the same neighbours; each block ends with nothing left to do.
        index = [0.0, 0.0]
        block = max(1, len(chunks) // 5)
        for start in range(0, len(chunks), block):
            part = chunks[start : start + block]
            for name, take in (("engram", memory.add), ("raw", raw)):
                wall, own = time.perf_counter(), time.process_time()
                for chunk in part:
                    take(chunk)
                spent[name][0] += time.perf_counter() - wall
                spent[name][1] += time.process_time() - own
                if name == "engram":
                    store.flush(600)
                    index[0] += time.perf_counter() - wall
                    index[1] += time.process_time() - own
        client.delete_collection(own_name)
        client.close()
    rates = {"engram": spent["engram"], "indexed": index, "raw": spent["raw"]}
    return {name: (facts / wall, own / facts * 1000) for name, (wall, own) in rates.items()}
