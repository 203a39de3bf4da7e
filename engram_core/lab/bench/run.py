"""Run: puts every memory through every conversation and writes down what it found and took. It judges nothing."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from engram_core.lab.bench import metrics
from engram_core.lab.bench.data import Conversation, Dataset, Question
from engram_core.lab.bench.metrics import DEPTH, Hit
from engram_core.lab.bench.subject import (
    Dated,
    Forgets,
    Found,
    Item,
    Packs,
    SharedEmbedder,
    Subject,
    System,
    Timed,
    item,
)
from engram_core.ports import TokenCounter

Adds = Literal["one", "session", "all"]
ADDS: Final[tuple[Adds, ...]] = ("one", "session", "all")
Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done, total)."""
T = TypeVar("T")

_NEVER: Final = datetime(2024, 1, 1, tzinfo=UTC)
_AFTER: Final = timedelta(days=1)
USUAL: Final = 10
"""Hits that a search is timed with; the metrics look deeper."""
PACKED: Final = (256, 512)
"""Budgets that memories are asked to pack a context for."""
_SHOWN: Final = 20
"""Hits written down per question."""


@dataclass(frozen=True, slots=True)
class Row:
    """One question put to one memory.

    Attributes:
        gold: Evidence ids.
        hits: For each of the first 20 hits, the ids it covers.
        values: Metric → value.
    """

    dataset: str
    system: str
    conversation: str
    question: str
    text: str
    category: str
    gold: tuple[str, ...]
    hits: tuple[tuple[str, ...], ...]
    values: dict[str, float]

    @property
    def key(self) -> tuple[str, str, str]:
        """Which question this is, whoever answers it."""
        return self.dataset, self.conversation, self.question

    def to_dict(self) -> dict[str, Any]:
        """As a line of `--per-question`."""
        return {
            "dataset": self.dataset,
            "system": self.system,
            "conversation": self.conversation,
            "id": self.question,
            "question": self.text,
            "category": self.category,
            "gold": list(self.gold),
            "hits": [list(ids) for ids in self.hits],
            "metrics": self.values,
        }

    @classmethod
    def from_dict(cls, line: Mapping[str, Any]) -> Row:
        """A line of `--per-question`, read back."""
        return cls(
            line["dataset"],
            line["system"],
            line["conversation"],
            line["id"],
            line["question"],
            line["category"],
            tuple(line["gold"]),
            tuple(tuple(ids) for ids in line["hits"]),
            dict(line["metrics"]),
        )


@dataclass(frozen=True, slots=True)
class ForgetRow:
    """What one memory let go of a conversation: on its own (`own`), then down to the number to keep (`cap`)."""

    dataset: str
    system: str
    conversation: str
    own: frozenset[str]
    cap: frozenset[str]
    forget: frozenset[str]
    keep: frozenset[str]


@dataclass(slots=True)
class Clocked:
    """What one memory took, in seconds, the embedding left out."""

    items: int = 0
    adding: float = 0.0
    searches: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Failure:
    """A memory that raised; it is asked nothing more in this run."""

    system: str
    conversation: str
    error: str


@dataclass(slots=True)
class Measured:
    """Everything a run found. `systems` are in the order they ran."""

    datasets: tuple[Dataset, ...]
    systems: tuple[System, ...]
    rows: list[Row] = field(default_factory=list)
    forgets: list[ForgetRow] = field(default_factory=list)
    clocks: dict[str, Clocked] = field(default_factory=lambda: defaultdict(Clocked))
    failures: list[Failure] = field(default_factory=list)

    @property
    def whole(self) -> tuple[System, ...]:
        """The memories that answered everything; only they can be compared."""
        failed = {failure.system for failure in self.failures}
        return tuple(system for system in self.systems if system.name not in failed)


def measure(
    datasets: Sequence[Dataset],
    systems: Sequence[System],
    embedder: SharedEmbedder,
    counter: TokenCounter,
    *,
    adds: Adds = "session",
    progress: Progress = lambda label, done, total: None,
) -> Measured:
    """Run every system on every conversation.

    Args:
        datasets: Where the conversations come from.
        systems: A fresh memory of each is made for every conversation.
        embedder: Shared by all; what it takes is left out of the times.
        counter: Counts the tokens of every hit's text.
        adds: How many messages a memory is given at once: one, a session's, or all of a conversation's.
        progress: Called after every question and conversation.

    Returns:
        Rows in the order of datasets, conversations, systems, questions. A memory that raises is dropped, not the run.
    """
    found = Measured(tuple(datasets), tuple(systems))
    count = lru_cache(maxsize=262_144)(counter.count)
    trials = [
        _Trial(data, conversation, system, embedder, count, found)
        for data in datasets
        for conversation in data.conversations
        for system in systems
    ]
    total, done = sum(trial.steps for trial in trials), 0
    for trial in trials:
        if trial.system in found.whole:
            trial.run(adds, _from(progress, done, total))
        done += trial.steps
        progress(trial.system.name, done, total)
    return found


def _from(progress: Progress, before: int, total: int) -> Callable[[str, int], None]:
    return lambda label, done: progress(label, before + done, total)


@dataclass(frozen=True, slots=True)
class _Trial:
    """One memory in one conversation."""

    data: Dataset
    conversation: Conversation
    system: System
    embedder: SharedEmbedder
    count: Callable[[str], int]
    found: Measured

    @property
    def steps(self) -> int:
        """Questions, and one for adding."""
        return len(self.conversation.questions) + 1

    def run(self, adds: Adds, step: Callable[[str, int], None]) -> None:
        """Add, ask, forget; whatever the memory raises is written down."""
        with tempfile.TemporaryDirectory(prefix="engram-bench-", ignore_cleanup_errors=True) as folder:
            try:
                subject = self.system.opens(self.embedder.lists, Path(folder))
                try:
                    self._add(subject, adds)
                    self._ask(subject, step)
                    self._forget(subject)
                finally:
                    subject.close()
            except Exception as error:  # noqa: BLE001 - the edge of foreign code: one memory's failure ends its run only
                said = f"{type(error).__name__}: {error}"
                self.found.failures.append(Failure(self.system.name, self.conversation.id, said))

    def _add(self, subject: Subject, adds: Adds) -> None:
        clock = self.found.clocks[self.system.name]
        for batch in _batches(self.conversation, adds):
            clock.adding += self._timed(subject, partial(subject.add, batch))[1]
            clock.items += len(batch)

    def _ask(self, subject: Subject, step: Callable[[str, int], None]) -> None:
        sessions = {message.id: message.session for message in self.conversation.messages}
        end = max((message.at for message in self.conversation.messages if message.at), default=_NEVER) + _AFTER
        is_warm = False
        for number, question in enumerate(self.conversation.questions):
            if question.evidence:
                if isinstance(subject, Dated):
                    subject.at(question.asked_at or end)
                if not is_warm:
                    subject.search(question.text, USUAL)  # the first call of a store pays for opening it
                    is_warm = True
                _, seconds = self._timed(subject, partial(subject.search, question.text, USUAL))
                self.found.clocks[self.system.name].searches.append(seconds)
                row = self._row(question, subject.search(question.text, DEPTH), sessions)
                row.values.update(self._packed(subject, question, row.values, sessions))
                self.found.rows.append(row)
            step(self.system.name, number + 1)

    def _row(self, question: Question, answer: Sequence[Found], sessions: dict[str | None, str | None]) -> Row:
        hits = [self._hit(ids, text, sessions) for ids, text in answer]
        gold, stale = frozenset(question.evidence), frozenset(question.stale)
        values = metrics.of_ranking(hits, gold, question.answer)
        if stale:
            values |= metrics.of_update(hits, gold - stale, stale)
        return Row(
            self.data.name,
            self.system.name,
            self.conversation.id,
            question.id,
            question.text,
            question.category,
            question.evidence,
            tuple(tuple(sorted(ids)) for ids, _ in answer[:_SHOWN]),
            values,
        )

    def _packed(
        self, subject: Subject, question: Question, values: Mapping[str, float], sessions: dict[str | None, str | None]
    ) -> dict[str, float]:
        """C@bt: the evidence in the context a memory packs itself; R@bt for one that leaves packing to its caller."""
        found = {}
        for budget in PACKED:
            share = values[f"R@{budget}t"]
            if isinstance(subject, Packs):
                hits = [self._hit(ids, text, sessions) for ids, text in subject.context(question.text, budget)]
                share = metrics.recall_at(hits, frozenset(question.evidence), len(hits))
            found[f"C@{budget}t"] = share
        return found

    def _hit(self, ids: Sequence[str], text: str, sessions: dict[str | None, str | None]) -> Hit:
        # Some data sets label whole sessions: a hit covers the sessions of what it shows, too.
        covers = {*ids, *(session for id_ in ids if (session := sessions.get(id_)))}
        return Hit(frozenset(covers), self.count(text), text)

    def _forget(self, subject: Subject) -> None:
        keep, forget = self.conversation.labelled("keep"), self.conversation.labelled("forget")
        if not (keep or forget) or not isinstance(subject, Forgets):
            return
        everything = frozenset(message.id for message in self.conversation.messages if message.id)
        if isinstance(subject, Dated):
            last = max(message.at for message in self.conversation.messages if message.at)
            subject.at(last + _AFTER)
        own = everything - subject.kept()
        subject.forget(len(everything) - len(forget))
        cap = everything - subject.kept()
        self.found.forgets.append(
            ForgetRow(self.data.name, self.system.name, self.conversation.id, own, cap, forget, keep)
        )

    def _timed(self, subject: Subject, call: Callable[[], T]) -> tuple[T, float]:
        """What the call returns and the seconds it took, without embedding."""
        started, embedding = time.perf_counter(), self.embedder.seconds
        result = call()
        took = time.perf_counter() - started - (self.embedder.seconds - embedding)
        return result, subject.seconds if isinstance(subject, Timed) else took


def _batches(conversation: Conversation, adds: Adds) -> Iterator[list[Item]]:
    if adds == "one":
        yield from ([item(message)] for message in conversation.messages)
    elif adds == "session":
        yield from ([item(message) for message in session] for session in conversation.sessions if session)
    else:
        yield [item(message) for message in conversation.messages]
