"""Fixtures of the LangChain adapter's tests: a store, its ledger, and one remembered fact."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engram_core import Engram

# Importable under any of pytest's import modes, without a package here that would shadow the real `langchain`.
sys.path.insert(0, str(Path(__file__).parent))

from langchain_support import ALICE, FACT, Ledger, OffLoop


@pytest.fixture
def engram() -> Iterator[Engram]:
    with Engram.open(":memory:") as opened:
        yield opened


@pytest.fixture
def ledger(engram: Engram) -> Ledger:
    return Ledger(engram)


@pytest.fixture
def fact_id(engram: Engram) -> str:
    """Alice's city, remembered."""
    return engram.memory(ALICE).add(FACT).facts[0].id


@pytest.fixture
def off_loop() -> Iterator[OffLoop]:
    """A store that knows its threads, with Alice's city remembered."""
    watched = OffLoop()
    with watched.engram:
        yield watched
