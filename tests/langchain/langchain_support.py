"""What every adapter test needs: a scripted model and a look into the ledger. No framework is patched."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolCallChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field, PrivateAttr

from engram_core import Engram

Reply = str | AIMessage | Exception
ALICE = "acme/support/alice"
FACT = "Alice lives in Lisbon near the river."
QUESTION = "Which city does Alice live in?"
ANSWER = "You live in Lisbon near the river."


class Scripted(BaseChatModel):
    """Plays back replies in order, or asks a function of the prompt. Keeps every prompt it was given."""

    replies: list[Any] = Field(default_factory=list)
    answer: Callable[[list[BaseMessage]], Reply] | None = None
    _prompts: list[list[BaseMessage]] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def prompts(self) -> list[list[BaseMessage]]:
        return self._prompts

    @property
    def seen(self) -> str:
        """Everything the last prompt said."""
        return "\n".join(str(message.text) for message in self._prompts[-1])

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Scripted:
        return self

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        self._prompts.append(list(messages))
        reply = self.answer(messages) if self.answer else self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return AIMessage(reply) if isinstance(reply, str) else reply

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._next(messages))])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        message = self._next(messages)
        for word in str(message.text).split(" ") if message.text else []:
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=word + " "))
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk
        if message.tool_calls:
            calls = [
                ToolCallChunk(
                    name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=n, type="tool_call_chunk"
                )
                for n, call in enumerate(message.tool_calls)
            ]
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=calls))


def calls(name: str, **args: Any) -> AIMessage:
    """A model message that calls one tool."""
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": f"call-{name}", "type": "tool_call"}])


def asks(text: str) -> Any:
    """An agent's input."""
    return {"messages": [HumanMessage(text)]}


class OffLoop:
    """A store that notes in which threads it embeds: a hook on the event loop's own thread would stall the loop."""

    def __init__(self) -> None:
        self._threads: list[int] = []
        self.engram = Engram.open(":memory:", embedder=self._embed)
        self.engram.memory(ALICE).add(FACT)
        self._threads.clear()

    def _embed(self, texts: list[str]) -> list[list[float]]:
        self._threads.append(threading.get_ident())
        return [[float(len(text)), 1.0, 2.0] for text in texts]

    def check(self, *, at_least: int) -> None:
        """Assert that it embedded, and never in the thread that asks, which is the loop's."""
        assert len(self._threads) >= at_least
        assert threading.get_ident() not in self._threads


@dataclass
class Ledger:
    """What the store recorded, read behind the adapter's back."""

    engram: Engram

    def recalls(self, fact_id: str) -> list[str]:
        """Ids of the recalls that showed a fact, oldest first."""
        return [row.id for row in reversed(self.engram.context.ledger.recalls_of(fact_id, 100))]

    def verdicts(self, fact_id: str) -> list[str]:
        """One verdict per observation of the fact, over all recalls, oldest recall first."""
        return [
            verdict["verdict"]
            for recall_id in self.recalls(fact_id)
            for row in self.engram.context.ledger.usage(recall_id)
            for verdict in row.verdicts
            if verdict["id"] == fact_id
        ]

    def responses(self, fact_id: str) -> list[str]:
        """The responses observed for the recalls of a fact."""
        return [
            row.response for recall_id in self.recalls(fact_id) for row in self.engram.context.ledger.usage(recall_id)
        ]

    def parked(self) -> list[str]:
        """Errors that wait where `engram doctor` shows them."""
        return [item.error for item in self.engram.context.ledger.parked()]

    def texts(self, scope: str = ALICE) -> list[str]:
        """What a scope remembers."""
        return [fact.text for fact in self.engram.memory(scope).list(limit=500)]
