"""Context: which memory, runtime context and session a call is about. Read from the config; nothing is decided."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config

from engram_core import Binding, Engram, InvalidInput, PrincipalSource, Scope, ScopeSource

logger = logging.getLogger("engram")

DEFAULT_K = 8
MAX_K = 300
MAX_SESSION = 500


@runtime_checkable
class Bound(Protocol):
    """Anything that already holds a Binding: every class of this package."""

    @property
    def binding(self) -> Binding:
        """The scope and store behind the object."""
        ...


Source = ScopeSource | Binding | Bound
"""What every constructor takes as `scope`: a scope, a callable of the runtime context, or another Engram object."""

SessionSource = str | Callable[[Any], str | None] | None
"""The conversation: its name, or a callable of the runtime context. None: what the config says."""


def bind(
    source: Source,
    *,
    engram: Engram | None = None,
    url: str | None = None,
    principal: PrincipalSource = None,
    k: int | None = None,
    max_tokens: int | None = None,
    fail_open: bool = True,
) -> Binding:
    """The Binding behind `source`, or a new one. Opens no store.

    Raises:
        InvalidInput: `k` is out of range, or `source` is bound already and a store, a principal or `fail_open=False`
            was given as well.
        InvalidScope: The scope breaks the grammar.
    """
    if k is not None and not 1 <= k <= MAX_K:
        raise InvalidInput(f"k must be from 1 to {MAX_K}, not {k!r}.")
    held = source if isinstance(source, Binding) else _held(source)
    if held is None:
        return Binding(
            source,  # type: ignore[arg-type]  # Binding and Bound are excluded by `held is None`
            engram=engram,
            url=url,
            principal=principal,
            k=k or DEFAULT_K,
            max_tokens=max_tokens,
            fail_open=fail_open,
        )
    if engram is not None or url is not None or principal is not None:
        raise InvalidInput("This memory already knows its store and principal; give engram, url and principal there.")
    if not fail_open and held.fail_open:
        raise InvalidInput("This memory fails open; give fail_open=False there.")
    return held


def _held(source: Source) -> Binding | None:
    if isinstance(source, (str, Scope)):
        return None
    binding = getattr(source, "binding", None)
    return binding if isinstance(binding, Binding) else None


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
