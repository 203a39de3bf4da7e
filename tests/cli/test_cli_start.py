"""Starting is quick: help loads neither the store, nor a framework, nor the index."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

from cli_support import Cli

import engram_core
from engram_core.cli import main

HEAVY = ("sqlalchemy", "chromadb", "numpy", "pydantic", "wordllama", "tiktoken", "langchain_core", "llama_index")


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "sys.argv = ['engram', '--help']\n"
        "from engram_core.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "recall" in done.stdout
    assert done.stderr.strip() == "[]"


def test_the_script_and_the_module_are_the_same_program(cli: Cli) -> None:
    (script,) = (entry for entry in entry_points(group="console_scripts") if entry.name == "engram")
    assert script.load() is main
    assert cli.program("--version").out == f"engram {engram_core.__version__}\n"


def test_without_a_command_it_shows_the_help(cli: Cli) -> None:
    said = cli.program()
    assert "recall" in said.out + said.err
    assert "Traceback" not in said.err
