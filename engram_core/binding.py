"""Binding: how an adapter holds a memory. Lazy store, scope per request, and failures that never break the user's run.

Adapters keep one Binding and call it; everything about memory stays in the core.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from engram_core.bootstrap import shared
from engram_core.domain.errors import ChangeRefused, FactNotFound, InvalidInput
from engram_core.domain.fact import Fact
from engram_core.domain.message import Message
from engram_core.domain.recall import AddResult, Recall, Usage
from engram_core.domain.scope import Scope
from engram_core.engram import Engram, Memory, off_loop

DEFAULT_K = 8
MAX_K = 300
MAX_QUERY = 4_000
"""Characters of a user's message that are searched for."""

logger = logging.getLogger("engram")

ScopeSource = Scope | str | Callable[[Any], Scope | str]
PrincipalSource = str | Callable[[Any], str] | None


class Binding:
    """A scope and principal on a store that is opened at first use.

    Args:
        scope: A scope, or a callable that gets the framework's runtime context and returns one.
        engram: An open Engram. Default: the process's shared store at `url`.
        url: Where the shared store is; default `ENGRAM_URL`, else `./.engram`.
        principal: Who acts; a string or a callable of the runtime context. Default: the store's owner.
        k: Facts per recall, 1 to 300.
        max_tokens: Token budget of a recall; default the policy's.
        cite: Let recalls ask the model to cite the facts it uses.
        fail_open: Log and record memory errors instead of raising them.
    """

    def __init__(
        self,
        scope: ScopeSource,
        *,
        engram: Engram | None = None,
        url: str | None = None,
        principal: PrincipalSource = None,
        k: int = DEFAULT_K,
        max_tokens: int | None = None,
        cite: bool = False,
        fail_open: bool = True,
    ) -> None:
        if not isinstance(k, int) or not 1 <= k <= MAX_K:
            raise InvalidInput(f"k must be a whole number from 1 to {MAX_K}, not {k!r}.")
        if not callable(scope):
            scope = Scope.coerce(scope)
        self.scope = scope
        self.url = url
        self.principal = principal
        self.k = k
        self.max_tokens = max_tokens
        self.cite = cite
        self.fail_open = fail_open
        self._engram = engram

    @property
    def engram(self) -> Engram:
        """The store, opened now if it was not yet."""
        return self._engram if self._engram is not None else shared(self.url)

    def scope_for(self, context: Any = None) -> Scope:
        """The scope of this request. Raises InvalidScope if the callable returns nonsense."""
        scope = self.scope(context) if callable(self.scope) else self.scope
        if scope is None:
            raise InvalidInput("The scope callable returned None; it must return a scope such as 'acme/alice'.")
        return Scope.coerce(scope)

    def memory(self, context: Any = None) -> Memory:
        """The memory of this request."""
        principal = self.principal(context) if callable(self.principal) else self.principal
        return self.engram.memory(self.scope_for(context), principal=principal)

    def recall(
        self,
        query: str,
        *,
        context: Any = None,
        session: str | None = None,
        k: int | None = None,
        max_tokens: int | None = None,
        min_score: float | None = None,
        cite: bool | None = None,
    ) -> Recall | None:
        """Recall for a turn; None when the query is blank or, failing open, when memory is out of order."""
        if not query or not query.strip():
            return None
        with self._guard("recall", context):
            return self.memory(context).recall(
                _shortened(query),
                k=k or self.k,
                max_tokens=max_tokens or self.max_tokens,
                min_score=min_score,
                session=session,
                cite=self.cite if cite is None else cite,
            )
        return None

    def add(
        self, messages: str | Message | Sequence[str | Message], *, context: Any = None, session: str | None = None
    ) -> AddResult | None:
        """Remember messages; None when memory is out of order and fails open."""
        with self._guard("add", context):
            return self.memory(context).add(messages, session=session)
        return None

    def observe(self, recall_id: str, response: str | None, *, context: Any = None) -> Usage | None:
        """Tell which recall a response answers; None as response means unknown (error, abandoned, partial)."""
        with self._guard("observe", context):
            return self.memory(context).observe(recall_id, response)
        return None

    def forget(self, fact_id: str, *, reason: str | None = None, context: Any = None) -> Fact | None:
        """Archive a fact of this very scope; None when memory is out of order and fails open.

        Raises:
            FactNotFound, ChangeRefused: The caller named a fact that is not there or may not be forgotten; these are
                answers, not failures of memory.
        """
        with self._guard("forget", context):
            return self.memory(context).forget(fact_id, reason=reason)
        return None

    async def aforget(self, fact_id: str, *, reason: str | None = None, context: Any = None) -> Fact | None:
        """`forget`, off the event loop."""
        return await off_loop(self.forget, fact_id, reason=reason, context=context)

    async def arecall(
        self,
        query: str,
        *,
        context: Any = None,
        session: str | None = None,
        k: int | None = None,
        max_tokens: int | None = None,
        min_score: float | None = None,
        cite: bool | None = None,
    ) -> Recall | None:
        """`recall`, off the event loop."""
        return await off_loop(
            self.recall,
            query,
            context=context,
            session=session,
            k=k,
            max_tokens=max_tokens,
            min_score=min_score,
            cite=cite,
        )

    async def aadd(
        self, messages: str | Message | Sequence[str | Message], *, context: Any = None, session: str | None = None
    ) -> AddResult | None:
        """`add`, off the event loop."""
        return await off_loop(self.add, messages, context=context, session=session)

    async def aobserve(self, recall_id: str, response: str | None, *, context: Any = None) -> Usage | None:
        """`observe`, off the event loop."""
        return await off_loop(self.observe, recall_id, response, context=context)

    @contextmanager
    def _guard(self, verb: str, context: Any) -> Iterator[None]:
        try:
            yield
        except (FactNotFound, ChangeRefused):
            raise
        except Exception as error:
            if not self.fail_open:
                raise
            logger.warning("engram: %s failed and was skipped (fail_open): %s", verb, error)
            self._note(verb, context, error)

    def _note(self, verb: str, context: Any, error: Exception) -> None:
        try:
            self.engram.note_failure(self.scope_for(context), verb, error)
        except Exception:
            # The store itself may be what is broken; the log line above is then the only trace.
            logger.debug("engram: could not record the failure of %s", verb, exc_info=True)


@runtime_checkable
class Bound(Protocol):
    """Anything that already holds a Binding, such as an adapter's memory."""

    @property
    def binding(self) -> Binding:
        """The scope and store behind the object."""
        ...


BindingSource = ScopeSource | Binding | Bound
"""What adapters' constructors take as `scope`: a scope, a callable of the runtime context, or something bound."""


def bind(
    source: BindingSource,
    *,
    engram: Engram | None = None,
    url: str | None = None,
    principal: PrincipalSource = None,
    k: int | None = None,
    max_tokens: int | None = None,
    cite: bool = False,
    fail_open: bool = True,
) -> Binding:
    """The Binding behind `source`, or a new one. Opens no store.

    Args:
        source: See `BindingSource`.
        engram, url, principal, k, max_tokens, cite, fail_open: As for `Binding`, for a new one.

    Raises:
        InvalidInput: `k` is out of range, or `source` is bound already and a store, a principal or `fail_open=False`
            was given as well.
        InvalidScope: The scope breaks the grammar.
    """
    if k is not None and not 1 <= k <= MAX_K:
        raise InvalidInput(f"k must be a whole number from 1 to {MAX_K}, not {k!r}.")
    if isinstance(source, Binding):
        held = source
    elif isinstance(source, Bound):
        held = source.binding
    else:
        return Binding(
            source,
            engram=engram,
            url=url,
            principal=principal,
            k=k or DEFAULT_K,
            max_tokens=max_tokens,
            cite=cite,
            fail_open=fail_open,
        )
    if engram is not None or url is not None or principal is not None:
        raise InvalidInput("This memory already knows its store and principal; give engram, url and principal there.")
    if not fail_open and held.fail_open:
        raise InvalidInput("This memory fails open; give fail_open=False there.")
    return held


def _shortened(query: str) -> str:
    """A pasted document's beginning and end: the question stands at one of them; all of it is too much to search."""
    return query if len(query) <= MAX_QUERY else f"{query[: MAX_QUERY // 2]}\n{query[-MAX_QUERY // 2 :]}"
