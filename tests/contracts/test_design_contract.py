"""Every shipped design under one contract."""

from __future__ import annotations

import pytest

from engram_core.design import Design
from engram_core.designs.genome import Genome, compiled
from engram_core.designs.genome.references import REFERENCES
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


class TestPipelineAsGenome(DesignContract):
    @pytest.fixture
    def design(self) -> Design:
        return compiled(REFERENCES["pipeline"][0])


class TestNoMemory(DesignContract):
    forgets_everything = True

    @pytest.fixture
    def design(self) -> Design:
        return compiled(REFERENCES["no_memory"][0])


class TestNearestEpisode(DesignContract):
    shows_few = True

    @pytest.fixture
    def design(self) -> Design:
        return compiled(REFERENCES["nearest_episode"][0])


class TestRecencyAsGenome(DesignContract):
    @pytest.fixture
    def design(self) -> Design:
        return compiled(REFERENCES["recency"][0])


class TestSupersede(DesignContract):
    shows_few = True

    @pytest.fixture
    def design(self) -> Design:
        return compiled(REFERENCES["supersede"][0])


class TestConsolidate(DesignContract):
    @pytest.fixture
    def design(self) -> Design:
        return compiled(REFERENCES["consolidate"][0])


class TestEveryOperator(DesignContract):
    """As many operators as one genome can hold."""

    shows_few = True

    @pytest.fixture
    def design(self) -> Design:
        return compiled(
            Genome.of(
                update=["statements", "merge_repeats", "supersede_slot", "skip_role", ("skip_short", {"words": 2})],
                retrieve=[
                    ("relevance", {"importance_weight": 0.5, "dense": 0.3}),
                    "fresh", "users_words", "prefer_kind", "short", "spread",
                    ("keep_newest", {"by": "words"}), ("above", {"score": -1.0}), ("above_share", {"share": 0.01}), "top",
                ],
                sleep=["archive_expired", "archive_older_slots", ("archive_repeats", {"likeness": 0.7}),
                       ("archive_unused", {"below": 0.0, "days": 0.0}), "reweigh_by_use"],
            )
        )  # fmt: skip
