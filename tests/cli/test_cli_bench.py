"""engram bench: the tables, the rows, the report and its pictures, a memory of one's own, and what it says when it cannot."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from cli_support import Cli

from engram_core.lab.bench import page
from engram_core.lab.bench.peers import PEERS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "bench"
LOCOMO = str(EXAMPLES / "locomo.json")
BASELINES = ["BM25", "vectors alone", "full context, newest", "full context, oldest"]
OWN = """
class Newest:
    def __init__(self, embed, folder):
        assert len(embed(["a", "b"])) == 2 and folder.is_dir()
        self.items = []
    def add(self, items):
        self.items += items
    def search(self, question, k):
        return [([item["id"]], item["text"]) for item in self.items[::-1][:k]]
    def close(self):
        pass
class Broken(Newest):
    def add(self, items):
        raise OSError("disk full")
class Plain:
    name, dimension = "two", 2
    def embed(self, texts):
        return [[1.0, len(text)] for text in texts]
"""


@pytest.fixture
def bench(cli: Cli) -> Cli:
    """The command line, in a folder with a module of one's own."""
    Path("own_memory.py").write_text(OWN)
    return cli


def test_without_data_it_runs_a_tiny_example(bench: Cli) -> None:
    said = bench("bench", "--peer", "chroma")
    assert "updates.jsonl: 3 of 3 questions, 6 messages" in said.out
    for name in ("engram", *BASELINES, "chroma"):
        assert any(line.startswith(f"{name}\t") for line in said.out.splitlines()), name
    assert "adds, ratio" in said.out


def test_rows_and_report_say_the_same_and_a_second_run_gives_the_same_bytes(bench: Cli, tmp_path: Path) -> None:
    pages = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        rows, report = folder / "rows.jsonl", folder / "report.md"
        view = bench.json(
            "bench", LOCOMO, str(EXAMPLES / "forgetting.jsonl"), "--memory", "own_memory:Newest", "--adds", "one",
            "--no-timing", "--per-question", str(rows), "--report", str(report),
        )  # fmt: skip
        assert view.pop("report") == str(report)
        pages.append([view, *[path.read_bytes() for path in (rows, report, *sorted((folder / "plots").iterdir()))]])
        pictures = sorted(path.name for path in (folder / "plots").iterdir())
        assert pictures == ["locomo-categories.svg", "locomo-recall.svg", "locomo-tokens.svg"]
        assert all(ET.parse(folder / "plots" / name).getroot().tag.endswith("svg") for name in pictures)
        assert all(f"](plots/{name})" in report.read_text() for name in pictures)
    assert pages[0] == pages[1]
    about, *lines = [json.loads(line) for line in rows.read_text().splitlines()]
    assert about["run"]["systems"] == dict.fromkeys(["engram", *BASELINES, "own_memory:Newest"], "")
    again = bench.json("bench", LOCOMO, "--rows", str(rows), "--no-timing")
    assert again["systems"].pop("own_memory:Newest") == "from an earlier run"
    assert again["datasets"][0]["means"] == view["datasets"][0]["means"]
    assert again["datasets"][0]["differences"] == view["datasets"][0]["differences"]
    other = bench.run("bench", LOCOMO, "--rows", str(rows), "--embedder", "own_memory:Plain")
    assert (other.code, "was made with the embedder wordllama" in " ".join(other.err.split())) == (2, True)
    more = bench.run("bench", "--rows", str(rows))
    assert "engram did not answer the questions asked now" in " ".join(more.err.split())
    assert {line["system"] for line in lines} == {"engram", *BASELINES, "own_memory:Newest"}
    assert len(lines) == 6 * 4, "the question without known evidence is left out"
    own = [line["metrics"]["R@1"] for line in lines if line["system"] == "own_memory:Newest"]
    kept = [value for line, value in zip(lines[-4:], own, strict=True) if line["category"] != "adversarial"]
    assert view["datasets"][0]["means"]["own_memory:Newest"]["all"]["R@1"] == sum(kept) / 3
    assert view["speeds"] == []


def test_a_report_goes_between_the_marks_of_a_page_and_nowhere_else(bench: Cli, tmp_path: Path) -> None:
    report = tmp_path / "page.md"
    report.write_text(f"# Ours\n\n{page.BEGIN}\nold figures\n{page.END}\n\n## Kept\n")
    bench("bench", "--no-timing", "--report", str(report))
    text = report.read_text()
    assert text.startswith(f"# Ours\n\n{page.BEGIN}\n\nOne run; ")
    assert text.endswith(f"{page.END}\n\n## Kept\n")
    assert "old figures" not in text
    report.write_text("# Somebody's page\n")
    said = bench.run("bench", "--report", str(report))
    assert (said.code, report.read_text()) == (2, "# Somebody's page\n")
    assert "has no place for a report" in said.err
    assert "There is no folder" in bench.run("bench", "--report", str(tmp_path / "no" / "x.md")).err


def test_a_memory_that_fails_is_told_and_the_rest_is_shown(bench: Cli) -> None:
    said = bench.run("bench", LOCOMO, "--memory", "own_memory:Broken", "--memory", "own_memory:Newest")
    assert said.code == 1
    assert "own_memory:Broken failed in garden and is left out: OSError: disk full" in " ".join(said.err.split())
    assert "own_memory:Newest" in said.out
    assert "own_memory:Broken" not in said.out


def test_another_embedder_and_another_design_are_for_everyone(bench: Cli) -> None:
    view = bench.json(
        "bench", LOCOMO, "--embedder", "own_memory:Plain", "--design", "similarity", "--design", "recency"
    )
    assert view["embedder"] == "two"
    assert view["ours"] == "engram"
    assert list(view["systems"]) == ["engram", "engram, recency", *BASELINES]


def test_the_peers_are_listed_with_what_they_need(bench: Cli) -> None:
    rows = {row["name"]: row for row in bench("bench", "peers").rows}
    assert set(rows) == set(PEERS)
    assert rows["chroma"]["here"] == "yes"
    assert rows["mem0-qdrant"]["pip"].startswith("mem0ai")


WRONG = [
    (["nowhere.json"], "nowhere.json cannot be read"),
    (["own_memory.py"], "neither JSON nor JSON Lines"),
    ([LOCOMO, LOCOMO], "Two data sets are called alike"),
    ([LOCOMO, "--limit", "0"], "give 1 or more"),
    (["--adds", "twice"], "--adds is one of one, session, all; got 'twice'."),
    (["--peer", "mem1"], "There is no peer 'mem1'; these are: chroma, "),
    (["--peer", "chroma", "--peer-env", "chroma=nowhere"], "nowhere holds no Python environment"),
    (["--memory", "own_memory"], "A memory is written module:Name"),
    (["--memory", "own_memory:Oldest"], "the module 'own_memory' has no 'Oldest'"),
    (["--memory", "other_memory:Newest"], "there is no module 'other_memory'"),
    (["--per-question", "no/rows.jsonl"], "There is no folder no for the rows"),
    (["--rows", "own_memory.py"], "own_memory.py, line 1: "),
    (["--rows", "no.jsonl"], "The rows at no.jsonl cannot be read"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(arguments[-2:]) for arguments, _ in WRONG])
def test_what_cannot_be_run_says_so(bench: Cli, arguments: list[str], message: str) -> None:
    said = bench.run("bench", *arguments)
    assert said.code == 2
    assert message in " ".join(said.err.split())


@pytest.mark.skipif(PEERS["mem0-qdrant"].is_here, reason="it is installed here")
def test_a_peer_that_is_not_installed_says_how_to_get_it(bench: Cli) -> None:
    said = bench.run("bench", "--peer", "mem0-qdrant")
    assert said.code == 2
    assert "`engram bench setup-peer mem0-qdrant` makes an environment" in " ".join(said.err.split())
