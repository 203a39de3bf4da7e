"""Power cuts under the real ledger: no image of its files is corrupt, and nothing that was acknowledged is missing."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import power
import pytest

from engram_core import Engram
from engram_core.testing.fakes import WordHashEmbedder

pytestmark = pytest.mark.skipif(
    getattr(importlib.util.find_spec("_sqlite3"), "origin", None) in {None, "built-in"},
    reason="this Python has SQLite inside, where no VFS can be put before it",
)


def recorded(place: Path, adds: int, seed: int) -> list[power.Step]:
    """What a ledger at work did to its files. In a process of its own: a VFS cannot be taken away again."""
    log = place / "log"
    command = [sys.executable, power.__file__, str(place / "store"), str(log), str(adds), str(seed)]
    subprocess.run(command, check=True, timeout=300)
    return power.read(log)


class Found:
    """What the images of one recording held."""

    def __init__(self) -> None:
        self.images = self.corrupt = self.lost = 0

    def look(self, place: Path, told: list[tuple[str, str]]) -> None:
        """Open one image as SQLite would after the restart."""
        self.images += 1
        connection = sqlite3.connect(place / "engram.db")
        try:
            if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                self.corrupt += 1
                return
            broken = connection.execute("PRAGMA foreign_key_check").fetchall()
            facts = dict(connection.execute("SELECT id, status FROM facts"))
            connection.execute("INSERT INTO fact_words(fact_words) VALUES('integrity-check')")
            half = (
                "SELECT count(*) FROM facts WHERE id NOT IN (SELECT fact_id FROM decisions WHERE fact_id IS NOT NULL)"
            )
            (torn,) = connection.execute(half).fetchone()
            self.corrupt += bool(broken or torn)
            gone = {id_ for what, id_ in told if what == "forgotten"}
            self.lost += any(id_ not in facts for _, id_ in told) or any(facts[id_] != "archived" for id_ in gone)
        except sqlite3.DatabaseError:
            if told:
                self.corrupt += 1  # before the first acknowledgement there may be no store at all
        finally:
            connection.close()


def cut_everywhere(steps: list[power.Step], place: Path, images: int, seed: int, *, lies: bool = False) -> Found:
    """Cut the power at `images` points of a recording."""
    chance = random.Random(seed)
    points = set(chance.sample(range(len(steps)), min(images, len(steps))))
    disk, found, told = power.Disk(lies=lies), Found(), list[tuple[str, str]]()
    for number, step in enumerate(steps):
        if step.kind == "note":
            told.append(tuple(json.loads(step.file)))
        disk.take(step)
        if number in points:
            disk.image(place / "image", chance)
            found.look(place / "image", told)
            shutil.rmtree(place / "image")
    return found


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> list[power.Step]:
    return recorded(tmp_path_factory.mktemp("power"), 25, seed=1)


def test_a_recording_is_what_happened(short: list[power.Step], tmp_path: Path) -> None:
    """Everything kept gives the store back; it holds syncs and checkpoints, or the cuts below would prove nothing."""
    database = [step for step in short if step.file == "engram.db"]
    log = [step for step in short if step.file == "engram.db-wal"]
    assert sum(step.kind == "sync" for step in log) > 25, "every acknowledged write was synced"
    assert sum(step.kind == "sync" for step in database) > 3, "there were checkpoints"
    disk = power.Disk()
    for step in short:
        disk.take(step)
    disk.image(tmp_path / "store", random.Random(1))
    told = [json.loads(step.file) for step in short if step.kind == "note"]
    with Engram.open(tmp_path / "store", index="exact", embedder=WordHashEmbedder()) as engram:
        memory = engram.memory("acme/alice")
        assert {fact.id for fact in memory.list(status="all", limit=10_000)} >= {id_ for _, id_ in told}
        assert memory.recall("Where did the red cat sit?").facts


def test_power_cuts_lose_nothing_acknowledged(short: list[power.Step], tmp_path: Path) -> None:
    found = cut_everywhere(short, tmp_path, 120, seed=2)
    assert (found.images, found.corrupt, found.lost) == (120, 0, 0)


def test_a_disk_that_lies_about_syncs_is_caught(short: list[power.Step], tmp_path: Path) -> None:
    """The control: with the syncs ignored, the same cuts do lose facts."""
    found = cut_everywhere(short, tmp_path, 40, seed=3, lies=True)
    assert found.lost + found.corrupt > 10


@pytest.mark.full
@pytest.mark.parametrize("seed", range(4))
def test_many_power_cuts(tmp_path: Path, seed: int) -> None:
    found = cut_everywhere(recorded(tmp_path, 150, seed=10 + seed), tmp_path, 500, seed=20 + seed)
    assert (found.images, found.corrupt, found.lost) == (500, 0, 0)
