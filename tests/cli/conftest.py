"""Fixtures of the command line's tests: a command line on a store of its own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

# Importable under any of pytest's import modes, without a package here that would shadow another `cli`.
sys.path.insert(0, str(Path(__file__).parent))

from cli_support import SCOPE, Cli


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line on an empty store. It must never touch the store of the machine it runs on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGRAM_URL", str(tmp_path / "from-environment"))
    monkeypatch.delenv("ENGRAM_DEBUG", raising=False)
    return Cli(tmp_path / "store")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three facts, made once."""
    made = Cli(tmp_path_factory.mktemp("template") / "store")
    made("add", SCOPE, "I moved to Lisbon in May.", "I am allergic to peanuts.", "My sister Ana keeps bees.")
    return made.store


@pytest.fixture
def filled(cli: Cli, template: Path) -> Cli:
    """The command line on a copy of that store."""
    shutil.copytree(template, cli.store)
    return cli
