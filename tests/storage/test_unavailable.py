"""A ledger that cannot be opened, read or written says what is wrong and what to do, and loses nothing."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from support_remote import SCOPE
from support_stores import free_port

from engram_core import Engram
from engram_core.domain.errors import InvalidInput, StoreUnavailable
from engram_core.storage import engines
from engram_core.storage.ledger import SqlLedger
from engram_core.testing import samples
from engram_core.testing.fakes import WordHashEmbedder


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable, match=r"cannot be created.*Choose another"):
        Engram.open(tmp_path / "file" / "store")
    with pytest.raises(StoreUnavailable, match="cannot be created"):
        Engram.open("/proc/engram-store")


def test_a_database_in_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="Check that the directory exists and may be written"):
        SqlLedger(f"sqlite:///{tmp_path / 'nowhere' / 'engram.db'}")


def test_a_read_only_database_can_be_read_but_not_written(sqlite_url: str) -> None:
    writer = SqlLedger(sqlite_url)
    (said,) = samples.add(writer, "a", ["kept"])
    path = sqlite_url.removeprefix("sqlite:///")
    try:
        ledger = SqlLedger(f"sqlite:///file:{path}?mode=ro&uri=true")
        assert ledger.facts([said.id]) == [said]
        with pytest.raises(StoreUnavailable, match=r"readonly.*may be written"):
            samples.add(ledger, "a", ["refused"])
        with pytest.raises(StoreUnavailable, match="readonly"):
            ledger.record_recall(samples.recall_row(said.scope, said))
        ledger.close()
    finally:
        writer.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "engram.db").write_bytes(b"this is no database, and never was one. " * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        Engram.open(tmp_path)


def test_a_damaged_database_is_unavailable_and_not_a_riddle(sqlite_url: str) -> None:
    ledger = SqlLedger(sqlite_url)
    samples.add(ledger, "a", [f"fact {number}" for number in range(200)])
    ledger.close()
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    content = bytearray(path.read_bytes())
    for place in range(4096, len(content), 97):
        content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match="malformed"):
        ledger = SqlLedger(sqlite_url)
        ledger.listing(samples.state(ledger, "a").scope, limit=1_000)


def test_a_full_disk_refuses_and_recovers(sqlite_url: str) -> None:
    ledger = SqlLedger(sqlite_url)
    kept = samples.add(ledger, "a", ["before the disk was full"])
    with ledger._engines.writer.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {pages + 4}"))
    with pytest.raises(StoreUnavailable, match=r"full.*Free some disk space"):
        for number in range(50):
            kept += samples.add(ledger, "a", [f"fact {number} " + "x" * 2_000])
    assert ledger.facts([said.id for said in kept]) == kept
    assert samples.state(ledger, "a").live == len(kept)
    with ledger._engines.writer.connect() as connection:
        connection.execute(text("PRAGMA max_page_count = 1000000"))
    kept += samples.add(ledger, "a", ["after there was room again " + "x" * 9_000])
    assert ledger.facts([said.id for said in kept]) == kept
    ledger.close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "tiny"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no tests on a full disk: this system does not allow mounting one")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


def test_a_full_disk_under_ledger_and_index(tiny_disk: Path) -> None:
    with Engram.open(tiny_disk / "store", embedder=WordHashEmbedder(), exact_limit=20) as engram:
        memory = engram.memory(SCOPE)
        kept = list(memory.add([f"fact number {number}" for number in range(40)]).facts)
        engram.flush(10)
        with pytest.raises(StoreUnavailable):
            for number in range(3_000):
                kept += memory.add(f"fact number {number} " + "long " * 200).facts
        assert len(memory.list(limit=10_000)) == len(kept)
        subprocess.run(["mount", "-o", "remount,size=40m", str(tiny_disk)], check=True)
        kept += memory.add("a red cat after there was room again").facts
        assert memory.recall("red cat").facts[0].fact.id == kept[-1].id
        assert engram.flush(30)
        assert not memory.recall("red cat").degraded
    with Engram.open(tiny_disk / "store", index="exact", embedder=WordHashEmbedder()) as engram:
        assert {fact.id for fact in engram.memory(SCOPE).list(limit=10_000)} == {fact.id for fact in kept}


def test_a_lock_that_is_held_too_long(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_MS", 200)  # half a minute is the real patience
    ledger = SqlLedger(sqlite_url)
    (said,) = samples.add(ledger, "a", ["kept"])
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with ledger._engines.writer.begin() as connection:
            connection.execute(text("UPDATE counter SET seq = seq"))
            held.set()
            release.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    with pytest.raises(StoreUnavailable, match=r"locked.*Another process holds the write lock"):
        samples.add(ledger, "a", ["refused"])
    assert ledger.facts([said.id]) == [said]
    release.set()
    holder.join(20)
    samples.add(ledger, "a", ["accepted"])
    assert samples.state(ledger, "a").live == 2
    ledger.close()


def test_a_postgres_that_does_not_answer_and_keeps_its_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreUnavailable, match="Check that the database is up") as caught:
        SqlLedger(f"postgresql://me:topsecret@127.0.0.1:{free_port()}/nothing")
    assert "topsecret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_postgres_connections_that_were_cut_are_replaced(postgres_url: str) -> None:
    ledger = SqlLedger(postgres_url)
    (said,) = samples.add(ledger, "a", ["kept"])
    other = SqlLedger(postgres_url)
    with other._engines.writer.begin() as connection:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(cut))
    assert ledger.facts([said.id]) == [said]
    samples.add(ledger, "a", ["written after the cut"])
    assert samples.state(ledger, "a").live == 2
    other.close()
    ledger.close()


def test_urls_that_are_no_ledger_are_refused() -> None:
    for url in ("mysql://localhost/x", "nonsense://x", "oracle://x/y"):
        with pytest.raises(InvalidInput):
            SqlLedger(url)


def test_readers_do_not_wait_for_a_writer(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_MS", 200)
    ledger = SqlLedger(sqlite_url)
    (said,) = samples.add(ledger, "a", ["kept"])
    ledger.record_recall(samples.recall_row(said.scope, said))
    writer = SqlLedger(sqlite_url)
    with writer._engines.writer.begin():
        assert ledger.history(said.id)
        assert ledger.listing(said.scope) == [said]
        assert ledger.decisions(said.scope)
        assert ledger.recalls_of(said.id, 5)
        assert ledger.parked() == []
    writer.close()
    ledger.close()
