"""EngramCallbackHandler: from recall to response, over every way a chain can run, fail or be abandoned."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.tools import create_retriever_tool
from langchain_support import ALICE, ANSWER, FACT, QUESTION, Ledger, Scripted, asks, calls

from engram_core import Engram
from engram_langchain import EngramCallbackHandler, EngramMemory, EngramRetriever, create_agent

PROMPT = ChatPromptTemplate.from_template("Context: {context}\nQuestion: {question}")


def texts(documents: list[Document]) -> str:
    return "\n".join(document.page_content for document in documents)


def rag(engram: Engram, model: Any, scope: Any = ALICE) -> Any:
    retriever = EngramRetriever(scope=scope, engram=engram)
    return {"context": retriever | texts, "question": RunnablePassthrough()} | PROMPT | model


@pytest.fixture
def handler() -> EngramCallbackHandler:
    return EngramCallbackHandler()


def with_handler(handler: EngramCallbackHandler, **configurable: Any) -> Any:
    return {"callbacks": [handler], "configurable": configurable}


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "with_config"])
async def test_a_chain_is_observed_with_its_final_text(
    engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler, way: str
) -> None:
    """The handler needs no scope: recalls made here know who made them."""
    chain = rag(engram, Scripted(replies=[ANSWER])) | StrOutputParser()
    config = with_handler(handler)
    if way == "invoke":
        chain.invoke(QUESTION, config)
    elif way == "ainvoke":
        await chain.ainvoke(QUESTION, config)
    elif way == "stream":
        list(chain.stream(QUESTION, config))
    elif way == "astream":
        _ = [chunk async for chunk in chain.astream(QUESTION, config)]
    else:
        chain.with_config(callbacks=[handler]).invoke(QUESTION)
    assert [response.strip() for response in ledger.responses(fact_id)] == [ANSWER]
    assert ledger.verdicts(fact_id) == ["used"]
    assert handler.open_turns == 0


def test_a_batch_is_four_turns(engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler) -> None:
    """Each item has its own root."""
    chain = rag(engram, Scripted(answer=lambda messages: ANSWER))
    chain.batch([QUESTION] * 4, with_handler(handler))
    assert ledger.verdicts(fact_id) == ["used"] * 4
    assert handler.open_turns == 0


def test_parallel_branches_are_one_turn(engram: Engram, ledger: Ledger, handler: EngramCallbackHandler) -> None:
    """Two retrievals in two threads, one response made of both answers."""
    home = engram.memory("acme/home").add("The house key is under the blue pot.").facts[0].id
    work = engram.memory("acme/work").add("The office key hangs behind desk 12.").facts[0].id
    chain = RunnableParallel(
        home=rag(engram, Scripted(replies=["It is under the blue pot."]), "acme/home"),
        work=rag(engram, Scripted(replies=["The office key hangs behind desk 12."]), "acme/work"),
    )
    chain.invoke("Where is the house key, and where does the office key hang?", with_handler(handler))
    assert [ledger.verdicts(home), ledger.verdicts(work)] == [["used"], ["used"]]
    assert len({*ledger.responses(home), *ledger.responses(work)}) == 1


def test_answers_beside_their_documents_do_not_make_facts_used(
    engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler
) -> None:
    """A RAG dict holds context, question and reply; only the reply is the response, whatever its key is called."""
    retriever = EngramRetriever(scope=ALICE, engram=engram)
    answering = PROMPT | Scripted(replies=["Invoices are due within thirty days."])
    chain = {"context": retriever, "question": RunnablePassthrough()} | RunnablePassthrough.assign(reply=answering)
    chain.invoke("When are invoices due, and where does Alice live?", with_handler(handler))
    assert ledger.verdicts(fact_id) == ["unused"]


def test_a_parsed_answer_counts_by_what_the_model_said(
    engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler
) -> None:
    """After a parser the output is a dict of unknown keys."""
    model = Scripted(replies=['{"city": "Lisbon near the river"}'])
    (rag(engram, model) | JsonOutputParser()).invoke(QUESTION, with_handler(handler))
    assert ledger.verdicts(fact_id) == ["used"]


def test_completion_models_work_too(
    engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler
) -> None:
    """on_llm_start instead of on_chat_model_start."""
    rag(engram, FakeListLLM(responses=[ANSWER])).invoke(QUESTION, with_handler(handler))
    assert ledger.verdicts(fact_id) == ["used"]


def test_a_model_error_is_unknown(engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler) -> None:
    """And reaches the user unchanged."""
    with pytest.raises(RuntimeError, match="no capacity"):
        rag(engram, Scripted(replies=[RuntimeError("no capacity")])).invoke(QUESTION, with_handler(handler))
    assert ledger.verdicts(fact_id) == ["unknown"]
    assert handler.open_turns == 0


def test_a_fallback_that_answers_is_a_whole_answer(
    engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler
) -> None:
    """The first model's error is not the turn's."""
    model = Scripted(replies=[RuntimeError("no capacity")]).with_fallbacks([Scripted(replies=[ANSWER])])
    rag(engram, model).invoke(QUESTION, with_handler(handler))
    assert ledger.verdicts(fact_id) == ["used"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_abandoned_stream_is_unknown(
    engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler, is_async: bool
) -> None:
    """LCEL ends the root with the partial text, and only then reports GeneratorExit: neither is a verdict."""
    chain = rag(engram, Scripted(replies=["You live in Lisbon near the river, I think."])) | StrOutputParser()
    if is_async:
        stream = chain.astream(QUESTION, with_handler(handler))
        await anext(stream)
        await anext(stream)
        await stream.aclose()
        await asyncio.sleep(0.05)  # LCEL leaves its inner generators to the event loop's finalizers
    else:
        sync = chain.stream(QUESTION, with_handler(handler))
        next(sync)
        next(sync)
        sync.close()
    gc.collect()
    assert ledger.verdicts(fact_id) == ["unknown"]
    assert handler.open_turns == 0


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_stream_abandoned_after_an_earlier_model_call_is_unknown(
    engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler, is_async: bool
) -> None:
    """A first model rewrote the question and finished; the second one, which answers, did not."""
    rewrite = ChatPromptTemplate.from_template("{question}") | Scripted(replies=[QUESTION]) | StrOutputParser()
    answer = rag(engram, Scripted(replies=["You live in Lisbon near the river, I think."])) | StrOutputParser()
    chain = {"question": RunnablePassthrough()} | rewrite | answer
    if is_async:
        stream = chain.astream(QUESTION, with_handler(handler))
        for _ in range(6):
            await anext(stream)
        await stream.aclose()
        await asyncio.sleep(0.05)
    else:
        sync: Any = chain.stream(QUESTION, with_handler(handler))
        for _ in range(6):
            next(sync)
        sync.close()
    gc.collect()
    assert ledger.verdicts(fact_id) == ["unknown"]


def test_a_cut_off_model_leaves_the_turn_unknown_whatever_text_follows(
    engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler
) -> None:
    """Should a framework report the break before it ends the chain."""
    root, inner, first, second = uuid4(), uuid4(), uuid4(), uuid4()
    handler.on_chain_start({}, {}, run_id=root)
    handler.on_retriever_start({}, QUESTION, run_id=inner, parent_run_id=root)
    handler.on_retriever_end(EngramRetriever(scope=ALICE, engram=engram).invoke(QUESTION), run_id=inner)
    handler.on_chat_model_start({}, [[]], run_id=first, parent_run_id=root)
    handler.on_llm_end(Scripted(replies=[QUESTION]).generate([[]]), run_id=first)
    handler.on_chat_model_start({}, [[]], run_id=second, parent_run_id=root)
    handler.on_llm_error(GeneratorExit(), run_id=second)
    handler.on_chain_end(ANSWER, run_id=root)
    assert ledger.verdicts(fact_id) == ["unknown"]


async def test_a_cancelled_run_is_unknown(
    engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler
) -> None:
    """The user closed the page."""
    started = asyncio.Event()

    async def forever(_: Any) -> str:
        started.set()
        await asyncio.sleep(30)
        return ANSWER

    chain = rag(engram, Scripted(replies=[ANSWER])) | RunnableLambda(forever)
    task = asyncio.create_task(chain.ainvoke(QUESTION, with_handler(handler)))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ledger.verdicts(fact_id) == ["unknown"]
    assert handler.open_turns == 0


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_retriever_alone_is_unknown(
    engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler, is_async: bool
) -> None:
    """There is no answer to compare with; nor is there in `retriever | format`, which returns the facts themselves."""
    retriever = EngramRetriever(scope=ALICE, engram=engram)
    for runnable in (retriever, retriever | texts):
        if is_async:
            await runnable.ainvoke(QUESTION, with_handler(handler))
        else:
            runnable.invoke(QUESTION, with_handler(handler))
    assert ledger.verdicts(fact_id) == ["unknown", "unknown"]


def test_documents_of_a_retriever_tool_are_observed(
    engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler
) -> None:
    """LangChain's own retriever tool inside an agent."""
    lookup = create_retriever_tool(EngramRetriever(scope=ALICE, engram=engram), "lookup", "Look things up.")
    agent = create_agent(Scripted(replies=[calls("lookup", query="Alice city"), ANSWER]), [lookup])
    agent.invoke(asks(QUESTION), with_handler(handler))
    assert ledger.verdicts(fact_id) == ["used"]


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_facts_fetched_by_a_tool_are_observed(
    engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler, way: str
) -> None:
    """Without any middleware the handler finds the recall id in the tool's artifact."""
    memory = EngramMemory(scope=ALICE, engram=engram)
    agent = create_agent(Scripted(replies=[calls("engram_recall", query="Alice city"), ANSWER]), memory.as_tools())
    config = with_handler(handler)
    if way == "invoke":
        agent.invoke(asks(QUESTION), config)
    elif way == "ainvoke":
        await agent.ainvoke(asks(QUESTION), config)
    elif way == "stream":
        list(agent.stream(asks(QUESTION), config))
    else:
        _ = [chunk async for chunk in agent.astream(asks(QUESTION), config)]
    assert [response.strip() for response in ledger.responses(fact_id)] == [ANSWER]
    assert ledger.verdicts(fact_id) == ["used"]


def test_two_handlers_count_once(engram: Engram, ledger: Ledger, fact_id: str, handler: EngramCallbackHandler) -> None:
    """One given to the chain, one to the call."""
    chain = rag(engram, Scripted(replies=[ANSWER])).with_config(callbacks=[EngramCallbackHandler()])
    chain.invoke(QUESTION, with_handler(handler))
    assert ledger.verdicts(fact_id) == ["used"]


def test_an_evicted_turn_is_unknown(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """Runs that never end cannot fill the memory of a server."""
    handler = EngramCallbackHandler(max_open=1)
    never = uuid4()
    handler.on_chain_start({}, {}, run_id=never)
    inner = uuid4()
    handler.on_retriever_start({}, QUESTION, run_id=inner, parent_run_id=never)
    handler.on_retriever_end(
        EngramRetriever(scope=ALICE, engram=engram).invoke(QUESTION), run_id=inner, parent_run_id=never
    )
    assert ledger.verdicts(fact_id) == []
    handler.on_chain_start({}, {}, run_id=uuid4())
    assert ledger.verdicts(fact_id) == ["unknown"]
    assert handler.open_turns == 1


def test_close_settles_what_is_in_flight(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """At shutdown."""
    handler = EngramCallbackHandler()
    root, inner = uuid4(), uuid4()
    handler.on_chain_start({}, {}, run_id=root)
    handler.on_retriever_start({}, QUESTION, run_id=inner, parent_run_id=root)
    handler.on_retriever_end(EngramRetriever(scope=ALICE, engram=engram).invoke(QUESTION), run_id=inner)
    handler.close()
    assert ledger.verdicts(fact_id) == ["unknown"]
    assert handler.open_turns == 0


def test_recalls_of_another_process_need_a_scope(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """Documents may come from a remote retriever: only the recall id crosses."""
    recall = engram.memory(ALICE).recall(QUESTION)
    remote: Any = RunnableLambda(lambda _: [Document(page_content=FACT, metadata={"recall_id": recall.id})])

    def turn(handler: EngramCallbackHandler) -> None:
        root, inner, model = uuid4(), uuid4(), uuid4()
        handler.on_chain_start({}, {}, run_id=root)
        handler.on_retriever_start({}, QUESTION, run_id=inner, parent_run_id=root)
        handler.on_retriever_end(remote.invoke(QUESTION), run_id=inner, parent_run_id=root)
        handler.on_chat_model_start({}, [[]], run_id=model, parent_run_id=root)
        handler.on_llm_end(Scripted(replies=[ANSWER]).generate([[]]), run_id=model, parent_run_id=root)
        handler.on_chain_end(AIMessage(ANSWER), run_id=root)

    turn(EngramCallbackHandler())
    assert ledger.verdicts(fact_id) == []
    turn(EngramCallbackHandler(ALICE, engram=engram))
    assert ledger.verdicts(fact_id) == ["used"]


def echo(messages: list[Any]) -> str:
    return next((w for m in messages for w in str(m.text).split() if w.startswith("locker-")), "I do not know.")


def seeded(engram: Engram) -> list[str]:
    return [engram.memory(f"acme/u{i}").add(f"My locker is locker-{i}").facts[0].id for i in range(8)]


def test_eight_threads_never_mix(engram: Engram, ledger: Ledger, handler: EngramCallbackHandler) -> None:
    """One chain, one handler, scopes from `configurable`."""
    facts = seeded(engram)
    chain = rag(engram, Scripted(answer=echo), lambda context: f"acme/{context['user']}") | StrOutputParser()
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda i: chain.invoke("Which locker is mine?", with_handler(handler, user=f"u{i}")), range(8))
        )
    assert [f"locker-{i}" for i in range(8)] == answers
    assert [ledger.verdicts(fact) for fact in facts] == [["used"]] * 8


async def test_eight_tasks_never_mix(engram: Engram, ledger: Ledger, handler: EngramCallbackHandler) -> None:
    """The same on one event loop, streamed."""
    facts = seeded(engram)
    chain = rag(engram, Scripted(answer=echo), lambda context: f"acme/{context['user']}") | StrOutputParser()

    async def ask(i: int) -> str:
        stream = chain.astream("Which locker is mine?", with_handler(handler, user=f"u{i}"))
        return "".join([chunk async for chunk in stream]).strip()

    assert [f"locker-{i}" for i in range(8)] == await asyncio.gather(*map(ask, range(8)))
    assert [ledger.verdicts(fact) for fact in facts] == [["used"]] * 8


def test_a_store_closed_in_between_does_not_break_the_chain(
    engram: Engram, fact_id: str, handler: EngramCallbackHandler, caplog: pytest.LogCaptureFixture
) -> None:
    """The observation fails, is logged, and the answer arrives."""

    def closing(messages: list[Any]) -> str:
        engram.close()
        return ANSWER

    result = rag(engram, Scripted(answer=closing)).invoke(QUESTION, with_handler(handler))
    assert result.text == ANSWER
    assert "observe failed and was skipped" in caplog.text
