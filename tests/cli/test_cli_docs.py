"""docs/cli.md names every command, argument and option, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from engram_core.cli.app import app
from engram_core.cli.command import BUG, ERROR, FINE, PROBLEMS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
SHARED = {"--store", "-s", "--index", "--principal", "--json"}
EVERYWHERE = {"--help", "-h"}
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group


def section(title: str) -> str:
    """The text under a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"docs/cli.md has no section '{title}'"
    return found[1]


def options(text: str) -> set[str]:
    """The options a text names."""
    return set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*|-[a-z])(?![\w-])", text))


def taken(command: Any) -> set[str]:
    """The options a command takes, those that all of them share apart."""
    parts = [command, *getattr(command, "commands", {}).values()]
    names = {name for part in parts for param in part.params for name in param.opts if name.startswith("-")}
    return names - SHARED - EVERYWHERE


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    text = section(f"engram {name}")
    assert taken(COMMANDS[name]) <= options(text)
    subcommands = getattr(COMMANDS[name], "commands", {})
    params = [param for part in (COMMANDS[name], *subcommands.values()) for param in part.params]
    arguments = {param.metavar for param in params if not param.opts[0].startswith("-")}
    assert all(f"`{part}" in text for part in subcommands)
    assert all(metavar in text for metavar in arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_is_documented_that_does_not_exist(name: str) -> None:
    assert options(section(f"engram {name}")) <= taken(COMMANDS[name]) | SHARED | EVERYWHERE


def test_the_shared_options_are_documented_once() -> None:
    assert SHARED | EVERYWHERE | {"--version"} <= options(section("Options of every command"))


def test_no_command_is_documented_that_does_not_exist() -> None:
    assert set(re.findall(r"^## engram ([\w-]+)$", PAGE.read_text(), re.MULTILINE)) == set(COMMANDS)


def test_every_exit_code_is_documented() -> None:
    codes = re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)
    assert {FINE, PROBLEMS, ERROR, BUG} == {int(code) for code in codes}
