"""Language models: any chat model as Engram's LanguageModel port. It converts, imports no framework, never retries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast

from engram_core.domain.errors import InvalidInput, ModelFailed
from engram_core.models.names import callable_name, is_async, model_name
from engram_core.ports import LanguageModel


def as_language_model(source: object) -> LanguageModel:
    """The LanguageModel behind whatever the user passed. Nothing is asked yet.

    Args:
        source: A LangChain chat model or LLM, a LlamaIndex `LLM`, an object that is a LanguageModel already (name and
            complete; returned as it is), or a callable `str` → `str`.

    Returns:
        A LanguageModel; the bridged ones raise ModelFailed for whatever the model raises or returns amiss.

    Raises:
        InvalidInput: None of these.
    """
    if isinstance(source, type):
        raise InvalidInput(f"model= got the class {source.__qualname__}; pass an instance of it.")
    if _has(source, "invoke") and (_has(source, "bind_tools") or hasattr(source, "_llm_type")):
        return _LangChainModel(source)
    if _has(source, "complete") and hasattr(source, "metadata"):
        return _LlamaIndexModel(source)
    if _has(source, "complete") and isinstance(getattr(source, "name", None), str):
        return cast("LanguageModel", source)
    if callable(source):
        return _CallableModel(source)
    raise InvalidInput(
        f"model= cannot use {type(source).__qualname__}. Pass a LangChain chat model, a LlamaIndex LLM, an object with "
        "name and complete(prompt), or a function from a prompt to an answer."
    )


def ask(model: LanguageModel, prompt: str) -> str:
    """One answer of `model` to `prompt`.

    Raises:
        ModelFailed: The model raised, or returned something that is not a string.
    """
    try:
        answer = model.complete(prompt)
    except ModelFailed:
        raise
    except Exception as error:
        raise _failed(model.name, error) from error
    if not isinstance(answer, str):
        raise ModelFailed(f"The language model {model.name} returned {type(answer).__name__} instead of a string.")
    return answer


class _Bridged(ABC):
    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """Framework, class and model."""
        return self._name

    def complete(self, prompt: str) -> str:
        """The model's answer as plain text. Raises ModelFailed."""
        try:
            return self._complete(prompt)
        except ModelFailed:
            raise
        except Exception as error:
            raise _failed(self._name, error) from error

    @abstractmethod
    def _complete(self, prompt: str) -> str: ...


class _LangChainModel(_Bridged):
    def __init__(self, source: Any) -> None:
        super().__init__(f"langchain:{model_name(source)}")
        self._source = source

    def _complete(self, prompt: str) -> str:
        return message_text(self._source.invoke(prompt))


class _LlamaIndexModel(_Bridged):
    def __init__(self, source: Any) -> None:
        metadata_name = getattr(source.metadata, "model_name", None)
        label = f"{type(source).__qualname__}:{metadata_name}" if isinstance(metadata_name, str) else model_name(source)
        super().__init__(f"llamaindex:{label}")
        self._source = source

    def _complete(self, prompt: str) -> str:
        return message_text(self._source.complete(prompt))


class _CallableModel(_Bridged):
    def __init__(self, source: Callable[[str], str]) -> None:
        if is_async(source):
            raise InvalidInput("model= got an async function; Engram's core is synchronous, so pass a plain one.")
        super().__init__(f"callable:{callable_name(source)}")
        self._source = source

    def _complete(self, prompt: str) -> str:
        return message_text(self._source(prompt))


def message_text(answer: Any) -> str:
    """The text of a string, an AIMessage or a CompletionResponse; blocks that are not text are left out.

    Raises:
        ModelFailed: There is no text attribute and no content to read.
    """
    if isinstance(answer, str):
        return str(answer)
    text = getattr(answer, "text", None)
    if callable(text) and not isinstance(text, str):  # a method in older releases, a callable str in newer ones
        text = text()
    if isinstance(text, str) and text:
        return str(text)
    content = getattr(answer, "content", text)
    if isinstance(content, str):
        return str(content)
    if isinstance(content, list):
        return "".join(_block_text(block) for block in content)
    raise ModelFailed(f"The language model returned {type(answer).__qualname__}, which holds no text.")


def _block_text(block: Any) -> str:
    if isinstance(block, dict):
        block = block.get("text") if block.get("type", "text") == "text" else ""
    return block if isinstance(block, str) else ""


def _failed(name: str, error: Exception) -> ModelFailed:
    return ModelFailed(
        f"The language model {name} raised {type(error).__name__}: {str(error)[:300]}. Check its key, network and "
        "limits."
    )


def _has(source: object, method: str) -> bool:
    return callable(getattr(source, method, None))
