"""Every kind of chain and agent in every way it can run, end, fail or be abandoned: right facts, right text, nothing open.

One table: a kind makes a runnable from a model; a way runs it; an ending is what becomes of it.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict
from uuid import uuid4

import pytest
from langchain_classic.agents import AgentExecutor, create_tool_calling_agent
from langchain_classic.chains import ConversationChain, LLMChain
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.tools import create_retriever_tool
from langchain_support import ALICE, ANSWER, FACT, QUESTION, Ledger, Scripted, asks, calls
from langgraph.graph import END, START, StateGraph

from engram_core import Engram
from engram_langchain import EngramCallbackHandler, EngramMemory, EngramMiddleware, create_agent
from engram_langchain.verdicts import NAMED, VERDICTS

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*was deprecated"),
    # A user who abandons an agent's async stream leaves LangGraph's own tasks to the collector.
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NOTES = "acme/notes"
NOTE = "The river tram in Lisbon is number 28."
BOTH = "You live in Lisbon near the river, where tram number 28 passes."


@dataclass
class World:
    """A store with two facts in two scopes, and what watches it."""

    engram: Engram
    ledger: Ledger
    handler: EngramCallbackHandler
    home: str
    note: str

    def memory(self, scope: Any = ALICE, **options: Any) -> EngramMemory:
        return EngramMemory(scope=scope, engram=self.engram, **options)

    def middleware(self, scope: Any = ALICE) -> EngramMiddleware:
        """It remembers nothing: in a batch, one turn's remembered answer would be another turn's fact."""
        return EngramMiddleware(scope, self.engram, record=False)

    def check(self, turns: list[str | None], *, both: bool = False) -> None:
        """One recall per turn; each observed with that text, or as unknown; and nothing is left open."""
        for fact, is_asked in ((self.home, True), (self.note, both)):
            if is_asked:
                assert len(self.ledger.recalls(fact)) == len(turns)
                assert self.ledger.verdicts(fact) == ["unknown" if text is None else "used" for text in turns]
                assert [said.strip() for said in self.ledger.responses(fact)] == [text or "" for text in turns]
        self.check_nothing_open()

    def check_nothing_open(self) -> None:
        assert self.handler.open_turns == 0
        assert self.handler._turns.runs == 0
        assert not self.handler._speaking
        assert not self.handler._seen
        assert len(NAMED) == 0
        assert VERDICTS.open == 0


@pytest.fixture
def world(engram: Engram, ledger: Ledger, fact_id: str) -> Iterator[World]:
    note = engram.memory(NOTES).add(NOTE).facts[0].id
    VERDICTS.forget()
    yield World(engram, ledger, EngramCallbackHandler(), fact_id, note)
    VERDICTS.forget()


def lines(documents: Sequence[Document]) -> str:
    return "\n".join(document.page_content for document in documents)


def answering(messages: list[BaseMessage]) -> str:
    """The answer, if the prompt holds what it needs."""
    seen = "\n".join(str(message.text) for message in messages)
    if NOTE in seen and FACT in seen:
        return BOTH
    return ANSWER if FACT in seen else "I do not know."


def calling(tool: str) -> Callable[[list[BaseMessage]], Any]:
    """Looks things up first."""

    def answer(messages: list[BaseMessage]) -> Any:
        has_looked = isinstance(messages[-1], ToolMessage)
        return answering(messages) if has_looked else calls(tool, query="Which city does Alice live in?")

    return answer


# --- kinds: (world, model) -> (runnable, input) --------------------------------------------------------------------------

Made = tuple[Any, Any]
PROMPT = ChatPromptTemplate.from_template("{context}\n{question}")


def rag(world: World, model: Scripted) -> Made:
    """The usual LCEL chain."""
    context = world.memory().as_retriever() | lines
    return {"context": context, "question": RunnablePassthrough()} | PROMPT | model | StrOutputParser(), QUESTION


def two_branches(world: World, model: Scripted) -> Made:
    """Two retrievers in two parallel branches, one answer."""
    prompt = ChatPromptTemplate.from_template("{home}\n{note}\n{question}")
    branches = RunnableParallel(
        home=world.memory().as_retriever() | lines,
        note=world.memory(NOTES).as_retriever() | lines,
        question=RunnablePassthrough(),
    )
    return branches | prompt | model, QUESTION


def middleware(world: World, model: Scripted) -> Made:
    """create_agent with memory; the handler is the second source."""
    return create_agent(model, memory=world.middleware()), asks(QUESTION)


def two_middleware(world: World, model: Scripted) -> Made:
    """Two memories in one agent."""
    return create_agent(model, middleware=[world.middleware(NOTES)], memory=world.middleware()), asks(QUESTION)


def tool_agent(world: World, model: Scripted) -> Made:
    """create_agent that fetches by Engram's tool."""
    model.answer = _when_answering(model, calling("engram_recall"))
    return create_agent(model, world.memory().as_tools(only=["recall"])), asks(QUESTION)


def retriever_tool_agent(world: World, model: Scripted) -> Made:
    """create_agent that fetches by LangChain's own retriever tool."""
    model.answer = _when_answering(model, calling("look_up"))
    tool = create_retriever_tool(world.memory().as_retriever(), "look_up", "Look things up.")
    return create_agent(model, [tool]), asks(QUESTION)


def both_agent(world: World, model: Scripted) -> Made:
    """One recall by the middleware and one by a tool, in one turn."""
    model.answer = _when_answering(model, calling("engram_recall"))
    return create_agent(model, world.memory(NOTES).as_tools(only=["recall"]), memory=world.middleware()), asks(QUESTION)


def llm_chain(world: World, model: Scripted) -> Made:
    """A classic chain with `memory=`."""
    prompt = PromptTemplate.from_template("{history}\n{question}")
    return LLMChain(llm=model, prompt=prompt, memory=world.memory()), {"question": QUESTION}


def conversation(world: World, model: Scripted) -> Made:
    """The classic chain with `memory=`."""
    return ConversationChain(llm=model, memory=world.memory()), {"input": QUESTION}


def executor(world: World, model: Scripted) -> Made:
    """AgentExecutor with `memory=` and a tool it does not call."""
    prompt = ChatPromptTemplate.from_messages(
        [("system", "{history}"), ("human", "{input}"), ("placeholder", "{agent_scratchpad}")]
    )
    tools = world.memory(NOTES).as_tools(only=["recall"])
    agent = create_tool_calling_agent(model, tools, prompt)
    return AgentExecutor(agent=agent, tools=tools, memory=world.memory()), {"input": QUESTION}


def tool_executor(world: World, model: Scripted) -> Made:
    """AgentExecutor that fetches by Engram's tool."""
    model.answer = _when_answering(model, calling("engram_recall"))
    prompt = ChatPromptTemplate.from_messages([("human", "{input}"), ("placeholder", "{agent_scratchpad}")])
    tools = world.memory().as_tools(only=["recall"])
    agent = create_tool_calling_agent(model, tools, prompt)
    return AgentExecutor(agent=agent, tools=tools), {"input": QUESTION}


class Graph(TypedDict):
    question: str
    context: str
    answer: str


def own_graph(world: World, model: Scripted) -> Made:
    """The user's own LangGraph: one node retrieves, another one answers."""
    retriever = world.memory().as_retriever()

    def look(state: Graph) -> dict[str, str]:
        return {"context": lines(retriever.invoke(state["question"]))}

    def speak(state: Graph) -> dict[str, str]:
        return {"answer": str(model.invoke(f"{state['context']}\n{state['question']}").text)}

    graph = StateGraph(Graph)
    graph.add_node("look", look)
    graph.add_node("speak", speak)
    graph.add_edge(START, "look")
    graph.add_edge("look", "speak")
    graph.add_edge("speak", END)
    return graph.compile(), {"question": QUESTION, "context": "", "answer": ""}


def _when_answering(model: Scripted, answer: Callable[[list[BaseMessage]], Any]) -> Callable[[list[BaseMessage]], Any]:
    """What a failing model says instead stays what it says: only after it has looked."""
    fails = model.answer is not answering and model.answer is not None
    failing = model.answer
    return (lambda messages: failing(messages) if isinstance(messages[-1], ToolMessage) else answer(messages)) if (
        fails and failing
    ) else answer  # fmt: skip


KINDS = {
    kind.__name__: kind
    for kind in (
        rag, two_branches, middleware, two_middleware, tool_agent, retriever_tool_agent, both_agent, llm_chain,
        conversation, executor, tool_executor, own_graph,
    )
}  # fmt: skip
ASK_BOTH = {"two_branches", "two_middleware", "both_agent"}
CLASSIC = {"llm_chain", "conversation", "executor", "tool_executor"}


# --- ways ----------------------------------------------------------------------------------------------------------------


async def invoke(runnable: Any, given: Any, config: Any) -> int:
    await asyncio.to_thread(runnable.invoke, given, config)
    return 1


async def ainvoke(runnable: Any, given: Any, config: Any) -> int:
    await runnable.ainvoke(given, config)
    return 1


async def stream(runnable: Any, given: Any, config: Any) -> int:
    await asyncio.to_thread(lambda: list(runnable.stream(given, config)))
    return 1


async def astream(runnable: Any, given: Any, config: Any) -> int:
    _ = [chunk async for chunk in runnable.astream(given, config)]
    return 1


async def astream_events(runnable: Any, given: Any, config: Any) -> int:
    _ = [event async for event in runnable.astream_events(given, config, version="v2")]
    return 1


async def batch(runnable: Any, given: Any, config: Any) -> int:
    await asyncio.to_thread(runnable.batch, [given] * 3, config)
    return 3


async def abatch(runnable: Any, given: Any, config: Any) -> int:
    await runnable.abatch([given] * 3, config)
    return 3


Way = Callable[[Any, Any, Any], Awaitable[int]]
WAYS: dict[str, Way] = {way.__name__: way for way in (invoke, ainvoke, stream, astream, astream_events, batch, abatch)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_is_observed_whole_and_once(world: World, kind: str, way: str) -> None:
    """Right facts, right text."""
    runnable, given = KINDS[kind](world, Scripted(answer=answering))
    turns = await WAYS[way](runnable, given, {"callbacks": [world.handler]})
    both = kind in ASK_BOTH
    world.check([BOTH if both else ANSWER] * turns, both=both)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_is_unknown(world: World, kind: str, way: str) -> None:
    """And reaches the user as it is."""

    def failing(messages: list[BaseMessage]) -> Exception:
        return RuntimeError("no capacity")

    runnable, given = KINDS[kind](world, Scripted(answer=failing))
    config = {"callbacks": [world.handler], "max_concurrency": 1}
    with pytest.raises(RuntimeError, match="no capacity"):
        await WAYS[way](runnable, given, config)
    left = asyncio.all_tasks() - {asyncio.current_task()}  # a batch leaves its other items running
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.to_thread(settle, world)
    world.check_nothing_open()
    verdicts = world.ledger.verdicts(world.home)
    assert verdicts
    assert set(verdicts) == {"unknown"}
    assert len(world.ledger.recalls(world.home)) == len(verdicts)


# --- abandoned -----------------------------------------------------------------------------------------------------------

STREAMED = [kind for kind in KINDS if kind not in ("llm_chain", "conversation")]
"""The two classic chains run to their end before they yield anything."""


class Hesitant(Scripted):
    """A model whose stream is never over by the time somebody leaves."""

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        for number, chunk in enumerate(super()._stream(*args, **kwargs)):
            if number > 2:
                time.sleep(0.05)
            yield chunk


def stream_of(kind: str, runnable: Any, given: Any, config: Any, *, is_async: bool) -> Any:
    options = {} if kind in ("rag", "two_branches") or kind in CLASSIC else {"stream_mode": "messages"}
    return (runnable.astream if is_async else runnable.stream)(given, config, **options)


def is_speech(chunk: Any) -> bool:
    """Whether a chunk is a piece of the answer."""
    message = chunk[0] if isinstance(chunk, tuple) else chunk
    text = message if isinstance(message, str) else str(message.text)
    return bool(text.strip()) and not isinstance(message, ToolMessage)


@pytest.mark.parametrize("leave", ["close", "collect"])
@pytest.mark.parametrize("kind", ["rag", "two_branches", "middleware", "tool_agent", "both_agent", "own_graph"])
def test_a_sync_stream_that_is_abandoned_is_unknown(world: World, kind: str, leave: str) -> None:
    """Closed, or dropped for the garbage collector."""
    runnable, given = KINDS[kind](world, Hesitant(answer=answering))
    chunks = stream_of(kind, runnable, given, {"callbacks": [world.handler]}, is_async=False)
    for chunk in chunks:
        if is_speech(chunk):
            break
    if leave == "close":
        chunks.close()
    del chunks, chunk
    gc.collect()
    settle(world)
    world.check([None], both=kind in ASK_BOTH)


@pytest.mark.parametrize("leave", ["close", "collect", "cancel"])
@pytest.mark.parametrize("kind", ["rag", "two_branches", "middleware", "tool_agent", "both_agent", "own_graph"])
async def test_an_async_stream_that_is_abandoned_is_unknown(world: World, kind: str, leave: str) -> None:
    """Closed, dropped, or its task cancelled."""
    runnable, given = KINDS[kind](world, Hesitant(answer=answering))
    chunks = stream_of(kind, runnable, given, {"callbacks": [world.handler]}, is_async=True)
    spoken = asyncio.Event()

    async def read(chunks: Any) -> None:
        async for chunk in chunks:
            if is_speech(chunk):
                spoken.set()
                if leave != "cancel":
                    return

    task = asyncio.create_task(read(chunks))
    await asyncio.wait_for(spoken.wait(), 20)
    if leave == "cancel":
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if leave == "close":
        await chunks.aclose()
    del chunks, task
    gc.collect()
    await asyncio.to_thread(settle, world)
    world.check([None], both=kind in ASK_BOTH)


def settle(world: World) -> None:
    """Frameworks finish what was abandoned in threads and finalizers of their own: wait until they did."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (world.handler.open_turns or VERDICTS.open):
        gc.collect()
        time.sleep(0.02)


# --- named turns ---------------------------------------------------------------------------------------------------------


def named(world: World, name: str, handler: EngramCallbackHandler | None = None) -> Any:
    return {"callbacks": [handler or world.handler], "metadata": {"engram_turn": name}}


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_a_retriever_and_a_model_called_separately_are_one_named_turn(world: World, way: str) -> None:
    """Two roots, one turn; the two calls may have two handlers."""
    retriever, model = world.memory().as_retriever(), Scripted(answer=answering)
    documents = await retriever.ainvoke(QUESTION, named(world, "t1"))
    assert world.ledger.verdicts(world.home) == []
    assert len(NAMED) == 1
    await WAYS[way](model, f"{lines(documents)}\n{QUESTION}", named(world, "t1", EngramCallbackHandler()))
    world.check([ANSWER])


def test_named_turns_do_not_mix(world: World) -> None:
    """Interleaved, and one of them never answered."""
    retriever, model = world.memory().as_retriever(), Scripted(replies=["It rains.", ANSWER])
    for name in ("a", "b", "c"):
        retriever.invoke(QUESTION, named(world, name))
    model.invoke("How is the weather?", named(world, "b"))
    model.invoke(QUESTION, named(world, "a"))
    assert world.ledger.verdicts(world.home) == ["used", "unused"]
    assert len(NAMED) == 1
    NAMED._timeout_s, limit = -1.0, NAMED._timeout_s
    NAMED.sweep()
    NAMED._timeout_s = limit
    assert world.ledger.verdicts(world.home) == ["used", "unused", "unknown"]
    world.check_nothing_open()


def test_a_named_turn_whose_model_fails_may_be_tried_again(world: World) -> None:
    """Unknown, until there is an answer."""
    retriever = world.memory().as_retriever()
    model = Scripted(replies=[RuntimeError("no capacity"), ANSWER])
    retriever.invoke(QUESTION, named(world, "t"))
    with pytest.raises(RuntimeError, match="no capacity"):
        model.invoke(QUESTION, named(world, "t"))
    assert world.ledger.verdicts(world.home) == ["unknown"]
    model.invoke(QUESTION, named(world, "t"))
    assert world.ledger.verdicts(world.home) == ["unknown", "used"]
    world.check_nothing_open()


def test_an_abandoned_named_stream_is_unknown(world: World) -> None:
    """The model alone, streamed and left."""
    world.memory().as_retriever().invoke(QUESTION, named(world, "t"))
    stream = Hesitant(answer=lambda messages: ANSWER).stream(QUESTION, named(world, "t"))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert world.ledger.verdicts(world.home) == ["unknown"]
    NAMED.drain()
    world.check_nothing_open()


def test_a_named_chain_is_one_turn_as_ever(world: World) -> None:
    """The name is inherited by every run inside."""
    runnable, given = rag(world, Scripted(answer=answering))
    runnable.invoke(given, named(world, "t"))
    world.check([ANSWER])


# --- other endings -------------------------------------------------------------------------------------------------------


async def test_a_tool_that_raises_leaves_the_turn_unknown(world: World) -> None:
    """The agent's run dies in a tool after memory was recalled."""
    from langchain_core.tools import tool

    @tool
    def explode() -> str:
        """Explode."""
        raise RuntimeError("boom")

    for is_async in (False, True):
        agent = create_agent(Scripted(replies=[calls("explode")]), [explode], memory=world.memory())
        with pytest.raises(RuntimeError, match="boom"):
            if is_async:
                await agent.ainvoke(asks(QUESTION), {"callbacks": [world.handler]})
            else:
                agent.invoke(asks(QUESTION), {"callbacks": [world.handler]})
    world.check([None, None])


def test_a_classic_chain_that_fails_is_unknown_and_one_that_is_tried_again_used(world: World) -> None:
    """Nobody saves a chain that failed."""
    runnable, given = llm_chain(world, Scripted(replies=[RuntimeError("no capacity"), ANSWER]))
    with pytest.raises(RuntimeError, match="no capacity"):
        runnable.invoke(given, {"callbacks": [world.handler]})
    runnable.invoke(given, {"callbacks": [world.handler]})
    world.check([None, ANSWER])


def test_a_retry_around_the_chain_recalls_and_counts_once_per_try(world: World) -> None:
    """`with_retry` runs the whole chain again below one root: both recalls belong to the answer."""
    runnable, given = rag(world, Scripted(replies=[RuntimeError("no capacity"), ANSWER]))
    runnable.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke(
        given, {"callbacks": [world.handler]}
    )
    world.check([ANSWER, ANSWER])


def test_an_agent_reads_memory_often_and_recalls_once(world: World) -> None:
    """Three model calls in one turn."""
    from langchain_core.tools import tool

    @tool
    def noop() -> str:
        """Do nothing."""
        return "done"

    model = Scripted(replies=[calls("noop"), calls("noop"), ANSWER])
    create_agent(model, [noop], memory=world.memory()).invoke(asks(QUESTION), {"callbacks": [world.handler]})
    assert len(model.prompts) == 3
    assert all(FACT in "\n".join(str(message.text) for message in prompt) for prompt in model.prompts)
    world.check([ANSWER])


def test_runs_of_unknown_parents_are_roots_of_their_own(world: World) -> None:
    """As under another tracing library: the parent was never announced."""
    retriever = world.memory().as_retriever()
    root, inner, model = uuid4(), uuid4(), uuid4()
    handler = world.handler
    handler.on_chain_start({}, {}, run_id=root, parent_run_id=uuid4())
    handler.on_retriever_start({}, QUESTION, run_id=inner, parent_run_id=root)
    handler.on_retriever_end(retriever.invoke(QUESTION), run_id=inner, parent_run_id=root)
    handler.on_chat_model_start({}, [[]], run_id=model, parent_run_id=root)
    handler.on_llm_end(Scripted(replies=[ANSWER]).generate([[]]), run_id=model, parent_run_id=root)
    handler.on_chain_end(AIMessage(ANSWER), run_id=root)
    world.check([ANSWER])


def test_a_model_inside_a_plain_function_is_found(world: World) -> None:
    """A RunnableLambda that retrieves and asks by itself."""
    retriever, model = world.memory().as_retriever(), Scripted(answer=answering)

    def turn(question: str) -> str:
        return str(model.invoke(f"{lines(retriever.invoke(question))}\n{question}").text)

    RunnableLambda(turn).invoke(QUESTION, {"callbacks": [world.handler]})
    world.check([ANSWER])
