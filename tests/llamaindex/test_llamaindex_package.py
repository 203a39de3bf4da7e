"""The package from outside: lazy names, a clear error without LlamaIndex, every name typed and listed, the examples."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import engram_llamaindex

ROOT = Path(engram_llamaindex.__file__).parent.parent
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("llama_index"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def test_importing_loads_no_framework() -> None:
    code = "import sys, engram_llamaindex; print([m for m in sys.modules if m.startswith(('llama_index', 'chromadb'))])"
    assert python("-c", code).stdout.strip() == "[]"


def test_without_llamaindex_the_error_names_the_extra() -> None:
    code = BLOCKED + "from engram_llamaindex import EngramMemory"
    error = python("-c", code).stderr
    assert "MissingExtra" in error
    assert 'pip install "engram-agent-memory[llamaindex]"' in error


def test_a_broken_dependency_is_not_mistaken_for_a_missing_extra() -> None:
    code = BLOCKED.replace('startswith("llama_index")', 'startswith("sqlalchemy")')
    error = python("-c", code + "from engram_llamaindex import EngramMemory").stderr
    assert "No module named 'sqlalchemy" in error
    assert "MissingExtra" not in error


def test_every_public_name_is_listed_and_resolves() -> None:
    assert engram_llamaindex.__all__ == sorted(engram_llamaindex.__all__)
    assert set(engram_llamaindex.__all__) == set(engram_llamaindex._HOMES)
    assert set(engram_llamaindex.__all__) <= set(dir(engram_llamaindex))
    for name in engram_llamaindex.__all__:
        assert getattr(engram_llamaindex, name).__doc__
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = engram_llamaindex.no_such_name


def test_every_file_says_what_its_room_is_for() -> None:
    for file in sorted(Path(engram_llamaindex.__file__).parent.glob("*.py")):
        first = file.read_text().splitlines()[0]
        assert first.startswith('"""'), file
        assert ast.get_docstring(ast.parse(file.read_text())), file


@pytest.mark.parametrize(
    ("example", "shows"),
    [
        ("llamaindex_chat_engine.py", "acme/support/bob: Where did I move?\n     bot: I do not know."),
        ("llamaindex_agent.py", "[used] Alice is allergic to peanuts."),
    ],
)
def test_the_examples_run_offline(example: str, shows: str, tmp_path: Path) -> None:
    done = python(
        str(ROOT / "examples" / example), OPENAI_MODEL="", HTTPS_PROXY="http://127.0.0.1:9", TMPDIR=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert shows in done.stdout
    assert list(tmp_path.iterdir()) == []
