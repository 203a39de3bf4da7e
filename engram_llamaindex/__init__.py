"""Engram for LlamaIndex: the names you import. It loads nothing until a name is used, and decides nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from engram_core import MissingExtra

if TYPE_CHECKING:
    from engram_llamaindex.block import EngramMemoryBlock
    from engram_llamaindex.instrumentation import EngramEventHandler, EngramSpanHandler, Instrumentation, instrument
    from engram_llamaindex.memory import EngramMemory
    from engram_llamaindex.retriever import EngramRetriever
    from engram_llamaindex.tools import engram_tools

_HOMES = {
    "EngramEventHandler": "instrumentation",
    "EngramMemory": "memory",
    "EngramMemoryBlock": "block",
    "EngramRetriever": "retriever",
    "EngramSpanHandler": "instrumentation",
    "Instrumentation": "instrumentation",
    "engram_tools": "tools",
    "instrument": "instrumentation",
}

__all__ = [
    "EngramEventHandler",
    "EngramMemory",
    "EngramMemoryBlock",
    "EngramRetriever",
    "EngramSpanHandler",
    "Instrumentation",
    "engram_tools",
    "instrument",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'engram_llamaindex' has no attribute {name!r}")
    try:
        value = getattr(import_module(f"engram_llamaindex.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("llama_index"):
            raise
        raise MissingExtra(
            f'{name} needs LlamaIndex. Install it with: pip install "engram-agent-memory[llamaindex]"'
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
