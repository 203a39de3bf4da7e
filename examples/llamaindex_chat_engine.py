"""A chat engine that remembers across conversations. Runs offline; set OPENAI_MODEL to talk to a real model.

Run it with `python examples/llamaindex_chat_engine.py`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import LLM, ChatMessage
from llama_index.core.llms.mock import MockFunctionCallingLLM

from engram_core import Engram
from engram_llamaindex import EngramMemory


def scripted(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
    """Stands in for a model: it knows only what it is sent."""
    sent = " ".join(str(message.content) for message in messages)
    *_, question = (str(message.content) for message in messages if message.role == "user")
    if not question.endswith("?"):
        return ChatMessage(role="assistant", content="Good to know.")
    return ChatMessage(role="assistant", content="You moved to Lisbon." if "Lisbon" in sent else "I do not know.")


def model() -> LLM:
    if name := os.environ.get("OPENAI_MODEL"):
        from llama_index.llms.openai import OpenAI  # noqa: PLC0415 - pip install llama-index-llms-openai

        return OpenAI(model=name)
    return MockFunctionCallingLLM(response_generator=scripted, is_chat_model=True)


def conversation(engram: Engram, scope: str, *messages: str) -> None:
    """A new chat engine with a new memory object: nothing is shared but the store."""
    engine = SimpleChatEngine.from_defaults(llm=model(), memory=EngramMemory(scope=scope, engram=engram))
    for message in messages:
        print(f"{scope}: {message}\n     bot: {engine.chat(message)}")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, Engram.open(directory) as engram:
        conversation(engram, "acme/support/alice", "I moved to Lisbon in May.")
        conversation(engram, "acme/support/alice", "Where did I move?")
        conversation(engram, "acme/support/bob", "Where did I move?")


if __name__ == "__main__":
    main()
