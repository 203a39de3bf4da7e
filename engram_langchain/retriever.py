"""EngramRetriever: recall as a LangChain retriever. It converts; it ranks, filters and keeps nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from pydantic import Field, PrivateAttr, SkipValidation

from engram_core import DEFAULT_K, MAX_K, Binding, BindingSource, Engram, PrincipalSource, Recall, bind
from engram_langchain.context import context_of, session_of
from engram_langchain.convert import to_documents
from engram_langchain.verdicts import VERDICTS


class EngramRetriever(BaseRetriever):
    """Recalled facts as documents: fact id in `Document.id`; `recall_id`, `score` and `scope` in the metadata.

    Attach an `EngramCallbackHandler` to the chain, and the answer tells which of the facts were used.

    Args:
        scope: A scope, a callable of the runtime context, or an Engram object such as `EngramMemory`.
        engram: An open Engram. Default: the process's shared store at `url`, opened at the first recall.
        url: Where the shared store is; default `ENGRAM_URL`, else `./.engram`.
        principal: Who recalls; a string or a callable of the runtime context. Default: the store's owner.
        k: Documents per recall, 1 to 300, default 8; `invoke(query, k=3)` overrides it.
        max_tokens: Token budget of a recall; default the policy's.
        min_score: Facts scoring less are left out; default none.
        cite: Put a citation marker such as `[m1]` before each document's text. Default False. Your prompt has to ask
            for them: add `engram_core.CITE_INSTRUCTION` to it, and `engram_core.strip_citations` to the chain's end.
        fail_open: Log memory errors and return no documents, instead of raising. Default True.

    Raises:
        InvalidScope: The scope breaks the grammar.
    """

    scope: SkipValidation[BindingSource]
    engram: SkipValidation[Engram | None] = Field(default=None, exclude=True, repr=False)
    url: str | None = None
    principal: SkipValidation[PrincipalSource] = None
    k: int = Field(default=DEFAULT_K, ge=1, le=MAX_K)
    max_tokens: int | None = None
    min_score: float | None = None
    cite: bool = False
    fail_open: bool = True
    _binding: Binding = PrivateAttr()

    if not TYPE_CHECKING:  # type checkers keep pydantic's signature

        def __init__(self, **fields: Any) -> None:
            super().__init__(**fields)
            # Not in a validator: pydantic would turn InvalidScope into its own ValidationError.
            self._binding = bind(
                self.scope, engram=self.engram, url=self.url, principal=self.principal, fail_open=self.fail_open
            )

    @property
    def binding(self) -> Binding:
        """The scope and store this retriever recalls from."""
        return self._binding

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """Recall for a query; takes `k=`. A callable scope gets the graph's context or `config["configurable"]`."""
        # The config does not reach _get_relevant_documents, so what the scope needs of it travels as an argument.
        asked = {"context": context_of(config), "session": session_of(config), **kwargs}
        return super().invoke(input, config, **asked)

    async def ainvoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """`invoke`, off the event loop."""
        asked = {"context": context_of(config), "session": session_of(config), **kwargs}
        return await super().ainvoke(input, config, **asked)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        context: Any = None,
        session: str | None = None,
        **_: Any,
    ) -> list[Document]:
        recall = self._binding.recall(
            query,
            context=context,
            session=session,
            k=k or self.k,
            max_tokens=self.max_tokens,
            min_score=self.min_score,
            cite=self.cite,
        )
        return self._documents(recall, run_manager, context)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        context: Any = None,
        session: str | None = None,
        **_: Any,
    ) -> list[Document]:
        recall = await self._binding.arecall(
            query,
            context=context,
            session=session,
            k=k or self.k,
            max_tokens=self.max_tokens,
            min_score=self.min_score,
            cite=self.cite,
        )
        return self._documents(recall, run_manager, context)

    def _documents(
        self,
        recall: Recall | None,
        run_manager: CallbackManagerForRetrieverRun | AsyncCallbackManagerForRetrieverRun,
        context: Any,
    ) -> list[Document]:
        if recall is None:
            return []
        VERDICTS.opened(recall.id, self._binding, context=context, run_id=run_manager.run_id)
        return to_documents(recall)
