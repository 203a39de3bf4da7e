"""engram_tools: memory as tools for a model. It chooses words and fact ids, never the scope or principal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated, Any

from llama_index.core.bridge.pydantic import BaseModel, Field
from llama_index.core.tools import FunctionTool

from engram_core import AddResult, Binding, BindingSource, Engram, EngramError, Message, PrincipalSource, Recall, bind
from engram_llamaindex.context import tags_now
from engram_llamaindex.verdicts import VERDICTS

logger = logging.getLogger("engram")

OUT_OF_ORDER = "Memory is not available right now. Carry on without it."


class _Result(dict[str, Any]):
    """What a tool did, as ids. `text` is what the model reads; it is an attribute so that ids alone travel in state."""

    def __init__(self, text: str, **ids: Any) -> None:
        super().__init__(ids)
        self.text = text


class _Question(BaseModel):
    query: Annotated[str, Field(description="What to look for, in plain words.")]


class _Statement(BaseModel):
    text: Annotated[str, Field(description="One self-contained statement worth knowing in later conversations.")]


class _Removal(BaseModel):
    fact_id: Annotated[str, Field(description="The id of the fact, as shown by the recall tool.")]
    reason: Annotated[str, Field(description="Why it should no longer be recalled.")] = "asked by the assistant"


def engram_tools(
    scope: BindingSource,
    *,
    engram: Engram | None = None,
    url: str | None = None,
    principal: PrincipalSource = None,
    k: int | None = None,
    max_tokens: int | None = None,
    session: str | None = None,
    prefix: str = "engram_",
    fail_open: bool = True,
) -> list[FunctionTool]:
    """Three tools for an agent: recall, remember and forget.

    Each returns text for the model, and as `raw_output` a dict of ids: `recall_id`, `fact_ids` and `scope`.

    Args:
        scope: A scope path, a callable of LlamaIndex's instrument tags, or an EngramMemory to share its store. The
            model can neither see nor choose it.
        engram: An open Engram. Default: the process's shared store at `url`.
        url: Where the shared store is; default `ENGRAM_URL`, else `./.engram`.
        principal: Who acts. Default: the store's owner.
        k: Facts per recall, 1 to 300. Default 8.
        max_tokens: Token budget of a recall; default the policy's.
        session: Conversation that what is remembered belongs to.
        prefix: Put before the names; two sets of tools in one agent need two prefixes.
        fail_open: Tell the model that memory is out of order instead of raising.

    Returns:
        `<prefix>recall`, `<prefix>remember` and `<prefix>forget`.

    Raises:
        InvalidScope: The scope breaks the grammar.
    """
    binding = bind(scope, engram=engram, url=url, principal=principal, k=k, max_tokens=max_tokens, fail_open=fail_open)
    hands = _Hands(binding, session, k, max_tokens)
    return [
        _tool(
            f"{prefix}recall",
            "Look up what is remembered from earlier conversations. Returns facts with their ids.",
            _Question,
            hands.recall,
        ),
        _tool(
            f"{prefix}remember",
            "Remember a statement for later conversations.",
            _Statement,
            hands.remember,
        ),
        _tool(
            f"{prefix}forget",
            "Stop recalling a fact that is wrong or no longer wanted. It can be restored by a person.",
            _Removal,
            hands.forget,
        ),
    ]


def _tool(name: str, description: str, schema: type[BaseModel], do: Callable[..., _Result]) -> FunctionTool:
    async def off_the_loop(**arguments: Any) -> _Result:
        return await asyncio.to_thread(do, **arguments)

    return FunctionTool.from_defaults(
        fn=do,
        async_fn=off_the_loop,
        name=name,
        description=description,
        fn_schema=schema,
        callback=_text,
    )


def _text(result: _Result) -> str:
    return result.text


class _Hands:
    """What the tools do. One per set of tools; holds nothing of a call."""

    def __init__(self, binding: Binding, session: str | None, k: int | None, max_tokens: int | None) -> None:
        self._binding = binding
        self._session = session
        self._k = k
        self._max_tokens = max_tokens

    def recall(self, query: str) -> _Result:
        context = tags_now()
        recall = self._binding.recall(
            # Several recalls may meet in one answer, and their markers would be the same.
            query,
            context=context,
            session=self._session,
            k=self._k,
            max_tokens=self._max_tokens,
            cite=False,
        )
        if recall is None:
            return _Result(OUT_OF_ORDER if query.strip() else "Say what to look for.")
        VERDICTS.opened(recall, self._binding, context)
        return _Result(
            _listing(recall),
            recall_id=recall.id,
            fact_ids=[scored.fact.id for scored in recall.facts],
            scope=str(self._binding.scope_for(context)),
        )

    def remember(self, text: str) -> _Result:
        context = tags_now()
        # The model chose these words: they carry an assistant's trust, not a user's.
        added = self._binding.add(
            Message("assistant", text, channel="assistant"), context=context, session=self._session
        )
        if added is None:
            return _Result(OUT_OF_ORDER)
        return _Result(
            _outcome(added),
            fact_ids=[fact.id for fact in added.facts],
            scope=str(self._binding.scope_for(context)),
        )

    def forget(self, fact_id: str, reason: str = "asked by the assistant") -> _Result:
        context = tags_now()
        try:
            self._binding.memory(context).forget(fact_id, reason=reason)
        except EngramError as error:
            # A wrong id is the model's to correct; either way a run must not die of it.
            logger.warning("engram: the forget tool failed: %s", error)
            return _Result(f"Not forgotten: {error}")
        return _Result("Forgotten.", fact_ids=[fact_id], scope=str(self._binding.scope_for(context)))


def _listing(recall: Recall) -> str:
    if not recall.facts:
        return "Nothing is remembered about that."
    # The fenced text stays as the core rendered it (its lines are in its own order); `forget` needs the ids beside it.
    in_order = sorted(recall.facts, key=lambda scored: recall.text.find(scored.text))
    ids = "\n".join(f"{number}. {scored.fact.id}" for number, scored in enumerate(in_order, 1))
    return f"{recall.text}\n\nIds of these facts, in the order shown:\n{ids}"


def _outcome(added: AddResult) -> str:
    if added.facts:
        return "Remembered."
    return "; ".join(f"{outcome.action}: {outcome.reason.line}" for outcome in added.outcomes) or "Nothing to remember."
