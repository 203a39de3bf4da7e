"""`engram lab` and the commands on proposals, as a person runs them: search, look, promote, approve, take back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engram_core.cli.app import app

RUN = CliRunner()


def engram(*arguments: str, store: Path, code: int = 0) -> str:
    done = RUN.invoke(app, [*arguments, "--store", str(store)])
    assert done.exit_code == code, done.output
    return done.output


def view(*arguments: str, store: Path, code: int = 0) -> Any:
    done = RUN.invoke(app, [*arguments, "--store", str(store), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of the six seeds and two more on the quickest task."""
    place = tmp_path_factory.mktemp("lab") / "store"
    report = view("lab", "run", "-t", "usefulness", "-n", "8", "--starts", "1", "--seed", "5", store=place)
    assert set(report["arms"]) == {"niche", "greedy", "random"}
    assert report["steps"] == 8
    assert set(report["gate"]) == {"usefulness"}
    return place


def test_the_archive_holds_what_was_tried(store: Path) -> None:
    found = view("lab", "archive", store=store)
    assert found["designs"] >= 7
    assert found["runs"][0]["done"]
    fitness = [row["fitness"] for row in found["rows"] if row["fitness"] is not None]
    assert fitness == sorted(fitness, reverse=True)
    assert found["rows"][0]["id"] in engram("lab", "archive", store=store)


def test_a_run_that_is_over_goes_on_from_what_is_there(store: Path) -> None:
    """Nothing is tried again, and the report is the same."""
    run = view("lab", "archive", store=store)["runs"][0]["id"]
    before = view("lab", "archive", store=store)["designs"]
    again = view("lab", "run", "--run", run, "-t", "usefulness", "-n", "8", "--starts", "1", "--seed", "5", store=store)
    assert again["run"] == run
    assert view("lab", "archive", store=store)["designs"] == before
    engram("lab", "run", "--run", run, "-t", "usefulness", "-n", "8", "--seed", "6", store=store, code=2)


def test_lineage_diff_and_frontier_are_shown_and_drawn(store: Path, tmp_path: Path) -> None:
    rows = view("lab", "archive", store=store)["rows"]
    made = next(row for row in rows if row["parents"])
    parent = made["parents"][0]
    lines = view("lab", "lineage", made["id"][:20], "--plot", str(tmp_path / "l.svg"), store=store)["rows"]
    assert [line["id"] for line in lines][-1] == made["id"]
    assert parent in [line["id"] for line in lines]
    assert view("lab", "diff", parent, made["id"], store=store)["diff"]
    points = view("lab", "frontier", "usefulness", "--plot", str(tmp_path / "f.svg"), store=store)
    assert points["rows"]
    for name in ("l.svg", "f.svg"):
        assert (tmp_path / name).read_text().startswith("<?xml")
    engram("lab", "frontier", "usefulness", "--plot", str(tmp_path / "f.txt"), store=store, code=2)
    engram("lab", "lineage", "genome:nothing", store=store, code=2)


def test_a_design_that_is_no_better_is_not_proposed(store: Path) -> None:
    """The default itself, as a genome: clearly better at nothing."""
    rows = view("lab", "archive", "-n", "100", store=store)["rows"]
    default = next(row for row in rows if row["operator"] == "seed" and row["stages"] == "statements relevance sleep 0")
    found = view("lab", "promote", default["id"], "acme/alice", "-t", "usefulness", store=store, code=1)
    assert [check["name"] for check in found["checks"] if not check["passed"]] == ["better"]
    assert view("proposals", store=store) == {"proposals": []}


def test_proposals_are_listed_approved_and_taken_back(store: Path) -> None:
    from engram_core import Engram, Scope
    from engram_core.operations import proposals

    with Engram.open(store) as opened:
        context = opened.context
        made = [
            proposals.propose(
                context, Scope("acme/alice"), {"max_facts": number}, context.clock(),
                evidence={}, prediction={}, rationale="Most of it was never recalled.",
            ).id
            for number in (500, 400)
        ]  # fmt: skip
    assert {row["id"] for row in view("proposals", "acme", store=store)["proposals"]} == set(made)
    assert "max_facts: 10000 → 500" in engram("proposals", "--status", "pending", store=store)
    assert view("approve", made[0], "--reason", "Yes.", store=store)["status"] == "applied"
    assert "rejected" in engram("reject", made[1], store=store)
    assert "rolled back" in engram("rollback", made[0], "--reason", "No.", store=store)
    engram("approve", made[0], store=store, code=2)
    engram("proposals", "--status", "nonsense", store=store, code=2)
    assert view("policy", "show", "acme/alice", store=store)["policy"]["max_facts"] == 10_000
