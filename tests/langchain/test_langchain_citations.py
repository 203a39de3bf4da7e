"""Citations: markers go into the prompt, come back in the answer, decide the verdicts, and are not shown to the user."""

from __future__ import annotations

import re
from typing import Any

import pytest
from langchain_classic.agents import AgentExecutor, create_tool_calling_agent
from langchain_classic.chains import LLMChain
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.tools import tool
from langchain_support import ALICE, FACT, QUESTION, Ledger, Scripted, asks, calls
from langgraph.checkpoint.memory import InMemorySaver

from engram_core import CITE_INSTRUCTION, Engram, strip_citations
from engram_langchain import EngramCallbackHandler, EngramMemory, EngramMiddleware, create_agent

ASIDE = "Alice was born in Porto and visits Lisbon often."
SHOWN = "By the river, in the capital."


@pytest.fixture
def aside_id(engram: Engram) -> str:
    """A second fact near the question, which no answer cites."""
    return engram.memory(ALICE).add(ASIDE).facts[0].id


def citing(messages: list[BaseMessage]) -> str:
    """Cites the line that tells where Alice lives, after words that both facts might explain."""
    prompt = "\n".join(str(message.text) for message in messages)
    found = re.search(r"\[(m\d)\] [^\n]*lives in Lisbon", prompt)
    assert found, prompt
    return f"By the river, in the capital [{found[1]}]."


def memory_of(engram: Engram, **options: Any) -> EngramMemory:
    return EngramMemory(scope=ALICE, engram=engram, cite=True, **options)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_an_agent_cites_and_its_user_sees_no_markers(
    engram: Engram, ledger: Ledger, fact_id: str, aside_id: str, way: str
) -> None:
    """What is exact: one fact used, although both share words with the answer's topic."""
    model = Scripted(answer=citing)
    agent = create_agent(model, memory=memory_of(engram), checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    if way == "invoke":
        agent.invoke(asks(QUESTION), config)
    elif way == "ainvoke":
        await agent.ainvoke(asks(QUESTION), config)
    elif way == "stream":
        list(agent.stream(asks(QUESTION), config))
    else:
        _ = [chunk async for chunk in agent.astream(asks(QUESTION), config)]
    state = agent.get_state(config).values["messages"]
    assert [message.text.strip() for message in state] == [QUESTION, SHOWN]
    assert CITE_INSTRUCTION in model.seen
    assert (ledger.verdicts(fact_id), ledger.verdicts(aside_id)) == (["used"], ["unused"])
    assert re.search(r"\[m\d\]", ledger.responses(fact_id)[0]), "the record keeps what the model said"
    assert not any("[m" in text for text in ledger.texts())


def test_messages_of_tool_turns_lose_their_markers_too(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """Blocks keep their shape."""

    @tool
    def weather(city: str) -> str:
        """The weather."""
        return "Sunny [m1]."

    first = AIMessage("As you live in Lisbon [m1]", tool_calls=calls("weather", city="Lisbon").tool_calls)
    last = AIMessage([{"type": "text", "text": "Sunny in Lisbon [m1].", "annotations": []}])
    agent = create_agent(Scripted(replies=[first, last]), [weather], memory=EngramMiddleware(ALICE, engram, cite=True))
    messages = agent.invoke(asks("How is the weather where Alice lives?"))["messages"]
    assert messages[1].content == "As you live in Lisbon"
    assert messages[1].tool_calls
    assert messages[2].content == "Sunny [m1].", "only a model cites"
    assert messages[3].content == [{"type": "text", "text": "Sunny in Lisbon.", "annotations": []}]
    assert ledger.verdicts(fact_id) == ["used"]


@pytest.mark.filterwarnings("ignore:.*LLMChain.*was deprecated")
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_classic_chain_returns_no_markers(
    engram: Engram, ledger: Ledger, fact_id: str, aside_id: str, is_async: bool
) -> None:
    """LLMChain hands on what the memory leaves in its outputs."""
    prompt = PromptTemplate.from_template("{history}\n{question}")
    chain = LLMChain(llm=Scripted(answer=citing), prompt=prompt, memory=memory_of(engram))
    result = await chain.ainvoke({"question": QUESTION}) if is_async else chain.invoke({"question": QUESTION})
    assert result["text"] == SHOWN
    assert (ledger.verdicts(fact_id), ledger.verdicts(aside_id)) == (["used"], ["unused"])
    assert not any("[m" in text for text in ledger.texts())


def test_an_agent_executor_returns_no_markers(engram: Engram, ledger: Ledger, fact_id: str) -> None:
    """Invoked and streamed; the streamed outcome holds the answer twice."""
    prompt = ChatPromptTemplate.from_messages(
        [("system", "{history}"), ("human", "{input}"), ("placeholder", "{agent_scratchpad}")]
    )

    @tool
    def nothing() -> str:
        """Do nothing."""
        return ""

    agent = create_tool_calling_agent(Scripted(answer=citing), [nothing], prompt)
    executor = AgentExecutor(agent=agent, tools=[nothing], memory=memory_of(engram))
    assert executor.invoke({"input": QUESTION})["output"].strip() == SHOWN
    last = list(executor.stream({"input": QUESTION}))[-1]
    assert last["output"].strip() == SHOWN
    assert last["messages"][-1].text.strip() == SHOWN
    assert ledger.verdicts(fact_id) == ["used", "used"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_chain_that_strips_is_judged_by_what_the_model_cited(
    engram: Engram, ledger: Ledger, fact_id: str, aside_id: str, is_async: bool
) -> None:
    """The instruction stands in the user's prompt, `strip_citations` at the end of the user's chain."""
    retriever = memory_of(engram).as_retriever()
    prompt = ChatPromptTemplate.from_template(f"{{context}}\n{CITE_INSTRUCTION}\n{{question}}")
    context = retriever | (lambda documents: "\n".join(document.page_content for document in documents))
    chain = (
        {"context": context, "question": RunnablePassthrough()}
        | prompt
        | Scripted(answer=citing)
        | StrOutputParser()
        | strip_citations
    )
    config: Any = {"callbacks": [EngramCallbackHandler()]}
    assert (await chain.ainvoke(QUESTION, config) if is_async else chain.invoke(QUESTION, config)) == SHOWN
    assert (ledger.verdicts(fact_id), ledger.verdicts(aside_id)) == (["used"], ["unused"])


def test_documents_know_their_markers(engram: Engram, fact_id: str) -> None:
    """Only where they have one."""
    document = memory_of(engram).as_retriever().invoke(QUESTION)[0]
    assert document.page_content == f"[m1] {FACT}"
    assert document.metadata["marker"] == "m1"
    plain = EngramMemory(scope=ALICE, engram=engram).as_retriever().invoke(QUESTION)[0]
    assert (plain.page_content, "marker" in plain.metadata) == (FACT, False)


def test_recalls_of_tools_carry_no_markers(engram: Engram, fact_id: str) -> None:
    """They would be the same ones as the middleware's."""
    recall = memory_of(engram).as_tools(only=["recall"])[0]
    assert "[m1]" not in recall.invoke({"query": QUESTION})


def test_without_cite_markers_stay_as_they_are(engram: Engram, fact_id: str) -> None:
    """Somebody else's brackets."""
    agent = create_agent(Scripted(replies=["Row [m1]."]), memory=EngramMemory(scope=ALICE, engram=engram))
    assert agent.invoke({"messages": [HumanMessage(QUESTION)]})["messages"][-1].text == "Row [m1]."
