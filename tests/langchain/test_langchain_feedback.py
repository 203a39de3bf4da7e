"""EngramFeedback: what reaches LangSmith, and that nothing does when it should not. Against a server of our own."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain_classic.chains import LLMChain
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_support import ALICE, ANSWER, FACT, QUESTION, Ledger, Scripted, asks, calls
from langsmith import Client, tracing_context
from langsmith_stub import PROJECT, Stub
from urllib3 import Retry

from engram_core import Engram
from engram_langchain import EngramFeedback, EngramMemory, create_agent

pytestmark = pytest.mark.filterwarnings("ignore:Run compression is not enabled")

BATCHING = {
    "version": "0.12.0",
    "batch_ingest_config": {
        "use_multipart_endpoint": True,
        "size_limit": 100,
        "size_limit_bytes": 20_000_000,
        "scale_up_nthreads_limit": 4,
        "scale_up_qsize_trigger": 1000,
        "scale_down_nempty_trigger": 4,
    },
    "instance_flags": {"zstd_compression_enabled": True},
}
"""What a current server says of itself."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(info=BATCHING)
    yield server
    server.close()


@pytest.fixture
def client(stub: Stub) -> Iterator[Client]:
    """A client of the stub, closed after the test."""
    made = client_of(stub)
    yield made
    made.close(timeout=5)


def client_of(stub: Stub) -> Client:
    return Client(api_url=stub.url, api_key="test", timeout_ms=2000, retry_config=Retry(0))


@pytest.fixture
def memory(engram: Engram) -> EngramMemory:
    return EngramMemory(scope=ALICE, engram=engram)


def rag(memory: EngramMemory, model: Any) -> Any:
    prompt = ChatPromptTemplate.from_template("{context}\n{question}")
    context = memory.as_retriever() | (lambda documents: "\n".join(doc.page_content for doc in documents))
    return {"context": context, "question": RunnablePassthrough()} | prompt | model | StrOutputParser()


def config_of(memory: EngramMemory, feedback: EngramFeedback, **more: Any) -> Any:
    return {"callbacks": [memory.as_callback(feedback=feedback)], **more}


def check(stub: Stub, fact_id: str, run_id: Any, *, used: bool = True) -> None:
    """One recall with one fact, and its share as feedback on the response's run."""
    [run] = stub.recalls()
    assert run["run_type"] == "retriever"
    [fact] = run["outputs"]["facts"]
    assert (fact["id"], fact["rank"]) == (fact_id, 1)
    assert fact["score"] > 0
    [feedback] = stub.feedback
    assert (feedback["key"], feedback["score"], feedback["run_id"]) == ("engram_usefulness", float(used), str(run_id))
    [told] = feedback["value"]["recalls"]
    assert told == {"recall_id": run["id"], "used": [fact_id] * used, "unused": [fact_id] * (not used), "unknown": []}
    assert feedback["feedback_source"]["metadata"]["__run"]["run_id"] == run["id"]
    assert feedback["session_id"] == str(PROJECT)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_a_traced_agent_shows_its_recall_and_what_it_was_good_for(
    stub: Stub, client: Client, memory: EngramMemory, fact_id: str, way: str
) -> None:
    """The recall stands inside the response's trace, below the middleware's hook; feedback lies on its outermost run."""
    feedback, run_id = EngramFeedback(), uuid4()
    agent = create_agent(Scripted(replies=[ANSWER]), memory=memory)
    config = config_of(memory, feedback, run_id=run_id)
    with tracing_context(enabled=True, client=client, project_name="p"):
        if way == "invoke":
            agent.invoke(asks(QUESTION), config)
        elif way == "ainvoke":
            await agent.ainvoke(asks(QUESTION), config)
        elif way == "stream":
            list(agent.stream(asks(QUESTION), config))
        else:
            _ = [chunk async for chunk in agent.astream(asks(QUESTION), config)]
    assert await asyncio.to_thread(feedback.flush, 20)
    check(stub, fact_id, run_id)
    run = stub.recalls()[0]
    assert run["trace_id"] == str(run_id)
    assert run["session_name"] == "p"
    parent = stub.runs[run["parent_run_id"]]
    assert parent["name"].endswith("before_agent")
    assert run["dotted_order"].startswith(parent["dotted_order"] + ".")
    assert (feedback.sent, feedback.failed, feedback.dropped) == (1, 0, 0)
    feedback.close()


def test_no_texts_unless_asked_for(stub: Stub, client: Client, memory: EngramMemory, fact_id: str) -> None:
    """Neither the question nor the facts; with `with_texts` both, in LangSmith's shape for documents."""
    for with_texts in (False, True):
        feedback = EngramFeedback(client, with_texts=with_texts)
        with tracing_context(enabled=False):
            rag(memory, Scripted(replies=[ANSWER])).invoke(QUESTION, config_of(memory, feedback))
        assert feedback.close()
    bare, told = stub.recalls()
    assert not any(text in str(bare) for text in (FACT, QUESTION))
    assert not any(text in str(stub.feedback) for text in (FACT, QUESTION, ANSWER))
    assert told["inputs"] == {"query": QUESTION}
    assert told["outputs"]["documents"][0]["page_content"] == FACT


def test_a_chain_with_tools_and_two_recalls_is_one_feedback(
    stub: Stub, client: Client, engram: Engram, memory: EngramMemory, fact_id: str
) -> None:
    """Score over all facts shown; one line per recall."""
    other = engram.memory("acme/notes").add("The espresso machine needs descaling in June.").facts[0].id
    notes = EngramMemory(scope="acme/notes", engram=engram)
    agent = create_agent(
        Scripted(replies=[calls("engram_recall", query="espresso machine"), ANSWER]),
        notes.as_tools(only=["recall"]),
        memory=memory,
    )
    feedback = EngramFeedback()
    with tracing_context(enabled=True, client=client, project_name="p"):
        agent.invoke(asks(QUESTION), config_of(memory, feedback))
    assert feedback.close(20)
    assert len(stub.recalls()) == 2
    [told] = stub.feedback
    assert told["score"] == 0.5
    assert {id_ for recall in told["value"]["recalls"] for id_ in recall["used"]} == {fact_id}
    assert {id_ for recall in told["value"]["recalls"] for id_ in recall["unused"]} == {other}
    assert len(told["comment"].splitlines()) == 2


def test_an_unknown_outcome_has_no_score(stub: Stub, client: Client, memory: EngramMemory, fact_id: str) -> None:
    """An error is not a bad grade."""
    feedback = EngramFeedback()
    with tracing_context(enabled=True, client=client, project_name="p"), pytest.raises(RuntimeError, match="down"):
        rag(memory, Scripted(replies=[RuntimeError("down")])).invoke(QUESTION, config_of(memory, feedback))
    assert feedback.close(20)
    [told] = stub.feedback
    assert told.get("score") is None
    assert told["value"]["recalls"][0]["unknown"] == [fact_id]


@pytest.mark.filterwarnings("ignore:.*LLMChain.*was deprecated")
def test_a_classic_chains_recall_is_told_as_well(
    stub: Stub, client: Client, memory: EngramMemory, fact_id: str
) -> None:
    """It is made before the chain's run begins, so it is a trace of its own; the feedback names it as its source."""
    prompt = PromptTemplate.from_template("{history}\n{question}")
    chain = LLMChain(llm=Scripted(replies=[ANSWER]), prompt=prompt, memory=memory)
    feedback, run_id = EngramFeedback(), uuid4()
    with tracing_context(enabled=True, client=client, project_name="p"):
        chain.invoke({"question": QUESTION}, config_of(memory, feedback, run_id=run_id))
    assert feedback.close(20)
    check(stub, fact_id, run_id)
    assert stub.recalls()[0]["parent_run_id"] is None


def test_a_batch_is_one_feedback_each(stub: Stub, client: Client, memory: EngramMemory, fact_id: str) -> None:
    """Every response has its own run, and the server gets them in batches."""
    feedback = EngramFeedback()
    chain = rag(memory, Scripted(answer=lambda messages: ANSWER))
    with tracing_context(enabled=True, client=client, project_name="p"):
        chain.batch([QUESTION] * 12, config_of(memory, feedback))
    assert feedback.close(20)
    assert len(stub.recalls()) == len(stub.feedback) == 12
    roots = {run["id"] for run in stub.runs.values() if run.get("parent_run_id") is None}
    assert {told["run_id"] for told in stub.feedback} == roots
    posts = [request for request in stub.requests if request.startswith("POST")]
    assert len(posts) < 12, posts


def test_fifty_threads_share_one_feedback(stub: Stub, client: Client, engram: Engram) -> None:
    """Each response gets the facts of its own conversation."""
    facts = {f"acme/u{n}": engram.memory(f"acme/u{n}").add(f"My locker is locker-{n}x").facts[0].id for n in range(50)}
    feedback = EngramFeedback(client)
    runs = {scope: uuid4() for scope in facts}

    def one(scope: str) -> None:
        memory = EngramMemory(scope=scope, engram=engram)
        answer = f"It is locker-{scope[6:]}x"
        rag(memory, Scripted(replies=[answer])).invoke(
            "Which locker is mine?", config_of(memory, feedback, run_id=runs[scope])
        )

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, facts))
    assert feedback.close(30)
    told = {item["run_id"]: item["value"]["recalls"][0] for item in stub.feedback}
    assert {scope: told[str(run)]["used"] for scope, run in runs.items()} == {s: [id_] for s, id_ in facts.items()}


def test_an_old_server_gets_feedback_without_batching(memory: EngramMemory, fact_id: str) -> None:
    """Its `/info` is empty: the client then posts feedback by itself, in our thread."""
    stub = Stub()
    client = client_of(stub)
    feedback, run_id = EngramFeedback(client), uuid4()
    with tracing_context(enabled=True, client=client, project_name="p"):
        rag(memory, Scripted(replies=[ANSWER])).invoke(QUESTION, config_of(memory, feedback, run_id=run_id))
    assert feedback.close(20)
    check(stub, fact_id, run_id)
    assert "POST /feedback" in stub.requests
    client.close(timeout=5)
    stub.close()


def test_an_interrupted_turn_posts_its_recall_once(
    stub: Stub, client: Client, memory: EngramMemory, fact_id: str
) -> None:
    """It ends twice: unknown first, then with an answer."""
    from langchain_core.tools import tool
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.types import Command, interrupt

    @tool
    def ask_human() -> str:
        """Ask."""
        return str(interrupt("well?"))

    model = Scripted(replies=[calls("ask_human"), ANSWER])
    agent = create_agent(model, [ask_human], memory=memory, checkpointer=InMemorySaver())
    feedback = EngramFeedback()
    config = config_of(memory, feedback, configurable={"thread_id": "t"})
    with tracing_context(enabled=True, client=client, project_name="p"):
        agent.invoke(asks(QUESTION), config)
        agent.invoke(Command(resume="yes"), config)
    assert feedback.close(20)
    assert len(stub.recalls()) == 1
    assert stub.feedback[0].get("score") is None


# --- when nothing may be sent, or nothing can be -----------------------------------------------------------------------


def test_tracing_off_sends_nothing(stub: Stub, client: Client, memory: EngramMemory, fact_id: str) -> None:
    """Not even a thread is started."""
    feedback = EngramFeedback()
    assert not feedback.is_on
    with tracing_context(enabled=False, client=client):
        rag(memory, Scripted(replies=[ANSWER])).invoke(QUESTION, config_of(memory, feedback))
    assert feedback.close()
    assert (feedback.sent, feedback.dropped, feedback._thread) == (0, 0, None)
    assert [request for request in stub.requests if request != "GET /info"] == []


SCRIPT = """
import langsmith.run_trees as trees
from langchain_support import ALICE, ANSWER, FACT, QUESTION, Scripted, asks
from engram_core import Engram
from engram_langchain import EngramFeedback, EngramMemory, create_agent

feedback = EngramFeedback()
assert trees._CLIENT is None
engram = Engram.open(":memory:")
engram.memory(ALICE).add(FACT)
memory = EngramMemory(scope=ALICE, engram=engram)
agent = create_agent(Scripted(replies=[ANSWER]), memory=memory)
agent.invoke(asks(QUESTION), {"callbacks": [memory.as_callback(feedback=feedback)]})
assert feedback.close(20)
print(feedback.sent, trees._CLIENT is not None)
"""


@pytest.mark.parametrize(
    ("switch", "printed"),
    [({"LANGSMITH_TRACING": "true"}, "1 True"), ({"LANGCHAIN_TRACING_V2": "true"}, "1 True"), ({}, "0 False")],
)
def test_the_environment_decides(stub: Stub, switch: dict[str, str], printed: str) -> None:
    """Nothing but the switch makes a client; with an endpoint and a key alone nothing is sent."""
    given = {key: value for key, value in os.environ.items() if not key.startswith(("LANGSMITH", "LANGCHAIN"))}
    environment = {**given, "LANGSMITH_ENDPOINT": stub.url, "LANGSMITH_API_KEY": "test", **switch}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.strip() == printed, done.stderr
    if switch:
        assert (len(stub.recalls()), len(stub.feedback)) == (1, 1)
    else:
        assert stub.requests == []


def run_turns(memory: EngramMemory, feedback: EngramFeedback, count: int) -> float:
    """Seconds that some turns took their user."""
    chain = rag(memory, Scripted(answer=lambda messages: ANSWER))
    config = config_of(memory, feedback)
    started = time.perf_counter()
    with tracing_context(enabled=False):
        for _ in range(count):
            assert chain.invoke(QUESTION, config) == ANSWER
    return time.perf_counter() - started


def test_a_slow_server_delays_nobody(stub: Stub, client: Client, memory: EngramMemory, fact_id: str) -> None:
    """Every answer of the server takes longer than all turns together may."""
    stub.delay_s = 1.5
    feedback = EngramFeedback(client)
    plain = run_turns(memory, EngramFeedback(), 5)
    assert run_turns(memory, feedback, 5) < plain + stub.delay_s
    stub.delay_s = 0.0
    assert feedback.close(30)
    assert feedback.sent == 5


def test_a_full_queue_drops_counts_and_says_so(
    stub: Stub, client: Client, memory: EngramMemory, fact_id: str, caplog: Any
) -> None:
    """The worker is held up in the server; four wait, the rest is dropped without waiting."""
    hold = threading.Event()
    take = stub.take
    stub.take = lambda *request: (hold.wait(20), take(*request))[1]  # type: ignore[method-assign]
    feedback = EngramFeedback(client, max_queue=4)
    with caplog.at_level(logging.WARNING, "engram"):
        run_turns(memory, feedback, 12)
    assert 7 <= feedback.dropped <= 8
    assert "dropped so far" in caplog.text
    hold.set()
    assert feedback.close(30)
    assert feedback.sent + feedback.dropped == 12
    run_turns(memory, feedback, 1)
    assert feedback.sent + feedback.dropped == 13, "after close everything is dropped"


def test_a_server_that_is_down_harms_nobody(memory: EngramMemory, ledger: Ledger, fact_id: str, caplog: Any) -> None:
    """Turns are judged as ever; the failure is counted and logged once per turn."""
    stub = Stub()
    client = client_of(stub)
    stub.close()
    feedback = EngramFeedback(client)
    with caplog.at_level(logging.WARNING, "engram"):
        run_turns(memory, feedback, 2)
        feedback.close(3)
    assert ledger.verdicts(fact_id) == ["used", "used"]
    assert feedback.failed == 2
    assert "could not be sent" in caplog.text
    client.close(timeout=0.1)


def test_a_server_that_fails_harms_nobody(memory: EngramMemory, ledger: Ledger, fact_id: str) -> None:
    """Status 500 for everything."""
    stub = Stub(status=500)
    client = client_of(stub)
    feedback = EngramFeedback(client)
    run_turns(memory, feedback, 2)
    feedback.close(3)
    assert ledger.verdicts(fact_id) == ["used", "used"]
    assert (feedback.sent, feedback.failed) == (0, 2)
    client.close(timeout=0.1)
    stub.close()


def test_a_store_that_was_closed_meanwhile_harms_nobody(
    client: Client, engram: Engram, memory: EngramMemory, fact_id: str, caplog: Any
) -> None:
    """The worker reads the recall from the store."""
    feedback = EngramFeedback(client)
    hold = threading.Event()
    send = feedback._send
    feedback._send = lambda turn: (hold.wait(10), send(turn))[1]  # type: ignore[method-assign]
    run_turns(memory, feedback, 1)
    engram.close()
    hold.set()
    with caplog.at_level(logging.WARNING, "engram"):
        feedback.close(10)
    assert feedback.failed == 1
    assert "closed" in caplog.text
