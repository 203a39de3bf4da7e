"""What the documentation tests need: pages taken apart, and scripted models that stand in for real ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.mock import MockFunctionCallingLLM

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"<memory-[0-9a-f]+>(.*?)</memory-[0-9a-f]+>", re.DOTALL)
_VARYING = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"(</?memory-)[0-9a-f]+>"), r"\1MARKER>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d"), "TIME"),
    (re.compile(r"^\d{1,2} [A-Z][a-z]{2} \d{4}$", re.MULTILINE), "DAY"),
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page. `line` is where its first line stands in the file; `after` what follows it."""

    info: str
    code: str
    line: int
    after: str

    @property
    def words(self) -> list[str]:
        """The info string in words: the language first."""
        return self.info.split()

    @property
    def output(self) -> str | None:
        """What the block must print: the `text` block straight after it, if there is one."""
        found = re.match(r"\s*```text\n(.*?)^```", self.after, re.DOTALL | re.MULTILINE)
        return found[1] if found else None


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1].strip(), found[2], text.count("\n", 0, found.start(2)) + 1, text[found.end() :])
        for found in _BLOCK.finditer(text)
    ]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def settled(output: str) -> str:
    """Output with ids, markers and times replaced, so that two runs compare equal."""
    for pattern, replacement in _VARYING:
        output = pattern.sub(replacement, output)
    return output.strip()


def answer(prompt: str, question: str) -> str:
    """The recalled statement that shares most words with the question; what a model with the same prompt could say."""
    recalled = [line for fence in _FENCE.findall(prompt) for line in fence.strip().splitlines()]
    lines = [line for line in recalled if not line.endswith("?")]
    asked = _words(question)
    best = max(lines, key=lambda line: len(asked & _words(line)), default="")
    return best if asked & _words(best) else "I see."


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 3}


class ScriptedModel(BaseChatModel):
    """LangChain's side: answers from what was recalled, calls no tool."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> ScriptedModel:
        return self

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        said = [str(message.text) for message in messages]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(answer("\n".join(said), said[-1])))])


class ScriptedLLM(MockFunctionCallingLLM):
    """LlamaIndex's side: answers from what was recalled, calls no tool."""

    def __init__(self) -> None:
        super().__init__(response_generator=_reply, is_chat_model=True)


def _reply(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
    said = [message.content or "" for message in messages]
    return ChatMessage(role="assistant", content=answer("\n".join(said), said[-1]))
