"""Evidence: what of a scope's episodes, facts and sources answers a question. It finds; it writes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from engram_core.domain.fact import Fact, Status
from engram_core.domain.gap import Gap
from engram_core.domain.message import Episode, Message
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.measure import answers, content
from engram_core.operations.context import Context
from engram_core.operations.supersede import is_forgotten
from engram_core.ports import Passage, ScopeState

PAGE: Final = 200
_KEPT: Final = 6
"""Candidates kept for each question."""
_PASSAGES: Final = 5
_ROOT: Final = 5
_AS_GOOD: Final = 0.1
"""Of two answers that differ by no more in rank, the later one counts: it is the newer state."""
_ASKS_ABOUT_AGENT: Final = re.compile(r"\b(?:you|your|yours)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A message that may answer."""

    answer: answers.Answer
    message: Message
    episode_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Evidence:
    """What answers a gap.

    Attributes:
        text: The sentences that do.
        references: Fact and message ids, or references of a source.
        fact: The fact that says so, if one was kept of the message.
        messages: What the answer rests on, for its trust.
        by: `slot`, `words`, `correction`, `source` or `model`.
    """

    text: str
    references: tuple[str, ...]
    messages: tuple[Message, ...]
    by: str
    fact: Fact | None = None

    @property
    def at(self) -> datetime | None:
        """When it was said."""
        return self.messages[0].at


@dataclass(slots=True)
class Search:
    """One question on its way through the scope's messages; keeps the best that answer it.

    Attributes:
        gap: What is asked.
        wanted: The same, read.
        own: Ids of the messages that are the lapses themselves: no evidence.
    """

    gap: Gap
    wanted: answers.Wanted
    weight: Callable[[str], float]
    own: frozenset[str]
    found: list[Candidate] = field(default_factory=list)

    @classmethod
    def of(cls, gap: Gap, names: frozenset[str], weight: Callable[[str], float]) -> Search:
        """A search for what answers a gap."""
        own = frozenset(lapse.message_id for lapse in gap.lapses if lapse.message_id is not None)
        return cls(gap, answers.wanted(gap.question, names), weight, own)

    @property
    def asker(self) -> str | None:
        """Who asked, if known."""
        return next((lapse.asker for lapse in self.gap.lapses if lapse.asker is not None), None)

    @property
    def is_by_agent(self) -> bool:
        """Whether it was the agent who asked."""
        return all(lapse.kind == "asked_again" for lapse in self.gap.lapses)

    def hear(self, message: Message, episode: Episode, roots: frozenset[str]) -> None:
        """Keep a message if it answers."""
        if message.id in self.own or not self._may_answer(message, roots):
            return
        answer = answers.answer(
            self.wanted, message.content, speaker=message.speaker, asker=self.asker, weight=self.weight
        )
        if answer is not None:
            self.found.append(Candidate(answer, message, episode.id, message.at or episode.at))
            if len(self.found) > 4 * _KEPT:
                self.found = self.best()

    def _may_answer(self, message: Message, roots: frozenset[str]) -> bool:
        if message.role == "assistant":
            # What the agent said of the user it may have made up; of itself it is the one to ask.
            if self.is_by_agent or not _ASKS_ABOUT_AGENT.search(self.gap.question):
                return False
        elif message.role != "user":
            return False
        return bool(self.wanted.attributes) or any(token[:_ROOT] in roots for token in self.wanted.tokens)

    def best(self) -> list[Candidate]:
        """The best, best first: by rank, and among near equals the one said last."""
        return sorted(self.found, key=lambda one: (-round(one.answer.rank / _AS_GOOD), -one.at.timestamp()))[:_KEPT]


def roots_of(text: str) -> frozenset[str]:
    """The beginnings of a text's content words, to tell quickly what cannot answer."""
    return frozenset(token[:_ROOT] for token in content.tokens(text))


def episodes(context: Context, scope: Scope, after: int) -> Iterator[tuple[int, Episode]]:
    """A scope's episodes after a sequence number, page by page."""
    while page := context.ledger.diary.episodes(scope, after, PAGE):
        yield from page
        after = page[-1][0]


def weights(context: Context, state: ScopeState | None, questions: Iterable[str]) -> Callable[[str], float]:
    """How rare each word of some questions is in a scope's facts; a word that no fact has weighs most."""
    stems = content.lexical_stems(questions)
    if state is None or not stems:
        return lambda _: 1.0
    known = context.ledger.frequencies(state.id, sorted(set(stems.values())))
    facts = max(state.recallable, 16)
    rare = {token: content.idf(known.get(stem, (0, 0))[0], facts) for token, stem in stems.items()}
    return lambda token: rare.get(token, content.idf(0, facts))


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a search came to: evidence, or the reason why there is none."""

    evidence: Evidence | None
    reason: Reason


def weigh(context: Context, search: Search, now: datetime) -> Weighed:
    """The best candidate that may be used: not superseded, expired, distrusted, or taken away by a person."""
    refused: Reason | None = None
    for candidate in search.best():
        fact = _fact(context, candidate)
        refusal = _unfit(fact, now) if fact is not None else None
        if refusal is None:
            references = (*((fact.id,) if fact is not None else ()), *filter(None, (candidate.message.id,)))
            line = f"{who(candidate.message)} said so on {candidate.at:%d %B %Y}."
            reason = Reason("evidence_found", line, {"coverage": round(candidate.answer.coverage, 3)})
            found = Evidence(candidate.answer.text, references, (candidate.message,), candidate.answer.by, fact)
            return Weighed(found, reason)
        refused = refused or refusal
    nothing = Reason("no_evidence", "Nothing in the episodes, the archive or the sources answers it.")
    return Weighed(None, refused or nothing)


def who(message: Message) -> str:
    """Whose words a message holds, for people."""
    return message.speaker or ("The agent" if message.role == "assistant" else "The user")


def _fact(context: Context, candidate: Candidate) -> Fact | None:
    """The fact that was kept of a message; of several, one that holds the answer and can be recalled."""
    episode = context.ledger.episode(candidate.episode_id)
    facts = context.ledger.facts(episode.kept) if episode is not None else []
    own = [fact for fact in facts if candidate.message.id in fact.origin.message_ids and not fact.sources]
    own = [fact for fact in own if _holds(fact, candidate.answer.text)] or own
    return next((fact for fact in own if fact.is_recallable), own[0] if own else None)


def _holds(fact: Fact, text: str) -> bool:
    return content.token_set(text) <= content.token_set(fact.text)


def _unfit(fact: Fact, now: datetime) -> Reason | None:
    if fact.superseded_by is not None:
        return Reason("evidence_outdated", f"Fact {fact.id} says so, but it was superseded by {fact.superseded_by}.")
    if fact.status in {Status.QUARANTINED, Status.ERASED}:
        return Reason("evidence_withheld", f"A fact that says so is {fact.status}.")
    if is_forgotten(fact):
        return Reason("evidence_withheld", f"Fact {fact.id} says so, but a person took it out of recall.")
    if fact.valid_until is not None and fact.valid_until <= now:
        return Reason("evidence_outdated", f"Fact {fact.id} says so, but it held until {fact.valid_until:%d %B %Y}.")
    return None


def from_sources(context: Context, search: Search, trouble: list[str]) -> Evidence | None:
    """What the scope's registered sources say; a source that fails is reported and passed over."""
    for name, passage in _passages(context, search.gap, trouble):
        answer = answers.answer(search.wanted, passage.text, speaker=None, asker=search.asker, weight=search.weight)
        if answer is not None:
            reference = f"{name}: {passage.reference}"
            message = Message("user", passage.text, at=passage.at, channel="import")
            return Evidence(answer.text, (reference,), (message,), "source")
    return None


def _passages(context: Context, gap: Gap, trouble: list[str]) -> Iterator[tuple[str, Passage]]:
    for place, source in context.sources:
        if place is not None and not place.contains(gap.scope):
            continue
        try:
            found: Sequence[Passage] = list(source.search(gap.question, _PASSAGES))[:_PASSAGES]
        except Exception as error:  # noqa: BLE001 - a source is somebody else's code; the night must go on
            trouble.append(f"Source {source.name} failed: {type(error).__name__}: {error}"[:500])
            continue
        for passage in found:
            yield source.name, passage
