"""Engram for LangChain. Names load when first used, so importing this loads no framework; no code lives here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engram_langchain.agent import create_agent
    from engram_langchain.callback import EngramCallbackHandler
    from engram_langchain.feedback import EngramFeedback
    from engram_langchain.history import EngramChatMessageHistory
    from engram_langchain.memory import EngramMemory
    from engram_langchain.middleware import EngramMiddleware
    from engram_langchain.retriever import EngramRetriever
    from engram_langchain.tools import engram_tools

_HOME_OF = {
    "EngramCallbackHandler": "callback",
    "EngramChatMessageHistory": "history",
    "EngramFeedback": "feedback",
    "EngramMemory": "memory",
    "EngramMiddleware": "middleware",
    "EngramRetriever": "retriever",
    "create_agent": "agent",
    "engram_tools": "tools",
}
_FRAMEWORK = ("langchain", "langchain_classic", "langchain_core", "langgraph", "langsmith")

__all__ = [
    "EngramCallbackHandler",
    "EngramChatMessageHistory",
    "EngramFeedback",
    "EngramMemory",
    "EngramMiddleware",
    "EngramRetriever",
    "create_agent",
    "engram_tools",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'engram_langchain' has no attribute {name!r}")
    try:
        value = getattr(import_module(f"engram_langchain.{_HOME_OF[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _FRAMEWORK:
            raise
        from engram_core import MissingExtra  # noqa: PLC0415 - only when something is missing

        raise MissingExtra(
            f"engram_langchain.{name} needs the package {error.name!r}, which is not installed. "
            'Run: pip install "engram-agent-memory[langchain]"'
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
