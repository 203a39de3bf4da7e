"""engram_tools: recall, remember and forget as tools. The scope never comes from the model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from langchain_core.callbacks import Callbacks
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

from engram_core import (
    AccessDenied,
    Binding,
    BindingSource,
    ChangeRefused,
    Engram,
    FactNotFound,
    InvalidInput,
    Message,
    PrincipalSource,
    Recall,
    bind,
)
from engram_langchain.context import context_of, session_of
from engram_langchain.convert import to_artifact
from engram_langchain.verdicts import VERDICTS

logger = logging.getLogger("engram")

TOOL_NAMES: Final = ("recall", "remember", "forget")
OUT_OF_ORDER: Final = "Memory is out of order right now."
NOTHING: Final = "Nothing about this is remembered."

Answer = tuple[str, dict[str, Any]]


class RecallInput(BaseModel):
    """What the model may say to `recall`."""

    query: str = Field(description="What to look for, as a question or a few words.")


class RememberInput(BaseModel):
    """What the model may say to `remember`."""

    text: str = Field(description="One complete statement that makes sense on its own, with names and dates.")


class ForgetInput(BaseModel):
    """What the model may say to `forget`."""

    fact_id: str = Field(description="The id of the fact, as the recall tool shows it.")
    reason: str = Field(description="Why, in a few words.")


# The schemas are spelled out so that nothing else can become an argument: not the config, not a scope.
SCHEMAS: Final[dict[str, type[BaseModel]]] = {"recall": RecallInput, "remember": RememberInput, "forget": ForgetInput}


def engram_tools(
    scope: BindingSource,
    *,
    engram: Engram | None = None,
    prefix: str = "engram_",
    only: Sequence[str] = TOOL_NAMES,
    url: str | None = None,
    principal: PrincipalSource = None,
    k: int | None = None,
    max_tokens: int | None = None,
    fail_open: bool = True,
) -> list[BaseTool]:
    """Tools for an agent: `recall(query)`, `remember(text)` and `forget(fact_id, reason)`.

    Each returns text for the model and an artifact with ids for the callback handler and the middleware. The model sees
    neither the scope nor the config. Calls of one model message run in parallel: a recall beside a remember may or
    may not see it.

    Args:
        scope: A scope, a callable of the runtime context, or an Engram object such as `EngramMemory`.
        engram: An open Engram. Default: the process's shared store at `url`, opened at the first call.
        prefix: Put before the names, default `engram_`. Two sets of tools in one agent need two prefixes.
        only: Which tools, of `recall`, `remember` and `forget`; default all.
        url: Where the shared store is; default `ENGRAM_URL`, else `./.engram`.
        principal: Who acts; a string or a callable of the runtime context. Default: the store's owner.
        k: Facts per recall, 1 to 300. Default 8, or that of the memory given as scope.
        max_tokens: Token budget of a recall; default the policy's.
        fail_open: Answer "out of order" when memory fails, instead of raising. Default True.

    Raises:
        InvalidInput: A name in `only` is unknown.
        InvalidScope: The scope breaks the grammar.
    """
    unknown = [name for name in only if name not in TOOL_NAMES]
    if unknown:
        raise InvalidInput(f"There is no tool {unknown[0]!r}; use {', '.join(TOOL_NAMES)}.")
    binding = bind(scope, engram=engram, url=url, principal=principal, k=k, max_tokens=max_tokens, fail_open=fail_open)
    makers = {
        # Ids cost tokens, and only forget needs them.
        "recall": lambda: _recall_tool(binding, k, max_tokens, with_ids="forget" in only),
        "remember": lambda: _remember_tool(binding),
        "forget": lambda: _forget_tool(binding),
    }
    return [
        StructuredTool.from_function(
            makers[name](),
            name=f"{prefix}{name}",
            response_format="content_and_artifact",
            args_schema=SCHEMAS[name],
        )
        for name in only
    ]


# In the functions below the annotation must be exactly `RunnableConfig`: LangChain fills such a parameter itself, and
# would leave `RunnableConfig | None` alone. Their docstrings are what the model reads.


def _recall_tool(binding: Binding, k: int | None, max_tokens: int | None, *, with_ids: bool) -> Callable[..., Answer]:
    def recall(query: str, config: RunnableConfig, callbacks: Callbacks = None) -> Answer:
        """Search long-term memory for what is known about something."""
        context = context_of(config)
        # Several recalls may meet in one answer, and their markers would be the same.
        found = binding.recall(
            query, context=context, session=session_of(config), k=k, max_tokens=max_tokens, cite=False
        )
        if found is None:
            return OUT_OF_ORDER, to_artifact(None)
        VERDICTS.opened(found.id, binding, context=context, run_id=getattr(callbacks, "parent_run_id", None))
        return _listing(found, with_ids), to_artifact(found)

    return recall


def _remember_tool(binding: Binding) -> Callable[..., Answer]:
    def remember(text: str, config: RunnableConfig) -> Answer:
        """Keep a statement in long-term memory, for later conversations."""
        session = session_of(config)
        message = Message("assistant", text, channel="assistant")
        added = binding.add(message, context=context_of(config), session=session)
        if added is None:
            return OUT_OF_ORDER, {"fact_ids": []}
        fact_ids = list(dict.fromkeys(fact_id for outcome in added.outcomes for fact_id in outcome.fact_ids))
        done = "; ".join(f"{outcome.action} ({outcome.reason.line})" for outcome in added.outcomes)
        return f"Memory: {done}", {"fact_ids": fact_ids}

    return remember


def _forget_tool(binding: Binding) -> Callable[..., Answer]:
    def forget(fact_id: str, reason: str, config: RunnableConfig) -> Answer:
        """Take one fact out of long-term memory because it is wrong, outdated or unwanted. It can be restored."""
        context = context_of(config)
        try:
            binding.memory(context).forget(fact_id, reason=reason)
        except (FactNotFound, ChangeRefused, AccessDenied, InvalidInput) as refusal:  # answers, not failures
            return f"Not forgotten: {refusal}", {"fact_ids": []}
        except Exception as error:
            if not binding.fail_open:
                raise
            _note_failure(binding, context, error)
            return OUT_OF_ORDER, {"fact_ids": []}
        return "Forgotten.", {"fact_ids": [fact_id]}

    return forget


def _listing(recall: Recall, with_ids: bool) -> str:
    if not recall.facts:
        return NOTHING
    if not with_ids:
        return recall.text
    in_order = sorted(recall.facts, key=lambda scored: recall.text.find(scored.text))
    return "\n".join([recall.text, "Fact ids, in the order above:", *(scored.fact.id for scored in in_order)])


def _note_failure(binding: Binding, context: Any, error: Exception) -> None:
    logger.warning("engram: forget failed and was skipped (fail_open): %s", error)
    try:
        binding.engram.note_failure(binding.scope_for(context), "forget", error)
    except Exception:
        # The store itself may be what is broken; the log line above is then the only trace.
        logger.debug("engram: could not record the failure of forget", exc_info=True)
