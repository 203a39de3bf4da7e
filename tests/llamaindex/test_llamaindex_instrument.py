"""instrument(): recalls of retrievers, tools and blocks meet the answers they led to, through real engines."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ChatResponseAsyncGen
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine, SimpleChatEngine
from llama_index.core.chat_engine.types import BaseChatEngine
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.tools import QueryEngineTool
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step
from llamaindex_support import ANSWER, QUESTION, SCOPE, ScriptedLLM, Watched, agent_llm, calls, says

from engram_core import Engram, InvalidScope
from engram_llamaindex import (
    EngramEventHandler,
    EngramMemory,
    EngramMemoryBlock,
    EngramRetriever,
    EngramSpanHandler,
    Instrumentation,
    engram_tools,
    instrument,
)
from engram_llamaindex.verdicts import VERDICTS

pytestmark = [
    # LlamaIndex looks for an agent's steps with inspect.getmembers(), which touches pydantic's deprecated attributes.
    pytest.mark.filterwarnings("ignore:.*attribute.*deprecated:pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:.*attribute.*deprecated:pydantic.warnings.PydanticDeprecatedSince211"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),  # its ReActAgent
    pytest.mark.filterwarnings("ignore:.*ChatMemoryBuffer.*:DeprecationWarning"),
]


@pytest.fixture
def on(store: Watched) -> Iterator[Instrumentation]:
    """Instrumentation of the watched store."""
    with instrument(store) as instrumented:  # type: ignore[arg-type]
        yield instrumented


@pytest.fixture
def retriever(store: Watched) -> EngramRetriever:
    return EngramRetriever(SCOPE, engram=store)  # type: ignore[arg-type]


def query_engine(retriever: BaseRetriever, llm: ScriptedLLM | None = None, **options: Any) -> RetrieverQueryEngine:
    return RetrieverQueryEngine.from_args(retriever, llm=llm or ScriptedLLM(), **options)


def judged(store: Watched, on: Instrumentation) -> list[str | None]:
    """What was observed, one per recall at most; no turn may be left open."""
    on.flush()
    assert on.recorder.open_turns == 0
    assert len({recall_id for recall_id, _ in store.observed}) == len(store.observed)
    return [response for _, response in store.observed]


# --- query engines ---------------------------------------------------------------------------------------------------


def test_query(store: Watched, on: Instrumentation, retriever: EngramRetriever) -> None:
    assert str(query_engine(retriever).query(QUESTION)) == ANSWER
    assert judged(store, on) == [ANSWER]
    assert store.usages[store.recalls[0].id].used == (store.recalls[0].facts[0].fact.id,)


async def test_aquery_is_judged_off_the_event_loop(
    store: Watched, on: Instrumentation, retriever: EngramRetriever
) -> None:
    assert str(await query_engine(retriever).aquery(QUESTION)) == ANSWER
    assert judged(store, on) == [ANSWER]
    assert "MainThread" not in store.threads


def test_streaming_query_leaves_the_stream_to_the_user(
    store: Watched, on: Instrumentation, retriever: EngramRetriever
) -> None:
    response = query_engine(retriever, streaming=True).query(QUESTION)
    assert isinstance(response, StreamingResponse)
    assert store.observed == []
    deltas = list(response.response_gen)
    assert "".join(deltas) == ANSWER
    assert len(deltas) > 5
    assert judged(store, on) == [ANSWER]


async def test_streaming_aquery(store: Watched, on: Instrumentation, retriever: EngramRetriever) -> None:
    response = await query_engine(retriever, streaming=True).aquery(QUESTION)
    assert isinstance(response, AsyncStreamingResponse)
    assert "".join([delta async for delta in response.async_response_gen()]) == ANSWER
    assert judged(store, on) == [ANSWER]


def test_str_of_a_streaming_response_still_works(
    store: Watched, on: Instrumentation, retriever: EngramRetriever
) -> None:
    assert str(query_engine(retriever, streaming=True).query(QUESTION)) == ANSWER
    assert judged(store, on) == [ANSWER]


def test_an_abandoned_stream_is_unknown(store: Watched, on: Instrumentation, retriever: EngramRetriever) -> None:
    response = query_engine(retriever, streaming=True).query(QUESTION)
    assert isinstance(response, StreamingResponse)
    next(iter(response.response_gen))
    response.response_gen.close()  # type: ignore[attr-defined]  # what the garbage collector does, at a known time
    assert judged(store, on) == [None]


async def test_an_abandoned_async_stream_is_unknown(
    store: Watched, on: Instrumentation, retriever: EngramRetriever
) -> None:
    response = await query_engine(retriever, streaming=True).aquery(QUESTION)
    assert isinstance(response, AsyncStreamingResponse)
    async for _ in response.response_gen:
        break
    await response.response_gen.aclose()  # type: ignore[attr-defined]
    assert judged(store, on) == [None]


def test_a_stream_that_breaks_is_unknown(store: Watched, on: Instrumentation, retriever: EngramRetriever) -> None:
    response = query_engine(retriever, ScriptedLLM(fails_after=3), streaming=True).query(QUESTION)
    assert isinstance(response, StreamingResponse)
    with pytest.raises(RuntimeError, match="went down"):
        list(response.response_gen)
    assert judged(store, on) == [None]


def test_an_unread_stream_is_unknown_when_given_up(store: Watched, retriever: EngramRetriever) -> None:
    with instrument(store) as on:  # type: ignore[arg-type]
        response = query_engine(retriever, streaming=True).query(QUESTION)
        assert on.recorder.open_turns == 1
    assert [verdict for _, verdict in store.observed] == [None]
    assert isinstance(response, StreamingResponse)
    assert "".join(response.response_gen) == ANSWER, "reading it later still works"


def test_a_failing_model_is_unknown(store: Watched, on: Instrumentation, retriever: EngramRetriever) -> None:
    with pytest.raises(RuntimeError, match="the model is down"):
        query_engine(retriever, ScriptedLLM(fails_after=0)).query(QUESTION)
    assert judged(store, on) == [None]


def test_a_retriever_alone_is_not_judged(store: Watched, on: Instrumentation, retriever: EngramRetriever) -> None:
    retriever.retrieve(QUESTION)
    assert judged(store, on) == []


def test_nodes_retrieved_before_are_judged_by_who_answers(
    store: Watched, on: Instrumentation, retriever: EngramRetriever
) -> None:
    nodes = retriever.retrieve(QUESTION)
    get_response_synthesizer(llm=ScriptedLLM()).synthesize(QUESTION, nodes)
    assert judged(store, on) == [ANSWER]


def test_a_retriever_in_threads_without_context_is_found_by_its_nodes(
    store: Watched, on: Instrumentation, retriever: EngramRetriever
) -> None:
    class Elsewhere(BaseRetriever):
        """Like fusion retrievers: runs another one in a pool, which knows nothing of the active span."""

        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(retriever.retrieve, query_bundle).result()

    assert str(query_engine(Elsewhere()).query(QUESTION)) == ANSWER
    assert judged(store, on) == [ANSWER]


async def test_eight_queries_at_once_do_not_mix(engram: Engram) -> None:
    for number in range(8):
        engram.memory(f"acme/user{number}").add(f"My locker code is zz{number}zz.")
    store = Watched(engram)

    def answer(messages: Sequence[ChatMessage]) -> str:
        return next(f"Your locker code is zz{n}zz." for n in range(8) if f"zz{n}zz" in str(messages))

    async def query(number: int) -> None:
        retriever = EngramRetriever(f"acme/user{number}", engram=store)  # type: ignore[arg-type]
        await query_engine(retriever, ScriptedLLM(answer)).aquery("What is my locker code?")

    with instrument(store) as on:  # type: ignore[arg-type]
        await asyncio.gather(*(query(number) for number in range(8)))
        assert len(judged(store, on)) == 8
    for recall in store.recalls:
        code = recall.facts[0].fact.text.split()[-1]
        assert (recall.id, f"Your locker code is {code}") in store.observed


# --- chat engines ----------------------------------------------------------------------------------------------------


def chat_engine(kind: str, retriever: BaseRetriever, llm: ScriptedLLM) -> BaseChatEngine:
    memory = ChatMemoryBuffer.from_defaults(token_limit=3000)
    if kind == "context":
        return ContextChatEngine.from_defaults(retriever=retriever, llm=llm, memory=memory)
    return CondensePlusContextChatEngine.from_defaults(retriever=retriever, llm=llm, memory=memory)


@pytest.mark.parametrize("kind", ["context", "condense_plus_context"])
async def test_chat_engines_in_every_way(
    kind: str, store: Watched, on: Instrumentation, retriever: EngramRetriever
) -> None:
    engine = chat_engine(kind, retriever, ScriptedLLM())
    await asyncio.to_thread(engine.chat, QUESTION)
    assert judged(store, on) == [ANSWER]
    assert await asyncio.to_thread(lambda: "".join(engine.stream_chat(QUESTION).response_gen)) == ANSWER
    assert judged(store, on) == [ANSWER] * 2
    await engine.achat(QUESTION)
    assert judged(store, on) == [ANSWER] * 3
    response = await engine.astream_chat(QUESTION)
    assert "".join([delta async for delta in response.async_response_gen()]) == ANSWER
    assert judged(store, on) == [ANSWER] * 4
    assert len(store.recalls) == 4


async def test_a_chat_stream_that_breaks_is_unknown(
    store: Watched, on: Instrumentation, retriever: EngramRetriever
) -> None:
    response = await chat_engine("context", retriever, ScriptedLLM(fails_after=2)).astream_chat(QUESTION)
    with pytest.raises(RuntimeError, match="went down"):
        [delta async for delta in response.async_response_gen()]
    assert judged(store, on) == [None]


async def test_a_cancelled_chat_stream_is_unknown(
    store: Watched, on: Instrumentation, retriever: EngramRetriever
) -> None:
    midway = asyncio.Event()

    class Hanging(ScriptedLLM):
        @llm_chat_callback()
        async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
            async def stream() -> ChatResponseAsyncGen:
                yield ChatResponse(message=says("You live in"), delta="You live in")
                midway.set()
                await asyncio.sleep(60)

            return stream()

    response = await chat_engine("context", retriever, Hanging()).astream_chat(QUESTION)
    writer = response.awrite_response_to_history_task
    assert writer is not None
    await asyncio.wait_for(midway.wait(), 5)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    assert judged(store, on) == [None]


def test_a_memory_and_a_retriever_side_by_side_are_judged_once_each(
    store: Watched, on: Instrumentation, retriever: EngramRetriever, memory: EngramMemory
) -> None:
    engine = ContextChatEngine.from_defaults(retriever=retriever, llm=ScriptedLLM(), memory=memory)
    engine.chat(QUESTION)
    assert len(store.recalls) == 2
    assert judged(store, on) == [ANSWER, ANSWER]


def test_memorys_own_turns_are_left_to_it(store: Watched, on: Instrumentation, memory: EngramMemory) -> None:
    SimpleChatEngine.from_defaults(llm=ScriptedLLM(), memory=memory).chat(QUESTION)
    assert judged(store, on) == [ANSWER]


async def test_a_blocks_recall_is_judged_by_the_chat_it_served(store: Watched, on: Instrumentation) -> None:
    block = EngramMemoryBlock(SCOPE, engram=store)  # type: ignore[arg-type]
    queue = Memory.from_defaults(memory_blocks=[block])
    await SimpleChatEngine.from_defaults(llm=ScriptedLLM(), memory=queue).achat(QUESTION)
    assert judged(store, on) == [ANSWER]
    await queue.sql_store._async_engine.dispose()  # type: ignore[union-attr]  # else its connections warn when collected


# --- agents ----------------------------------------------------------------------------------------------------------


def recaller(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
    return says(ANSWER) if messages[-1].role == "tool" else calls("engram_recall", query=QUESTION)


def thinker(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
    if "Observation:" not in str(messages[-1].content):
        return says(f'Thought: I must look.\nAction: engram_recall\nAction Input: {{"query": "{QUESTION}"}}')
    return says(f"Thought: I can answer without using any more tools.\nAnswer: {ANSWER}")


def agent(kind: str, store: Watched) -> Any:
    tools: list[Any] = [*engram_tools(SCOPE, engram=store)]  # type: ignore[arg-type]
    if kind == "react":
        return ReActAgent(llm=agent_llm(thinker), tools=tools)
    inner = FunctionAgent(llm=agent_llm(recaller), tools=tools)
    return AgentWorkflow(agents=[inner], root_agent="Agent") if kind == "workflow" else inner


@pytest.mark.parametrize("kind", ["function", "workflow", "react"])
async def test_tools_in_agents(kind: str, store: Watched, on: Instrumentation) -> None:
    assert str(await agent(kind, store).run(QUESTION)) == ANSWER
    await asyncio.sleep(0)
    assert judged(store, on) == [ANSWER]
    assert store.usages[store.recalls[0].id].used


async def test_five_agent_runs_at_once_do_not_mix(store: Watched, on: Instrumentation) -> None:
    await asyncio.gather(*(agent("function", store).run(QUESTION) for _ in range(5)))
    await asyncio.sleep(0)
    assert judged(store, on) == [ANSWER] * 5


async def test_an_agent_that_fails_after_its_tool_is_unknown(store: Watched, on: Instrumentation) -> None:
    def generate(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        if messages[-1].role == "tool":
            raise RuntimeError("the model is down")
        return calls("engram_recall", query=QUESTION)

    failing = FunctionAgent(llm=agent_llm(generate), tools=[*engram_tools(SCOPE, engram=store)])  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="the model is down"):
        await failing.run(QUESTION)
    await asyncio.sleep(0)
    assert judged(store, on) == [None]


async def test_a_query_engine_as_a_tool_belongs_to_the_agents_turn(
    store: Watched, on: Instrumentation, retriever: EngramRetriever
) -> None:
    def generate(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        return says(ANSWER) if messages[-1].role == "tool" else calls("look_up", input=QUESTION)

    tool = QueryEngineTool.from_defaults(query_engine(retriever, ScriptedLLM("a draft")), name="look_up")
    await FunctionAgent(llm=agent_llm(generate), tools=[tool]).run(QUESTION)
    await asyncio.sleep(0)
    assert judged(store, on) == [ANSWER]


async def test_each_chat_inside_a_users_workflow_is_a_turn(
    store: Watched, on: Instrumentation, retriever: EngramRetriever
) -> None:
    class Two(Workflow):
        @step
        async def both(self, ev: StartEvent) -> StopEvent:
            await query_engine(retriever, ScriptedLLM("First: Lisbon with two cats.")).aquery(QUESTION)
            await query_engine(retriever, ScriptedLLM("Second: Lisbon with two cats.")).aquery(QUESTION)
            return StopEvent(result="done")

    await Two().run()
    await asyncio.sleep(0)
    assert judged(store, on) == ["First: Lisbon with two cats.", "Second: Lisbon with two cats."]


async def test_a_users_own_rag_workflow_is_one_turn(
    store: Watched, on: Instrumentation, retriever: EngramRetriever
) -> None:
    class Rag(Workflow):
        @step
        async def answer(self, ev: StartEvent) -> StopEvent:
            nodes = await retriever.aretrieve(QUESTION)
            reply = await ScriptedLLM().achat([ChatMessage(role="user", content=nodes[0].text)])
            return StopEvent(result=str(reply.message.content))

    assert await Rag().run() == ANSWER
    await asyncio.sleep(0)
    assert judged(store, on) == [ANSWER]


# --- installing, filtering, limits -----------------------------------------------------------------------------------


def handlers() -> tuple[int, int]:
    root = get_dispatcher()
    return (
        sum(isinstance(handler, EngramEventHandler) for handler in root.event_handlers),
        sum(isinstance(handler, EngramSpanHandler) for handler in root.span_handlers),
    )


def test_installing_twice_adds_nothing_and_removing_removes(store: Watched, retriever: EngramRetriever) -> None:
    others = len(get_dispatcher().event_handlers), len(get_dispatcher().span_handlers)
    first = instrument(store)  # type: ignore[arg-type]
    assert instrument(store) is first  # type: ignore[arg-type]
    assert handlers() == (1, 1)
    first()
    first()
    assert handlers() == (0, 0)
    assert (len(get_dispatcher().event_handlers), len(get_dispatcher().span_handlers)) == others
    query_engine(retriever).query(QUESTION)
    assert store.observed == []


def test_two_instruments_leave_each_other_alone(store: Watched, retriever: EngramRetriever) -> None:
    with instrument(store) as first, instrument("acme"):  # type: ignore[arg-type]
        assert handlers() == (2, 2)
        first()
        assert handlers() == (1, 1)
        query_engine(retriever).query(QUESTION)
    assert [verdict for _, verdict in store.observed] == [ANSWER]


def test_overlapping_instruments_count_once(store: Watched, retriever: EngramRetriever) -> None:
    with instrument(store) as on, instrument("acme/support"), instrument():  # type: ignore[arg-type]
        query_engine(retriever).query(QUESTION)
        assert judged(store, on) == [ANSWER]


@pytest.mark.parametrize(("source", "verdicts"), [("acme", 1), (SCOPE, 1), ("acme/support/alicia", 0), (None, 1)])
def test_only_the_scope_asked_for_is_judged(
    source: str | None, verdicts: int, store: Watched, retriever: EngramRetriever
) -> None:
    with instrument(source):
        query_engine(retriever).query(QUESTION)
    assert len(store.observed) == verdicts


def test_only_the_store_asked_for_is_judged(store: Watched, retriever: EngramRetriever) -> None:
    with Engram.open(":memory:") as other, instrument(other):
        query_engine(retriever).query(QUESTION)
    assert store.observed == []


def test_a_malformed_scope_is_refused() -> None:
    with pytest.raises(InvalidScope):
        instrument("Not A Scope")


def test_open_turns_are_bounded(store: Watched, retriever: EngramRetriever) -> None:
    with instrument(store, max_open=2) as on:  # type: ignore[arg-type]
        unread = [query_engine(retriever, streaming=True).query(QUESTION) for _ in range(4)]
        on.flush()
        assert on.recorder.open_turns <= 2
        assert [verdict for _, verdict in store.observed][:2] == [None, None]
    assert len(unread) == len(store.observed) == 4


def test_turns_time_out(store: Watched, retriever: EngramRetriever) -> None:
    with instrument(store, timeout_s=0.4) as on:  # type: ignore[arg-type]
        unread = query_engine(retriever, streaming=True).query(QUESTION)
        time.sleep(0.45)
        query_engine(retriever).query("What else?")
        on.flush()
        assert (store.recalls[0].id, None) in store.observed
    assert isinstance(unread, StreamingResponse)


def test_nothing_is_kept_while_nobody_watches(store: Watched, retriever: EngramRetriever) -> None:
    retriever.retrieve(QUESTION)
    assert len(VERDICTS) == 0
    with instrument(store):  # type: ignore[arg-type]
        retriever.retrieve(QUESTION)
        assert len(VERDICTS) == 1
    assert len(VERDICTS) == 0


def test_a_failing_handler_is_logged_and_harmless(
    store: Watched, on: Instrumentation, retriever: EngramRetriever, caplog: Any
) -> None:
    on.recorder.said = lambda *_: 1 / 0  # type: ignore[assignment]
    with caplog.at_level(logging.ERROR, "engram"):
        assert str(query_engine(retriever).query(QUESTION)) == ANSWER
    assert "ZeroDivisionError" in caplog.text


def test_a_store_that_fails_at_observe_is_harmless(
    store: Watched, on: Instrumentation, retriever: EngramRetriever, caplog: Any
) -> None:
    def answer(messages: Sequence[ChatMessage]) -> str:
        store.engram.close()
        return ANSWER

    with caplog.at_level(logging.WARNING, "engram"):
        assert str(query_engine(retriever, ScriptedLLM(answer)).query(QUESTION)) == ANSWER
    assert "observe failed" in caplog.text


async def test_dispatcher_shutdown_leaves_open_turns_unknown(
    store: Watched, on: Instrumentation, retriever: EngramRetriever
) -> None:
    unread = query_engine(retriever, streaming=True).query(QUESTION)
    for handler in get_dispatcher().span_handlers:
        handler.close()
    assert judged(store, on) == [None]
    assert isinstance(unread, StreamingResponse)
