"""Capacity streams: how much of the evidence is still there when it is asked for, at 10, 25 and 50 % of all facts.

    python -m benchmarks.capacity [--data FILE] [--units turns|observations] [--protocols spread,final,repeat]
                                  [--caps 10,25,50] [--seeds 2] [--no-feedback]

A conversation is added session by session, `now` being the session's end; after each session the scope's night forgets
down to the cap, with the policy's other fields at their defaults but `protect_days` 0. Protocols:

- `spread`: each question is asked once, in a random session after its evidence;
- `final`: half of the questions are asked at the end; the other half, spread, gives feedback;
- `repeat`: questions are asked three times as often as there are any, some often and most seldom (Zipf).

Engram recalls through its facade and learns from `observe` with the gold answer, as an agent would; `without use` is
the same night without what it learned. The baselines choose among the same facts: first in first out, at random, least
recently recalled, least frequently recalled, and 1 % decay a day on equal importance (that is pure time decay).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from benchmarks.locomo import DEFAULT, Conversation, Question, load
from engram_core import Engram, Fact, Memory, Message
from engram_core.operations import forget

SHOWN = 10
"""Facts a recall shows."""
Asks = list[tuple[Question, bool]]
"""Questions of one session, and whether their evidence counts."""


@dataclass(frozen=True)
class Stream:
    """A conversation as a stream: messages and questions per session; the last questions come after the last night."""

    sessions: Sequence[Sequence[Message]]
    asks: Sequence[Asks]
    covers: dict[str, frozenset[str]]
    """Message id to the turn ids it covers."""


def observations(path: Path, conversation: Conversation) -> tuple[list[list[Message]], dict[str, frozenset[str]]]:
    """The statements a model made of each session, as messages, and the turns each one rests on."""
    raw = next(item for item in json.loads(path.read_text()) if item["id"] == conversation.id)
    sessions, covers = [], {}
    for number, (session, turns) in enumerate(zip(raw["sessions"], conversation.sessions, strict=True)):
        made = []
        for place, item in enumerate(session["observations"]):
            id_ = f"O{number}:{place}"
            covers[id_] = frozenset(item["evidence"])
            made.append(Message("user", item["text"], id=id_, at=turns[-1].at, session=turns[-1].session))
        sessions.append(made)
    return sessions, covers


def stream(conversation: Conversation, protocol: str, units: str, path: Path, seed: int) -> Stream:
    """The stream of one conversation, its questions placed by chance."""
    rng = np.random.default_rng(seed)
    if units == "turns":
        sessions: Sequence[Sequence[Message]] = conversation.sessions
        covers = {message.id or "": frozenset([message.id or ""]) for message in conversation.messages}
    else:
        sessions, covers = observations(path, conversation)
    reachable = frozenset().union(*covers.values())
    last = {turn: number for number, turns in enumerate(conversation.sessions) for turn in (m.id for m in turns)}
    questions = [
        question
        for question in conversation.questions
        if question.evidence and question.category != "adversarial" and reachable.intersection(question.evidence)
    ]
    end = len(sessions)
    asks: list[Asks] = [[] for _ in range(end + 1)]

    def place(question: Question, counts: bool) -> None:
        first = min(max(last[turn] for turn in question.evidence) + 1, end)
        asks[int(rng.integers(first, end)) if first < end else end].append((question, counts))

    order = [questions[row] for row in rng.permutation(len(questions))]
    if protocol == "spread":
        for question in order:
            place(question, True)
    elif protocol == "final":
        half = len(order) // 2
        asks[end] = [(question, True) for question in order[:half]]
        for question in order[half:]:
            place(question, False)
    else:
        weights = 1.0 / np.arange(1, len(order) + 1)
        for question, times in zip(order, rng.multinomial(3 * len(order), weights / weights.sum()), strict=True):
            for _ in range(times):
                place(question, True)
    return Stream(sessions, asks, covers)


def kept(question: Question, live: frozenset[str], covers: dict[str, frozenset[str]]) -> float:
    """The share of a question's evidence that live messages cover."""
    reached = frozenset().union(*(covers.get(id_, frozenset()) for id_ in live)) if live else frozenset()
    known = frozenset().union(*covers.values())
    wanted = known.intersection(question.evidence)
    return len(wanted & reached) / len(wanted)


def learn(memory: Memory, question: Question, now: datetime) -> None:
    """Recall, and judge the gold answer, as an agent's turn would."""
    recalled = memory.recall(question.text, k=SHOWN, now=now)
    memory.observe(recalled.id, question.answer, now=now)


def night(memory: Memory, now: datetime, *, with_use: bool) -> None:
    """Forget down to the cap."""
    context = memory.engram.context
    planned = forget.plan(context, memory.scope, now, usefulness=None if with_use else {})
    forget.apply(context, planned, principal=memory.engram.owner)


def engram_run(source: Stream, cap: int, *, with_use: bool, with_feedback: bool) -> list[float]:
    """The real operations on a stream."""
    shares = []
    with Engram.open(":memory:") as store:
        memory = store.memory("bench/capacity")
        memory.set_policy(max_facts=cap, auto_forget=True, protect_days=0)
        now = source.sessions[0][0].at
        for number, asks in enumerate(source.asks):
            if asks:
                facts = memory.list(limit=10_000)
                live = frozenset(id_ for fact in facts for id_ in fact.origin.message_ids)
                for question, counts in asks:
                    if counts:
                        shares.append(kept(question, live, source.covers))
                    if with_feedback and with_use:
                        learn(memory, question, now)
            if number < len(source.sessions) and source.sessions[number]:
                now = source.sessions[number][-1].at
                memory.add(list(source.sessions[number]), now=now)
                night(memory, now, with_use=with_use)
    return shares


Rule = Callable[["Past", Fact], tuple[float, float]]
"""What a baseline sorts by: the lowest goes first."""


@dataclass
class Past:
    """What a baseline may look at."""

    number: int
    rng: np.random.Generator
    born: dict[str, int] = field(default_factory=dict)
    recalled: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    last: dict[str, int] = field(default_factory=dict)


BASELINES: dict[str, Rule] = {
    "first in, first out": lambda past, fact: (past.born[fact.id], 0.0),
    "time decay, 1 % a day": lambda past, fact: (0.99 ** -(fact.said_at.timestamp() / 86_400 - 19_000), 0.0),
    "at random": lambda past, fact: (past.rng.random(), 0.0),
    "least recently recalled": lambda past, fact: (past.last.get(fact.id, past.born[fact.id]), past.born[fact.id]),
    "least often recalled": lambda past, fact: (past.recalled[fact.id], past.born[fact.id]),
}


@dataclass(frozen=True)
class Everything:
    """A store that forgets nothing: the facts by session, and every question's ranking over them."""

    facts: Sequence[Sequence[Fact]]
    ranking: dict[str, list[str]]


def everything(source: Stream, questions: Sequence[Question]) -> Everything:
    with Engram.open(":memory:") as store:
        memory = store.memory("bench/all")
        facts = [
            memory.add(list(messages), now=messages[-1].at).facts if messages else () for messages in source.sessions
        ]
        ranking = {
            question.text: [item.fact.id for item in memory.recall(question.text, k=300, max_tokens=1_000_000).facts]
            for question in questions
        }
    return Everything(facts, ranking)


def baseline_run(source: Stream, whole: Everything, cap: int, rule: Rule, seed: int) -> list[float]:
    """One baseline on a stream."""
    past, live, shares = Past(0, np.random.default_rng(seed)), {}, []
    for number, asks in enumerate(source.asks):
        past.number = number
        messages = frozenset(id_ for fact in live.values() for id_ in fact.origin.message_ids)
        for question, counts in asks:
            if counts:
                shares.append(kept(question, messages, source.covers))
            for id_ in [id_ for id_ in whole.ranking[question.text] if id_ in live][:SHOWN]:
                past.recalled[id_] += 1
                past.last[id_] = number
        if number < len(source.sessions):
            for fact in whole.facts[number]:
                past.born[fact.id] = number
                live[fact.id] = fact
            ranked = sorted(live.values(), key=lambda fact: rule(past, fact))
            for fact in ranked[: max(0, len(ranked) - cap)]:
                del live[fact.id]
    return shares


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="conversations in the format of ../shared/data")
    parser.add_argument("--units", choices=["turns", "observations"], default="turns")
    parser.add_argument("--protocols", default="spread,final,repeat")
    parser.add_argument("--caps", default="10,25,50")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--no-feedback", action="store_true", help="ask without recalling: no usage, much quicker")
    options = parser.parse_args()
    if not options.data.exists():
        print(f"No data at {options.data}; pass --data FILE.")
        return
    caps = [int(cap) for cap in options.caps.split(",")]
    print(f"{options.units}: share of evidence kept when asked, at a cap of " + " / ".join(f"{cap} %" for cap in caps))
    conversations = load(options.data)
    for protocol in options.protocols.split(","):
        results: dict[tuple[str, int], list[float]] = defaultdict(list)
        for conversation in conversations:
            first = stream(conversation, protocol, options.units, options.data, 0)
            whole = everything(first, conversation.questions)
            size = sum(map(len, whole.facts))
            for seed in range(options.seeds):
                source = stream(conversation, protocol, options.units, options.data, seed)
                for cap in caps:
                    most = max(1, round(size * cap / 100))
                    for name, with_use in (("engram", True), ("engram without use", False)):
                        run = engram_run(source, most, with_use=with_use, with_feedback=not options.no_feedback)
                        results[name, cap].append(float(np.mean(run)))
                    for name, rule in BASELINES.items():
                        results[name, cap].append(float(np.mean(baseline_run(source, whole, most, rule, seed))))
        print(f"\n{protocol}")
        for name in dict.fromkeys(name for name, _ in results):
            print(f"  {name:26}" + " ".join(f"{np.mean(results[name, cap]):8.3f}" for cap in caps))


if __name__ == "__main__":
    main()
