"""Doubles for the LlamaIndex tests: a scripted model, and a store that notes what is asked of it. No assertions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
    ToolCallBlock,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.mock import MockFunctionCallingLLM
from pydantic import PrivateAttr

from engram_core import Engram, Memory, Recall, Usage

Answer = str | Callable[[Sequence[ChatMessage]], str]

SCOPE = "acme/support/alice"
FACT = "I live in Lisbon with two cats."
QUESTION = "Which city do I live in?"
ANSWER = "You live in Lisbon with your two cats, where tram number 28 passes."


class ScriptedLLM(CustomLLM):
    """Answers with a text or a function of the messages, in words when streamed, and keeps what it was sent."""

    _answer: Answer = PrivateAttr(default=ANSWER)
    _seen: list[list[ChatMessage]] = PrivateAttr(default_factory=list)
    _fails_after: int | None = PrivateAttr(default=None)

    def __init__(self, answer: Answer = ANSWER, *, fails_after: int | None = None) -> None:
        super().__init__()
        self._answer = answer
        self._fails_after = fails_after

    @property
    def seen(self) -> list[list[ChatMessage]]:
        """The messages of every call."""
        return self._seen

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True)

    def _say(self, messages: Sequence[ChatMessage]) -> str:
        self._seen.append([message.model_copy(deep=True) for message in messages])
        return self._answer if isinstance(self._answer, str) else self._answer(messages)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        if self._fails_after is not None:
            raise RuntimeError("the model is down")
        return ChatResponse(message=ChatMessage(role="assistant", content=self._say(messages)))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        words = self._say(messages).split(" ")

        def stream() -> ChatResponseGen:
            text = ""
            for number, word in enumerate(words):
                if self._fails_after is not None and number >= self._fails_after:
                    raise RuntimeError("the model went down")
                delta = word if not text else f" {word}"
                text += delta
                yield ChatResponse(message=ChatMessage(role="assistant", content=text), delta=delta)

        return stream()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=self._say([ChatMessage(role="user", content=prompt)]))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        text = self._say([ChatMessage(role="user", content=prompt)])
        return (response for response in [CompletionResponse(text=text, delta=text)])


def agent_llm(generate: Callable[..., ChatMessage]) -> MockFunctionCallingLLM:
    """A function-calling model that answers with `generate(messages, **kwargs)`."""
    return MockFunctionCallingLLM(response_generator=generate, is_chat_model=True)


def says(text: str) -> ChatMessage:
    """An assistant's message."""
    return ChatMessage(role="assistant", content=text)


def calls(tool: str, **arguments: Any) -> ChatMessage:
    """An assistant's message that calls one tool."""
    return ChatMessage(
        role="assistant", blocks=[ToolCallBlock(tool_call_id=f"call-{tool}", tool_name=tool, tool_kwargs=arguments)]
    )


def user(text: str) -> ChatMessage:
    """A user's message."""
    return ChatMessage(role="user", content=text)


def texts(messages: Sequence[ChatMessage]) -> list[str]:
    """`role: content` of messages."""
    return [f"{message.role.value}: {message.content}" for message in messages]


class Watched:
    """A store that notes what is asked of it, and asks the real one."""

    def __init__(self, engram: Engram) -> None:
        self.engram = engram
        self.recalls: list[Recall] = []
        self.observed: list[tuple[str, str | None]] = []
        self.usages: dict[str, Usage] = {}
        self.threads: set[str] = set()
        self.lock = threading.Lock()

    def memory(self, scope: Any, *, principal: str | None = None) -> WatchedMemory:
        return WatchedMemory(self, self.engram.memory(scope, principal=principal))

    def verdicts(self, query: str) -> list[str | None]:
        """What was observed for the recalls of a query, in order."""
        ids = [recall.id for recall in self.recalls if recall.query == query]
        return [response for recall_id, response in self.observed if recall_id in ids]

    def verdicts_of(self, recall: Recall) -> list[str | None]:
        """What was observed for one recall, in order."""
        return [response for recall_id, response in self.observed if recall_id == recall.id]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engram, name)


class WatchedMemory:
    """One scope of a watched store."""

    def __init__(self, store: Watched, memory: Memory) -> None:
        self._store = store
        self._memory = memory

    def recall(self, query: str, **arguments: Any) -> Recall:
        recall = self._memory.recall(query, **arguments)
        with self._store.lock:
            self._store.recalls.append(recall)
            self._store.threads.add(threading.current_thread().name)
        return recall

    def observe(self, recall_id: str, response: str | None) -> Usage:
        usage = self._memory.observe(recall_id, response)
        with self._store.lock:
            self._store.observed.append((recall_id, response))
            self._store.usages[recall_id] = usage
            self._store.threads.add(threading.current_thread().name)
        return usage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)
