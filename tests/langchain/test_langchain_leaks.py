"""Many turns, many conversations: maps stay small, memory does not grow, and nobody hears another one's facts."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_support import ALICE, ANSWER, FACT, QUESTION, Ledger, Scripted, asks, calls
from support_learning import learn_all_it_can

from engram_core import Binding, Engram
from engram_core.models.tokens import EstimatingCounter
from engram_langchain import EngramCallbackHandler, EngramMemory, EngramMiddleware, EngramRetriever, create_agent
from engram_langchain.held import Held
from engram_langchain.verdicts import NAMED, VERDICTS, Verdicts

PROMPT = ChatPromptTemplate.from_template("{context}\n{question}")
BOUND = 100
"""Recalls and named turns kept during these tests, so that a few thousand turns fill every map many times over."""


@pytest.fixture
def small_maps() -> Iterator[None]:
    kept = VERDICTS._max_open, NAMED._max_open
    VERDICTS.forget()
    VERDICTS._max_open, NAMED._max_open = BOUND, BOUND
    yield
    VERDICTS._max_open, NAMED._max_open = kept
    NAMED.drain()
    VERDICTS.forget()


class Forgetful(Scripted):
    """Keeps no prompt: its own memory would look like ours."""

    def _next(self, messages: list[BaseMessage]) -> Any:
        try:
            return super()._next(messages)
        finally:
            self.prompts.clear()


def rag(memory: Any, model: Any) -> Any:
    context = memory.as_retriever() | (lambda documents: "\n".join(document.page_content for document in documents))
    return {"context": context, "question": RunnablePassthrough()} | PROMPT | model | StrOutputParser()


def endings(engram: Engram, handler: EngramCallbackHandler) -> list[Callable[[], object]]:
    """A turn of every sort: answered, failed, abandoned, lonely, named, never ended."""
    memory = EngramMemory(scope=ALICE, engram=engram)
    config: Any = {"callbacks": [handler]}
    chain = rag(memory, Forgetful(answer=lambda messages: ANSWER))
    failing = rag(memory, Forgetful(answer=lambda messages: RuntimeError("no capacity")))
    retriever = memory.as_retriever()
    middleware = EngramMiddleware(memory, record=False)
    middleware._held._max_held = BOUND
    agent = create_agent(Forgetful(answer=lambda messages: ANSWER), memory=middleware)
    broken = create_agent(Forgetful(answer=lambda messages: RuntimeError("no capacity")), memory=middleware)

    def fails(runnable: Any, given: Any) -> None:
        with pytest.raises(RuntimeError):
            runnable.invoke(given, config)

    def abandons() -> None:
        stream = chain.stream(QUESTION, config)
        next(stream)
        stream.close()

    def never_ends() -> None:
        root, inner = uuid4(), uuid4()
        handler.on_chain_start({}, {}, run_id=root)
        handler.on_retriever_start({}, QUESTION, run_id=inner, parent_run_id=root)
        handler.on_retriever_end(retriever.invoke(QUESTION), run_id=inner, parent_run_id=root)

    def waits_for_ever() -> None:
        retriever.invoke(QUESTION, {**config, "metadata": {"engram_turn": str(uuid4())}})

    cheap = [
        lambda: chain.invoke(QUESTION, config),
        lambda: fails(failing, QUESTION),
        abandons,
        lambda: retriever.invoke(QUESTION, config),
        lambda: retriever.invoke(QUESTION),
        waits_for_ever,
        never_ends,
    ]
    return [
        *cheap * 4,
        lambda: agent.invoke(asks(QUESTION), config),
        lambda: fails(broken, asks(QUESTION)),
    ]


def grows(turns: int, endings: list[Callable[[], object]]) -> float:
    """Blocks of memory that the second half of the turns left behind, per turn."""
    blocks = 0
    for number in range(turns):
        endings[number % len(endings)]()
        if number in (turns // 2, turns - 1):
            gc.collect()
            blocks = sys.getallocatedblocks() - blocks
    return blocks / (turns / 2)


@pytest.mark.parametrize("turns", [2_100, pytest.param(100_000, marks=pytest.mark.full)])
def test_turns_of_every_sort_leave_nothing_behind(tmp_path: Path, small_maps: None, turns: int) -> None:
    """Maps are full and stay that full; the second half of the turns costs no memory."""
    # The usual counter keeps the counts of some ten thousand texts, and every recall's text is a new one.
    with Engram.open(tmp_path / "store", token_counter=EstimatingCounter()) as engram:
        engram.memory(ALICE).add(FACT)
        learn_all_it_can(engram, ALICE, QUESTION, FACT)
        handler = EngramCallbackHandler(max_open=50)
        assert grows(turns, endings(engram, handler)) < 1.0
        assert handler.open_turns <= 50
        assert handler._turns.runs <= 100
        assert len(handler._speaking) == len(handler._seen) == 0
        assert len(VERDICTS) <= BOUND
        assert len(VERDICTS._by_run) <= BOUND
        assert len(NAMED) <= BOUND
        handler.close()
        assert handler.open_turns == 0


class Deaf(Binding):
    """A memory that takes no time: what is counted here are the hooks' own maps."""

    def observe(self, recall_id: str, response: str | None, *, context: Any = None) -> None:
        """Nothing."""


@pytest.mark.parametrize("turns", [5_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_a_hundred_thousand_turns_of_events_leave_nothing_behind(small_maps: None, turns: int) -> None:
    """The events of a turn without the framework around them; every third one fails, every seventh one never ends."""
    handler, binding = EngramCallbackHandler(max_open=50), Deaf(ALICE)
    answer = Scripted(replies=[ANSWER]).generate([[]])

    def turn(number: int) -> None:
        root, inner, model = uuid4(), uuid4(), uuid4()
        named = {"engram_turn": str(number)} if number % 5 == 0 else None
        handler.on_chain_start({}, {}, run_id=root, metadata=named)
        handler.on_retriever_start({}, QUESTION, run_id=inner, parent_run_id=root)
        VERDICTS.opened(f"r{number}", binding, run_id=inner)
        handler.on_retriever_end([Document("x", metadata={"recall_id": f"r{number}"})], run_id=inner)
        if number % 7 == 0:
            return
        handler.on_chat_model_start({}, [[]], run_id=model, parent_run_id=root)
        if number % 3 == 0:
            handler.on_llm_error(RuntimeError("no capacity"), run_id=model)
            handler.on_chain_error(RuntimeError("no capacity"), run_id=root)
        else:
            handler.on_llm_end(answer, run_id=model)
            handler.on_chain_end(ANSWER, run_id=root)

    numbers = itertools.count()
    assert grows(turns, [lambda: turn(next(numbers))]) < 0.5
    assert handler.open_turns <= 50
    assert handler._turns.runs <= 100
    assert len(handler._speaking) == len(handler._seen) == 0
    assert max(len(VERDICTS), len(VERDICTS._by_run), len(NAMED)) <= BOUND


def test_an_idle_process_releases_recalls_and_texts(engram: Engram, fact_id: str) -> None:
    """No other recall comes along to push them out."""
    verdicts, held = Verdicts(timeout_s=0.05), Held(timeout_s=0.05)
    binding = EngramMemory(scope=ALICE, engram=engram).binding
    for number in range(5):
        verdicts.opened(f"r{number}", binding, run_id=number)
        held.put(f"r{number}", "text", turn=number)
    deadline = time.monotonic() + 10
    while (len(verdicts) or len(held)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (len(verdicts), len(verdicts._by_run), len(held), len(held._by_turn)) == (0, 0, 0, 0)


# --- fifty conversations at once -----------------------------------------------------------------------------------------

MANY = 50
TURNS = 3


def scope_of(context: Any) -> str:
    return f"acme/u{context['user']}"


def secret(number: int) -> str:
    return f"locker-{number:03d}x"


def tells(messages: list[BaseMessage]) -> str:
    """The secret it can see; all of them, if it should see several."""
    words = [word.strip(".,") for message in messages for word in str(message.text).split()]
    seen = sorted({word for word in words if word.startswith("locker-")})
    return f"It is {' and '.join(seen)}" if seen else "I do not know."


def looks_up(messages: list[BaseMessage]) -> Any:
    return calls("engram_recall", query="Which locker is mine?") if messages[-1].type == "human" else tells(messages)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("kind", ["chain", "middleware", "tool"])
async def test_fifty_conversations_never_hear_each_other(
    engram: Engram, ledger: Ledger, kind: str, is_async: bool
) -> None:
    """One chain or agent, one handler; only the context tells the conversations apart."""
    facts = [engram.memory(f"acme/u{n}").add(f"My locker is {secret(n)}.").facts[0].id for n in range(MANY)]
    memory = EngramMemory(scope=scope_of, engram=engram)
    handler = EngramCallbackHandler()
    if kind == "chain":
        runnable: Any = rag(memory, Scripted(answer=tells))
    elif kind == "middleware":
        runnable = create_agent(Scripted(answer=tells), memory=EngramMiddleware(memory, record=False))
    else:
        runnable = create_agent(Scripted(answer=looks_up), memory.as_tools(only=["recall"]))
    question = "Which locker is mine?"

    def text(output: Any) -> str:
        return output if kind == "chain" else str(output["messages"][-1].text)

    def config(number: int) -> Any:
        return {"callbacks": [handler], "configurable": {"user": number, "thread_id": f"t{number}"}}

    def talk(number: int) -> list[str]:
        given = question if kind == "chain" else asks(question)
        return [text(runnable.invoke(given, config(number))) for _ in range(TURNS)]

    async def atalk(number: int) -> list[str]:
        given = question if kind == "chain" else asks(question)
        return [text(await runnable.ainvoke(given, config(number))) for _ in range(TURNS)]

    if is_async:
        said = await asyncio.gather(*(atalk(number) for number in range(MANY)))
    else:
        with ThreadPoolExecutor(MANY) as pool:
            said = await asyncio.to_thread(lambda: list(pool.map(talk, range(MANY))))
    for number, fact_id in enumerate(facts):
        assert said[number] == [f"It is {secret(number)}"] * TURNS
        assert ledger.responses(fact_id) == said[number]
        assert ledger.verdicts(fact_id) == ["used"] * TURNS
    assert handler.open_turns == 0
    assert handler._turns.runs == 0


def test_retrievers_and_handlers_of_many_stores_stay_apart(tmp_path: Path) -> None:
    """One handler without a scope serves recalls of several stores."""
    handler = EngramCallbackHandler()
    stores = [Engram.open(":memory:") for _ in range(5)]
    ids = [store.memory(ALICE).add(FACT).facts[0].id for store in stores]
    for store in stores:
        retriever = EngramRetriever(scope=ALICE, engram=store)
        context = retriever | (lambda documents: documents[0].page_content)
        chain = {"context": context, "question": RunnablePassthrough()} | PROMPT | Scripted(replies=[ANSWER])
        chain.invoke(QUESTION, {"callbacks": [handler]})
    for store, fact_id in zip(stores, ids, strict=True):
        assert Ledger(store).verdicts(fact_id) == ["used"]
        store.close()
