"""Gaps: lapses planted into real conversations; which are found, and how what fills them fits the annotated evidence.

    python -m benchmarks.gaps [--data FILE] [--every 4]

After each conversation a user asks its questions. A third gets "I don't know" in many wordings, a third a proper
answer, a third (adversarial questions, and questions of another conversation) "I don't know" to what nobody ever said.
The baseline fills every gap with the best fact of a recall, whether it answers or not.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rich.progress import track

from benchmarks.locomo import DEFAULT, Conversation, Question, load
from engram_core import Engram, Memory, Message

_REFUSALS = (
    "I'm sorry, I don't know.",
    "I don't have any information about that.",
    "You haven't told me that yet.",
    "I'm not sure about that one.",
    "Hmm, I can't recall that.",
    "That hasn't come up in our conversations.",
    "I have no record of that.",
    "Unfortunately I do not remember. Could you remind me?",
)


@dataclass(frozen=True)
class Planted:
    """One question put to the agent after the conversation."""

    question: Question
    is_lapse: bool
    is_answerable: bool


def planted(conversation: Conversation, other: Conversation, every: int) -> list[Planted]:
    """A mix of lapses that something answers, lapses that nothing answers, and questions answered properly."""
    asked = [item for item in conversation.questions if item.evidence]
    own = [item for item in asked if item.category != "adversarial"][::every]
    tricky = [item for item in asked if item.category == "adversarial"][:: 2 * every]
    foreign = [item for item in other.questions if item.category == "single-hop"][:: 2 * every]
    return [
        *(Planted(item, place % 2 == 0, True) for place, item in enumerate(own)),
        *(Planted(item, True, False) for item in (*tricky, *foreign)),
    ]


def turns(items: Sequence[Planted], conversation: Conversation) -> Iterator[list[Message]]:
    """The turns in which they are asked, one session each, an hour apart."""
    last = max(message.at for message in conversation.messages if message.at is not None)
    for number, item in enumerate(items):
        at = last + timedelta(days=1, hours=number)
        answer = _REFUSALS[number % len(_REFUSALS)] if item.is_lapse else item.question.answer or "Yes."
        yield [
            Message("user", item.question.text, at=at, session=f"q{number}", id=f"q{number}"),
            Message("assistant", answer, at=at + timedelta(minutes=1), session=f"q{number}", channel="assistant"),
        ]


def measure(conversation: Conversation, other: Conversation, every: int) -> Counter[str]:
    """Counts for one conversation."""
    items = planted(conversation, other, every)
    counts: Counter[str] = Counter()
    with Engram.open(":memory:") as engram:
        memory = engram.memory("bench/gaps")
        memory.add(list(conversation.messages))
        best = {item.question.text: _best(memory, item.question.text) for item in items if item.is_lapse}
        for turn in turns(items, conversation):
            memory.add(turn)
        reflection = memory.reflect()
        lapses = {item.question.text: item for item in items if item.is_lapse}
        known = {" ".join(text.split()): item for text, item in lapses.items()}
        counts["planted"] = len(lapses)
        counts["answerable"] = sum(item.is_answerable for item in lapses.values())
        for gap in reflection.gaps:
            item = known.get(gap.question)
            counts["found"] += 1
            counts["found, planted"] += item is not None
            if gap.state == "filled" and gap.fact_id is not None:
                fits = item is not None and bool(set(gap.evidence) & set(item.question.evidence))
                counts["filled"] += 1
                counts["filled rightly"] += fits and item is not None and item.is_answerable
                counts["filled though nothing answers"] += item is not None and not item.is_answerable
        for text, ids in best.items():
            counts["baseline filled rightly"] += lapses[text].is_answerable and bool(
                set(ids) & set(lapses[text].question.evidence)
            )
    return counts


def _best(memory: Memory, question: str) -> tuple[str, ...]:
    """Ids of the messages that the best fact of a recall rests on."""
    facts = memory.recall(question, k=1).facts
    return facts[0].fact.origin.message_ids if facts else ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--every", type=int, default=4, help="take every n-th question")
    arguments = parser.parse_args()
    conversations = load(arguments.data)
    total: Counter[str] = Counter()
    for place, conversation in enumerate(track(conversations, description="conversations")):
        total += measure(conversation, conversations[place - 1], arguments.every)
    print("| | |\n|---|---|")
    for name, value in total.items():
        print(f"| {name} | {value} |")
    print(f"| precision of found | {total['found, planted'] / max(1, total['found']):.3f} |")
    print(f"| recall of found | {total['found, planted'] / max(1, total['planted']):.3f} |")
    print(f"| precision of filled | {total['filled rightly'] / max(1, total['filled']):.3f} |")
    print(f"| recall of filled | {total['filled rightly'] / max(1, total['answerable']):.3f} |")
    baseline = total["baseline filled rightly"]
    print(f"| best fact of a recall, precision | {baseline / max(1, total['planted']):.3f} |")
    print(f"| best fact of a recall, recall | {baseline / max(1, total['answerable']):.3f} |")


if __name__ == "__main__":
    main()
