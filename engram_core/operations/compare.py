"""Compare: whether two stores answer the same questions alike. It records no recall and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from engram_core.design import Design, View
from engram_core.domain.errors import EmbeddingFailed
from engram_core.domain.recall import Query, Scored
from engram_core.domain.scope import Scope
from engram_core.operations import standby
from engram_core.operations.add import view_of
from engram_core.operations.context import Context
from engram_core.ports import Ledger

SCOPES = 10
"""Scopes that are asked, the largest first."""
_NEWEST = 2
_WEIGHTIEST = 1
_K = 10

Answer = list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Question:
    """A question that needs no embedder: a fact's own text, with the vector the ledger keeps of it."""

    scope: Scope
    text: str
    vector: NDArray[np.float32]


class KnownVectors:
    """A StoreEmbedder that knows the vectors of some texts and no others.

    Args:
        questions: Where the vectors are from, all of one length.
    """

    name = "known vectors"

    def __init__(self, questions: Sequence[Question]) -> None:
        self._vectors = {question.text: question.vector for question in questions}
        self.dimension = len(questions[0].vector) if questions else 1

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), dimension). Raises EmbeddingFailed for a text it does not know."""
        try:
            return np.stack([self._vectors[text] for text in texts]).astype(np.float32)
        except KeyError as error:
            raise EmbeddingFailed("There is no embedder here, and the text is none of the questions.") from error

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `embed`: a question is one of the facts."""
        return self.embed(texts)


def questions(ledger: Ledger) -> list[Question]:
    """The newest and the weightiest facts of the largest scopes, as questions."""
    largest = sorted(ledger.scopes(), key=lambda state: (-state.live, state.id))[:SCOPES]
    found = []
    for state in largest:
        ids = [*ledger.newest(state.id, _NEWEST), *ledger.weightiest(state.id, _WEIGHTIEST)]
        vectors = {row.id: row.content for row in ledger.indexed(list(dict.fromkeys(ids)))}
        for fact in ledger.facts(list(vectors)):
            blob = vectors[fact.id]
            if blob is not None:
                found.append(Question(state.scope, fact.text, np.frombuffer(blob, dtype="<f2").astype(np.float32)))
    return found


def answers(context: Context, asked: Sequence[Question], now: datetime) -> list[Answer]:
    """The best facts and their scores for each question, over the scope and those above; only ids come out."""
    found = []
    for question in asked:
        policy = context.ledger.policy(question.scope).policy
        view, _ = view_of(context, question.scope, now, readable=question.scope.lineage, policy=policy)
        view.question = question.text
        query = Query(question.text, _K, now)
        ranking, _ = standby.ask(
            context, question.scope, policy.design, partial(_retrieved, query, view), now, is_live=False
        )
        found.append([(item.fact_id, round(item.score, 6)) for item in ranking[:_K]])
    return found


def _retrieved(query: Query, view: View, design: Design) -> list[Scored]:
    return list(design.retrieve(query, view))
