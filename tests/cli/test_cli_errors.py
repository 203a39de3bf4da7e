"""What goes wrong is one line on stderr and an exit code; nothing goes to stdout and nobody sees a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_support import SCOPE, Cli

from engram_core import Engram
from engram_core.cli import command
from engram_core.cli.command import BUG, Place, Result
from engram_core.engram import DEFAULT_URL

NO_ID = "00000000-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["add", "Bad/Scope", "x"], "must match"),
        (["add", SCOPE], "Say what to remember"),
        (["add", SCOPE, "x", "--file", "y.json"], "one of the three"),
        (["add", SCOPE, "x", "--importance", "2"], "importance must be a number from 0 to 1"),
        (["add", SCOPE, "--file", "missing.json"], "missing.json cannot be read"),
        (["recall", SCOPE, "   "], "needs a question"),
        (["recall", SCOPE, "x", "-k", "0"], "k must be a whole number"),
        (["recall", SCOPE, "x", "--principal", " "], "A principal is a name"),
        (["list", SCOPE, "--status", "gone"], "Unknown status 'gone'"),
        (["list", SCOPE, "--limit", "0"], "limit must be from 1"),
        (["explain", NO_ID], "neither a fact nor a recall"),
        (["history", NO_ID], "neither a fact nor a recall"),
        (["forget", NO_ID], "neither a fact nor a recall"),
        (["restore", NO_ID], "neither a fact nor a recall"),
        (["reindex", "--index", "exact"], "no index to rebuild"),
        (["list", "--store", "oracle://x"], "SQLite or PostgreSQL"),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_an_error_is_one_line_on_stderr(filled: Cli, arguments: list[str], part: str, form: list[str]) -> None:
    said = filled.run(*arguments, *form)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("engram: ")
    assert part in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["recall", SCOPE, "x"],
        ["list"],
        ["list", SCOPE],
        ["explain", NO_ID],
        ["history", NO_ID],
        ["forget", NO_ID],
        ["restore", NO_ID],
        ["doctor"],
        ["reindex"],
        ["reindex", "--embed"],
    ],
)
def test_only_add_makes_a_store(cli: Cli, arguments: list[str]) -> None:
    """A mistyped directory is an error, not an empty memory."""
    said = cli.run(*arguments)
    assert said.code == 2
    assert "There is no store at" in said.err
    assert not cli.store.exists()


def test_a_bad_scope_makes_no_store(cli: Cli) -> None:
    assert cli.run("add", "Bad/Scope", "x").code == 2
    assert not cli.store.exists()


def test_what_is_stored_before_an_error_is_told(cli: Cli) -> None:
    lines = [json.dumps({"content": f"The shelf number {n} holds {n} books."}) for n in range(150)]
    lines[120] = json.dumps({"content": "x", "id": "a\x00b"})
    said = cli.run("add", SCOPE, "--file", "-", stdin="\n".join(lines))
    assert said.code == 2
    assert "The first 100 messages are stored, the rest is not" in said.err
    assert len(cli.ids()) == 100


def test_forgetting_twice_is_refused_by_the_rule_that_refuses(filled: Cli) -> None:
    fact_id = filled.ids()[0]
    filled("forget", fact_id)
    said = filled.run("forget", fact_id)
    assert said.code == 2
    assert "Refused by rule" in said.err


def test_a_second_process_cannot_reindex(filled: Cli) -> None:
    with Engram.open(filled.store) as engram:
        engram.reindex()  # takes the index, and keeps it while the store is open
        said = filled.program("reindex")
    assert said.code == 2
    assert "owned by process" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["add"], "Missing argument 'SCOPE'. `engram add --help` says what it takes."),
        (["recall", SCOPE], "Missing argument 'QUERY"),
        (["nonsense"], "No such command 'nonsense'"),
        (["group", "nonsense"], "`engram group --help` says what it takes."),
        (["list", "--limt", "3"], "--limit"),
        (["list", "--limit", "many"], "Invalid value for '--limit' / '-n': "),
        (["hold", SCOPE], "Missing option '--reason'. "),
        (["lab", "run", "--minutes"], "'--minutes' requires an argument"),
        (["list", "--json", "--limit", "many"], "Invalid value"),
    ],
)
def test_misuse_is_one_line_too(cli: Cli, arguments: list[str], part: str) -> None:
    said = cli.run(*arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("engram: ")
    assert part in said.err
    assert said.err.count("\n") == 1


def test_no_command_at_all_shows_the_help(cli: Cli) -> None:
    for arguments in ([], ["policy"]):
        said = cli.program(*arguments)
        assert (said.code, said.err) == (2, "")
        assert "Usage: " in said.out
        assert "Commands" in said.out


def test_a_bug_is_one_line_too_and_shows_its_place_on_demand(
    cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(place: Place) -> Result:
        raise ZeroDivisionError("nobody thought of this")

    given = command.Given(store=str(cli.store))
    assert command.carry_out(broken, given, {}) == BUG
    quiet = capsys.readouterr()
    assert quiet.out == ""
    assert quiet.err.count("\n") == 1
    assert "bug in Engram: ZeroDivisionError: nobody thought of this" in quiet.err
    monkeypatch.setenv("ENGRAM_DEBUG", "1")
    assert command.carry_out(broken, given, {}) == BUG
    assert "in broken" in capsys.readouterr().err


def test_passwords_are_not_shown(cli: Cli) -> None:
    place = Place("postgresql+psycopg://anna:secret@db/engram")
    assert place.shown == "postgresql+psycopg://anna:***@db/engram"
    said = cli.run("list", "--store", "postgresql+psycopg://anna:secret@127.0.0.1:1/engram")
    assert said.code == 2
    assert "secret" not in said.err


def test_the_default_store_is_the_facades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGRAM_URL", raising=False)
    assert Path(command.Given().place.url) == Path(DEFAULT_URL)
