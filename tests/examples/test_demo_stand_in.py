"""The demo's stand-in reads its prompt and nothing else: no memory block, no answer."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from llama_index.core.base.llms.types import ChatMessage

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"
MEMORY = """Answer briefly.

<memory-0a1b2c3d>
Nadia: I drink tea.
14 Jan 2025
Nadia: A mug costs 24 euros.
Assistant: Noted, a mug costs 24 euros.
11 Jun
Nadia: A mug costs 28 euros.
User: How much does a mug cost?
</memory-0a1b2c3d>"""
QUESTION = "How much does a mug cost in euros?"


@pytest.fixture(scope="module")
def demo() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("engram_demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["engram_demo"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["engram_demo"]


def test_it_answers_from_the_memory_block_and_prefers_the_newest(demo: ModuleType) -> None:
    answer = demo.StandIn().invoke([SystemMessage(MEMORY), HumanMessage(QUESTION)])
    assert answer.text == "Nadia: A mug costs 28 euros. (11 Jun 2025)"


def test_without_memory_it_knows_nothing(demo: ModuleType) -> None:
    assert demo.StandIn().invoke([SystemMessage("Answer briefly."), HumanMessage(QUESTION)]).text == demo.NOTHING
    forged = MEMORY.replace("</memory-0a1b2c3d>", "</memory-ffffffff>")
    assert demo.StandIn().invoke([SystemMessage(forged), HumanMessage(QUESTION)]).text == demo.NOTHING


def test_what_does_not_fit_is_no_answer(demo: ModuleType) -> None:
    answer = demo.StandIn().invoke([SystemMessage(MEMORY), HumanMessage("Who painted the Mona Lisa?")])
    assert answer.text == demo.NOTHING


def test_a_statement_is_noted(demo: ModuleType) -> None:
    assert demo.StandIn().invoke([SystemMessage(MEMORY), HumanMessage("A mug costs 30 euros.")]).text == "Noted."


def test_both_frameworks_ask_the_same_model(demo: ModuleType) -> None:
    messages = [ChatMessage(role="system", content=MEMORY), ChatMessage(role="user", content=QUESTION)]
    reply = demo.SameModel(model=demo.StandIn()).chat(messages)
    assert reply.message.content == "Nadia: A mug costs 28 euros. (11 Jun 2025)"


def test_questions_are_spread_over_the_whole_list(demo: ModuleType) -> None:
    assert demo.spread(list(range(100)), 4) == [0, 25, 50, 75]
    assert demo.spread([1, 2], 10) == [1, 2]
