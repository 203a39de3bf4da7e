"""Tampering behind the ledger's back: every column of every kind of row, rows that vanish or appear, a cut or new chain."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from engram_core import Engram, Message
from engram_core.domain.audit import AuditEntry, AuditHead
from engram_core.domain.scope import Scope
from engram_core.floor import chain
from engram_core.storage import schema
from engram_core.storage.engines import open_engines
from engram_core.storage.ledger import SqlLedger
from engram_core.storage.sealing import SEALED
from engram_core.testing.fakes import WordHashEmbedder

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def fill(url: str) -> str:
    """A store with a row of every kind that the audit seals; returns the database's URL."""
    with Engram.open(url, embedder=WordHashEmbedder()) as store:
        memory = store.memory("acme/ann")
        memory.add([Message("user", "I live in Lisbon.", session="s"), "My cat is called Momo."], now=NOW)
        memory.add("I live in Porto now.", session="s", now=NOW)
        fact = memory.list(status="all")[0]
        memory.update(fact.id, importance=0.8)
        memory.forget(memory.add("We met on Monday.", now=NOW).facts[0].id)
        memory.set_policy(max_facts=500, auto_forget=True)
        store.sleep(now=NOW)
        store.grant("user:ann", "curator", "acme", reason="hers", max_trust=0.9)
        store.group_add("group:g", "user:ann")
        store.set_private("acme/hr")
        memory.share(memory.list()[0].id, to="acme")
        memory.recall("Where do I live?")
        assert store.verify().ok
        return store.context.ledger.url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.full)], scope="module")
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A filled store's database, for tests that put back what they break."""
    if request.param == "sqlite":
        yield fill(str(tmp_path_factory.mktemp("tampering")))
        return
    postgres = request.getfixturevalue("postgres")
    url = postgres.database()
    yield fill(url)
    postgres.drop(url)


def run(url: str, statement: str, **values: Any) -> Any:
    engines = open_engines(url)
    try:
        with engines.writer.begin() as connection:
            if engines.dialect == "sqlite":
                connection.execute(text("PRAGMA defer_foreign_keys=ON"))
            result = connection.execute(text(statement), values)
            return result.mappings().all() if result.returns_rows else result.rowcount
    finally:
        engines.dispose()


def verified(url: str, expect: AuditHead | None = None) -> Any:
    ledger = SqlLedger(url)
    try:
        return ledger.audit.verify(expect)
    finally:
        ledger.close()


def changed(value: Any) -> Any:
    """Another value of the same sort."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1_000_000
    if isinstance(value, bytes | memoryview):
        return bytes([bytes(value)[0] ^ 1]) + bytes(value)[1:]
    if isinstance(value, str):
        # One bit of the first letter, so that JSON and ids stay as long as they were.
        return chr(ord(value[0]) ^ 1) + value[1:] if value else "x"
    raise AssertionError(type(value))


def columns() -> list[Any]:
    tables = [item.table for item in SEALED.values()] + [schema.audit, schema.heads]
    found = []
    for table in tables:
        for column in table.c:
            if column.name != "scope_id" and not (table.name == "settings" and column.name == "name"):
                found.append(pytest.param(table.name, column.name, id=f"{table.name}.{column.name}"))
    return found


@pytest.mark.parametrize(("table", "column"), columns())
def test_no_column_of_any_row_can_be_changed_unnoticed(database: str, table: str, column: str) -> None:
    only = {"settings": "name='owner'", "heads": "name='audit'"}.get(table, f'"{column}" IS NOT NULL')
    if table == "audit":
        only = "number=3 AND scope IS NOT NULL" if column == "scope" else "number=3"
    rows = run(database, f'SELECT * FROM "{table}" WHERE {only} LIMIT 1')
    keys = [item.name for item in schema.metadata.tables[table].primary_key.columns]
    if not rows and column == "scope":
        rows = run(database, f'SELECT * FROM "{table}" WHERE scope IS NOT NULL LIMIT 1')
    old, new = (rows[0][column], changed(rows[0][column])) if rows else (None, _of(table, column))
    if not rows:
        rows = run(database, f'SELECT * FROM "{table}" LIMIT 1')
    assert rows, f"the store has a row in {table}"
    if table == "heads" and column == "name":
        new = "audio"
    where = " AND ".join(f'"{key}"=:k{place}' for place, key in enumerate(keys))
    places = {f"k{place}": rows[0][key] for place, key in enumerate(keys)}
    assert run(database, f'UPDATE "{table}" SET "{column}"=:new WHERE {where}', new=new, **places) == 1
    try:
        found = verified(database)
        assert not found.ok
    finally:
        moved = {f"k{keys.index(column)}": new} if column in keys else {}
        run(database, f'UPDATE "{table}" SET "{column}"=:old WHERE {where}', old=old, **(places | moved))
    assert verified(database).ok


def _of(table: str, column: str) -> Any:
    """A value for a column that holds none anywhere."""
    kind = schema.metadata.tables[table].c[column].type.python_type
    return {str: "x", float: 0.5, int: 1, bytes: b"x"}[kind]


@pytest.mark.parametrize("table", [*SEALED, "audit"])
def test_no_row_can_vanish_or_appear_unnoticed(database: str, table: str) -> None:
    only = "name='owner'" if table == "settings" else "number=2" if table == "audit" else "1=1"
    row = dict(run(database, f'SELECT * FROM "{table}" WHERE {only} LIMIT 1')[0])
    keys = [item.name for item in schema.metadata.tables[table].primary_key.columns]
    where = " AND ".join(f'"{key}"=:{key}' for key in keys)
    put = f'INSERT INTO "{table}" ({", ".join(map(chr(34).__add__, (n + chr(34) for n in row)))}) VALUES ({", ".join(f":{n}" for n in row)})'
    assert run(database, f'DELETE FROM "{table}" WHERE {where}', **{key: row[key] for key in keys}) == 1
    kinds = {problem.kind for problem in verified(database).problems}
    assert kinds & ({"missing_entry", "entry"} if table == "audit" else {"row_missing"})
    run(database, put, **row)
    assert verified(database).ok
    if table == "settings":
        return
    twin = (
        row
        | {key: _twin(row[key]) for key in keys}
        | ({"id": "01999999-0000-7000-8000-000000000000"} if table == "facts" else {})
    )
    if table == "policies":
        twin["version"] = 99
    run(database, put, **twin)
    kinds = {problem.kind for problem in verified(database).problems}
    assert kinds & ({"entry", "head"} if table == "audit" else {"row_inserted"})
    run(database, f'DELETE FROM "{table}" WHERE {where}', **{key: twin[key] for key in keys})
    assert verified(database).ok


def _twin(key: Any) -> Any:
    return key + 1_000_000 if isinstance(key, int) else f"{key}x"[-36:]


def test_a_fact_cannot_change_its_scope_unnoticed(database: str) -> None:
    """By its own row, or by giving its scope another path."""
    (row,) = run(database, "SELECT id, path FROM scopes WHERE path='acme/ann'")
    run(database, "UPDATE scopes SET path='acme/eve' WHERE id=:id", id=row["id"])
    assert {"facts", "decisions", "episodes", "policies"} <= {problem.table for problem in verified(database).problems}
    run(database, "UPDATE scopes SET path='acme/ann' WHERE id=:id", id=row["id"])
    other = run(database, "SELECT id FROM scopes WHERE path='acme'")[0]["id"]
    fact = run(database, "SELECT id FROM facts WHERE scope_id=:id LIMIT 1", id=row["id"])[0]["id"]
    run(database, "UPDATE facts SET scope_id=:other WHERE id=:fact", other=other, fact=fact)
    assert [problem.key for problem in verified(database).problems] == [fact]
    run(database, "UPDATE facts SET scope_id=:own WHERE id=:fact", own=row["id"], fact=fact)
    assert verified(database).ok


def test_a_chain_that_was_cut_with_its_head_is_known_by_a_head_noted_elsewhere(tmp_path: Path) -> None:
    url = fill(str(tmp_path))
    ledger = SqlLedger(url)
    before = ledger.audit.head()
    ledger.audit.append([AuditEntry(NOW, "user:eve", "read", "recall", Scope("acme"))])
    noted = ledger.audit.head()
    ledger.close()
    run(url, "DELETE FROM audit WHERE number=:n", n=noted.number)
    assert [problem.kind for problem in verified(url).problems] == ["head"]
    run(url, "UPDATE heads SET number=:n, hash=:h WHERE name='audit'", n=before.number, h=before.hash)
    assert verified(url).ok, "the store alone cannot know"
    assert [problem.kind for problem in verified(url, noted).problems] == ["expected_head"]
    assert verified(url, before).ok


def test_entries_in_another_order_are_found(database: str) -> None:
    two, three = run(database, "SELECT * FROM audit WHERE number IN (2, 3) ORDER BY number")
    swap = "UPDATE audit SET number=:new WHERE number=:old"
    for old, new in ((2, -1), (3, 2), (-1, 3)):
        run(database, swap, old=old, new=new)
    assert not verified(database).ok
    for old, new in ((3, -1), (2, 3), (-1, 2)):
        run(database, swap, old=old, new=new)
    assert verified(database).ok
    assert two["hash"] == three["previous"]


def test_without_its_head_nothing_more_is_noted_and_nothing_written(tmp_path: Path) -> None:
    from engram_core import StoreUnavailable

    url = fill(str(tmp_path))
    run(url, "DELETE FROM heads WHERE name='audit'")
    with Engram.open(str(tmp_path), embedder=WordHashEmbedder()) as store:
        before = store.memory("acme").list()
        with pytest.raises(StoreUnavailable, match="engram verify"):
            store.memory("acme").add("One more.")
        ledger = store.context.ledger
        assert ledger.listing(Scope("acme")) == before
        assert [problem.kind for problem in ledger.audit.verify().problems] == ["head"]
        run(url, "INSERT INTO heads (name, number, hash) SELECT 'audit', MAX(number), '' FROM audit")
        run(url, "UPDATE heads SET hash=(SELECT hash FROM audit ORDER BY number DESC LIMIT 1) WHERE name='audit'")


@pytest.mark.parametrize(
    "every", [pytest.param(40_009, id="small"), pytest.param(1_021, id="full", marks=pytest.mark.full)]
)
def test_flipping_bytes_of_the_file_never_passes_for_another_content(tmp_path: Path, every: int) -> None:
    """A flip is found, or the database reads exactly what it read before (free pages, full text, unused bytes)."""
    fill(str(tmp_path))
    path = tmp_path / "engram.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    known, found, harmless = _content(path), 0, 0
    for place in range(101, len(whole), every):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        try:
            is_ok = verified(f"sqlite:///{path}").ok
        except Exception:
            is_ok = False
        found += not is_ok
        if is_ok:
            assert _content(path) == known, f"byte {place}"
            harmless += 1
        for side in ("-wal", "-shm"):
            Path(f"{path}{side}").unlink(missing_ok=True)
    path.write_bytes(whole)
    assert found > 0


def _content(path: Path) -> list[Any]:
    """What the sealed tables hold."""
    with sqlite3.connect(path) as connection:
        return [
            connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
            for table in SEALED
            if table != "settings"
        ]


def test_a_store_from_before_the_audit_is_sealed_as_it_is_found(tmp_path: Path) -> None:
    url = fill(str(tmp_path))
    run(url, "DELETE FROM audit")
    run(url, "DELETE FROM heads")
    run(url, "DELETE FROM settings WHERE name='audit_key'")
    found = verified(url)
    assert found.ok
    assert found.rows["facts"] > 3
    (first,) = run(url, "SELECT * FROM audit WHERE number=1")
    assert (first["operation"], json.loads(first["sealed"]).keys()) == ("begin", {"facts"})
    run(url, "UPDATE facts SET text='I live in Rome.' WHERE pk=(SELECT MIN(pk) FROM facts)")
    assert [problem.kind for problem in verified(url).problems] == ["row_changed"]


def test_the_audit_holds_no_text(tmp_path: Path) -> None:
    """And nothing that tells a short text to whoever guesses it, without the store's key."""
    url = fill(str(tmp_path))
    rows = run(url, "SELECT * FROM audit")
    told = json.dumps([dict(row) for row in rows], default=str)
    for word in ("Lisbon", "Momo", "Porto", "Monday"):
        assert word not in told
    assert "hers" not in told, "nor a reason, which is free text"
    fact = run(url, "SELECT * FROM facts ORDER BY pk LIMIT 1")[0]
    assert chain.seal(b"", ["facts", "text", fact["text"]]) not in told
