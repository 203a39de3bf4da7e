"""Context: which memory, runtime context and session a call is about. Read from the config; nothing is decided."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config

logger = logging.getLogger("engram")

MAX_SESSION = 500

SessionSource = str | Callable[[Any], str | None] | None
"""The conversation: its name, or a callable of the runtime context. None: what the config says."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a LangSmith trace a call stands: the run it belongs to."""

    run_id: UUID
    trace_id: UUID
    dotted_order: str
    project: str | None


def place_now(config: RunnableConfig | None = None) -> Place | None:
    """The traced run that is calling; None where nothing traces, or outside of a runnable."""
    # No tracer can be at work if nobody imported it, and importing it here would cost 200 ms.
    module = sys.modules.get("langchain_core.tracers.langchain")
    manager = ensure_config(config).get("callbacks") if module is not None else None
    run_id: UUID | None = getattr(manager, "parent_run_id", None)
    if module is None or run_id is None:
        return None
    for handler in getattr(manager, "handlers", ()):
        if isinstance(handler, module.LangChainTracer) and run_id in handler.order_map:
            trace_id, dotted_order = handler.order_map[run_id]
            run = handler.run_map.get(str(run_id))
            return Place(run_id, trace_id, dotted_order, getattr(run, "session_name", None))
    return None


def context_of(config: RunnableConfig | None = None) -> Any:
    """What a callable scope gets: the running graph's `context`, else the `configurable` mapping of the config."""
    context = _graph_context()
    if context is not None:
        return context
    return {key: value for key, value in _configurable(config).items() if not key.startswith("__")}


def session_of(config: RunnableConfig | None = None) -> str | None:
    """The conversation a call belongs to: `thread_id`, else `session_id` of the config's `configurable`."""
    configurable = _configurable(config)
    for key in ("thread_id", "session_id"):
        if configurable.get(key):
            return str(configurable[key])[:MAX_SESSION]
    return None


def session_for(session: SessionSource, context: Any) -> str | None:
    """The conversation a constructor asked for, else the running graph's thread."""
    try:
        named = session(context) if callable(session) else session
    except Exception:
        # The user's own callable; a turn without a session is better than a broken run.
        logger.warning("engram: the session callable failed; going on without a session", exc_info=True)
        named = None
    return named or session_of()


def _configurable(config: RunnableConfig | None) -> Mapping[str, Any]:
    return ensure_config(config).get("configurable") or {}


def _graph_context() -> Any:
    # No graph can be running if nobody imported langgraph, and importing it here would cost 400 ms.
    module = sys.modules.get("langgraph.runtime")
    if module is None:
        return None
    try:
        runtime = module.get_runtime()
    except (RuntimeError, KeyError):  # outside of a runnable, or inside one that is no graph
        return None
    return getattr(runtime, "context", None)
