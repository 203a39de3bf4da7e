"""Upgrades that fail or are killed at any statement: the old store is whole and readable, and the next start finishes."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event
from support_stores import Postgres

import engram_core.storage
from engram_core.domain.errors import EngramError
from engram_core.ports import Ledger
from engram_core.storage.engines import open_engines
from engram_core.storage.ledger import SqlLedger
from engram_core.storage.schema import HEAD
from engram_core.testing import samples
from engram_core.testing.ledger_contract import LedgerContract

CONFIG = Config()
CONFIG.set_main_option("script_location", str(Path(engram_core.storage.__file__).parent / "migrations"))
CONFIG.set_main_option("path_separator", "os")
EARLIER = sorted(
    script.revision for script in ScriptDirectory.from_config(CONFIG).walk_revisions() if script.revision != HEAD
)
TEXTS = [f"the red cat number {number} sat in house 4711 – 三毛猫" for number in range(25)]


class Interrupted(Exception):
    """What the test raises in the middle of an upgrade."""


def run_scripts(url: str, how: Callable[[Config, str], None], revision: str) -> None:
    """Take a database up or down to a revision."""
    engines = open_engines(url)
    config = Config()
    for name in ("script_location", "path_separator"):
        config.set_main_option(name, CONFIG.get_main_option(name) or "")
    with engines.writer.begin() as connection:
        config.attributes["connection"] = connection
        how(config, revision)
    engines.dispose()


def old_store(url: str, revision: str) -> str:
    """A store of an earlier schema in which facts were added, changed, archived and recalled."""
    ledger = SqlLedger(url)
    first, second, *_ = samples.add(ledger, "acme/alice", TEXTS)
    samples.add(ledger, "acme/bob", ["bob's only fact"])
    ledger.commit(samples.changed(first, text="the red cat moved to house 12")[1])
    ledger.commit(samples.archived(second)[1])
    ledger.record_recall(samples.recall_row(first.scope, first))
    ledger.close()
    run_scripts(url, command.downgrade, revision)
    return url


def said(url: str) -> list[Any]:
    """What a store holds, through the newest ledger; opening it upgrades."""
    ledger = SqlLedger(url)
    try:
        found: list[Any] = []
        for path in ("acme/alice", "acme/bob"):
            rows = samples.outbox(ledger, samples.state(ledger, path).id)
            facts = {fact.id: fact for fact in ledger.facts([row.id for row in rows])}
            assert facts.keys() == {row.id for row in rows}
            found += [
                (
                    facts[row.id].text,
                    facts[row.id].status,
                    row.content,
                    [item.action for item in ledger.history(row.id)],
                )
                for row in rows
            ]
        samples.add(ledger, "acme/alice", ["written after the upgrade"])
        assert samples.state(ledger, "acme/alice").live == len(TEXTS)
        return found
    finally:
        ledger.close()


@contextmanager
def at_statement(number: int, act: Callable[[int], None]) -> Iterator[list[int]]:
    """Call `act` before the statements from `number` on, of every engine; the list holds how many were counted."""
    count = [0]

    def before(*_: Any) -> None:
        count[0] += 1
        if count[0] >= number:
            act(count[0])

    event.listen(Engine, "before_cursor_execute", before)
    try:
        yield count
    finally:
        event.remove(Engine, "before_cursor_execute", before)


def raises(_: int) -> None:
    raise Interrupted


def rows_of(database: Path) -> tuple[str, list[Any]]:
    """A SQLite store as it lies there, read without Engram: its revision, and every fact."""
    connection = sqlite3.connect(database)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return revision, connection.execute("SELECT id, text, status FROM facts ORDER BY id").fetchall()
    finally:
        connection.close()


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


@pytest.mark.parametrize("revision", [EARLIER[0], *(pytest.param(one, marks=pytest.mark.full) for one in EARLIER[1:])])
def test_a_kill_at_any_statement_leaves_the_old_store(revision: str, sqlite_url: str, tmp_path: Path) -> None:
    """What a killed process leaves is what its files hold at that moment: they are copied before every statement."""
    path = path_of(old_store(sqlite_url, revision))
    before = rows_of(path)
    assert before[0] == revision
    pristine = tmp_path / "pristine.db"
    shutil.copyfile(path, pristine)
    wanted = said(f"sqlite:///{pristine}")
    images: list[Path] = []

    def copy(number: int) -> None:
        image = tmp_path / "images" / f"{number}.db"
        image.parent.mkdir(exist_ok=True)
        for ending in ("", "-wal"):
            if (source := Path(f"{path}{ending}")).exists():
                shutil.copyfile(source, f"{image}{ending}")
        images.append(image)

    with at_statement(1, copy):
        SqlLedger(sqlite_url).close()
    assert len(images) > len(EARLIER) - int(revision), "every script runs a statement"
    for number, image in enumerate(images):
        found = rows_of(image)
        assert found[0] in {revision, HEAD}, "never in between"
        assert found[1] == before[1]
        if number % 4 == 0:
            assert said(f"sqlite:///{image}") == wanted
            assert rows_of(image)[0] == HEAD


def _fail_and_go_on(url: str, number: int) -> bool:
    """Fail an upgrade at a statement; whether it has so many."""
    with at_statement(number, raises), pytest.raises((Interrupted, EngramError)) as caught:
        SqlLedger(url).close()
        raise Interrupted("done")
    return str(caught.value) != "done"


def test_an_upgrade_that_fails_again_and_again_converges(sqlite_url: str) -> None:
    """One statement further every time, on the same store and in the same process."""
    path = path_of(old_store(sqlite_url, EARLIER[0]))
    before = rows_of(path)
    number = 1
    while _fail_and_go_on(sqlite_url, number):
        assert rows_of(path)[1] == before[1]
        number += 4
    assert number > 40
    assert rows_of(path) == (HEAD, before[1])
    assert len(said(sqlite_url)) == len(TEXTS) + 1


@pytest.mark.full
@pytest.mark.parametrize("revision", EARLIER)
def test_a_postgres_upgrade_that_fails_at_any_statement(revision: str, postgres: Postgres) -> None:
    import psycopg

    url = old_store(postgres.database(), revision)
    number = 1
    while _fail_and_go_on(url, number):
        with psycopg.connect(url) as connection:
            # The last statements are of the opening, after the upgrade was committed.
            assert connection.execute("SELECT version_num FROM alembic_version").fetchone() in {(revision,), (HEAD,)}
            assert connection.execute("SELECT count(*) FROM facts").fetchone() == (len(TEXTS) + 1,)
        number += 1
    assert number > 3
    assert len(said(url)) == len(TEXTS) + 1
    postgres.drop(url)


@pytest.fixture(scope="module", params=EARLIER)
def upgraded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store of an earlier schema that was upgraded."""
    path = tmp_path_factory.mktemp("upgraded") / "engram.db"
    run_scripts(f"sqlite:///{path}", command.upgrade, request.param)
    SqlLedger(f"sqlite:///{path}").close()
    return path


@pytest.mark.full
class TestUpgradedLedger(LedgerContract):
    """A store of any earlier schema, upgraded, is a ledger like any other."""

    @pytest.fixture
    def open_ledger(self, upgraded: Path, tmp_path: Path) -> Callable[[], Ledger]:
        path = tmp_path / "engram.db"
        shutil.copyfile(upgraded, path)
        return lambda: SqlLedger(f"sqlite:///{path}")
