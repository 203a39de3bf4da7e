"""create_agent: LangChain's own, with `memory=`. It adds the middleware and checks the tools' names, nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from langchain import agents
from langchain.agents.middleware import AgentMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool
from langgraph.graph.state import CompiledStateGraph

from engram_core import BindingSource, InvalidInput
from engram_langchain.memory import EngramMemory
from engram_langchain.middleware import EngramMiddleware


def create_agent(
    model: str | BaseChatModel,
    tools: Sequence[BaseTool | Callable[..., Any] | dict[str, Any]] | None = None,
    *,
    memory: EngramMemory | EngramMiddleware | BindingSource | None = None,
    middleware: Sequence[AgentMiddleware[Any, Any, Any]] = (),
    **options: Any,
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """`langchain.agents.create_agent` with long-term memory.

    Args:
        model: As in LangChain.
        tools: As in LangChain.
        memory: `EngramMemory(scope=…)`, an `EngramMiddleware` for more options, or just a scope. Its middleware comes
            last, next to the model, so that no other middleware that writes the prompt can drop what was recalled.
        middleware: As in LangChain.
        **options: Everything else LangChain's `create_agent` takes.

    Returns:
        The compiled agent.

    Raises:
        InvalidInput: Two tools share a name; LangChain would silently use the last one, maybe in another scope.
    """
    stack = [*middleware]
    if isinstance(memory, EngramMiddleware):
        stack.append(memory)
    elif isinstance(memory, EngramMemory):
        stack.append(memory.as_middleware())
    elif memory is not None:
        stack.append(EngramMiddleware(memory))
    _check_tool_names([*(tools or ()), *(tool for layer in stack for tool in getattr(layer, "tools", ()) or ())])
    agent: CompiledStateGraph[Any, Any, Any, Any] = agents.create_agent(model, tools, middleware=stack, **options)
    return agent


def _check_tool_names(tools: Sequence[Any]) -> None:
    names = Counter(tool.name for tool in tools if isinstance(tool, BaseTool))
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        raise InvalidInput(f"Two tools are called {', '.join(twice)}; give one of them another prefix.")
