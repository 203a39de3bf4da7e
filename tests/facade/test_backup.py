"""Backup and restore: the same answers again, what was erased since stays erased, and nothing half put in place."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engram_core import Engram, InvalidInput
from engram_core.domain.errors import StoreUnavailable
from engram_core.operations.residue import search

ALICE = "acme/support/alice"
START = datetime(2026, 3, 1, 9, tzinfo=UTC)
SENTINEL = "Xqbackup77zv"


def lived(url: Path | str) -> tuple[str, str]:
    with Engram.open(url) as engram:
        memory = engram.memory(ALICE)
        (kept,) = memory.add("The dog barks at night.", now=START).facts
        (gone,) = memory.add(f"My badge number is {SENTINEL}.", now=START).facts
        memory.observe(memory.recall("does the dog bark?", now=START).id, "It barks.", now=START)
        return kept.id, gone.id


def answers(url: Path | str) -> list[str]:
    with Engram.open(url) as engram:
        return [item.fact.id for item in engram.memory(ALICE).recall("what barks, and what is my badge?").facts]


def test_a_backup_restores_what_it_copied(tmp_path: Path) -> None:
    lived(tmp_path / "one")
    file = tmp_path / "b.engram"
    with Engram.open(tmp_path / "one") as engram:
        manifest = engram.backup(file)
        engram.memory(ALICE).add("Said after the backup.", now=START)
    assert manifest["rows"]["facts"] == 2
    with zipfile.ZipFile(file) as archive:
        assert json.loads(archive.read("manifest.json")) == manifest
    done = Engram.restore_backup(file, tmp_path / "two")
    assert done["erased_again"] == 0
    with Engram.open(tmp_path / "two") as engram:
        assert [fact.text for fact in engram.memory(ALICE).list()] == [
            "The dog barks at night.", f"My badge number is {SENTINEL}.",
        ]  # fmt: skip
        assert engram.doctor()["problems"] == []
        assert engram.backup(tmp_path / "c.engram")["rows"]["facts"] == 2
    assert answers(tmp_path / "two")
    assert not list((tmp_path / "two").glob(".restoring*"))


def test_what_was_erased_since_is_erased_in_it(tmp_path: Path) -> None:
    kept, gone = lived(tmp_path / "one")
    file = tmp_path / "b.engram"
    with Engram.open(tmp_path / "one") as engram:
        engram.backup(file)
        engram.memory(ALICE).erase(gone)
    beside = tmp_path / "kept.tombstones"
    beside.write_bytes((tmp_path / "one" / "engram.db.tombstones").read_bytes())
    with pytest.raises(InvalidInput, match="replace"):
        Engram.restore_backup(file, tmp_path / "one")
    assert Engram.restore_backup(file, tmp_path / "one", replace=True)["erased_again"] == 1
    assert answers(tmp_path / "one") == [kept]
    assert search([tmp_path / "one"], [SENTINEL]).verdict == "REMOVED"
    done = Engram.restore_backup(file, tmp_path / "elsewhere", tombstones=beside)
    assert done["erased_again"] == 1
    assert search([tmp_path / "elsewhere"], [SENTINEL]).verdict == "REMOVED"


def test_a_damaged_store_is_replaced_and_its_tombstones_hold(tmp_path: Path) -> None:
    kept, gone = lived(tmp_path / "one")
    file = tmp_path / "b.engram"
    with Engram.open(tmp_path / "one") as engram:
        engram.backup(file)
        engram.memory(ALICE).erase(gone)
    for name in ("engram.db", "engram.db-wal", "engram.db-shm"):
        (tmp_path / "one" / name).unlink(missing_ok=True)
    (tmp_path / "one" / "engram.db").write_bytes(b"rubbish" * 1000)
    Engram.restore_backup(file, tmp_path / "one", replace=True)
    assert answers(tmp_path / "one") == [kept]


def test_what_is_no_backup_changes_nothing(tmp_path: Path) -> None:
    lived(tmp_path / "one")
    file = tmp_path / "b.engram"
    with Engram.open(tmp_path / "one") as engram:
        engram.backup(file)
        with pytest.raises(InvalidInput):
            engram.backup(tmp_path / "no" / "where")
        with pytest.raises(StoreUnavailable):
            Engram.restore_backup(file, tmp_path / "one", replace=True)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    for content in (bytes(raw), b"", b"PK", b"x" * 1000):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(InvalidInput):
            Engram.restore_backup(tmp_path / "bad", tmp_path / "one", replace=True)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("../evil", "x")
    with pytest.raises(InvalidInput):
        Engram.restore_backup(tmp_path / "zip", tmp_path / "three")
    with pytest.raises(InvalidInput):
        Engram.restore_backup(file, ":memory:")
    with Engram.open(":memory:") as engram, pytest.raises(InvalidInput):
        engram.backup(tmp_path / "m")
    assert len(answers(tmp_path / "one")) == 2


def test_postgresql_is_backed_up_and_restored(postgres_url: str, tmp_path: Path) -> None:
    kept, gone = lived(postgres_url)
    file = tmp_path / "b.engram"
    with Engram.open(postgres_url) as engram:
        assert engram.backup(file)["rows"]["facts"] == 2
        receipt = engram.memory(ALICE).erase(gone)
        assert receipt.state == "done"
        assert receipt.residue["verdict"] == "NOT COMPUTABLE"
    with pytest.raises(InvalidInput, match="replace"):
        Engram.restore_backup(file, postgres_url)
    assert Engram.restore_backup(file, postgres_url, replace=True)["erased_again"] == 1
    assert answers(postgres_url) == [kept]
    Engram.restore_backup(file, tmp_path / "two")
    assert len(answers(tmp_path / "two")) == 2
