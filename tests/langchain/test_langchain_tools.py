"""engram_tools: LangChain's standard suites, unmodified, and that the model can neither see nor choose a scope."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_support import ALICE, FACT, QUESTION, Ledger
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from engram_core import Engram, InvalidInput
from engram_langchain import EngramMemory, engram_tools

ARGS = {
    "recall": {"query": QUESTION},
    "remember": {"text": "Alice plays chess on Fridays."},
    "forget": {"fact_id": "0", "reason": "a test"},
}


class Standard:
    """A real tool on a real store."""

    name: str

    @pytest.fixture(autouse=True)
    def _store(self) -> Iterator[None]:
        with Engram.open(":memory:") as engram:
            fact = engram.memory(ALICE).add(FACT).facts[0]
            (self._tool,) = engram_tools(ALICE, engram=engram, only=[self.name])
            self._args = {**ARGS[self.name], **({"fact_id": fact.id} if self.name == "forget" else {})}
            yield

    @property
    def tool_constructor(self) -> BaseTool:
        return self._tool

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return self._args


class TestRecallUnit(Standard, ToolsUnitTests):
    name = "recall"


class TestRecallIntegration(Standard, ToolsIntegrationTests):
    name = "recall"


class TestRememberUnit(Standard, ToolsUnitTests):
    name = "remember"


class TestRememberIntegration(Standard, ToolsIntegrationTests):
    name = "remember"


class TestForgetUnit(Standard, ToolsUnitTests):
    name = "forget"


class TestForgetIntegration(Standard, ToolsIntegrationTests):
    name = "forget"


def called(tool: BaseTool, **args: Any) -> Any:
    message = tool.invoke({"name": tool.name, "args": args, "id": "call-1", "type": "tool_call"})
    assert isinstance(message, ToolMessage)
    return message


def tools_by_name(engram: Engram, **options: Any) -> dict[str, BaseTool]:
    tools = engram_tools(ALICE, engram=engram, **options)
    return {tool.name.removeprefix("engram_"): tool for tool in tools}


def test_the_model_sees_words_only(engram: Engram) -> None:
    """No scope, no config, no principal in any schema the model gets."""
    seen = {
        tool.name: set(convert_to_openai_tool(tool)["function"]["parameters"]["properties"])
        for tool in engram_tools(ALICE, engram=engram)
    }
    assert {
        "engram_recall": {"query"},
        "engram_remember": {"text"},
        "engram_forget": {"fact_id", "reason"},
    } == seen


def test_the_model_cannot_forge_a_scope(engram: Engram) -> None:
    """Arguments it makes up are dropped; the config that counts is the run's."""
    engram.memory("acme/u1").add("My locker is locker-1")
    engram.memory("acme/u2").add("My locker is locker-2")
    (recall,) = engram_tools(lambda context: f"acme/{context['user']}", engram=engram, only=["recall"])
    forged = {"query": "locker", "scope": "acme/u2", "config": {"configurable": {"user": "u2"}}, "user": "u2"}
    call: Any = {"name": recall.name, "args": forged, "id": "c", "type": "tool_call"}
    message = recall.invoke(call, {"configurable": {"user": "u1"}})
    assert "locker-1" in message.content
    assert "locker-2" not in message.content


def test_recall_answers_with_text_and_an_artifact_of_ids(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """Text for the model, ids for whoever observes."""
    message = called(tools_by_name(engram)["recall"], query=QUESTION)
    assert FACT in message.content
    assert fact_id in message.content  # for forget
    assert {"recall_id": ledger.recalls(fact_id)[0], "fact_ids": [fact_id]} == message.artifact


def test_ids_stand_in_the_order_of_the_lines_and_only_where_forget_can_use_them(engram: Engram) -> None:
    """The n-th id is the n-th line's."""
    memory = engram.memory(ALICE)
    memory.add(["Alice's cat is called Miso.", "Alice's dog is called Rex.", "Alice's parrot is called Kiwi."])
    by_text = {fact.text: fact.id for fact in memory.list()}
    lines = called(tools_by_name(engram)["recall"], query="What are Alice's pets called?").content.splitlines()
    shown = [by_text[line] for line in lines if line in by_text]
    assert len(shown) == 3
    assert shown == [line for line in lines if line in by_text.values()]
    alone = called(tools_by_name(engram, only=["recall"])["recall"], query="What are Alice's pets called?").content
    assert not any(fact_id in alone for fact_id in by_text.values())


def test_recall_says_so_when_nothing_is_known(engram: Engram) -> None:
    """An empty string would look like a broken tool."""
    message = called(tools_by_name(engram)["recall"], query="What is my blood type?")
    assert message.content == "Nothing about this is remembered."
    assert message.artifact["fact_ids"] == []


def test_remember_reports_what_became_of_it(engram: Engram, ledger: Ledger) -> None:
    """Words of a model are trusted less than a user's; told twice they are kept once."""
    remember = tools_by_name(engram)["remember"]
    first = called(remember, text="Alice is allergic to peanuts.")
    again = called(remember, text="Alice is allergic to peanuts.")
    assert first.artifact["fact_ids"] == again.artifact["fact_ids"]
    (fact,) = engram.memory(ALICE).list()
    assert fact.origin.channel == "assistant"
    assert first.content.startswith("Memory: stored")
    assert again.content.startswith("Memory: merged")


def test_forget_archives_restorably_and_refuses_what_it_does_not_know(engram: Engram, fact_id: str) -> None:
    """The model's word is never a deletion, and another scope's fact does not exist for it."""
    forget = tools_by_name(engram)["forget"]
    foreign = engram.memory("acme/support/bob").add("Bob lives in Porto.").facts[0].id
    assert called(forget, fact_id=fact_id, reason="she moved").content == "Forgotten."
    assert engram.memory(ALICE).get(fact_id).status == "archived"
    assert engram.memory(ALICE).restore(fact_id).status == "live"
    for unknown in (foreign, "no-such-id", ""):
        assert called(forget, fact_id=unknown, reason="x").content.startswith("Not forgotten: ")
    assert engram.memory("acme/support/bob").get(foreign).status == "live"


def test_a_failure_of_forget_is_parked_and_answered(engram: Engram, ledger: Ledger) -> None:
    """As with every verb: the run goes on, the doctor sees it."""
    (forget,) = engram_tools(ALICE, engram=engram, principal=lambda context: context["nobody"], only=["forget"])
    assert "out of order" in called(forget, fact_id="x", reason="x").content
    assert any("forget" in error and "nobody" in error for error in ledger.parked())
    (strict,) = engram_tools(
        ALICE, engram=engram, principal=lambda context: context["nobody"], only=["forget"], fail_open=False
    )
    with pytest.raises(KeyError, match="nobody"):
        called(strict, fact_id="x", reason="x")


def test_prefix_and_choice(engram: Engram) -> None:
    """Two scopes in one agent need two prefixes."""
    memory = EngramMemory(scope=ALICE, engram=engram)
    assert [tool.name for tool in memory.as_tools(prefix="mine_", only=["forget"])] == ["mine_forget"]
    with pytest.raises(InvalidInput, match="no tool 'erase'"):
        engram_tools(ALICE, engram=engram, only=["erase"])


async def test_tools_work_async(engram: Engram, fact_id: str) -> None:
    """Off the loop, in LangChain's executor."""
    content = await tools_by_name(engram)["recall"].ainvoke({"query": QUESTION})
    assert FACT in content
