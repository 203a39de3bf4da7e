"""EngramRetriever: a recall as a LlamaIndex retriever. It converts and delegates; ranking is the core's."""

from __future__ import annotations

import asyncio

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle

from engram_core import Binding, BindingSource, Engram, PrincipalSource, bind
from engram_llamaindex.context import tags_now
from engram_llamaindex.convert import nodes_of
from engram_llamaindex.verdicts import VERDICTS


class EngramRetriever(BaseRetriever):
    """Retrieves remembered facts as nodes, for query engines, chat engines and tools.

    Each node's id is the fact's id; its metadata holds the recall id and scope (hidden from the model) and when the
    fact was said. Use `instrument()` to have the answers judged against what was retrieved.

    Args:
        scope: A scope path, a callable of LlamaIndex's instrument tags, or an EngramMemory to share its store.
        engram: An open Engram. Default: the process's shared store at `url`.
        url: Where the shared store is; default `ENGRAM_URL`, else `./.engram`.
        principal: Who acts. Default: the store's owner.
        k: How many facts, 1 to 300. Default 8.
        max_tokens: Token budget of the recall; default the policy's.
        min_score: Drop facts below this score.
        session: Conversation the recalls are recorded under.
        cite: Put a citation marker such as `[m1]` before each node's text. Your prompt has to ask for citations: add
            `engram_core.CITE_INSTRUCTION`. Default False, or that of the memory given as scope.
        fail_open: Return no nodes, and log, when the memory is out of order.
        callback_manager: LlamaIndex's legacy callbacks.
        verbose: LlamaIndex's own flag.

    Raises:
        InvalidScope: The scope breaks the grammar.
    """

    def __init__(
        self,
        scope: BindingSource,
        *,
        engram: Engram | None = None,
        url: str | None = None,
        principal: PrincipalSource = None,
        k: int | None = None,
        max_tokens: int | None = None,
        min_score: float | None = None,
        session: str | None = None,
        cite: bool | None = None,
        fail_open: bool = True,
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(callback_manager=callback_manager, verbose=verbose)
        self._binding = bind(scope, engram=engram, url=url, principal=principal, fail_open=fail_open)
        self._k = k
        self._max_tokens = max_tokens
        self._min_score = min_score
        self._session = session
        self._cite = cite

    @property
    def binding(self) -> Binding:
        """The memory this retriever asks."""
        return self._binding

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        context = tags_now()
        recall = self._binding.recall(
            query_bundle.query_str,
            context=context,
            session=self._session,
            k=self._k,
            max_tokens=self._max_tokens,
            min_score=self._min_score,
            cite=self._cite,
        )
        if recall is None:
            return []
        VERDICTS.opened(recall, self._binding, context)
        return nodes_of(recall, str(self._binding.scope_for(context)))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        # The inherited method runs _retrieve on the event loop: 311 ms of stall for 300 ms of work.
        return await asyncio.to_thread(self._retrieve, query_bundle)
