"""SIGKILL at random points while facts are added through the facade: nothing acknowledged is lost, recall is right."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from engram_core import Engram, Fact
from engram_core.domain.scope import Scope
from engram_core.operations.residue import search
from engram_core.testing.fakes import WordHashEmbedder, wait_until
from engram_core.testing.samples import outbox, state

SCOPE = "acme/support/alice"
LIMIT = 20
QUESTIONS = ("red cat house", "green dog lisbon", "rain tea music", "winter phone book garden")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


class Zygote:
    """Starts writers and kills them."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("zygote.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, store: Path, notes: Path, seed: int, *, work: str = "write") -> int:
        """Fork a writer, or one that consolidates (`nights`) or erases (`erasures`) all the time; its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"url": str(store), "notes": str(notes), "seed": seed, "exact_limit": LIMIT, "work": work}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def kill(self, writer: int) -> None:
        """SIGKILL; a writer that had ended by itself fails the test."""
        assert self._process.stdout is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(writer, signal.SIGKILL)
        code = int(self._process.stdout.readline())
        assert code == -signal.SIGKILL, f"the writer ended by itself with {code}"

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    yield started
    started.close()


def acknowledged(notes: Path) -> tuple[dict[str, str], set[str]]:
    """Texts that must be there by fact id, and ids that must be archived."""
    texts: dict[str, str] = {}
    gone: set[str] = set()
    for line in notes.read_text().splitlines():
        what, id_, text = json.loads(line)
        if what in {"added", "corrected"}:
            texts[id_] = text
        elif what == "forgotten":
            gone.add(id_)
    return texts, gone


def check_ledger(store: Path, notes: Path) -> None:
    """Everything acknowledged is there, nothing is half there, and the file is whole."""
    with sqlite3.connect(store / "engram.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.execute("INSERT INTO fact_words(fact_words) VALUES('integrity-check')")
        (torn,) = connection.execute(
            "SELECT count(*) FROM facts f WHERE NOT EXISTS (SELECT 1 FROM decisions d WHERE d.fact_id = f.id)"
        ).fetchone()
        assert torn == 0
    connection.close()
    texts, gone = acknowledged(notes)
    with Engram.open(store, index="exact", embedder=WordHashEmbedder(), exact_limit=100_000) as engram:
        ledger = engram.context.ledger
        facts = {fact.id: fact for fact in ledger.facts(list(texts))}
        assert facts.keys() == texts.keys()
        # A change that was under way when the process died may be done, though nobody was told.
        wrong = [id_ for id_, text in texts.items() if facts[id_].text not in {text, f"{text} corrected"}]
        assert not wrong
        assert all(facts[id_].status == "archived" for id_ in gone)
        (now,) = ledger.scopes([Scope(SCOPE)])
        rows = outbox(ledger, now.id)
        live = [row for row in rows if row.status in {"live", "pending"}]
        assert now.recallable == len(live)
        assert now.context_words == sum(row.context_length for row in live)


def check_recall(store: Path, notes: Path) -> None:
    """The index heals, and answers what exact search answers; every acknowledged fact can be found."""
    texts, gone = acknowledged(notes)
    with Engram.open(store, embedder=WordHashEmbedder(), exact_limit=LIMIT) as engram:
        memory = engram.memory(SCOPE)
        early = {question: _found(memory.recall(question, k=10)) for question in QUESTIONS}
        assert engram.flush(90)
        with Engram.open(store, index="exact", embedder=WordHashEmbedder(), exact_limit=LIMIT) as exact:
            for question in QUESTIONS:
                recall = memory.recall(question, k=10)
                assert not recall.degraded
                wanted = _found(exact.memory(SCOPE).recall(question, k=10))
                assert _found(recall) == wanted
                assert early[question] == wanted
        for id_ in random.Random(3).sample(sorted(texts.keys() - gone), 15):
            fact = memory.get(id_)
            if fact.is_recallable:
                assert id_ in {item.fact.id for item in memory.recall(f"What about {fact.text}?", k=5).facts}
        assert (
            not {
                item.fact.id
                for question in QUESTIONS
                for item in memory.recall(question, k=50, max_tokens=100_000).facts
            }
            & gone
        )
        assert engram.doctor()["problems"] == []
        assert state(engram.context.ledger, SCOPE).live > LIMIT


def _found(recall: Any) -> list[tuple[str, float]]:
    return [(item.fact.id, round(item.score, 4)) for item in recall.facts]


Aim = Callable[[Path, Path, random.Random], None]


def at_random(store: Path, notes: Path, chance: random.Random) -> None:
    """Any time from the writer's start, so that opening and migrating are hit as well."""
    seconds = chance.choice((-0.1, 0.05, 0.2, 0.6, 1.2)) * (0.5 + chance.random())
    if seconds > 0:
        size = notes.stat().st_size if notes.exists() else 0
        wait_until(lambda: notes.exists() and notes.stat().st_size > size, seconds=60, every=0.005)
    time.sleep(abs(seconds))


def at_persist(store: Path, notes: Path, chance: random.Random) -> None:
    """While Chroma rewrites the files of a collection, which it does in place."""

    def written() -> set[tuple[str, int]]:
        found = set()
        for path in (store / "index").glob("*/*/data_level0.bin"):
            with contextlib.suppress(FileNotFoundError):
                found.add((str(path), path.stat().st_mtime_ns))
        return found

    before = written()
    assert wait_until(lambda: bool(written() - before), seconds=20, every=0.001), "the index was not written"
    time.sleep(chance.random() * 0.02)


def campaign(zygote: Zygote, place: Path, kills: int, seed: int, *, recall_every: int, aim: Aim = at_random) -> int:
    """Kill a writer over and over on one store; how many facts were acknowledged."""
    store, notes = place / "store", place / "notes"
    chance = random.Random(seed)
    for number in range(kills):
        writer = zygote.start(store, notes, 1_000 * seed + number)
        aim(store, notes, chance)
        zygote.kill(writer)
        if not notes.exists() or not acknowledged(notes)[0]:
            continue
        check_ledger(store, notes)
        if (number + 1) % recall_every == 0:
            check_recall(store, notes)
    check_recall(store, notes)
    return len(acknowledged(notes)[0])


def is_forgotten(facts: Mapping[str, Fact], id_: str) -> bool:
    """Whether a night forgot a fact, or the one that stood for it, and said so."""
    fact = facts[facts[id_].consolidated_into or id_]
    return fact.status == "archived" and (fact.archived_reason or "").startswith("max_facts: ")


def check_nights(store: Path, notes: Path) -> int:
    """No cluster is half done and no fact is lost; how many facts stand for others."""
    texts, _ = acknowledged(notes)
    with Engram.open(store, index="exact", embedder=WordHashEmbedder(), exact_limit=100_000) as engram:
        memory = engram.memory(SCOPE)
        facts = {fact.id: fact for fact in memory.list(status="all", limit=10_000)}
        standing = {id_: fact for id_, fact in facts.items() if fact.status == "live" and fact.is_consolidated}
        held = {id_: fact.id for fact in standing.values() for id_ in fact.consolidated_from}
        assert len(held) == sum(len(fact.consolidated_from) for fact in standing.values()), "nothing is held twice"
        for id_, parent in held.items():
            assert facts[id_].status == "archived"
            assert facts[id_].consolidated_into == parent
            assert facts[id_].text in standing[parent].text
        for id_, text in texts.items():
            assert facts[id_].text == text
            assert facts[id_].status == "live" or id_ in held or is_forgotten(facts, id_), (
                "no fact goes without a reason"
            )
        assert engram.sleep().totals["failed"] == 0
        assert len(memory.list(limit=10_000)) <= 90, "the next night does the rest"
        assert engram.sleep().totals["clusters"] == 0, "once"
        (now,) = engram.context.ledger.scopes([Scope(SCOPE)])
        assert now.recallable == len(memory.list(limit=10_000))
        return len(standing)


def night_campaign(zygote: Zygote, place: Path, kills: int, seed: int) -> int:
    store, notes = place / "store", place / "notes"
    chance = random.Random(seed)
    merged = 0
    for number in range(kills):
        writer = zygote.start(store, notes, seed * 1_000 + number, work="nights")
        at_random(store, notes, chance)
        zygote.kill(writer)
        if notes.exists() and acknowledged(notes)[0]:
            merged = check_nights(store, notes)
    return merged


def check_erasures(store: Path, notes: Path) -> int:
    """What was erased is in no file; what nobody asked to erase is untouched; nothing is half erased. How many are gone."""
    told: dict[str, set[str]] = {"opened": set(), "added": set(), "erasing": set(), "erased": set()}
    texts = {}
    for line in notes.read_text().splitlines():
        what, id_, text = json.loads(line)
        told[what].add(id_)
        texts[id_] = text
    with Engram.open(store, embedder=WordHashEmbedder(), exact_limit=LIMIT) as engram:
        assert engram.flush(90)
        assert all(row["state"] == "done" for row in engram.erasures()), "the next opening finishes"
        memory = engram.memory(SCOPE)
        kept = {fact.id: fact.text for fact in memory.list(status="all", limit=10_000)}
        gone = told["erasing"] - kept.keys()
        assert not told["erased"] & kept.keys()
        assert {id_: kept.get(id_) for id_ in told["added"] - gone} == {id_: texts[id_] for id_ in told["added"] - gone}
        known = engram.context.ledger.scopes([Scope(SCOPE)])
        assert sum(scope.recallable for scope in known) == len(kept)
        for id_ in random.Random(1).sample(sorted(kept), min(5, len(kept))):
            assert id_ in {item.fact.id for item in memory.recall(f"What about {kept[id_]}?", k=5).facts}
        assert engram.verify().ok
    if gone:
        found = search([store], [texts[id_].rpartition(" ")[2] for id_ in sorted(gone)])
        assert not found.places
        assert not found.unreadable
    return len(gone)


def erasure_campaign(zygote: Zygote, place: Path, kills: int, seed: int) -> int:
    store, notes = place / "store", place / "notes"
    chance = random.Random(seed)
    gone = 0
    for number in range(kills):
        writer = zygote.start(store, notes, seed * 1_000 + number, work="erasures")
        at_random(store, notes, chance)
        zygote.kill(writer)
        if notes.exists():
            gone = check_erasures(store, notes)
    return gone


def test_kills_in_the_middle_of_erasures(zygote: Zygote, tmp_path: Path) -> None:
    assert erasure_campaign(zygote, tmp_path, 4, seed=1) > 1


@pytest.mark.full
@pytest.mark.parametrize("seed", [2, 3])
def test_many_kills_in_the_middle_of_erasures(zygote: Zygote, tmp_path: Path, seed: int) -> None:
    assert erasure_campaign(zygote, tmp_path, 50, seed=seed) > 20


def test_kills_in_the_middle_of_nights(zygote: Zygote, tmp_path: Path) -> None:
    assert night_campaign(zygote, tmp_path, 7, seed=8) > 3


@pytest.mark.full
def test_many_kills_in_the_middle_of_nights(zygote: Zygote, tmp_path: Path) -> None:
    assert night_campaign(zygote, tmp_path, 100, seed=18) > 3


def test_twelve_kills(zygote: Zygote, tmp_path: Path) -> None:
    assert campaign(zygote, tmp_path, 12, seed=1, recall_every=6) > 20, "the writers did write"


def test_kills_while_the_index_is_written(zygote: Zygote, tmp_path: Path) -> None:
    assert campaign(zygote, tmp_path, 3, seed=9, recall_every=3, aim=at_persist) > 20


@pytest.mark.full
@pytest.mark.parametrize("seed", [2, 3, 4, 5])
def test_fifty_kills(zygote: Zygote, tmp_path: Path, seed: int) -> None:
    assert campaign(zygote, tmp_path, 50, seed=seed, recall_every=5) > 100


@pytest.mark.full
@pytest.mark.parametrize("seed", [6, 7])
def test_twenty_kills_while_the_index_is_written(zygote: Zygote, tmp_path: Path, seed: int) -> None:
    assert campaign(zygote, tmp_path, 20, seed=seed, recall_every=2, aim=at_persist) > 100
