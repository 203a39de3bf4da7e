"""Where messages come from: arguments, lines, JSON, JSON Lines; and where in them something is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli_support import SCOPE, Cli

from engram_core import InvalidInput
from engram_core.cli.conversation import example, load, parse

MESSAGES = [
    {
        "role": "user",
        "content": "I moved to Lisbon.",
        "speaker": "Alice",
        "at": "2025-05-01T10:00:00Z",
        "session": "s1",
    },
    {"role": "assistant", "content": "Lisbon has seven hills.", "id": "m2"},
]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(MESSAGES),
        json.dumps({"id": "talk", "messages": MESSAGES}),
        "\n".join(json.dumps(message) for message in MESSAGES),
        "\n\n".join(json.dumps(message) for message in MESSAGES) + "\n",
        "\ufeff" + json.dumps(MESSAGES),
    ],
    ids=["list", "object", "lines", "lines with gaps", "with a byte order mark"],
)
def test_files_and_pipes(cli: Cli, tmp_path: Path, text: str) -> None:
    path = tmp_path / "talk.json"
    path.write_text(text, encoding="utf-8")
    assert cli.json("add", SCOPE, "--file", str(path))["counts"] == {"stored": 2}
    first, second = cli.json("list", SCOPE)["facts"]
    assert (first["speaker"], first["said_at"], first["origin"]["session"]) == (
        "Alice",
        "2025-05-01T10:00:00+00:00",
        "s1",
    )
    assert (second["origin"]["channel"], second["trust"], second["origin"]["message_ids"]) == ("assistant", 0.7, ["m2"])
    again = cli.json("add", SCOPE, "--file", "-", stdin=text)
    assert again["counts"]["merged"] >= 1


def test_lines_from_stdin(cli: Cli) -> None:
    view = cli.json("add", SCOPE, "-", "--speaker", "Ana", stdin="I keep bees.\n\n   \nMy bees sleep in winter.\n")
    assert [item["message"]["content"] for item in view["outcomes"]] == ["I keep bees.", "My bees sleep in winter."]
    assert {item["message"]["speaker"] for item in view["outcomes"]} == {"Ana"}


def test_a_single_json_object_is_one_message() -> None:
    (message,) = parse(b'{"content": "I keep bees."}', "it").messages
    assert (message.role, message.content, message.channel) == ("user", "I keep bees.", "user")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("hello", "neither JSON nor JSON Lines (line 1"),
        ('{"content": "a"}\n{"content": ', "line 2"),
        ("[1]", "message 1 must be an object"),
        ("17", "must hold a list of messages"),
        ('{"messages": 3}', "must hold a list of messages"),
        ('[{"role": "user"}]', "message 1 has no `content`"),
        ('[{"content": "a"}, {"content": 3}]', "message 2: Message content must be a string"),
        ('[{"content": null}]', "message 1: Message content must be a string"),
        ('[{"content": "a", "role": "boss"}]', "message 1: Message role 'boss' is unknown"),
        ('[{"content": "a", "at": "yesterday"}]', "message 1: `at` must be a time such as"),
        ('[{"content": "a", "timestamp": 3}]', "unknown fields (timestamp)"),
        ('{"messages": [], "questions": {}}', "`questions` must be a list"),
        ('{"messages": [], "questions": ["why"]}', "question 1 must be an object"),
    ],
)
def test_the_place_of_a_mistake_is_told(text: str, part: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text.encode(), "talk.json")
    assert str(caught.value).startswith("talk.json")
    assert part in str(caught.value)


def test_bytes_that_are_no_text(cli: Cli) -> None:
    for arguments in (["--file", "-"], ["-"]):
        said = cli.run("add", SCOPE, *arguments, stdin=b"\xff\xfe\xfa")
        assert said.code == 2
        assert "is not UTF-8 text" in said.err


def test_an_empty_pipe_is_nothing_to_add(cli: Cli) -> None:
    for arguments in (["--file", "-"], ["-"]):
        said = cli("add", SCOPE, *arguments, stdin="\n")
        assert said.err == f"{SCOPE}: nothing to add.\n"


def test_a_naive_time_is_utc() -> None:
    (message,) = parse(b'[{"content": "a", "at": "2025-05-01 10:00"}]', "it").messages
    assert message.at == datetime(2025, 5, 1, 10, tzinfo=UTC)


def test_the_example_conversation_is_whole() -> None:
    talk = example()
    ids = [message.id for message in talk.messages]
    assert len(talk.messages) >= 80
    assert len(set(ids)) == len(ids)
    assert len({message.session for message in talk.messages}) >= 8
    assert {message.speaker for message in talk.messages} == {"Nadia", "Tomasz", "Assistant"}
    times = [message.at for message in talk.messages if message.at]
    assert times == sorted(times)
    assert (times[-1] - times[0]).days > 180
    assert len(talk.questions) >= 8
    for question in talk.questions:
        assert question.answer
        assert set(question.evidence) <= set(ids)
    assert any(not question.evidence for question in talk.questions), "one question that nobody answered"


def test_the_example_is_the_one_in_examples() -> None:
    shipped = Path(__file__).resolve().parents[2] / "examples" / "conversation.json"
    assert load(shipped) == example()
