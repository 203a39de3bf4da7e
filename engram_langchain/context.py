"""Context: which memory, runtime context and session a call is about. Read from the config; nothing is decided."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config

logger = logging.getLogger("engram")

MAX_SESSION = 500

SessionSource = str | Callable[[Any], str | None] | None
"""The conversation: its name, or a callable of the runtime context. None: what the config says."""


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
