"""Four processes on one PostgreSQL and one Chroma server, both killed, restarted and stopped under them: nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support_cluster import Cluster
from support_remote import SCOPE, answers
from support_stores import ChromaServer, python

from engram_core import Engram
from engram_core.domain.scope import Scope
from engram_core.testing.fakes import WordHashEmbedder, wait_until
from engram_core.testing.samples import outbox, state

WRITERS = 4
LIMIT = 20
QUESTION = "red cat house"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster") / "postgres").start()
    yield made
    made.kill()


class Crowd:
    """The writers, what they noted, and the servers under them."""

    def __init__(self, cluster: Cluster, chroma: ChromaServer, notes: Path) -> None:
        self.cluster, self.chroma, self.notes = cluster, chroma, notes
        self.gone: set[int] = set()

    def noted(self, *what: str) -> list[tuple[int, str, str, str]]:
        """(writer, what, id, text) of everything noted, in each writer's order."""
        found = []
        for who in range(WRITERS):
            file = self.notes / f"{who}.notes"
            lines = file.read_text().splitlines() if file.exists() else []
            found += [(who, *json.loads(line)) for line in lines if line.endswith("]")]
        return [row for row in found if not what or row[1] in what]

    def goes_on(self, each: int = 3) -> None:
        """Wait until every writer that is left was acknowledged again, by itself."""
        before = self.counts()
        left = set(range(WRITERS)) - self.gone

        def went_on() -> bool:
            now = self.counts()
            return all(now[who] >= before[who] + each for who in left)

        assert wait_until(went_on, seconds=60, every=0.05), (before, self.counts(), self.noted("refused")[-1:])

    def counts(self) -> list[int]:
        rows = self.noted("added")
        return [sum(row[0] == who for row in rows) for who in range(WRITERS)]

    def owner(self) -> int | None:
        """The process that projects now."""
        with psycopg.connect(self.cluster.url, connect_timeout=5) as connection:
            row = connection.execute(
                "SELECT holder FROM leases WHERE name = 'projector' AND until > extract(epoch from clock_timestamp())"
            ).fetchone()
        return int(row[0].partition("-")[0]) if row else None


def restart_postgres(crowd: Crowd) -> None:
    crowd.cluster.restart()


def kill_postgres(crowd: Crowd) -> None:
    crowd.cluster.kill()
    time.sleep(0.3)
    crowd.cluster.start()


def stop_postgres(crowd: Crowd) -> None:
    """Longer than anybody waits for an answer."""
    crowd.cluster.pause()
    time.sleep(2.5)
    crowd.cluster.resume()


def kill_chroma(crowd: Crowd) -> None:
    crowd.chroma.stop()
    crowd.goes_on()
    crowd.chroma.start()


def stop_chroma(crowd: Crowd) -> None:
    crowd.chroma.pause()
    crowd.goes_on()
    crowd.chroma.resume()


Fault = Callable[[Crowd], None]
FAULTS: list[Fault] = [restart_postgres, kill_chroma, kill_postgres, stop_chroma, stop_postgres]


def campaign(cluster: Cluster, place: Path, faults: list[Fault], *, kill_owner: bool) -> Crowd:
    """Let writers work through faults; how it went."""
    cluster.fresh()
    notes = place / "notes"
    notes.mkdir()
    chroma = ChromaServer(place / "chroma" / "data")
    chroma.directory.parent.mkdir()
    crowd = Crowd(cluster, chroma.start(), notes)
    url = f"{cluster.url}?pool_size=2&max_overflow=1&answer_timeout=1&connect_timeout=2"
    pids: list[int] = []
    try:
        with python(Path(__file__).with_name("crowd.py")) as process, _killing(pids):
            assert process.stdin is not None
            assert process.stdout is not None
            request = {"count": WRITERS, "url": url, "index": chroma.url, "notes": str(notes), "exact_limit": LIMIT}
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            pids += json.loads(process.stdout.readline())
            assert wait_until(lambda: len(crowd.noted("opened")) == WRITERS, seconds=60)
            crowd.goes_on(8)
            if kill_owner:
                assert wait_until(lambda: crowd.owner() in pids, seconds=20, every=0.1)
                owner = crowd.owner()
                os.kill(owner or 0, signal.SIGKILL)
                crowd.gone.add(pids.index(owner))
            for fault in faults:
                fault(crowd)
                crowd.goes_on()
            if kill_owner:
                assert wait_until(lambda: crowd.owner() in set(pids) - {owner}, seconds=30, every=0.2), (
                    "nobody took over"
                )
            (notes / "stop").touch()
            codes = json.loads(process.stdout.readline())
            assert [code for who, code in enumerate(codes) if who not in crowd.gone] == [0] * (
                WRITERS - len(crowd.gone)
            )
        check(crowd)
    finally:
        chroma.stop()
    return crowd


@contextlib.contextmanager
def _killing(pids: list[int]) -> Iterator[None]:
    """Kill the writers at the end: while one of them runs, it holds the pipe whose end is waited for."""
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def check(crowd: Crowd) -> None:
    """Everything acknowledged is there once; the history is one serial order; the index has caught up."""
    acknowledged = {id_: text for _, _, id_, text in crowd.noted("added")}
    assert crowd.noted("unseen") == [], "everybody finds at once what was acknowledged to him"
    refused = crowd.noted("refused")
    assert all("not acknowledged" in text or "safe" in text or "try again" in text for *_, text in refused), refused[:3]
    with Engram.open(
        crowd.cluster.url, index=crowd.chroma.url, embedder=WordHashEmbedder(), exact_limit=LIMIT
    ) as engram:
        memory = engram.memory(SCOPE)
        facts = {fact.id: fact for fact in memory.list(limit=10_000)}
        assert {id_: facts[id_].text for id_ in acknowledged} == acknowledged
        stored = [fact.text for fact in facts.values()]
        assert len(set(stored)) == len(stored), "a call that was made again is not stored twice"
        assert len(stored) - len(acknowledged) <= WRITERS * (len(refused) + 1)
        ledger = engram.context.ledger
        now = state(ledger, SCOPE)
        rows = {row.id: row for row in outbox(ledger, now.id)}
        assert rows.keys() == facts.keys()
        assert now.live == len(rows)
        (first,) = [row for row in rows.values() if row.previous is None]
        chain = [first.id]
        while (following := rows[chain[-1]].following) is not None:
            assert rows[following].previous == chain[-1]
            chain.append(following)
        assert len(chain) == len(rows), "every statement was planned on the one before it"
        for who in range(WRITERS):
            own = [id_ for writer, _, id_, _ in crowd.noted("added") if writer == who]
            assert own == sorted(own, key=chain.index), "each process's own order is kept"

        assert wait_until(lambda: engram.flush(30) and engram.doctor()["index"]["behind"] == 0, seconds=60, every=0.2)
        assert wait_until(lambda: not memory.recall(QUESTION).degraded, seconds=30, every=0.2)
        indexed = _indexed(crowd, engram)
        assert indexed == {row.id for row in rows.values() if row.status == "live"}
        recall = memory.recall(QUESTION, k=10)
        with Engram.open(crowd.cluster.url, index="exact", embedder=WordHashEmbedder(), exact_limit=LIMIT) as exact:
            assert answers(recall) == answers(exact.memory(SCOPE).recall(QUESTION, k=10))
        assert engram.doctor()["problems"] == []


def _indexed(crowd: Crowd, engram: Engram) -> set[str]:
    """What the Chroma server holds of the one live generation."""
    from engram_core.storage import chroma

    ledger: Any = engram.context.ledger
    (live,) = ledger.generations()
    (collection,) = ledger.collections(live.id)
    index = chroma.server(crowd.chroma.url)
    try:
        return index.ids(collection.name)
    finally:
        index.close()


def test_servers_are_killed_and_stopped_under_four_processes(cluster: Cluster, tmp_path: Path) -> None:
    crowd = campaign(cluster, tmp_path, FAULTS, kill_owner=True)
    assert crowd.noted("refused"), "PostgreSQL was away, and that was said"
    waited = [float(row[3].split()[0]) for row in crowd.noted("recalled")]
    assert waited
    assert any(row[3].endswith("True") for row in crowd.noted("recalled")), "recall went on without Chroma"


@pytest.mark.full
@pytest.mark.parametrize("seed", range(4))
def test_many_faults_in_any_order(cluster: Cluster, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    campaign(cluster, tmp_path, chance.choices(FAULTS, k=15), kill_owner=seed % 2 == 0)


def test_a_postgres_that_hangs_is_given_up_in_time(cluster: Cluster) -> None:
    cluster.fresh()
    url = f"{cluster.url}?pool_size=1&max_overflow=0&answer_timeout=0.5&connect_timeout=2"
    with Engram.open(url, embedder=WordHashEmbedder()) as engram:
        memory = engram.memory(SCOPE)
        memory.add("one red cat")
        cluster.pause()
        try:
            for call in (lambda: memory.add("two"), lambda: memory.recall("cat"), lambda: memory.list()):
                started = time.monotonic()
                with pytest.raises(Exception, match=r"is not available.*Check that the database is up"):
                    call()
                assert time.monotonic() - started < 8
        finally:
            cluster.resume()
        memory.add("three green dogs")
        assert memory.list()[0].text == "one red cat"
        assert state(engram.context.ledger, Scope(SCOPE)).live == len(memory.list())
