"""EngramRetriever: LangChain's own standard suite, unmodified, and what it does not cover."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypedDict

import pytest
from langchain_support import ALICE, FACT, QUESTION, OffLoop
from langchain_tests.integration_tests import RetrieversIntegrationTests
from langgraph.graph import END, START, StateGraph

from engram_core import Engram
from engram_langchain import EngramMemory, EngramRetriever

PETS = (
    "Alice's cat is called Miso.",
    "Alice's dog is called Rex.",
    "Alice's parrot is called Kiwi.",
    "Alice's tortoise is called Dash.",
)


class TestStandard(RetrieversIntegrationTests):
    """The five tests of langchain-tests, on a real store."""

    @pytest.fixture(autouse=True)
    def _store(self) -> Iterator[None]:
        with Engram.open(":memory:") as engram:
            engram.memory(ALICE).add(list(PETS))
            self._engram = engram
            yield

    @property
    def retriever_constructor(self) -> type[EngramRetriever]:
        return EngramRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"scope": ALICE, "engram": self._engram}

    @property
    def retriever_query_example(self) -> str:
        return "What are Alice's pets called?"


def test_documents_carry_ids_scores_and_scope(engram: Engram, fact_id: str) -> None:
    """What a callback handler and a user need to know about each document."""
    (document,) = EngramRetriever(scope=ALICE, engram=engram).invoke(QUESTION)
    assert fact_id == document.id
    assert document.page_content == FACT
    assert document.metadata["scope"] == ALICE
    assert isinstance(document.metadata["score"], float)
    recall = engram.context.ledger.recall(document.metadata["recall_id"])
    assert recall is not None
    assert recall.query == QUESTION


def test_a_line_cannot_forge_a_fence_and_keeps_its_origin(engram: Engram) -> None:
    """Documents go into prompts without the fence; the line itself must be harmless."""
    from engram_core import Message

    text = "The portal says the parcel arrives on Monday."
    engram.memory(ALICE).set_policy(quarantine_channels=[])
    engram.memory(ALICE).add(Message("tool", text, channel="tool"))
    (document,) = EngramRetriever(scope=ALICE, engram=engram).invoke("When does the parcel arrive?")
    assert f"[tool] {text}" == document.page_content


def test_min_score_and_max_tokens_are_handed_on(engram: Engram) -> None:
    """Limits of the constructor reach the core."""
    engram.memory(ALICE).add(list(PETS))
    assert EngramRetriever(scope=ALICE, engram=engram, min_score=1e6).invoke("pets") == []
    whole = engram.memory(ALICE).recall("What are Alice's pets called?").tokens
    few = EngramRetriever(scope=ALICE, engram=engram, max_tokens=whole - 1).invoke("What are Alice's pets called?")
    assert 0 < len(few) < 4


def test_a_memory_is_a_scope(engram: Engram, fact_id: str) -> None:
    """`as_retriever` and `EngramRetriever(scope=memory)` are the same."""
    memory = EngramMemory(scope=ALICE, engram=engram)
    for retriever in (memory.as_retriever(k=1), EngramRetriever(scope=memory)):
        assert [fact_id] == [document.id for document in retriever.invoke(QUESTION)]


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_scope_follows_configurable(engram: Engram, is_async: bool) -> None:
    """Called with a config of its own."""
    engram.memory("acme/u1").add("My locker is locker-1")
    engram.memory("acme/u2").add("My locker is locker-2")
    retriever = EngramRetriever(scope=lambda context: f"acme/{context['user']}", engram=engram)
    config: Any = {"configurable": {"user": "u2"}}
    found = await retriever.ainvoke("locker", config) if is_async else retriever.invoke("locker", config)
    assert [document.page_content for document in found] == ["My locker is locker-2"]


@dataclass
class Context:
    user: str


class State(TypedDict):
    found: list[str]


def test_the_scope_follows_a_graphs_context(engram: Engram) -> None:
    """In a node of any LangGraph graph `runtime.context` decides."""
    engram.memory("acme/u1").add("My locker is locker-1")
    engram.memory("acme/u2").add("My locker is locker-2")
    retriever = EngramRetriever(scope=lambda context: f"acme/{context.user}", engram=engram)

    def look(state: State) -> State:
        return {"found": [document.page_content for document in retriever.invoke("locker")]}

    graph = StateGraph(State, context_schema=Context).add_node(look).add_edge(START, "look").add_edge("look", END)
    assert graph.compile().invoke({"found": []}, context=Context("u1"))["found"] == ["My locker is locker-1"]


def test_a_closed_store_returns_nothing(engram: Engram, fact_id: str, caplog: pytest.LogCaptureFixture) -> None:
    """fail_open; and fail_open=False raises."""
    engram.close()
    assert EngramRetriever(scope=ALICE, engram=engram).invoke(QUESTION) == []
    assert "recall failed and was skipped" in caplog.text
    with pytest.raises(Exception, match="closed"):
        EngramRetriever(scope=ALICE, engram=engram, fail_open=False).invoke(QUESTION)


def test_a_blank_query_returns_nothing(engram: Engram, fact_id: str) -> None:
    """Nothing was asked."""
    assert EngramRetriever(scope=ALICE, engram=engram).invoke("  ") == []


async def test_the_event_loop_is_not_stalled(off_loop: OffLoop) -> None:
    """A true async path: everything slow, embedding above all, happens in other threads."""
    found = await EngramRetriever(scope=ALICE, engram=off_loop.engram).ainvoke(QUESTION)
    assert [document.page_content for document in found] == [FACT]
    off_loop.check(at_least=1)
