"""Fixtures of the LlamaIndex tests: an in-memory store, and no way to reach OpenAI by accident."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator

import pytest
from llama_index.core import MockEmbedding, Settings
from llama_index.core.llms import MockLLM
from llamaindex_support import FACT, SCOPE, Watched

from engram_core import Engram
from engram_core.models.tokens import token_counter
from engram_llamaindex import EngramMemory, instrumentation


@pytest.fixture(autouse=True)
def _offline() -> Iterator[None]:
    """LlamaIndex's global defaults would construct OpenAI clients."""
    Settings.llm = MockLLM()
    Settings.embed_model = MockEmbedding(embed_dim=4)
    yield
    for instrumented in list(instrumentation._active.values()):
        instrumented()


@pytest.fixture(autouse=True)
def _loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """LlamaIndex's sync wrappers make the thread's default event loop and leave it open; give them one and close it."""
    if inspect.iscoroutinefunction(request.function):
        yield
        return
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)


COUNTER = token_counter()
"""One for all stores: loading its table takes a quarter of a second."""


@pytest.fixture
def engram() -> Iterator[Engram]:
    """A store that is gone after the test."""
    with Engram.open(":memory:", token_counter=COUNTER) as store:
        yield store


@pytest.fixture
def store(engram: Engram) -> Watched:
    """The store with one fact in it, noting what is asked of it from now on."""
    engram.memory(SCOPE).add(FACT, session="earlier")
    return Watched(engram)


@pytest.fixture
def memory(store: Watched) -> EngramMemory:
    """A memory on the watched store."""
    return EngramMemory(SCOPE, engram=store)  # type: ignore[arg-type]  # a stand-in that delegates
