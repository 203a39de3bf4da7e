"""Every ledger under one contract: in memory, on SQLite, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engram_core.ports import Ledger
from engram_core.storage.ledger import SqlLedger
from engram_core.testing.ledger_contract import LedgerContract
from engram_core.testing.memory_ledger import MemoryLedger


class TestMemoryLedger(LedgerContract):
    is_durable = False

    @pytest.fixture
    def open_ledger(self) -> Callable[[], Ledger]:
        only = MemoryLedger()
        return lambda: only


class TestSqliteLedger(LedgerContract):
    @pytest.fixture
    def open_ledger(self, open_sqlite: Callable[[], Ledger]) -> Callable[[], Ledger]:
        return open_sqlite


class TestPostgresLedger(LedgerContract):
    @pytest.fixture
    def open_ledger(self, postgres_url: str) -> Callable[[], Ledger]:
        return lambda: SqlLedger(postgres_url)
