"""`engram demo`: a tour of the core that leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

from cli_support import Cli
from typer.testing import CliRunner

from engram_core.cli.app import app


def test_the_tour_recalls_and_explains_and_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 0, result.stderr
    for part in ("127 messages", "? Where does Nadia live now?", "I live in Braga now", "dropped: ", "made of message"):
        assert part in result.stdout
    assert list(tmp_path.iterdir()) == [], "neither the default store nor ENGRAM_URL is touched"


def test_the_tour_as_json(cli: Cli) -> None:
    result = CliRunner().invoke(app, ["demo", "--questions", "9", "--json"])
    view = json.loads(result.stdout)
    assert view["store"] is None
    assert view["messages"] == sum(view["counts"].values()) == 127
    assert len(view["questions"]) == 9
    found = [bool(answer["evidence_recalled"]) for answer in view["questions"]]
    assert sum(found) >= 8, "the message with the answer is among the three best for nearly every question"
    assert view["explanation"]["about"] == "fact"


def test_the_tour_with_a_conversation_and_a_store_of_ones_own(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    messages = [{"content": "I keep bees.", "id": "m1"}, {"content": "My sister Ana lives in Porto.", "id": "m2"}]
    question = {"question": "Where does Ana live?", "answer": "Porto", "evidence": ["m2"]}
    path.write_text(json.dumps({"id": "bees", "messages": messages, "questions": [question]}))
    said = cli("demo", "--file", str(path))
    assert "expected: Porto (1 of 1 source messages recalled)" in said.out
    assert len(cli.ids("demo")) == 2


def test_a_conversation_without_questions_is_refused(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    path.write_text('[{"content": "I keep bees."}]')
    said = cli.run("demo", "--file", str(path))
    assert said.code == 2
    assert "has no `questions`" in said.err
