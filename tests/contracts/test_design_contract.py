"""Every shipped design under one contract."""

from __future__ import annotations

import pytest

from engram_core.design import Design
from engram_core.designs.pipeline import Pipeline
from engram_core.designs.plain import Null, Recency, Similarity
from engram_core.testing.design_contract import DesignContract


class TestPipeline(DesignContract):
    @pytest.fixture
    def design(self) -> Design:
        return Pipeline()


class TestNull(DesignContract):
    forgets_everything = True

    @pytest.fixture
    def design(self) -> Design:
        return Null()


class TestSimilarity(DesignContract):
    @pytest.fixture
    def design(self) -> Design:
        return Similarity()


class TestRecency(DesignContract):
    @pytest.fixture
    def design(self) -> Design:
        return Recency()
