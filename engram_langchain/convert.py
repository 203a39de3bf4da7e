"""Convert: LangChain's messages and outputs to Engram's words and back. Pure; it keeps nothing and drops nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from engram_core import Message, Recall, strip_citations

# Not "text": LLMChain answers under it, but a summarising chain asks under it. Then the model's own words decide.
ANSWER_KEYS = ("messages", "output", "answer", "response", "result")
RECALLS_FIELD = "engram_recalls"
STRUCTURED_KEY = "structured_response"
MAX_NAME = 200
MAX_ID = 500


def text_of(value: object) -> str:
    """The words of an input or output: a string, a message, or the last message of a list; else its `str`."""
    if value is None:
        return ""
    if isinstance(value, BaseMessage):
        return str(value.text)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Sequence) and value and all(isinstance(item, (str, BaseMessage)) for item in value):
        return text_of(value[-1])
    return str(value)


def to_message(message: BaseMessage, *, session: str | None = None) -> Message:
    """A LangChain message as Engram's. Chunks count as what they are chunks of (`type` would not tell)."""
    role, channel = _role(message)
    return Message(
        role,
        text_of(message),
        speaker=(message.name or "")[:MAX_NAME] or None,
        session=session,
        id=(message.id or "")[:MAX_ID] or None,
        channel=channel,
    )


def uncited(message: AIMessage) -> AIMessage:
    """A model's message without citation markers: a copy of the same id, or the very message if it cites nothing."""
    content = message.content
    if isinstance(content, str):
        shown: str | list[Any] = strip_citations(content)
    else:
        shown = [_uncited_block(block) for block in content]
    return message if shown == content else message.model_copy(update={"content": shown})


def _uncited_block(block: Any) -> Any:
    if isinstance(block, str):
        return strip_citations(block)
    if isinstance(block, Mapping) and block.get("type") == "text" and isinstance(block.get("text"), str):
        return {**block, "text": strip_citations(block["text"])}
    return block


def _role(message: BaseMessage) -> tuple[str, str]:
    if isinstance(message, AIMessage):
        return "assistant", "assistant"
    if isinstance(message, ToolMessage) or message.type == "function":
        return "tool", "tool"
    if isinstance(message, SystemMessage):
        return "system", "user"
    return "user", "user"


def to_documents(recall: Recall) -> list[Document]:
    """The recalled facts as documents, best first: fact id as `id`; recall id, score, scope and more as metadata.

    The content is the line as a recall renders it: origins of low trust carry a label, and no line can forge a fence.
    """
    return [
        Document(
            id=scored.fact.id,
            page_content=scored.text,
            metadata={
                "recall_id": recall.id,
                "score": scored.score,
                "scope": str(scored.fact.scope),
                "kind": scored.fact.kind,
                "said_at": scored.fact.said_at.isoformat(),
                "trust": scored.fact.trust,
                **({"marker": scored.marker} if scored.marker else {}),
            },
        )
        for scored in recall.facts
    ]


def to_artifact(recall: Recall | None) -> dict[str, Any]:
    """What a recall tool returns beside its text: ids only, so that checkpoints and traces hold no second copy."""
    if recall is None:
        return {"recall_id": None, "fact_ids": []}
    return {"recall_id": recall.id, "fact_ids": [scored.fact.id for scored in recall.facts]}


def recalls_in_documents(documents: Iterable[Document]) -> list[str]:
    """Ids of the recalls that documents came from, in order, without repeats."""
    return _ids(document.metadata.get("recall_id") for document in documents)


def recalls_in_tool_output(output: object) -> list[str]:
    """Ids of the recalls behind a tool's output: its artifact, or the documents a retriever tool put there."""
    artifact = getattr(output, "artifact", None)
    if isinstance(artifact, Mapping):
        return _ids([artifact.get("recall_id")])
    if isinstance(artifact, Sequence) and not isinstance(artifact, str):
        return recalls_in_documents(item for item in artifact if isinstance(item, Document))
    return []


def recalls_in_state(outputs: object) -> list[str]:
    """Ids of the recalls the middleware noted in a state update."""
    noted = outputs.get(RECALLS_FIELD) if isinstance(outputs, Mapping) else None
    return _ids(recall_id for ids in noted.values() for recall_id in ids) if isinstance(noted, Mapping) else []


def recalls_in_inputs(inputs: object) -> list[str]:
    """Ids of the recalls that a classic memory loaded into a chain's inputs."""
    return _ids(getattr(value, "recall_id", None) for value in inputs.values()) if isinstance(inputs, Mapping) else []


def _ids(found: Iterable[object]) -> list[str]:
    return list(dict.fromkeys(item for item in found if isinstance(item, str) and item))


def last_human(messages: Sequence[BaseMessage]) -> int | None:
    """Index of the last message a person sent, or None."""
    return next((n for n in range(len(messages) - 1, -1, -1) if is_from_person(messages[n])), None)


def is_from_person(message: BaseMessage) -> bool:
    """Whether a person sent it: SummarizationMiddleware puts its summaries into human messages, and marks them."""
    return isinstance(message, HumanMessage) and not message.additional_kwargs.get("lc_source")


def is_answer(message: object) -> bool:
    """Whether a message is a model's that calls no tool. Chunks count too; their `type` is not "ai"."""
    return isinstance(message, AIMessage) and not message.tool_calls


def final_text(outputs: object, model_texts: Sequence[str] = ()) -> str | None:
    """The answer in a run's outputs, or None.

    A dict is searched for the usual keys. If there are messages, the last one must be the answer: a run that stopped at
    an interrupt ends with a tool call or a tool's output. An output of unknown shape (a parsed object, parallel
    branches) is answered by what the models said, because its values may be the question or the documents themselves.
    """
    answer = _answer(outputs)
    if answer is None and not _has_messages(outputs):
        answer = "\n".join(text for text in model_texts if text.strip())
    if answer and model_texts and strip_citations(model_texts[-1]).strip() == answer.strip():
        answer = model_texts[-1]  # the chain took the citations out for its user; they are what is to be judged
    return answer if answer and answer.strip() else None


def _answer(outputs: object) -> str | None:
    if isinstance(outputs, Mapping):
        found = (_answer(outputs[key]) for key in ANSWER_KEYS if key in outputs)
        structured = outputs.get(STRUCTURED_KEY)
        return next((text for text in found if text), None if structured is None else str(structured))
    if isinstance(outputs, str):
        return str(outputs)
    if isinstance(outputs, Sequence):
        return _answer(outputs[-1]) if outputs and isinstance(outputs[-1], BaseMessage) else None
    return text_of(outputs) if is_answer(outputs) else None


def _has_messages(outputs: object) -> bool:
    if isinstance(outputs, Mapping):
        return any(_has_messages(outputs[key]) for key in ANSWER_KEYS if key in outputs)
    if isinstance(outputs, Sequence) and not isinstance(outputs, str):
        return any(isinstance(item, BaseMessage) for item in outputs)
    return isinstance(outputs, BaseMessage)
