"""Every example runs as it stands: in a process of its own, offline, in an empty directory, on an empty store."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
CONVERSATION = EXAMPLES / "conversation.json"
OFFLINE = Path(__file__).parent / "offline"
SHORT = sorted(path for path in EXAMPLES.glob("*.py") if path.name != "demo.py")
MODEL_VARIABLES = ("ENGRAM_CHAT_MODEL", "OPENAI_MODEL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY")
SHOWN = {
    "quickstart.py": ["<memory-", "used   I moved to Lisbon in May."],
    "night.py": [
        "archived I live in Lisbon.",
        "before: ['The printer was bought in May.'",
        "after:  ['The printer wants a long press on the green key.'",
        "forget Green tea with jasmine",
        "missed least",
        "merge I drink green tea every morning;",
        "1 forgotten, 1 consolidated",
        "is live again.",
    ],
    "why.py": [
        "The office key hangs behind desk 12. {'dense': ",
        "[rank: 2 better facts are shown already.]",
        "edited: user:owner changed text.",
        "is archived (forgotten: The canteen closed.)",
    ],
}
UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


def run(program: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run Python offline in `directory`."""
    settings = {name: value for name, value in os.environ.items() if name not in MODEL_VARIABLES}
    settings |= {"ENGRAM_URL": str(directory / "store"), "PYTHONPATH": str(OFFLINE), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, *program]
    return subprocess.run(
        command, cwd=directory, env=settings, capture_output=True, text=True, check=False, timeout=180
    )


def test_there_are_examples() -> None:
    assert {path.name for path in SHORT} >= {"quickstart.py", "why.py", "night.py"}
    assert CONVERSATION.is_file()


def test_the_examples_have_no_network(tmp_path: Path) -> None:
    """Else the other tests here would prove less than they say."""
    program = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = run(["-c", program], tmp_path)
    assert done.returncode != 0
    assert "This test runs offline" in done.stderr


@pytest.mark.parametrize("path", SHORT, ids=lambda path: path.name)
def test_it_runs_and_shows_something(path: Path, tmp_path: Path) -> None:
    done = run([str(path)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr
    for text in SHOWN.get(path.name, []):
        assert text in done.stdout


def test_quickstart_finds_what_it_was_told_the_last_time(tmp_path: Path) -> None:
    first, second = (run([str(EXAMPLES / "quickstart.py")], tmp_path) for _ in range(2))
    assert (tmp_path / "store").is_dir()
    assert second.stdout.count("I moved to Lisbon in May.") == first.stdout.count("I moved to Lisbon in May.")
    assert "used   I moved to Lisbon in May." in second.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """The demo on the example conversation, run once."""
    directory = tmp_path_factory.mktemp("demo")
    arguments = ["--file", str(CONVERSATION), "--questions", "6", "--store", str(directory / "kept")]
    return run([str(EXAMPLES / "demo.py"), *arguments], directory)


def test_the_demo_says_that_no_model_speaks(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stderr
    assert "a stand-in plays the language model" in demo.stdout


def test_the_demo_shows_a_bar_while_it_remembers(demo: subprocess.CompletedProcess[str]) -> None:
    assert "Remembering" in demo.stderr
    assert "127/127" in demo.stderr


def test_the_demo_asks_through_both_frameworks_and_shows_why(demo: subprocess.CompletedProcess[str]) -> None:
    before, after = re.split(r"=== A new process \(\d+\) on the same store", demo.stdout)
    for part in (before, after):
        assert part.count("LangChain agent: ") == 3
        assert part.count("LlamaIndex chat engine: ") == (3 if part is before else 4)
        assert len(re.findall(r"^ +\d\.\d{3} .*\[(?:used|unused)\]$", part, re.MULTILINE)) >= 6
        assert re.search(r"dense [+-]0\.\d{3} ", part)
        assert re.search(r"^  dropped   \d+ by rank", part, re.MULTILINE)
        assert "rank: 8 better facts are shown already." in part
    assert "I live in Braga now" in before


def test_the_demo_answers_the_same_after_the_restart(demo: subprocess.CompletedProcess[str]) -> None:
    found = re.search(r"(\d+) of 6 answers are word for word those from before the restart", demo.stdout)
    assert found
    assert int(found[1]) >= 5


def test_one_framework_remembers_what_the_other_was_told(demo: subprocess.CompletedProcess[str]) -> None:
    told = demo.stdout.partition("=== What the LangChain agent was told")[2]
    assert "the spare key lies under the blue flowerpot. [used]" in told
    why = told.partition("=== And why")[2]
    assert UUID.search(why)
    assert "made" in why or "from message" in why
    assert "at rank 1, used: 'Where does the spare key lie?'" in why


def test_the_demo_keeps_a_store_only_where_it_was_told_to(demo: subprocess.CompletedProcess[str]) -> None:
    found = re.search(r"The store is kept in (.+): engram -s", demo.stdout)
    assert found
    kept = Path(found[1])
    assert (kept / "engram.db").is_file()
    assert [path.name for path in kept.parent.iterdir()] == ["kept"], "ENGRAM_URL named another store; it was not made"
