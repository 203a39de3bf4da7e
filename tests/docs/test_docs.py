"""What the pages show is run: Python blocks in order in one namespace, `engram` commands through the command line."""

from __future__ import annotations

import ast
import asyncio
import configparser
import inspect
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs_support import PAGES, ROOT, Block, blocks, settled

# LlamaIndex looks for an agent's steps with inspect.getmembers(), which touches pydantic's deprecated attributes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*attribute.*deprecated:pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:.*attribute.*deprecated:pydantic.warnings.PydanticDeprecatedSince211"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),  # its ReActAgent
    # ConversationChain and its like warn that they are LangChain's past; the page says so.
    pytest.mark.filterwarnings("ignore:.*deprecated.*:langchain_core._api.deprecation.LangChainDeprecationWarning"),
    pytest.mark.filterwarnings(
        "ignore:.*migration guide.*:langchain_core._api.deprecation.LangChainDeprecationWarning"
    ),
]

LANGUAGES = {"python", "console", "text", "json", "sql", "toml", "ini", "yaml", ""}


def of_language(page: Path, language: str) -> list[Block]:
    """A page's blocks of one language, in order."""
    return [block for block in blocks(page) if block.words[:1] == [language]]


def named(pages: Sequence[Path], language: str) -> list[Any]:
    """The pages that hold such a block, as parameters."""
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages if of_language(page, language)]


def run(block: Block, page: Path, namespace: dict[str, Any], loop: asyncio.AbstractEventLoop) -> str:
    """Run a block, with `await` at the top if it has any, and return what it printed."""
    # Empty lines in front, so that a traceback names the line of the page.
    source = "\n" * (block.line - 1) + block.code
    code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    printed = io.StringIO()
    with redirect_stdout(printed):
        result = eval(code, namespace)
        if inspect.iscoroutine(result):
            loop.run_until_complete(result)
    return printed.getvalue()


@pytest.mark.parametrize("page", named(PAGES, "python"))
def test_python_blocks_run_and_print_what_the_page_says(
    page: Path, store_url: str, names: dict[str, Any], loop: asyncio.AbstractEventLoop
) -> None:
    """A `text` block straight after a Python block is its output, ids and times apart."""
    for block in of_language(page, "python"):
        if "no-run" in block.words:
            continue
        printed = run(block, page, names, loop)
        if block.output is not None:
            assert settled(printed) == settled(block.output), f"{page}:{block.line}"


@pytest.mark.parametrize("page", named(PAGES, "console"))
def test_engram_commands_run(page: Path, store_url: str) -> None:
    """Lines that begin with `$ engram` exit with 0 (`doctor`: or 1, when it finds something). Others are output."""
    if not (ROOT / "engram_core" / "cli" / "__init__.py").exists():
        pytest.skip("engram_core/cli does not exist yet")
    for block in of_language(page, "console"):
        if "no-run" in block.words:
            continue
        for line in block.code.splitlines():
            if line.startswith("$ engram "):
                command = [sys.executable, "-m", "engram_core.cli", *shlex.split(line, comments=True)[2:]]
                environment = {**os.environ, "ENGRAM_URL": store_url}
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=120, check=False, env=environment
                )
                allowed = {0, 1} if "doctor" in line else {0}
                assert done.returncode in allowed, f"{page}: {line}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_every_block_says_what_it_is(page: Path) -> None:
    """A block without a known language would silently not be run."""
    for block in blocks(page):
        assert (block.words or [""])[0] in LANGUAGES, f"{page}:{block.line}: {block.info}"


def test_few_blocks_are_not_run() -> None:
    """`no-run` is for what needs something a test cannot have, such as a database server."""
    unrun = [f"{page.name}:{block.line}" for page in PAGES for block in blocks(page) if "no-run" in block.words]
    assert len(unrun) <= 4, unrun


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_configurations_parse(page: Path) -> None:
    """What is to be copied into a cluster or a timer is at least well-formed, and a CronJob calls what exists."""
    for block in of_language(page, "ini"):
        configparser.ConfigParser(strict=False).read_string(block.code)
    for block in of_language(page, "yaml"):
        for document in yaml.safe_load_all(block.code):
            assert {"apiVersion", "kind", "metadata", "spec"} <= set(document)
