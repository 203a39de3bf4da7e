"""The ledgers under the contract of faults, and ledgers with planted bugs that it must find."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import psycopg
import pytest
from sqlalchemy import text

from engram_core.ports import Batch, Ledger
from engram_core.storage.ledger import SqlLedger
from engram_core.testing import fault_contract
from engram_core.testing.fault_contract import FaultContract, Opener, Trouble


@contextmanager
def full_disk(ledger: Ledger, room: int = 0) -> Iterator[None]:
    """The database may grow by so many pages and no more."""
    assert isinstance(ledger, SqlLedger)
    with ledger._engines.writer.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {pages + room}"))
    yield
    with ledger._engines.writer.connect() as connection:
        connection.execute(text("PRAGMA max_page_count = 1000000"))


class TestSqliteUnderFaults(FaultContract):
    @pytest.fixture
    def opener(self, sqlite_url: str) -> Opener:
        return SqlLedger, sqlite_url

    @pytest.fixture
    def trouble(self) -> Trouble:
        return full_disk


@pytest.mark.full
class TestSqliteUnderManyKills(TestSqliteUnderFaults):
    kills = 500


class TestPostgresUnderFaults(FaultContract):
    kills = 5

    @pytest.fixture
    def opener(self, postgres_url: str) -> Opener:
        return SqlLedger, f"{postgres_url}?answer_timeout=0.3"

    @pytest.fixture
    def trouble(self, postgres_url: str) -> Trouble:
        @contextmanager
        def held(_: Ledger) -> Iterator[None]:
            """Another connection holds the lock every writer needs."""
            with psycopg.connect(postgres_url) as connection:
                connection.execute("LOCK TABLE facts IN SHARE MODE")
                yield

        return held


class EarlyLedger(SqlLedger):
    """A planted bug: tells that a batch is stored before it is."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._later: list[Batch] = []

    def commit(self, batch: Batch) -> int:
        self._later.append(batch)
        if len(self._later) > 3:
            super().commit(self._later.pop(0))
        return 0


class TornLedger(SqlLedger):
    """A planted bug: a batch in two transactions."""

    def commit(self, batch: Batch) -> int:
        for write, decision in zip(batch.writes, batch.decisions, strict=True):
            seq = super().commit(replace(batch, writes=(write,), decisions=(decision,)))
            time.sleep(0.02)
        return seq


@pytest.mark.parametrize("bug", [EarlyLedger, TornLedger])
def test_planted_bugs_are_found(bug: type[SqlLedger], sqlite_url: str) -> None:
    contract = FaultContract()
    opener = (bug, sqlite_url)
    children = fault_contract._Children(opener)
    try:
        with pytest.raises((AssertionError, KeyError)):
            contract.test_kills_lose_nothing_acknowledged_and_leave_nothing_half_done(opener, children)
    finally:
        children.close()


@pytest.mark.parametrize("bug", [TornLedger])
def test_half_a_batch_on_a_full_disk_is_found(bug: type[SqlLedger], sqlite_url: str) -> None:
    with pytest.raises(AssertionError):
        # Room for some facts of a batch, not for all.
        nearly_full = partial(full_disk, room=40)
        FaultContract().test_a_ledger_that_cannot_write_says_so_and_keeps_what_it_has((bug, sqlite_url), nearly_full)
