"""Backup and restore: the same answers again, what was erased since stays erased, and nothing half put in place."""

from __future__ import annotations

import json
import shutil
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


def decided_since(url: Path | str, file: Path) -> str:
    """A backup, and after it decisions of every kind; returns the id of the hold that was placed."""
    with Engram.open(url) as engram:
        for grantee in ("user:gone", "user:stays"):
            engram.grant(grantee, "reader", ALICE)
        engram.group_add("group:night", "user:left")
        engram.set_private("acme/closed")
        engram.set_private("acme/opened")
        released = engram.hold("acme/over", reason="case 1")
        engram.backup(file)
        engram.revoke("user:gone", "reader", ALICE)
        engram.grant("user:new", "reader", ALICE, max_trust=0.4, reason="joined")
        engram.group_remove("group:night", "user:left")
        engram.group_add("group:night", "user:joined")
        engram.set_private("acme/opened", private=False)
        engram.set_private(ALICE)
        engram.release_hold(released.id)
        return engram.hold(ALICE, reason="case 2").id


def rights(engram: Engram) -> tuple[set[str], dict[str, frozenset[str]], set[str], list[str]]:
    rules = engram.context.ledger.access.rules()
    return (
        {grant.grantee for grant in rules.grants},
        dict(rules.members),
        {scope.path for scope in rules.private},
        [hold.id for hold in engram.holds()],
    )


@pytest.mark.parametrize("kind", ["directory", "postgresql"])
def test_what_was_decided_since_stays_decided(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = tmp_path / "one" if kind == "directory" else request.getfixturevalue("postgres_url")
    lived(url)
    file = tmp_path / "b.engram"
    placed = decided_since(url, file)
    with Engram.open(url) as engram:
        before, head = rights(engram), engram.audit_head()
    done = Engram.restore_backup(file, url, replace=True)
    with Engram.open(url) as engram:
        assert rights(engram) == before
        assert before[0] == {"user:stays", "user:new"}
        assert before[3] == [placed]
        (new,) = [one for one in engram.grants() if one.grantee == "user:new"]
        assert (new.max_trust, new.reason) == (0.4, "joined")
        checked = engram.verify()
        assert checked.ok, checked.problems
        (entry,) = [row.entry for row in engram.audit() if row.entry.about.startswith("replaced")]
        assert entry.about == f"replaced {head.number}:{head.hash}"
    assert done["replaced"] == "itself"
    assert done["kept"] == {
        "grants_revoked": 1, "grants_kept": 1, "members_changed": 2, "private_changed": 2, "holds_kept": 1,
        "holds_released": 1,
    }  # fmt: skip


def test_a_store_that_is_older_than_the_backup_decides_nothing(tmp_path: Path) -> None:
    lived(tmp_path / "one")
    file, late = tmp_path / "b.engram", tmp_path / "late.engram"
    with Engram.open(tmp_path / "one") as engram:
        engram.grant("user:gone", "reader", ALICE)
    shutil.copytree(tmp_path / "one", tmp_path / "older")
    decided_since(tmp_path / "one", file)
    with Engram.open(tmp_path / "one") as engram:
        now = rights(engram)
        engram.backup(late)
    done = Engram.restore_backup(late, tmp_path / "older", replace=True)
    assert (done["replaced"], done["kept"]) == ("itself", {})
    with Engram.open(tmp_path / "older") as engram:
        assert rights(engram) == now
        assert "user:gone" not in now[0]


def test_it_is_told_where_nobody_knows_what_was_decided_since(tmp_path: Path) -> None:
    lived(tmp_path / "one")
    file = tmp_path / "b.engram"
    decided_since(tmp_path / "one", file)
    done = Engram.restore_backup(file, tmp_path / "elsewhere")
    assert (done["replaced"], done["kept"]) == ("nothing", {})
    lived(tmp_path / "another")
    done = Engram.restore_backup(file, tmp_path / "another", replace=True)
    assert (done["replaced"], done["kept"]) == ("another", {})
    for name in ("engram.db", "engram.db-wal", "engram.db-shm"):
        (tmp_path / "one" / name).unlink(missing_ok=True)
    (tmp_path / "one" / "engram.db").write_bytes(b"rubbish" * 1000)
    done = Engram.restore_backup(file, tmp_path / "one", replace=True)
    assert (done["replaced"], done["kept"]) == ("unreadable", {})
    for place in ("elsewhere", "another", "one"):
        with Engram.open(tmp_path / place) as engram:
            assert rights(engram)[0] == {"user:gone", "user:stays"}


def test_an_erasure_after_a_hold_was_released_is_repeated(tmp_path: Path) -> None:
    kept, gone = lived(tmp_path / "one")
    file = tmp_path / "b.engram"
    with Engram.open(tmp_path / "one") as engram:
        held = engram.hold(ALICE, reason="case 1")
        engram.backup(file)
        engram.release_hold(held.id)
        engram.memory(ALICE).erase(gone)
    done = Engram.restore_backup(file, tmp_path / "one", replace=True)
    assert (done["erased_again"], done["kept"]["holds_released"]) == (1, 1)
    assert answers(tmp_path / "one") == [kept]
    # A copy that is put in place by hand has the hold, and the tombstones beside it.
    stones = (tmp_path / "one" / "engram.db.tombstones").read_bytes()
    Engram.restore_backup(file, tmp_path / "two")
    (tmp_path / "two" / "engram.db.tombstones").write_bytes(stones)
    assert answers(tmp_path / "two") == [kept]
