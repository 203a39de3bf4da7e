"""engram usage: the tables, the JSON and the picture, on a real store."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from cli_support import SCOPE, Cli

from engram_core import Engram

QUESTION = "Which city did I move to?"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def used(cli: Cli) -> Cli:
    """A store in which one fact helped, one did not, and one was never recalled."""
    with Engram.open(cli.store) as engram:
        memory = engram.memory(SCOPE)
        memory.add(["I moved to Lisbon.", "I moved from Porto.", "Bea plays the cello on Sundays."])
        memory.observe(memory.recall(QUESTION, k=2).id, "You moved to Lisbon.")
    return cli


def test_the_lists_say_what_helped_and_what_did_not(used: Cli) -> None:
    view = used.json("usage")
    assert view["totals"] == {"stored": 3, "recalled": 2, "used": 1, "never_recalled": 1, "never_used": 1}
    assert [item["text"] for item in view["most_useful"]] == ["I moved to Lisbon."]
    assert [item["text"] for item in view["never_used"]] == ["I moved from Porto."]
    assert [item["text"] for item in view["never_recalled"]] == ["Bea plays the cello on Sundays."]
    assert sum(group["stored"] for group in view["groups"]) == 3


def test_people_get_tables(used: Cli) -> None:
    said = used("usage", SCOPE)
    assert "3 facts stored, 2 recalled, 1 used in a response; 1 never recalled, 1 judged and never used." in said.err
    for heading in ("most useful", "never used", "never recalled"):
        assert heading in said.out
    assert "I moved to Lisbon." in said.out


@pytest.mark.parametrize("name", ["usage.svg", "usage.png"])
def test_it_is_drawn_and_the_same_data_draw_the_same(used: Cli, tmp_path: Path, name: str) -> None:
    first, second = tmp_path / f"1-{name}", tmp_path / f"2-{name}"
    assert used.json("usage", "--plot", str(first))["plot"] == str(first)
    used("usage", "--plot", str(second))
    assert first.read_bytes() == second.read_bytes()
    if name.endswith("png"):
        assert first.read_bytes().startswith(PNG)
    else:
        assert ET.parse(first).getroot().tag.endswith("svg")  # our own file


def test_a_mistyped_scope_is_noticed(used: Cli) -> None:
    said = used("usage", "acme/suport")
    assert "There is no fact at or below acme/suport; `engram list` shows the scopes." in said.err


def test_an_empty_store_is_drawn_too(cli: Cli, tmp_path: Path) -> None:
    with Engram.open(cli.store):
        pass
    cli("usage", "--plot", str(tmp_path / "empty.svg"))
    assert (tmp_path / "empty.svg").stat().st_size > 1_000


@pytest.mark.parametrize(
    ("plot", "why"), [("usage.pdf", "neither"), ("nowhere/usage.svg", "There is no folder")], ids=["pdf", "folder"]
)
def test_a_plot_that_cannot_be_made_is_refused_first(used: Cli, tmp_path: Path, plot: str, why: str) -> None:
    said = used.run("usage", "--plot", str(tmp_path / plot))
    assert said.code == 2
    assert why in said.err
