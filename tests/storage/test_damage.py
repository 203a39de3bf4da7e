"""A damaged index directory: found or harmless. The process that opens it never crashes, and recall equals exact search.

Every damaged store is opened in another process, because a segfault there is what these tests look for.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from support_finder import texts
from support_remote import Remote

from engram_core.storage import chroma
from engram_core.storage.ledger import SqlLedger
from engram_core.storage.probe import Check, is_healthy, main, read
from engram_core.testing.index_contract import clustered, points

LIMIT = 20
FACTS = 450
"""More than twice Chroma's sync threshold, so that there are segment files to damage."""
QUESTIONS = ("red cat house", "green dog n3", "rain and tea", "winter phone book")

Damage = Callable[[Path, random.Random], None]


def segment_files(generation: Path) -> list[Path]:
    return sorted(path for path in generation.rglob("*") if path.is_file() and path.parent != generation)


def truncated(share: float) -> Damage:
    def damage(generation: Path, chance: random.Random) -> None:
        for path in segment_files(generation):
            with path.open("r+b") as file:
                file.truncate(int(path.stat().st_size * share))

    return damage


def flipped(pattern: str, share: float) -> Damage:
    def damage(generation: Path, chance: random.Random) -> None:
        for path in generation.rglob(pattern):
            content = bytearray(path.read_bytes())
            for _ in range(max(1, int(len(content) * share))):
                content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
            path.write_bytes(content)

    return damage


def deleted(pattern: str) -> Damage:
    def damage(generation: Path, chance: random.Random) -> None:
        for path in list(generation.rglob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def segments_gone(generation: Path, chance: random.Random) -> None:
    for path in generation.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


def garbage(generation: Path, chance: random.Random) -> None:
    for path in segment_files(generation):
        path.write_bytes(chance.randbytes(path.stat().st_size))


def directory_gone(generation: Path, chance: random.Random) -> None:
    shutil.rmtree(generation)


def nothing(generation: Path, chance: random.Random) -> None:
    pass


SMALL: dict[str, Damage] = {
    "nothing": nothing,
    "truncated to half": truncated(0.5),
    "vectors flipped": flipped("data_level0.bin", 0.002),
    "database flipped": flipped("chroma.sqlite3", 0.003),
    "segments gone": segments_gone,
}
FULL: dict[str, Damage] = {
    "truncated to nothing": truncated(0.0),
    "one byte flipped": flipped("data_level0.bin", 0.0),
    "header flipped": flipped("header.bin", 0.1),
    "links flipped": flipped("link_lists.bin", 0.01),
    "lengths flipped": flipped("length.bin", 0.01),
    "ids flipped": flipped("index_metadata.pickle", 0.001),
    "garbage": garbage,
    "vectors deleted": deleted("data_level0.bin"),
    "database deleted": deleted("chroma.sqlite3"),
    "database truncated": lambda place, chance: truncated(0.5)(place.parent, chance),
    "directory gone": directory_gone,
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose owner was killed with the index complete."""
    store = tmp_path_factory.mktemp("killed") / "store"
    with Remote() as owner:
        owner.ask("open", url=str(store), exact_limit=LIMIT)
        for start in range(0, FACTS, 150):
            owner.ask("add", texts=texts(150, start=start))
            assert owner.ask("flush")
        owner.kill()
    return store


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, killed: Path, remote: Remote) -> Path:
    """The same store, closed as it should be."""
    store = tmp_path_factory.mktemp("closed") / "store"
    shutil.copytree(killed, store)
    remote.ask("open", url=str(store), exact_limit=LIMIT)
    assert remote.ask("flush")
    remote.ask("close")
    return store


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    with Remote() as other:
        yield other


@pytest.fixture(scope="module")
def exact(killed: Path, tmp_path_factory: pytest.TempPathFactory, remote: Remote) -> dict[str, Any]:
    """What exact search answers."""
    store = tmp_path_factory.mktemp("exact") / "store"
    shutil.copytree(killed, store)
    remote.ask("open", url=str(store), index="exact")
    found = {question: remote.ask("recall", query=question)["facts"] for question in QUESTIONS}
    remote.ask("close")
    return found


def generation_of(store: Path) -> Path:
    ledger = SqlLedger(f"sqlite:///{store / 'engram.db'}")
    try:
        (live,) = [item for item in ledger.generations() if item.state == "live"]
    finally:
        ledger.close()
    return store / "index" / live.place


def survives(store: Path, damage: Damage, seed: int, remote: Remote, exact: dict[str, Any]) -> bool:
    """Damage a store, open it there and compare; whether the index had to be built anew."""
    generation = generation_of(store)
    damage(generation, random.Random(seed))
    remote.ask("open", url=str(store), exact_limit=LIMIT)
    first = remote.ask("recall", query=QUESTIONS[0])
    assert first["facts"] == exact[QUESTIONS[0]]
    assert remote.ask("flush")
    for question in QUESTIONS:
        assert remote.ask("recall", query=question) == {"facts": exact[question], "degraded": False}
    remote.ask("add", texts=["a red cat in a red house after the damage"])
    assert remote.ask("flush")
    assert remote.ask("recall", query=QUESTIONS[0])["facts"][0][0] == "a red cat in a red house after the damage"
    assert remote.ask("index")["problem"] is None
    remote.ask("close")
    return generation_of(store) != generation


@pytest.mark.parametrize("name", SMALL)
def test_damage_after_a_kill(name: str, killed: Path, tmp_path: Path, remote: Remote, exact: dict[str, Any]) -> None:
    store = tmp_path / "store"
    shutil.copytree(killed, store)
    was_rebuilt = survives(store, SMALL[name], 1, remote, exact)
    assert was_rebuilt == (name != "nothing")


@pytest.mark.parametrize("name", ["nothing", "vectors flipped"])
def test_damage_after_a_clean_close(
    name: str, closed: Path, tmp_path: Path, remote: Remote, exact: dict[str, Any]
) -> None:
    """The files were whole when they were closed; somebody or something changed them since."""
    store = tmp_path / "store"
    shutil.copytree(closed, store)
    was_rebuilt = survives(store, SMALL[name], 1, remote, exact)
    assert was_rebuilt == (name != "nothing")


@pytest.mark.full
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", SMALL | FULL)
@pytest.mark.parametrize("how", ["killed", "closed"])
def test_every_damage(
    how: str,
    name: str,
    seed: int,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    remote: Remote,
    exact: dict[str, Any],
) -> None:
    store = tmp_path / "store"
    shutil.copytree(request.getfixturevalue(how), store)
    survives(store, (SMALL | FULL)[name], seed, remote, exact)


def test_an_old_copy_of_the_index_is_found(closed: Path, tmp_path: Path, remote: Remote) -> None:
    """A backup of the index alone, put back later: it lacks what was added since."""
    store, backup = tmp_path / "store", tmp_path / "backup"
    shutil.copytree(closed, store)
    shutil.copytree(store / "index", backup)
    remote.ask("open", url=str(store), exact_limit=LIMIT)
    remote.ask("add", texts=[f"a red cat in a red house {number}" for number in range(20)])
    assert remote.ask("flush")
    remote.ask("close")
    shutil.rmtree(store / "index")
    shutil.copytree(backup, store / "index")
    remote.ask("open", url=str(store), exact_limit=LIMIT)
    assert remote.ask("flush")
    found = remote.ask("recall", query="red cat house", k=20)
    assert not found["degraded"]
    assert sum(text.startswith("a red cat in a red house") for text, _ in found["facts"]) == 20
    remote.ask("close")


def test_an_index_that_vanishes_while_it_is_open_is_built_anew(closed: Path, tmp_path: Path, remote: Remote) -> None:
    store = tmp_path / "store"
    shutil.copytree(closed, store)
    remote.ask("open", url=str(store), exact_limit=LIMIT)
    assert remote.ask("flush")
    shutil.rmtree(generation_of(store))
    remote.ask("add", texts=[f"a red cat in a red house {number}" for number in range(250)])
    assert remote.ask("settle")
    remote.ask("flush")
    assert remote.ask("settle")
    found = remote.ask("recall", query="red cat house", k=20)
    assert all(text.startswith("a red cat in a red house") for text, _ in found["facts"])
    remote.ask("close")
    remote.ask("open", url=str(store), exact_limit=LIMIT)
    assert remote.ask("flush")
    assert remote.ask("recall", query="red cat house", k=20) == {"facts": found["facts"], "degraded": False}
    remote.ask("close")


def test_the_probe_finds_what_is_missing_or_wrong(tmp_path: Path) -> None:
    vectors = clustered(60)
    index = chroma.embedded(str(tmp_path))
    index.create("engram-probed-1", vectors.shape[1])
    index.put("engram-probed-1", points(vectors))
    index.close()
    ids = [f"id-{number}" for number in range(60)]
    whole = Check.of("engram-probed-1", ids, vectors, range(5))
    elsewhere = vectors.copy()
    elsewhere[37] = -elsewhere[37]
    assert main(str(tmp_path), [whole]) == 0
    assert main(str(tmp_path), [replace(whole, at_least=61)]) == 2
    assert main(str(tmp_path), [replace(whole, samples=(("id-1", tuple(-vectors[1])),))]) == 3
    assert main(str(tmp_path), [replace(whole, name="engram-unknown-1")]) == 4
    assert main(str(tmp_path), [whole, Check.of("engram-probed-1", ids, elsewhere, [])]) == 5
    assert (
        main(str(tmp_path), [replace(Check.of("engram-probed-1", [*ids[:-1], "id-60"], vectors, []), at_least=60)]) == 5
    )
    assert main(str(tmp_path), [Check.of("engram-probed-1", [], vectors[:0], [])]) == 0
    assert read(json.dumps([asdict(whole)])) == [whole]
    assert is_healthy(str(tmp_path), [whole])
    assert not is_healthy(str(tmp_path), [replace(whole, at_least=61)])
    assert not is_healthy(str(tmp_path), [whole], timeout=0.05)
