"""Language models: every kind becomes the same port, and only ModelFailed comes out of a bridge."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engram_core.domain.errors import InvalidInput, ModelFailed
from engram_core.models.language import as_language_model, ask, message_text


class Own:
    name = "own"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def complete(self, prompt: str) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_language_model_is_returned_as_it_is() -> None:
    own = Own("x")
    assert as_language_model(own) is own


def test_a_real_langchain_chat_model() -> None:
    models = pytest.importorskip("langchain_core.language_models")
    bridged = as_language_model(models.FakeListChatModel(responses=["Lisbon"]))
    assert bridged.name == "langchain:FakeListChatModel"
    assert bridged.complete("Where?") == "Lisbon"
    assert type(bridged.complete("Where?")) is str


def test_a_langchain_answer_in_blocks() -> None:
    models = pytest.importorskip("langchain_core.language_models.fake_chat_models")
    messages = pytest.importorskip("langchain_core.messages")
    blocks = [
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "text", "text": "Lis"},
        {"type": "text", "text": "bon"},
    ]
    model = models.GenericFakeChatModel(messages=iter([messages.AIMessage(content=blocks)]))
    assert as_language_model(model).complete("Where?") == "Lisbon"


def test_a_real_llamaindex_llm() -> None:
    llms = pytest.importorskip("llama_index.core.llms")
    bridged = as_language_model(llms.MockLLM())
    assert bridged.name.startswith("llamaindex:MockLLM")
    assert bridged.complete("echo this") == "echo this"


def test_a_function() -> None:
    bridged = as_language_model(str.upper)
    assert bridged.name == "callable:str.upper"
    assert bridged.complete("loud") == "LOUD"


class MethodText:
    def text(self) -> str:
        return "from a method"


class CallableText(str):
    __slots__ = ()

    def __call__(self) -> str:
        raise AssertionError("deprecated: read it, do not call it")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        (MethodText(), "from a method"),
        (SimpleNamespace(text=CallableText("from a property")), "from a property"),
        (SimpleNamespace(content="from content"), "from content"),
        (SimpleNamespace(content=["a", {"type": "text", "text": "b"}, {"type": "image", "text": "no"}, 7]), "ab"),
        (SimpleNamespace(text="", content=[{"type": "tool_use"}]), ""),
    ],
)
def test_the_text_of_an_answer(answer: Any, text: str) -> None:
    assert message_text(answer) == text


@pytest.mark.parametrize("answer", [None, 3, SimpleNamespace(), SimpleNamespace(text=None)])
def test_an_answer_without_text_is_a_failure(answer: Any) -> None:
    with pytest.raises(ModelFailed, match="holds no text"):
        as_language_model(lambda prompt: answer).complete("x")


def test_whatever_a_model_raises_becomes_model_failed() -> None:
    def down(prompt: str) -> str:
        raise TimeoutError("30 s")

    for complete in (as_language_model(down).complete, lambda prompt: ask(Own(TimeoutError("30 s")), prompt)):
        with pytest.raises(ModelFailed, match="TimeoutError: 30 s") as caught:
            complete("x")
        assert isinstance(caught.value.__cause__, TimeoutError)


def test_ask_refuses_an_answer_that_is_no_string() -> None:
    with pytest.raises(ModelFailed, match="NoneType instead of a string"):
        ask(Own(None), "x")


@pytest.mark.parametrize("source", [None, "gpt-4o", 3, Own])
def test_what_cannot_be_used_is_refused_with_advice(source: object) -> None:
    with pytest.raises(InvalidInput, match=r"pass an instance|Pass a LangChain"):
        as_language_model(source)


def test_an_async_function_is_refused() -> None:
    async def later(prompt: str) -> str:
        return prompt

    with pytest.raises(InvalidInput, match="synchronous"):
        as_language_model(later)
