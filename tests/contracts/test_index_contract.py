"""Every vector index under one contract: the exact oracle, and Chroma in memory, in a directory and on a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support_stores import ChromaServer

from engram_core.ports import VectorIndex
from engram_core.storage import chroma
from engram_core.testing.exact_index import ExactIndex
from engram_core.testing.index_contract import IndexContract


class TestExactIndex(IndexContract):
    is_reopenable = False

    @pytest.fixture
    def open_index(self) -> Callable[[], VectorIndex]:
        return ExactIndex


class TestChromaInMemory(IndexContract):
    is_reopenable = False
    many = 12  # only a server lists in pages

    @pytest.fixture
    def open_index(self) -> Callable[[], VectorIndex]:
        def fresh() -> VectorIndex:
            index = chroma.ephemeral()
            for name in index.names():
                index.drop(name)
            return index

        return fresh


class TestChromaInADirectory(IndexContract):
    many = 12

    @pytest.fixture
    def open_index(self, tmp_path: Path) -> Callable[[], VectorIndex]:
        return lambda: chroma.embedded(str(tmp_path / "index"))


class TestChromaOnAServer(IndexContract):
    @pytest.fixture
    def open_index(self, chroma_server: ChromaServer) -> Callable[[], VectorIndex]:
        index = chroma.server(chroma_server.url)
        for name in index.names():
            index.drop(name)
        index.close()
        return lambda: chroma.server(chroma_server.url)
