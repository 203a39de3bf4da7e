"""Does learning from responses help? Replays of question streams over real conversations, learning on against off.

Each conversation gets a stream of questions: popularity follows Zipf's law and is dealt anew at half-time, so that what
was popular becomes rare. After each recall of 5 facts the gold answer is observed, as an agent's response would be, and
evidence recall@5 of each ask is measured. Baselines in the same run: no learning, and a boost from mere recall counts.
In the adversarial stream the first 100 responses are made of the shown facts that are no evidence.

    python -m benchmarks.learning [--data FILE] [--seeds 1] [--facts observations|turns]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np

from benchmarks.locomo import DEFAULT, Conversation, Question, load
from engram_core import Engram, Memory, Message, Recall

ASKS = 400
SHOWN = 5
WRONG = 100
COUNT_WEIGHT = 0.05
_ID = re.compile(r"D(\d+):(\d+)")
Gold = dict[str, frozenset[str]]
"""By message id, the turns a fact rests on."""


@dataclass
class Outcome:
    """One stream under one rule: recall@5 of each ask, and which question it was."""

    recalls: list[float] = field(default_factory=list)
    questions: list[int] = field(default_factory=list)
    shown: list[frozenset[str]] = field(default_factory=list)

    def mean(self, which: Callable[[int], bool] = lambda _: True) -> float:
        chosen = [value for place, value in enumerate(self.recalls) if which(place)]
        return float(np.mean(chosen)) if chosen else math.nan

    def is_first(self, place: int) -> bool:
        return self.questions[place] not in self.questions[:place]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--facts", choices=["observations", "turns", "both"], default="both")
    options = parser.parse_args()
    if not options.data.exists():
        print(f"No data at {options.data}; pass --data FILE.")
        return
    for kind in ("observations", "turns") if options.facts == "both" else (options.facts,):
        report(kind, options.data, options.seeds)


def report(kind: str, data: Path, seeds: int) -> None:
    """Every rule on every conversation's stream."""
    raw = {item["id"]: item for item in json.loads(data.read_text())}
    rules = {
        "no learning": Rule(weight=0.0),
        "recall counts": Rule(weight=0.0, by_count=True),
        "learning": Rule(),
        "no learning, wrong start": Rule(weight=0.0, wrong=WRONG),
        "learning, wrong start": Rule(wrong=WRONG),
    }
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    for conversation in load(data):
        messages, gold = facts_of(kind, conversation, raw[conversation.id])
        reachable = frozenset().union(*gold.values())
        questions = [q for q in conversation.questions if q.category != "adversarial" and reachable & {*q.evidence}]
        for seed in range(seeds):
            order = stream(len(questions), seed)
            for name, rule in rules.items():
                outcomes[name].append(play(messages, gold, questions, order, rule, reachable))
        print(f"  {kind}, {conversation.id}: {len(messages)} facts, {len(questions)} questions", flush=True)
    print(f"\n{kind}: evidence recall@{SHOWN}, {ASKS} asks per stream, {seeds} stream(s) per conversation")
    print(f"{'':28}{'all':>8}{'first':>8}{'again':>8}{'last quarter':>14}   per conversation")
    for name, found in outcomes.items():
        print(f"{name:28}" + _row(found))
    for name, base in (("learning", "no learning"), ("learning, wrong start", "no learning, wrong start")):
        whole, late = (_interval(outcomes[name], outcomes[base], start) for start in (0, ASKS * 3 // 4))
        print(f"{name} - {base}: {whole} over all asks, {late} in the last quarter")
    _starved(outcomes["learning"], outcomes["no learning"])


@dataclass(frozen=True)
class Rule:
    """How a stream is played: the policy's usefulness weight (None: the default), and what the feedback is."""

    weight: float | None = None
    by_count: bool = False
    wrong: int = 0


def facts_of(kind: str, conversation: Conversation, raw: dict) -> tuple[list[Message], Gold]:
    """What is remembered: the turns, or the statements that a model wrote about each session."""
    turns = {message.id: message for message in conversation.messages}
    if kind == "turns":
        return list(turns.values()), {id_: frozenset([id_]) for id_ in turns}
    messages, gold = [], {}
    for session in raw["sessions"]:
        for place, seen in enumerate(session["observations"]):
            ids = frozenset(f"D{int(a)}:{int(b)}" for a, b in _ID.findall(" ".join(seen["evidence"]))) & turns.keys()
            if ids:
                id_ = f"o{session['number']}-{place}"
                gold[id_] = ids
                at = min(turns[turn].at for turn in ids)
                messages.append(Message("user", seen["text"], at=at, session=str(session["number"]), id=id_))
    return messages, gold


def stream(questions: int, seed: int) -> list[int]:
    """Question numbers: Zipf popularity, dealt anew at half-time."""
    rng = random.Random(seed)
    asked: list[int] = []
    for _ in range(2):
        dealt = rng.sample(range(questions), questions)
        asked += rng.choices(dealt, weights=[1 / (place + 1) for place in range(questions)], k=ASKS // 2)
    return asked


def play(
    messages: Sequence[Message],
    gold: Gold,
    questions: Sequence[Question],
    order: Sequence[int],
    rule: Rule,
    reachable: frozenset[str],
) -> Outcome:
    """Ask, answer, observe, over and over, through the facade."""
    outcome = Outcome()
    with (
        tempfile.TemporaryDirectory() as place,
        Engram.open(place, index="exact", rng=random.Random(0), exact_limit=10_000) as store,
    ):
        memory = store.memory("bench/learning")
        if rule.weight is not None:
            memory.set_policy(usefulness_weight=rule.weight)
        memory.add(list(messages))
        now = max(message.at for message in messages if message.at) + timedelta(days=1)
        counts: Counter[str] = Counter()
        for number, chosen in enumerate(order):
            question = questions[chosen]
            recall = memory.recall(question.text, k=8 * SHOWN if rule.by_count else SHOWN, max_tokens=100_000, now=now)
            shown = _shown(recall, counts if rule.by_count else Counter())
            counts.update(list(shown))
            covered = {id_: frozenset().union(*(gold.get(m, frozenset()) for m in ids)) for id_, ids in shown.items()}
            evidence = reachable & frozenset(question.evidence)
            outcome.recalls.append(len(evidence & frozenset().union(*covered.values())) / len(evidence))
            outcome.questions.append(chosen)
            outcome.shown.append(frozenset(shown))
            _observe(memory, recall, question, {i for i, ids in covered.items() if ids & evidence}, number < rule.wrong)
    return outcome


def _shown(recall: Recall, counts: Counter[str]) -> dict[str, tuple[str, ...]]:
    """The five best, by score plus the boost of their counts."""
    ranked = sorted(recall.facts, key=lambda item: -item.score - COUNT_WEIGHT * math.log1p(counts[item.fact.id]))
    return {item.fact.id: item.fact.origin.message_ids for item in ranked[:SHOWN]}


def _observe(memory: Memory, recall: Recall, question: Question, evidence: set[str], is_wrong: bool) -> None:
    wrong = " ".join(item.fact.text for item in recall.facts if item.fact.id not in evidence)
    memory.observe(recall.id, wrong or "Something else." if is_wrong else question.answer)


def _row(found: Sequence[Outcome]) -> str:
    def over(which: Callable[[Outcome, int], bool]) -> float:
        return float(np.mean([item.mean(lambda place, item=item: which(item, place)) for item in found]))

    columns = [
        over(lambda item, place: True),
        over(lambda item, place: item.is_first(place)),
        over(lambda item, place: not item.is_first(place)),
    ]
    late = over(lambda item, place: place >= ASKS * 3 // 4)
    each = " ".join(f"{item.mean():.3f}" for item in found)
    return "".join(f"{value:8.3f}" for value in columns) + f"{late:14.3f}   {each}"


def _interval(on: Sequence[Outcome], off: Sequence[Outcome], start: int) -> str:
    """The mean paired difference, with a 95 % bootstrap interval over questions."""
    by_question: dict[tuple[int, int], list[float]] = defaultdict(list)
    for number, (a, b) in enumerate(zip(on, off, strict=True)):
        for place in range(start, len(a.recalls)):
            by_question[number, a.questions[place]].append(a.recalls[place] - b.recalls[place])
    groups = list(by_question.values())
    sums, sizes = np.array([sum(group) for group in groups]), np.array([len(group) for group in groups])
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(groups), (2_000, len(groups)))
    means = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{sums.sum() / sizes.sum():+.3f} [{low:+.3f}, {high:+.3f}]"


def _starved(on: Sequence[Outcome], off: Sequence[Outcome]) -> None:
    """How long evidence that learning pushed out of the five stays out, in asks of that question."""
    waits, never, asks = [], 0, 0
    for a, b in zip(on, off, strict=True):
        lost: dict[int, int] = {}
        for place, question in enumerate(a.questions):
            asks += 1
            if a.recalls[place] < b.recalls[place]:
                lost[question] = lost.get(question, 0) + 1
            elif question in lost:
                waits.append(lost.pop(question))
        never += len(lost)
    longest = max(waits, default=0)
    print(
        f"of {asks} asks, evidence shown without learning was pushed out {sum(waits)} times and came back after at "
        f"most {longest} asks of its question ({np.mean(waits or [0]):.1f} on average); {never} questions were not "
        "asked again often enough to tell"
    )


if __name__ == "__main__":
    main()
