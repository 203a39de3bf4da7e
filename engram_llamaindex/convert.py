"""LlamaIndex messages and nodes in Engram's words, and back. Pure conversion; it never touches a memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.schema import NodeWithScore, TextNode

from engram_core import Message, Recall, strip_citations

RECALL_ID = "engram_recall_id"
SCOPE = "engram_scope"
# ResponseReasoningStep.get_content() of the ReAct agent: "Thought: ...\nAnswer: ...".
_REACT_ANSWER = re.compile(r"\nAnswer:(.*)\Z", re.DOTALL)


def text_of(message: ChatMessage) -> str:
    """The text blocks of a message; images, thinking and tool calls have no words to remember."""
    return message.content or ""


def question_of(message: ChatMessage) -> str:
    """What a user message asks; empty for every other message."""
    return text_of(message).strip() if message.role == MessageRole.USER else ""


def last_question(messages: Sequence[ChatMessage]) -> str:
    """The newest question in a history, or an empty string."""
    return next((text for text in map(question_of, reversed(messages)) if text), "")


def answer_of(message: ChatMessage) -> str:
    """The final answer in an assistant message; empty if it only calls tools.

    A ReAct agent puts its whole chain of thoughts, actions and observations as one message: what follows "Answer:" in
    its last thought is the answer.
    """
    if message.role != MessageRole.ASSISTANT or _calls_tools(message):
        return ""
    text = text_of(message).strip()
    if not text.startswith("Thought:"):
        return text
    found = _REACT_ANSWER.search(text, max(text.rfind("\nThought:"), 0))
    return found[1].strip() if found else text


def user_said(text: str) -> Message:
    """A user's words, as the core remembers them."""
    return Message("user", text, channel="user")


def assistant_said(text: str) -> Message:
    """An assistant's words, as the core remembers them."""
    return Message("assistant", text, channel="assistant")


def turns_of(messages: Iterable[ChatMessage]) -> list[list[ChatMessage]]:
    """A history cut into turns: each begins with a user message; what precedes the first one is a turn of its own."""
    turns: list[list[ChatMessage]] = []
    for message in messages:
        if not turns or message.role == MessageRole.USER:
            turns.append([])
        turns[-1].append(message)
    return turns


def nodes_of(recall: Recall, scope: str) -> list[NodeWithScore]:
    """The facts of a recall as nodes. Ids travel in the metadata, hidden from prompts and embeddings."""
    return [
        NodeWithScore(
            node=TextNode(
                id_=scored.fact.id,
                # Of a merged fact, the originals that match; with markers, what the model is to cite.
                text=scored.text if scored.members or scored.markers else scored.fact.display,
                metadata={
                    RECALL_ID: recall.id,
                    SCOPE: scope,
                    "kind": scored.fact.kind,
                    "said_at": scored.fact.said_at.isoformat(),
                },
                excluded_llm_metadata_keys=[RECALL_ID, SCOPE, "kind"],
                excluded_embed_metadata_keys=[RECALL_ID, SCOPE, "kind", "said_at"],
            ),
            score=scored.score,
        )
        for scored in recall.facts
    ]


def strip_message(message: ChatMessage) -> None:
    """Take the citation markers out of a message's own text blocks, in place."""
    for block in message.blocks:
        if isinstance(block, TextBlock):
            block.text = strip_citations(block.text)


def with_text_first(message: ChatMessage, text: str) -> ChatMessage:
    """A deep copy of a message with `text` as its first block."""
    copy = message.model_copy(deep=True)
    copy.blocks = [TextBlock(text=text), *copy.blocks]
    return copy


def _calls_tools(message: ChatMessage) -> bool:
    # OpenAI-style integrations keep the calls in additional_kwargs, newer ones in blocks.
    return bool(message.additional_kwargs.get("tool_calls")) or any(
        isinstance(block, ToolCallBlock) for block in message.blocks
    )
