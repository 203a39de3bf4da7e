"""An agent that looks things up in memory with tools, judged by instrument(). Offline unless OPENAI_MODEL is set.

Run it with `python examples/llamaindex_agent.py`.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import LLM, ChatMessage
from llama_index.core.llms.mock import MockFunctionCallingLLM

from engram_core import Engram
from engram_llamaindex import engram_tools, instrument

SCOPE = "acme/support/alice"


def scripted(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
    """Stands in for a model: calls the recall tool, then answers from what it returned."""
    if messages[-1].role != "tool":
        call = ToolCallBlock(tool_call_id="1", tool_name="engram_recall", tool_kwargs={"query": "Alice's diet"})
        return ChatMessage(role="assistant", blocks=[call])
    is_known = "peanuts" in str(messages[-1].content)
    return ChatMessage(role="assistant", content="Nothing with peanuts: Alice is allergic." if is_known else "No idea.")


def model() -> LLM:
    if name := os.environ.get("OPENAI_MODEL"):
        from llama_index.llms.openai import OpenAI  # noqa: PLC0415 - pip install llama-index-llms-openai

        return OpenAI(model=name)
    return MockFunctionCallingLLM(response_generator=scripted, is_chat_model=True)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory, Engram.open(directory) as engram:
        engram.memory(SCOPE).add(["Alice is allergic to peanuts.", "Alice's desk is on the third floor."])
        with instrument(engram) as instrumented:
            response = await FunctionAgent(llm=model(), tools=[*engram_tools(SCOPE, engram=engram)]).run(
                "What should the cook leave out for Alice?"
            )
            await asyncio.to_thread(instrumented.flush)
        print(f"agent: {response}\n")
        for call in response.tool_calls:
            if recall_id := call.tool_output.raw_output.get("recall_id"):
                print(engram.memory(SCOPE).explain(recall_id))


if __name__ == "__main__":
    asyncio.run(main())
