"""The package as such: lazy, honest about what is missing, sorted, documented. And its small bounded parts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_support import ALICE, FACT, QUESTION

import engram_langchain
from engram_core import Binding, Engram
from engram_langchain.convert import final_text, last_human, recalls_in_tool_output, text_of, to_message
from engram_langchain.held import Held
from engram_langchain.verdicts import Verdicts

ROOT = Path(engram_langchain.__file__).parent


def python(code: str) -> str:
    """Run code in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_no_framework() -> None:
    """Names load when first used."""
    code = "import sys, engram_langchain; print([m for m in sys.modules if m.startswith(('langchain', 'langgraph'))])"
    assert python(code) == "[]"


def test_the_retriever_needs_langchain_core_only() -> None:
    """Who only retrieves does not pay for agents."""
    code = (
        "import sys; from engram_langchain import EngramRetriever, EngramCallbackHandler, engram_tools;"
        "print([m for m in ('langchain.agents', 'langchain_classic', 'langgraph') if m in sys.modules])"
    )
    assert python(code) == "[]"


BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {blocked!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Blocked())
"""


def test_a_missing_framework_names_the_extra() -> None:
    """One error, with the command to run."""
    code = BLOCK.format(blocked=("langchain_core", "langchain", "langgraph")) + (
        "import engram_langchain\n"
        "from engram_core import MissingExtra\n"
        "try:\n    engram_langchain.EngramMemory\n"
        "except MissingExtra as error:\n    print(error)\n"
    )
    said = python(code)
    assert 'pip install "engram-agent-memory[langchain]"' in said
    assert "langchain_core" in said


def test_without_langchain_classic_the_memory_still_serves_agents() -> None:
    """Only classic chains need langchain-classic."""
    code = BLOCK.format(blocked=("langchain_classic",)) + (
        "from engram_langchain import EngramMemory\n"
        "print(EngramMemory(scope='acme/a').as_middleware().name, EngramMemory.__mro__[1].__name__)\n"
    )
    assert python(code) == "EngramMiddleware[acme/a] Serializable"


def test_all_is_sorted_and_complete() -> None:
    """Every name resolves; an unknown one says so."""
    assert sorted(engram_langchain.__all__) == engram_langchain.__all__
    for name in engram_langchain.__all__:
        assert getattr(engram_langchain, name).__doc__
        assert name in dir(engram_langchain)
    with pytest.raises(AttributeError, match="EngramEngine"):
        engram_langchain.EngramEngine  # noqa: B018


def test_every_file_says_what_it_is_for() -> None:
    """The first line is a docstring."""
    for path in ROOT.glob("*.py"):
        assert path.read_text().startswith('"""'), path


def test_final_text_of_every_shape() -> None:
    """What counts as the answer, and what does not."""
    call = AIMessage("Let me look.", tool_calls=[{"name": "x", "args": {}, "id": "1"}])
    tool = ToolMessage("out", tool_call_id="1")
    assert final_text("a") == "a"
    assert final_text(AIMessage("a")) == "a"
    assert final_text(AIMessageChunk(content="a")) == "a"
    assert final_text({"messages": [HumanMessage("q"), AIMessage("a")]}) == "a"
    assert final_text({"input": "q", "output": "a"}) == "a"
    assert final_text({"messages": [call, tool], "answer": "a"}) == "a"
    assert final_text({"messages": [call, tool], "structured_response": "b"}) == "b"
    assert final_text({"context": [Document("c")], "question": "q"}, ["said"]) == "said"
    assert final_text({"text": "a long question", "summary": "said"}, ["said"]) == "said"
    assert final_text(object(), ["x", " ", "y"]) == "x\ny"
    for unfinished in ({"messages": [call]}, {"messages": [call, tool]}, call, [call], None, {}, "  "):
        assert final_text(unfinished) is None
    assert final_text({"messages": [call]}, ["Let me look."]) is None


def test_conversion_of_every_role() -> None:
    """Roles, channels, names and ids; over-long ids are cut, not refused."""
    assert (to_message(HumanMessage("x")).role, to_message(HumanMessage("x")).channel) == ("user", "user")
    assert (to_message(AIMessageChunk(content="x")).role, to_message(AIMessage("x")).channel) == (
        "assistant",
        "assistant",
    )
    assert to_message(ToolMessage("x", tool_call_id="1")).channel == "tool"
    assert to_message(SystemMessage("x")).role == "system"
    assert len(to_message(HumanMessage("x", id="i" * 600)).id or "") == 500
    assert (
        text_of(HumanMessage([{"type": "text", "text": "hello "}, {"type": "text", "text": "world"}])) == "hello world"
    )
    assert text_of([HumanMessage("first"), HumanMessage("last")]) == "last"
    assert text_of(None) == ""
    assert last_human([AIMessage("x")]) is None


def test_artifacts_of_other_tools_are_left_alone() -> None:
    """A foreign artifact is not a recall."""
    foreign: list[Any] = [None, "text", 7, {"recall_id": 7}, {"rows": []}, [1, 2], [Document("x")]]
    for artifact in foreign:
        assert recalls_in_tool_output(ToolMessage("x", tool_call_id="1", artifact=artifact)) == []
    documents = [Document("x", metadata={"recall_id": "r"}), Document("y", metadata={"recall_id": "r"})]
    assert recalls_in_tool_output(ToolMessage("x", tool_call_id="1", artifact=documents)) == ["r"]


class Ticks:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_verdicts_are_bounded_in_number_and_time(engram: Engram) -> None:
    """A server that never closes a turn does not grow."""
    clock = Ticks()
    verdicts = Verdicts(max_open=2, timeout_s=10, clock=clock)
    binding = Binding(ALICE, engram=engram)
    for n in range(5):
        verdicts.opened(f"r{n}", binding, run_id=f"run{n}")
    assert [verdicts.made_by(f"run{n}") for n in range(5)] == [None, None, None, "r3", "r4"]
    clock.now = 11
    verdicts.opened("r5", binding, run_id="run5")
    assert [verdicts.made_by("run4"), verdicts.made_by("run5")] == [None, "r5"]


def test_an_unknown_may_become_a_verdict_but_not_the_other_way_round(engram: Engram, fact_id: str) -> None:
    """An interrupted turn is unknown until it is resumed; a verdict is final."""
    verdicts = Verdicts()
    recall = engram.memory(ALICE).recall(QUESTION)
    verdicts.opened(recall.id, Binding(ALICE, engram=engram))
    for response in (None, None, FACT, FACT, None):
        verdicts.settle(recall.id, response)
    assert [row.response for row in engram.context.ledger.usage(recall.id)] == ["", FACT]


def test_held_texts_are_bounded_in_number_and_time() -> None:
    """Prompt text lives for the turn only."""
    clock = Ticks()
    held = Held(max_held=2, timeout_s=10, clock=clock)
    for n in range(3):
        held.put(f"r{n}", f"text {n}", turn=("thread", n))
    assert [held.text(f"r{n}") for n in range(3)] == [None, "text 1", "text 2"]
    assert [held.of_turn(("thread", n)) for n in range(3)] == [None, "r1", "r2"]
    held.put("r1", "text 1, again", turn=("thread", 1))
    held.put("r3", "text 3")
    assert [held.text(f"r{n}") for n in (1, 2, 3)] == ["text 1, again", None, "text 3"]
    held.put("r2", "text 2", turn=("thread", 2))
    held.drop("r1")
    assert held.of_turn(("thread", 1)) is None
    clock.now = 11
    assert held.of_turn(("thread", 2)) is None
    assert held.text("r2") is None
