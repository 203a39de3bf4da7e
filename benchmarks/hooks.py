"""What the hooks cost per turn: the same chain, agent or engine with and without them, alternately, in one run.

    python -m benchmarks.hooks [--turns 300]

Models answer at once and nothing else is slow, so the ratios are the worst case: with a real model of a second, a
millisecond is a thousandth. Processor time is counted, because the machine may be shared. "plain" is the framework
alone, with the same facts from a retriever of its own that holds them in a list; "recall" recalls from a store on disk;
"hooks" also connects and judges the answer; "memory" also remembers both messages, which is acknowledged when it is on
disk.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.corpus import statements
from engram_core import Engram

SCOPE = "bench/hooks"
QUESTION = "Where does the person who bakes bread live?"
ANSWER = "They live near the river, I think, and bake bread on Sundays."
FACTS = 1_000
BLOCK = 10


@dataclass(frozen=True)
class Way:
    """A turn, and what is switched on around a block of them."""

    turn: Callable[[], object]
    around: Callable[[], AbstractContextManager[object]] = nullcontext


def alternately(turns: int, ways: dict[str, Way]) -> dict[str, float]:
    """Median milliseconds of processor time per turn of each way, all threads, in alternating blocks of ten."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for block in range(turns // BLOCK + 1):
        for name, way in ways.items():
            with way.around():
                for _ in range(BLOCK):
                    started = time.process_time()
                    way.turn()
                    if block > 0:  # all warm
                        spent[name].append((time.process_time() - started) * 1000)
    return {name: statistics.median(values) for name, values in spent.items()}


def report(what: str, medians: dict[str, float]) -> None:
    """One line: each way's median, what it adds to the one before, and its ratio to the first."""
    names = list(medians)
    parts = [f"{names[0]} {medians[names[0]]:6.2f} ms"]
    for before, name in itertools.pairwise(names):
        added, ratio = medians[name] - medians[before], medians[name] / medians[names[0]]
        parts.append(f"{name} {medians[name]:6.2f} ms (+{added:.2f}, x{ratio:.2f})")
    print(f"{what:34s} {'   '.join(parts)}")


def langchain_ways(engram: Engram, texts: Sequence[str]) -> dict[str, dict[str, Way]]:
    """An LCEL chain and an agent."""
    from langchain.agents import create_agent
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.documents import Document
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.outputs import ChatGeneration, ChatResult
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import RunnablePassthrough

    from engram_langchain import EngramCallbackHandler, EngramMiddleware, EngramRetriever

    class Instant(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "instant"

        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
            return ChatResult(generations=[ChatGeneration(message=AIMessage(ANSWER))])

    class Fixed(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            return [Document(page_content=text) for text in texts]

    class Silent(BaseCallbackHandler):
        """A handler that does nothing: what LangChain itself charges for having one."""

    def chain(retriever: Any) -> Any:
        context = retriever | (lambda documents: "\n".join(document.page_content for document in documents))
        prompt = ChatPromptTemplate.from_template("{context}\n{question}")
        return {"context": context, "question": RunnablePassthrough()} | prompt | Instant() | StrOutputParser()

    handler, silent = EngramCallbackHandler(), Silent()
    plain, ours = chain(Fixed()), chain(EngramRetriever(scope=SCOPE, engram=engram))
    bare = create_agent(Instant())
    middleware = create_agent(Instant(), middleware=[EngramMiddleware(SCOPE, engram, record=False)])
    given: Any = {"messages": [("user", QUESTION)]}
    return {
        "LangChain, LCEL chain": {
            "plain": Way(lambda: plain.invoke(QUESTION)),
            "recall": Way(lambda: ours.invoke(QUESTION)),
            "hooks": Way(lambda: ours.invoke(QUESTION, {"callbacks": [handler]})),
        },
        "LangChain, handler without recall": {
            "plain": Way(lambda: plain.invoke(QUESTION, {"callbacks": [silent]})),
            "hooks": Way(lambda: plain.invoke(QUESTION, {"callbacks": [handler]})),
        },
        "LangChain, agent with middleware": {
            "plain": Way(lambda: bare.invoke(given)),
            "hooks": Way(lambda: middleware.invoke(given)),
        },
    }


def llamaindex_ways(engram: Engram, texts: Sequence[str]) -> dict[str, dict[str, Way]]:
    """A query engine and a chat engine. `instrument()` is on only while its own way runs."""
    from llama_index.core import MockEmbedding, Settings
    from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata
    from llama_index.core.chat_engine import SimpleChatEngine
    from llama_index.core.llms import MockLLM
    from llama_index.core.llms.custom import CustomLLM
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

    from engram_llamaindex import EngramMemory, EngramRetriever, instrument

    Settings.llm, Settings.embed_model = MockLLM(), MockEmbedding(embed_dim=4)

    class Instant(CustomLLM):
        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata(is_chat_model=True)

        def chat(self, messages: Any, **kwargs: Any) -> ChatResponse:
            return ChatResponse(message=ChatMessage(role="assistant", content=ANSWER))

        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
            return CompletionResponse(text=ANSWER)

        def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
            raise NotImplementedError

    class Fixed(BaseRetriever):
        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return [NodeWithScore(node=TextNode(text=text), score=1.0) for text in texts]

    llm = Instant()
    plain = RetrieverQueryEngine.from_args(Fixed(), llm=llm)
    ours = RetrieverQueryEngine.from_args(EngramRetriever(SCOPE, engram=engram), llm=llm)

    def chat(memory: Any) -> object:
        return SimpleChatEngine.from_defaults(llm=llm, memory=memory).chat(QUESTION)

    def listening() -> AbstractContextManager[object]:
        return instrument(engram)

    return {
        "LlamaIndex, query engine": {
            "plain": Way(lambda: plain.query(QUESTION)),
            "recall": Way(lambda: ours.query(QUESTION)),
            "hooks": Way(lambda: ours.query(QUESTION), listening),
        },
        "LlamaIndex, hooks without recall": {
            "plain": Way(lambda: plain.query(QUESTION)),
            "hooks": Way(lambda: plain.query(QUESTION), listening),
        },
        "LlamaIndex, chat with memory": {
            "plain": Way(lambda: chat(None)),
            "memory": Way(lambda: chat(EngramMemory(SCOPE, engram=engram))),
        },
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=300)
    turns = parser.parse_args().turns
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="engram-bench-") as directory, Engram.open(Path(directory)) as engram:
        memory = engram.memory(SCOPE)
        memory.add(statements(FACTS))
        texts = [item.text for item in memory.recall(QUESTION).facts]
        for make in (langchain_ways, llamaindex_ways):
            for what, ways in make(engram, texts).items():
                report(what, alternately(turns, ways))


if __name__ == "__main__":
    main()
