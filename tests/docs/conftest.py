"""Fixtures of the documentation tests: a place to run in, and models that need no network."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Importable under any of pytest's import modes, without a package here that would shadow another `docs`.
sys.path.insert(0, str(Path(__file__).parent))

from docs_support import ScriptedLLM, ScriptedModel
from llama_index.core import MockEmbedding, Settings
from llama_index.core.memory import Memory

from engram_core import default_engram


@pytest.fixture
def store_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty directory to run in, and the shared store inside it."""
    url = str(tmp_path / "shared")
    monkeypatch.setenv("ENGRAM_URL", url)
    monkeypatch.chdir(tmp_path)
    yield url
    if Path(url).exists():
        default_engram(url).close()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """LlamaIndex's sync wrappers make the thread's default event loop and leave it open; give them one and close it."""
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield made
    made.close()
    asyncio.set_event_loop(None)


@pytest.fixture
def names(loop: asyncio.AbstractEventLoop) -> Iterator[dict[str, Any]]:
    """What a page may use without saying so: `model` (LangChain), `llm` (LlamaIndex) and `tools`."""
    llm = ScriptedLLM()
    # LlamaIndex's global defaults would construct OpenAI clients.
    Settings.llm, Settings.embed_model = llm, MockEmbedding(embed_dim=4)
    namespace: dict[str, Any] = {"__name__": "__docs__", "model": ScriptedModel(), "llm": llm, "tools": []}
    yield namespace
    for value in namespace.values():
        # LlamaIndex's own Memory leaves its SQL connections to the garbage collector, which warns.
        if isinstance(value, Memory) and value.sql_store._async_engine is not None:
            loop.run_until_complete(value.sql_store._async_engine.dispose())
