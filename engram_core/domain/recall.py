"""Recall and its relatives: what one retrieval asked, found, dropped and showed, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from engram_core.domain.fact import Fact
from engram_core.domain.message import Message
from engram_core.domain.reason import Reason

OutcomeAction = Literal["stored", "merged", "ignored", "quarantined", "parked"]


@dataclass(frozen=True, slots=True)
class Query:
    """What a design is asked to rank for.

    Attributes:
        text: The question, never empty.
        k: How many facts the caller wants, 1 to 300.
        kinds: Only these kinds; empty means all.
    """

    text: str
    k: int
    at: datetime
    kinds: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Scored:
    """A design's verdict on one candidate. `score` is the sum of `terms`, exactly."""

    fact_id: str
    terms: Mapping[str, float]

    @property
    def score(self) -> float:
        return sum(self.terms.values())


@dataclass(frozen=True, slots=True)
class ScoredFact:
    """A recalled fact: `score` is the sum of `terms`; `text` is the line as rendered into the context.

    Attributes:
        members: Of a merged fact, the ids of the originals that were rendered, best first, one line of `text` each in
            that order; `score` and `terms` are the best one's. Empty for other facts.
        message_ids: The messages behind what was rendered.
        markers: What the answer cites each line of `text` by, such as `m1`, which stands in front of it as `[m1]`;
            empty unless the recall was made with `cite=True`.
    """

    fact: Fact
    score: float
    terms: dict[str, float]
    text: str
    tokens: int
    members: tuple[str, ...] = ()
    message_ids: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()

    @property
    def marker(self) -> str | None:
        """The first of `markers`; a merged fact has one for each line."""
        return self.markers[0] if self.markers else None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A candidate that is not in the recall, and the rule that kept it out."""

    fact_id: str
    text: str
    score: float
    terms: dict[str, float]
    reason: Reason


@dataclass(frozen=True, slots=True)
class Recall:
    """One retrieval.

    Attributes:
        id: UUIDv7; pass it to `observe` and `explain`.
        text: The fenced context to put into a prompt; empty when nothing was found.
        tokens: Tokens of `text`, wrapper included, by `token_counter`.
        facts: Best first.
        dropped: Every other candidate that was ranked, with the rule that dropped it.
        degraded: True when the index, the embedder, the reranker or the design in force failed, and it went on without.
        stages: Milliseconds spent in embed, candidates, score, hydrate, render and record.
        notes: What went wrong with the design in force or the reranker, if anything did.
    """

    id: str
    query: str
    text: str
    tokens: int
    facts: tuple[ScoredFact, ...]
    dropped: tuple[Dropped, ...] = ()
    degraded: bool = False
    token_counter: str = ""
    stages: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[ScoredFact]:
        return iter(self.facts)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message of an `add`."""

    message: Message
    action: OutcomeAction
    reason: Reason
    fact_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AddResult:
    """What an `add` did: the stored facts, and one outcome per message in the order given."""

    facts: tuple[Fact, ...]
    outcomes: tuple[Outcome, ...]
    episode_id: str

    @property
    def counts(self) -> dict[str, int]:
        """How many messages had each outcome."""
        counts: dict[str, int] = {}
        for outcome in self.outcomes:
            counts[outcome.action] = counts.get(outcome.action, 0) + 1
        return counts

    @property
    def pending(self) -> int:
        """How many stored facts are not embedded yet (the embedder failed; they are retried)."""
        return sum(fact.status == "pending" for fact in self.facts)


@dataclass(frozen=True, slots=True)
class Usage:
    """Which facts of a recall appear in the response: ids in rank order, and each one's attribution terms.

    Attributes:
        text: The response; without citation markers if the recall was made with `cite=True`. Empty if there was none.
    """

    recall_id: str
    used: tuple[str, ...]
    unused: tuple[str, ...]
    unknown: tuple[str, ...]
    terms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    text: str = ""
