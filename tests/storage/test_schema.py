"""The schema: one truth in code, scripts and databases; stores of another age are refused politely."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from support_stores import Postgres

import engram_core.storage
from engram_core.domain.errors import SchemaTooNew
from engram_core.domain.fact import Slot
from engram_core.storage.engines import open_engines
from engram_core.storage.ledger import SqlLedger
from engram_core.storage.schema import HEAD, metadata
from engram_core.testing import samples


def scripts_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(engram_core.storage.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


EARLIER = [
    script.revision
    for script in ScriptDirectory.from_config(scripts_config()).walk_revisions()
    if script.revision != HEAD
]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database that no ledger has opened yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new.db'}"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    fresh = postgres.empty_database()
    yield fresh
    postgres.drop(fresh)


def execute(url: str, statement: str) -> Any:
    engines = open_engines(url)
    try:
        with engines.writer.begin() as connection:
            result = connection.execute(text(statement))
            return result.fetchall() if result.returns_rows else None
    finally:
        engines.dispose()


def test_the_named_head_is_the_scripts_head() -> None:
    scripts = ScriptDirectory.from_config(scripts_config())
    assert scripts.get_heads() == [HEAD]
    assert [script.revision for script in scripts.walk_revisions()][-1] == "0001"


def test_the_metadata_is_what_the_scripts_make(url: str) -> None:
    SqlLedger(url).close()
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_name": _is_ours})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def _is_ours(name: str | None, kind: str, parents: Any) -> bool:
    # Full text is made by the scripts alone: it is no portable table.
    return kind != "table" or not str(name).startswith(("fact_words", "alembic_version"))


def test_opening_again_migrates_nothing(url: str) -> None:
    SqlLedger(url).close()
    before = execute(url, "SELECT version_num FROM alembic_version")
    ledger = SqlLedger(url)
    samples.add(ledger, "a", ["kept"])
    ledger.close()
    again = SqlLedger(url)
    assert samples.state(again, "a").live == 1
    again.close()
    assert execute(url, "SELECT version_num FROM alembic_version") == before == [(HEAD,)]


@pytest.mark.parametrize("revision", EARLIER)
def test_an_older_store_is_upgraded_and_keeps_what_it_holds(url: str, revision: str) -> None:
    engines = open_engines(url)
    with engines.writer.begin() as connection:
        config = scripts_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engines.dispose()
    columns = "path, seq, live, recallable, body_words, context_words, speakers"
    execute(url, f"INSERT INTO scopes ({columns}) VALUES ('a', 0, 0, 0, 0, 0, '{{}}')")
    execute(
        url, "INSERT INTO usage (recall_id, scope_id, at, response, verdicts) SELECT 'r', id, 0, '', '[]' FROM scopes"
    )
    ledger = SqlLedger(url)
    assert [row.response for row in ledger.usage("r")] == [""]
    samples.add(ledger, "a", ["kept"])
    assert samples.state(ledger, "a").live == 1
    assert samples.state(ledger, "a").judged == 0
    ledger.close()
    assert execute(url, "SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_a_store_from_the_future_is_refused_and_left_alone(url: str) -> None:
    ledger = SqlLedger(url)
    samples.add(ledger, "a", ["kept"])
    ledger.close()
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match=r"9999.*Upgrade Engram"):
        SqlLedger(url)
    assert execute(url, "SELECT version_num FROM alembic_version") == [("9999",)]
    execute(url, f"UPDATE alembic_version SET version_num = '{HEAD}'")
    ledger = SqlLedger(url)
    assert samples.state(ledger, "a").live == 1
    ledger.close()


def test_many_may_create_the_schema_at_once(url: str) -> None:
    def write(number: int) -> None:
        ledger = SqlLedger(url)
        samples.add(ledger, "a", [f"from {number}"])
        ledger.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    ledger = SqlLedger(url)
    assert samples.state(ledger, "a").live == 8
    ledger.close()


def test_many_may_switch_a_new_file_to_wal_at_once(tmp_path: Path) -> None:
    """SQLite does not wait for this lock by itself; thirty new files make a collision all but certain."""
    for number in range(30):
        url = f"sqlite:///{tmp_path / str(number)}.db"

        def connect(_: int, url: str = url) -> Any:
            engines = open_engines(url)
            try:
                with engines.observer.connect() as connection:
                    return connection.execute(text("PRAGMA journal_mode")).scalar()
            finally:
                engines.dispose()

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(connect, range(8))) == ["wal"] * 8


def test_threads_may_create_different_stores_at_once(tmp_path: Path) -> None:
    def write(number: int) -> int:
        ledger = SqlLedger(f"sqlite:///{tmp_path / str(number)}.db")
        samples.add(ledger, "a", [f"from {number}"])
        live = samples.state(ledger, "a").live
        ledger.close()
        return live

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(write, range(12))) == [1] * 12


def test_a_migration_that_fails_half_way_leaves_nothing(url: str) -> None:
    """A table of ours that somebody made before: the first script cannot make it again."""
    execute(url, "CREATE TABLE policies (mine TEXT)")
    with pytest.raises(Exception, match="policies"):
        SqlLedger(url)
    assert execute(url, "SELECT * FROM policies") == []
    with pytest.raises(Exception, match="facts"):
        execute(url, "SELECT * FROM facts")
    execute(url, "DROP TABLE policies")
    SqlLedger(url).close()


def test_sqlite_has_the_promised_settings(tmp_path: Path) -> None:
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'new.db'}")

    def setting(engine: Any, name: str) -> Any:
        with engine.connect() as connection:
            return connection.execute(text(f"PRAGMA {name}")).scalar()

    for engine, synchronous in ((ledger._engines.writer, 2), (ledger._engines.observer, 1)):
        assert setting(engine, "journal_mode") == "wal"
        assert setting(engine, "synchronous") == synchronous
        assert setting(engine, "foreign_keys") == 1
        assert setting(engine, "secure_delete") == 1
        assert setting(engine, "busy_timeout") >= 5_000
    ledger.close()


def test_postgres_commits_are_durable(postgres_url: str) -> None:
    ledger = SqlLedger(postgres_url)
    for engine, commit in ((ledger._engines.writer, "on"), (ledger._engines.observer, "off")):
        with engine.connect() as connection:
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == commit
    ledger.close()


def test_what_an_older_store_derived_is_found_by_its_source(url: str) -> None:
    ledger = SqlLedger(url)
    (turn,) = samples.add(ledger, "a", ["a turn"])
    stated = samples.fact(turn.scope, "stated from it", sources=(turn.id,), slot=Slot("ana", "home"))
    ledger.commit(samples.batch(stated))
    ledger.close()
    engines = open_engines(url)
    with engines.writer.begin() as connection:
        config = scripts_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
    engines.dispose()
    again = SqlLedger(url)
    assert again.derived([turn.id]) == [stated]
    assert again.holders(turn.scope, [Slot("ana", "home")]) == [stated]
    assert again.links([turn.id]) == []
    again.close()
