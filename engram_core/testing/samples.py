"""Samples: facts, features and batches for contracts and tests, as the operations would build them. No store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.fact import Fact, Origin, Status
from engram_core.domain.message import Episode, Message
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.measure import dates, sameness, words
from engram_core.ports import Batch, Decision, Features, Indexed, Ledger, RecallRow, ScopeState, Write
from engram_core.testing.fakes import SequentialIds, WordHashEmbedder

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
DIMENSION = 16
PRINCIPAL = "user:owner"

new_id = SequentialIds()
_embedder = WordHashEmbedder(DIMENSION)


def vector(text: str, dimension: int = DIMENSION) -> NDArray[np.float16]:
    """A unit vector of `text` as the ledger stores it."""
    embedder = _embedder if dimension == DIMENSION else WordHashEmbedder(dimension)
    values: NDArray[np.float16] = embedder.embed([text])[0].astype(np.float16)
    return values


def fact(scope: Scope, text: str, *, session: str | None = None, **fields: Any) -> Fact:
    """A live fact of `scope`; one minute later for each id given out, unless `said_at` says otherwise."""
    id_ = fields.pop("id", None) or new_id()
    said_at = fields.pop("said_at", START + timedelta(minutes=int(id_[-6:], 16)))
    origin = fields.pop("origin", None) or Origin(PRINCIPAL, "user", session=session, message_ids=(f"m-{id_}",))
    return Fact(id=id_, scope=scope, text=text, origin=origin, created_at=said_at, said_at=said_at, **fields)


def features(
    said: Fact, *, previous: Fact | None = None, following: Fact | None = None, dimension: int = DIMENSION
) -> Features:
    """What recall needs of a fact, between its neighbours; no vectors while it is pending."""
    around = words.context_text(said.text, previous.text if previous else None, following.text if following else None)
    is_embedded = said.status is not Status.PENDING
    return Features(
        key=sameness.key(said.text, said.speaker, said.said_at),
        body_stems=tuple(words.stems(said.text)),
        context_stems=tuple(words.stems(around)),
        content=vector(said.text, dimension) if is_embedded else None,
        context=vector(around, dimension) if is_embedded else None,
        time_words=dates.time_words(said.text),
        asks=words.is_bare_question(said.text),
        previous=previous.id if previous else None,
        following=following.id if following else None,
    )


def decision(action: str, said: Fact, **fields: Any) -> Decision:
    """One row of history about a fact."""
    reason = fields.pop("reason", None) or Reason("test", f"A test did {action}.", {"weight": 0.5})
    return Decision(action, said.scope, PRINCIPAL, said.said_at, reason, fact_id=said.id, **fields)


def episode(scope: Scope, *texts: str, session: str | None = None) -> Episode:
    """An episode of user messages."""
    messages = tuple(Message("user", text, session=session, id=new_id(), at=START) for text in texts)
    return Episode(new_id(), scope, messages, START, PRINCIPAL)


def batch(*facts: Fact, dimension: int = DIMENSION, **fields: Any) -> Batch:
    """A batch that adds facts of one scope, each with its decision."""
    return Batch(
        scope=facts[0].scope,
        writes=tuple(Write(said, features(said, dimension=dimension)) for said in facts),
        decisions=tuple(decision("add", said, after={"text": said.text}) for said in facts),
        **fields,
    )


def changed(before: Fact, *, dimension: int = DIMENSION, **fields: Any) -> tuple[Fact, Batch]:
    """A fact's next version with other `fields`, and the batch that writes it."""
    after = replace(before, version=before.version + 1, **fields)
    write = Write(after, features(after, dimension=dimension), replaces=before.version)
    return after, Batch(before.scope, writes=(write,), decisions=(decision("edit", after),))


def archived(before: Fact, *, dimension: int = DIMENSION) -> tuple[Fact, Batch]:
    """The fact archived, and the batch that writes it."""
    return changed(
        before, dimension=dimension, status=Status.ARCHIVED, archived_at=START, archived_reason="test: it is over"
    )


def add(
    ledger: Ledger, scope: Scope | str, texts: Sequence[str], *, dimension: int = DIMENSION, **fields: Any
) -> list[Fact]:
    """Commit one fact per text in one batch and return them."""
    facts = [fact(Scope.coerce(scope), text, **fields) for text in texts]
    ledger.commit(batch(*facts, dimension=dimension))
    return facts


def state(ledger: Ledger, scope: Scope | str) -> ScopeState:
    """The scope as the ledger knows it now. Raises LookupError if it does not."""
    for found in ledger.scopes([Scope.coerce(scope)]):
        return found
    raise LookupError(f"The ledger knows no scope {scope}.")


def outbox(ledger: Ledger, scope_id: int, *, after: int = 0, page: int = 1_000) -> list[Indexed]:
    """All changes of a scope after a sequence number."""
    rows: list[Indexed] = []
    while found := ledger.changes(scope_id, rows[-1].seq if rows else after, page):
        rows += found
    return rows


def recall_row(scope: Scope, *facts: Fact, at: datetime = START, **fields: Any) -> RecallRow:
    """A recall that showed `facts`."""
    shown = [
        {"id": said.id, "version": said.version, "score": 0.75, "terms": {"dense": 0.5, "bm25": 0.25}} for said in facts
    ]
    values: dict[str, Any] = {
        "id": new_id(),
        "scope": scope,
        "principal": PRINCIPAL,
        "session": None,
        "at": at,
        "query": "what is known?",
        "text_tokens": 12,
        "token_counter": "estimate",
        "degraded": False,
        "policy_version": 0,
        "facts": shown,
        "dropped": [],
        "stages": {"embed": 0.1},
    }
    return RecallRow(**(values | fields))
