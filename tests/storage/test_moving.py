"""Moving a whole store: everything arrives, or nothing does; and a table nobody thought of arrives, too."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    Float,
    Integer,
    LargeBinary,
    String,
    Table,
    create_engine,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError
from support_stores import ChromaServer, Postgres
from typer.testing import CliRunner

from engram_core import Engram, Message
from engram_core.cli.app import app
from engram_core.domain.errors import InvalidInput, SchemaTooNew, StoreUnavailable
from engram_core.storage import moving, tables
from engram_core.storage.engines import open_engines
from engram_core.storage.schema import HEAD, metadata
from engram_core.testing.fakes import FailingEmbedder, WordHashEmbedder

SCOPE = "acme/support/alice"
OTHER = "acme/support/bob"
START = datetime(2026, 1, 5, 9, tzinfo=UTC)
QUESTION = "Where does the red cat live?"


def filled(place: Path) -> str:
    """A store in which much has happened, with rows in every table; the URL of its ledger."""
    with Engram.open(place, embedder=WordHashEmbedder(), exact_limit=20) as engram:
        memory = engram.memory(SCOPE)
        for number in range(40):
            said = Message(
                "user", f"the red cat number {number} lives in house {number % 7}", session=f"s{number // 5}"
            )
            memory.add(said, now=START + timedelta(hours=number))
        memory.add(["My name is Ana – 三毛猫 👩‍👧.", "I live in Lisbon."], now=START)
        memory.add("I moved to Porto.", now=START + timedelta(days=2))
        first, second, third = memory.list(limit=3)
        memory.update(first.id, text="the red cat number 0 lives in a garden", metadata={"why": "it moved"})
        memory.forget(second.id, reason="of no use")
        memory.update(third.id, pinned=True)
        memory.set_policy(max_facts=30, auto_forget=True, protect_days=0)
        for number in range(4):
            recall = memory.recall(QUESTION, k=5, now=START + timedelta(days=3, hours=number))
            memory.observe(recall.id, "The red cat number 3 lives in house 3.", now=START + timedelta(days=3))
        kept, erased = engram.memory(OTHER).add(["Bob likes green tea.", "Bob hides sentinels."], now=START).facts
        engram.memory(OTHER).hold(kept.id, reason="a claim")
        engram.memory(OTHER).erase(erased.id)
        engram.grant("agent:helpdesk", "read", SCOPE)
        engram.group_add("group:support", "agent:helpdesk")
        engram.set_private("acme/board")
        engram.sleep(now=START + timedelta(days=90))
        engram.note_failure(SCOPE, "a test", ValueError("it failed"))
        engram.flush()
    with Engram.open(place, embedder=FailingEmbedder(WordHashEmbedder()), index="exact") as engram:
        engram.memory(OTHER).add("said while the embedder was down", now=START + timedelta(days=91))
    url = f"sqlite:///{place / 'engram.db'}"
    _fill_the_rest(url)
    return url


def _fill_the_rest(url: str) -> None:
    """Rows made from the schema alone in tables that are still empty: those of other parts, and those to come."""
    engines = open_engines(url)
    with engines.writer.begin() as connection:
        for table in metadata.sorted_tables:
            if table.name not in tables.LOCAL and not tables.count(connection, table):
                for number in range(3):
                    # A key that refers to another table may have been used by the row before; one row is enough.
                    with suppress(IntegrityError) if number else nullcontext(), connection.begin_nested():
                        connection.execute(insert(table), _made(connection, table, number))
    engines.dispose()


def _made(connection: Any, table: Table, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column in table.columns:
        if column.foreign_keys:
            (key,) = column.foreign_keys
            row[column.name] = connection.execute(select(func.min(key.column))).scalar()
        elif isinstance(column.type, Boolean):
            row[column.name] = number % 2 == 0
        elif isinstance(column.type, Integer):
            row[column.name] = number + 1
        elif isinstance(column.type, Float):
            row[column.name] = number / 3
        elif isinstance(column.type, LargeBinary):
            row[column.name] = bytes([number, 0, 255])
        else:
            assert isinstance(column.type, String), f"{table.name}.{column.name} has a type this test cannot make"
            row[column.name] = f"{table.name[:8]}-{number}"[: column.type.length]
    return row


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return filled(tmp_path_factory.mktemp("moving") / "source")


@pytest.fixture
def fresh_postgres(postgres: Postgres) -> Iterator[str]:
    url = postgres.empty_database()
    yield url
    postgres.drop(url)


def directory(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///")).parent


def said(url: str | Path, **options: Any) -> dict[str, Any]:
    """What a store says through the facade."""
    with Engram.open(url, embedder=WordHashEmbedder(), **{"index": "exact", **options}) as engram:
        memory = engram.memory(SCOPE)
        facts = memory.list(status="all", limit=10_000)
        return {
            "facts": facts,
            "history": [memory.history(fact.id) for fact in facts],
            "policy": memory.policy_history(),
            "usage": engram.usage(now=START + timedelta(days=92)).to_dict(),
            "nights": engram.nights(),
            "scopes": engram.scopes(),
            "ranking": engram.doctor()["live"],
        }


def recalled(url: str | Path, **options: Any) -> tuple[list[tuple[str, float]], bool]:
    with Engram.open(url, embedder=WordHashEmbedder(), exact_limit=20, **options) as engram:
        engram.flush()
        recall = engram.memory(SCOPE).recall(QUESTION, k=8, now=START + timedelta(days=100))
        return [(item.fact.id, round(item.score, 5)) for item in recall.facts], recall.degraded


# --- what belongs to a store -----------------------------------------------------------------------------------------


def test_no_table_of_the_database_is_left_out(source: str) -> None:
    """A new table is carried by being in the schema; a table outside it, or a new local one, is a decision."""
    engine = create_engine(source)
    made = {name for name in inspect(engine).get_table_names() if not name.startswith("fact_words_")}
    engine.dispose()
    carried = {table.name for table in tables.carried()}
    assert made == carried | tables.LOCAL | tables.DERIVED | {"alembic_version"}
    assert {"generations", "collections", "leases"} == tables.LOCAL
    engines = open_engines(source)
    with engines.snapshot() as connection:
        assert [table.name for table in tables.carried() if not tables.count(connection, table)] == []
    engines.dispose()


def test_a_digest_sees_every_value(source: str) -> None:
    engines = open_engines(source)
    with engines.snapshot() as connection:
        for table in tables.carried():
            rows = [row for batch in tables.walk(connection, table, batch=7) for row in batch]
            whole = tables.digest(connection, table)
            assert whole.rows == len(rows) == tables.count(connection, table)
            for column in table.columns:
                changed = tables.Digest()
                for place, row in enumerate(rows):
                    value = row[column.name]
                    other = "other" if value is None else None
                    changed.add(table, row if place else {**row, column.name: other})
                assert changed != whole, f"{table.name}.{column.name}"
    engines.dispose()


# --- there and back --------------------------------------------------------------------------------------------------


def test_to_a_server_and_back(source: str, fresh_postgres: str, chroma_server: ChromaServer, tmp_path: Path) -> None:
    before = moving.digest_of(source)
    bytes_before = hashlib.sha256(Path(source.removeprefix("sqlite:///")).read_bytes()).hexdigest()
    seen: list[tuple[str, int, int]] = []
    there = Engram.migrate(
        directory(source), fresh_postgres, index=chroma_server.url, progress=lambda *step: seen.append(step)
    )
    assert there["digest"] == before
    assert there["recalls"] >= 3
    assert there["index_problem"] is None
    assert seen[-1][1] == seen[-1][2]
    assert {"Copying facts", "Verifying the target", "Verifying the source"} <= {label for label, _, _ in seen}
    assert hashlib.sha256(Path(source.removeprefix("sqlite:///")).read_bytes()).hexdigest() == bytes_before
    assert moving.digest_of(source) == moving.digest_of(fresh_postgres) == before

    back = Engram.migrate(fresh_postgres, tmp_path / "back", index="exact")
    assert back["digest"] == before
    assert back["rows"] == there["rows"]
    assert back["digests"] == there["digests"]
    assert said(source) == said(tmp_path / "back") == said(fresh_postgres)
    wanted, is_degraded = recalled(tmp_path / "back", index="exact")
    assert not is_degraded
    assert recalled(fresh_postgres, index=chroma_server.url) == (wanted, False)


def test_numbers_go_on(source: str, fresh_postgres: str) -> None:
    """Every table with numbers of its own takes the next one."""
    Engram.migrate(directory(source), fresh_postgres)
    with Engram.open(fresh_postgres, embedder=WordHashEmbedder()) as engram:
        seq = engram.context.ledger.scopes()[0].seq
        memory = engram.memory("new/scope")
        (fact,) = memory.add("a scope that is new, and a fact in it").facts
        memory.add("I moved to Madrid.", supersedes=[fact.id])
        memory.observe(memory.recall("a scope", k=1).id, "a scope that is new")
        memory.set_policy(max_facts=9)
        engram.note_failure("new/scope", "a test", ValueError("again"))
        engram.sleep("new/scope")
        assert memory.history(fact.id)
        assert engram.context.ledger.scopes()[-1].seq > seq
    engines = open_engines(fresh_postgres)
    with engines.snapshot() as connection:
        for table in tables.carried():
            (key, *others) = table.primary_key.columns
            if not others and key.autoincrement is True:
                values = connection.execute(select(key)).scalars().all()
                assert len(values) == len(set(values)) > 0
    engines.dispose()


# --- refusals --------------------------------------------------------------------------------------------------------


def test_what_is_refused(source: str, tmp_path: Path, fresh_postgres: str) -> None:
    place = directory(source)
    with Engram.open(tmp_path / "used", embedder=WordHashEmbedder()) as engram:
        engram.memory(SCOPE).add("somebody lives here")
    used = said(tmp_path / "used")
    with pytest.raises(InvalidInput, match="is not empty: its table"):
        Engram.migrate(place, tmp_path / "used")
    assert said(tmp_path / "used") == used
    with pytest.raises(InvalidInput, match="same store"):
        Engram.migrate(place, f"sqlite:///{place / '..' / place.name / 'engram.db'}")
    with pytest.raises(StoreUnavailable, match="no store at"):
        Engram.migrate(tmp_path / "nothing", tmp_path / "target")
    with pytest.raises(StoreUnavailable, match="no ledger in it"):
        Engram.migrate(fresh_postgres, tmp_path / "target")
    with pytest.raises(InvalidInput, match="in memory"):
        Engram.migrate(":memory:", tmp_path / "target")
    assert not (tmp_path / "nothing").exists()
    assert not (tmp_path / "target").exists()


def test_stores_of_another_age_are_refused(tmp_path: Path) -> None:
    with Engram.open(tmp_path / "old", embedder=WordHashEmbedder()) as engram:
        engram.memory(SCOPE).add("kept")
    for version, error in (("0001", InvalidInput), ("9999", SchemaTooNew)):
        engines = open_engines(f"sqlite:///{tmp_path / 'old' / 'engram.db'}")
        with engines.writer.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})
        engines.dispose()
        with pytest.raises(error, match=f"{version}.*{HEAD}"):
            Engram.migrate(tmp_path / "old", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_rehearsal_counts_and_makes_nothing(source: str, tmp_path: Path, fresh_postgres: str) -> None:
    for target in (tmp_path / "target", fresh_postgres, f"sqlite:///{tmp_path / 'file.db'}"):
        plan = Engram.migrate(directory(source), target, dry_run=True)
        assert plan["dry_run"]
        assert plan["digest"] is None
        assert plan["rows"]["facts"] > 40
    assert not (tmp_path / "target").exists()
    assert not (tmp_path / "file.db").exists()
    engine = create_engine(fresh_postgres.replace("postgresql://", "postgresql+psycopg://"))
    assert inspect(engine).get_table_names() == []
    engine.dispose()


# --- all or nothing --------------------------------------------------------------------------------------------------


def rows_in(url: str) -> int:
    engines = open_engines(url)
    with engines.snapshot() as connection:
        count = sum(tables.count(connection, table) for table in tables.carried() if table.name != "counter")
    engines.dispose()
    return count


def test_a_source_that_is_written_to_meanwhile_is_noticed(tmp_path: Path) -> None:
    with Engram.open(tmp_path / "source", embedder=WordHashEmbedder()) as engram:
        memory = engram.memory(SCOPE)
        memory.add([f"fact number {number}" for number in range(20)])
        written = []

        def interfere(label: str, done: int, total: int) -> None:
            if label == "Verifying the target" and not written:
                written.append(memory.add("said while the store was copied"))

        with pytest.raises(StoreUnavailable, match=r"written to while it was copied \(.*facts.*\)"):
            Engram.migrate(tmp_path / "source", tmp_path / "target", progress=interfere)
        assert written
        assert len(memory.list()) == 21
    assert rows_in(f"sqlite:///{tmp_path / 'target' / 'engram.db'}") == 0
    assert Engram.migrate(tmp_path / "source", tmp_path / "target")["rows"]["facts"] == 21


def test_a_target_that_alters_what_it_is_given_is_noticed(source: str, fresh_postgres: str) -> None:
    Engram.open(fresh_postgres, embedder=WordHashEmbedder()).close()
    settings = rows_in(fresh_postgres)
    engines = open_engines(fresh_postgres)
    with engines.writer.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION spoil() RETURNS trigger AS $$ BEGIN NEW.line = NEW.line || ' '; RETURN NEW; END $$ LANGUAGE plpgsql"
            )
        )
        connection.execute(
            text("CREATE TRIGGER spoil BEFORE INSERT ON decisions FOR EACH ROW EXECUTE FUNCTION spoil()")
        )
    with pytest.raises(StoreUnavailable, match=r"does not give back.*decisions"):
        Engram.migrate(directory(source), fresh_postgres)
    assert rows_in(fresh_postgres) == settings  # what opening the empty store wrote down
    with engines.writer.begin() as connection:
        connection.execute(text("DROP TRIGGER spoil ON decisions"))
    engines.dispose()
    assert Engram.migrate(directory(source), fresh_postgres)["digest"] == moving.digest_of(source)


KILLED = """
import os, signal, sys
from engram_core import Engram

source, target, label, *index = sys.argv[1:]
def step(name, done, total):
    if name == label:
        os.kill(os.getpid(), signal.SIGKILL)
Engram.migrate(source, target, progress=step, **({"index": index[0]} if index else {}))
"""
POINTS = ["Copying facts", "Copying usage", "Verifying the target", "Verifying the source"]


SMALL = [("postgresql", "Copying usage"), ("sqlite", "Verifying the source")]
KILLS = [(kind, label) for kind in ("sqlite", "postgresql") for label in POINTS]


@pytest.mark.parametrize(
    ("kind", "label"),
    [pytest.param(*kill, marks=[] if kill in SMALL else [pytest.mark.full]) for kill in KILLS],
)
def test_a_killed_migration_leaves_nothing_and_is_run_again(
    source: str, tmp_path: Path, kind: str, label: str, request: pytest.FixtureRequest
) -> None:
    target = request.getfixturevalue("fresh_postgres") if kind == "postgresql" else f"sqlite:///{tmp_path / 'new.db'}"
    killed(directory(source), target, label)
    assert rows_in(target) == 0
    assert Engram.migrate(directory(source), target)["digest"] == moving.digest_of(source)


def killed(source: str | Path, target: str, label: str, **more: str) -> None:
    """Run a migration in another process that is killed at its first step of that name."""
    command = [sys.executable, "-c", KILLED, str(source), target, label, *more.values()]
    done = subprocess.run(command, check=False, timeout=120)
    assert done.returncode == -9


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_migration_killed_after_its_copy_goes_on_there(
    source: str, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    target = request.getfixturevalue("fresh_postgres") if kind == "postgresql" else f"sqlite:///{tmp_path / 'new.db'}"
    killed(directory(source), target, "Comparing sample recalls")
    assert rows_in(target) == rows_in(source)
    assert Engram.migrate(directory(source), target, dry_run=True)["continued"]
    done = Engram.migrate(directory(source), target)
    assert done["continued"]
    assert done["digest"] == moving.digest_of(source) == moving.digest_of(target)
    assert done["recalls"] > 0
    assert not Engram.migrate(directory(source), tmp_path / "fresh")["continued"]


def test_what_an_interrupted_copy_left_is_not_used_for_a_source_that_changed(tmp_path: Path) -> None:
    with Engram.open(tmp_path / "source", embedder=WordHashEmbedder()) as engram:
        engram.memory(SCOPE).add(["one red cat", "two green dogs"])
    target = f"sqlite:///{tmp_path / 'new.db'}"
    killed(tmp_path / "source", target, "Comparing sample recalls")
    held = rows_in(target)
    with Engram.open(tmp_path / "source", embedder=WordHashEmbedder()) as engram:
        fact = engram.memory(SCOPE).list()[0]
        engram.memory(SCOPE).update(fact.id, pinned=True)
    with pytest.raises(InvalidInput, match=r"not empty.*does not hold what the source holds now"):
        Engram.migrate(tmp_path / "source", target)
    assert rows_in(target) == held
    # As many rows as the source has, and others: told by what is in them.
    engines = open_engines(target)
    with engines.writer.begin() as connection:
        connection.execute(text("UPDATE facts SET text = 'altered'"))
    engines.dispose()
    with pytest.raises(InvalidInput, match="not empty"):
        Engram.migrate(tmp_path / "source", target)


@pytest.mark.full  # it waits for the lease of the one that was killed
def test_a_migration_killed_while_it_builds_the_index_goes_on_there(
    tmp_path: Path, fresh_postgres: str, chroma_server: ChromaServer
) -> None:
    with Engram.open(tmp_path / "source", embedder=WordHashEmbedder(), index="exact") as engram:
        engram.memory(SCOPE).add([f"fact number {n} of house {n % 17}" for n in range(2_100)])
    killed(tmp_path / "source", fresh_postgres, "Indexing", index=chroma_server.url)
    done = Engram.migrate(tmp_path / "source", fresh_postgres, index=chroma_server.url)
    assert done["continued"]
    assert done["index_problem"] is None
    assert done["vectors"] == done["rows"]["facts"] == 2_100
    with Engram.open(fresh_postgres, embedder=WordHashEmbedder(), index=chroma_server.url) as engram:
        assert engram.flush(30)
        assert not engram.memory(SCOPE).recall("house number 7").degraded


async def test_the_command_and_the_async_twin(source: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["migrate", str(directory(source)), *arguments])

    target = str(tmp_path / "one")
    plan = run(target, "--dry-run")
    assert plan.exit_code == 0
    assert "Nothing was changed" in plan.stderr
    assert not (tmp_path / "one").exists()
    view = json.loads(run(target, "--json").stdout)
    assert view["digest"] == moving.digest_of(source) == (await Engram.amigrate(source, tmp_path / "two"))["digest"]
    assert view["target"] == target
    again, chosen = run(target), run(str(tmp_path / "x"), "--store", "y")
    assert again.exit_code == 0
    assert "were there already" in again.stderr
    assert chosen.exit_code == 2
    assert "without --store" in chosen.stderr
    assert "rows copied" in run(str(tmp_path / "three")).stderr
