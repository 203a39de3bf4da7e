"""Evolution: scopes with a policy that is bad on purpose; how far approved proposals lead, on questions never asked.

    python -m benchmarks.evolution [--data FILE] [--only 0 1]

Each round asks some questions of one half of a conversation's questions; the agent gives the annotated answer where the
recall showed evidence, and says that it does not know where it did not. Then evolution proposes, and the change is
approved. Evidence found for the other half of the questions is measured under the bad policy, after every round, and
under every preset.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.locomo import DEFAULT, Conversation, Question, load
from engram_core import Engram, Memory
from engram_core.domain.policy import PRESETS

ROUNDS = 6
A_ROUND = 40
BAD: dict[str, dict[str, Any]] = {
    "only the newest": {"recency_weight": 1.0, "decay_rate": 0.02},
    "observations first": {"prioritize_types": ("observation",), "priority_weight": 1.0},
    "importance above all": {"importance_weight": 1.0},
    "hardly any room": {"token_budget": 64},
    "everything at once": {
        "recency_weight": 0.5, "importance_weight": 0.6, "prioritize_types": ("observation",), "priority_weight": 0.4,
        "token_budget": 128,
    },
}  # fmt: skip


def found(memory: Memory, questions: Sequence[Question], at: datetime) -> float:
    """Mean share of a question's evidence in what a recall shows, under the policy in force."""
    shares = []
    for question in questions:
        shown = {id_ for fact in memory.recall(question.text, now=at).facts for id_ in fact.message_ids}
        shares.append(len(shown & set(question.evidence)) / len(question.evidence))
    return sum(shares) / len(shares)


def end_of(conversation: Conversation) -> datetime:
    """The day after its last message."""
    return max(message.at for message in conversation.messages if message.at is not None) + timedelta(days=1)


def probe(conversation: Conversation, policy: dict[str, Any], questions: Sequence[Question]) -> float:
    """The same in a store of its own, so that asking teaches nothing."""
    with Engram.open(":memory:") as engram:
        memory = engram.memory("bench/evolution")
        memory.add(list(conversation.messages))
        memory.set_policy(**policy)
        return found(memory, questions, end_of(conversation))


def ask(memory: Memory, questions: Sequence[Question], start: datetime) -> None:
    """Ask, and answer as an agent would that has nothing but its memory."""
    for number, question in enumerate(questions):
        at = start + timedelta(minutes=number)
        recall = memory.recall(question.text, now=at)
        shown = {id_ for fact in recall.facts for id_ in fact.message_ids}
        knows = bool(shown & set(question.evidence))
        memory.observe(recall.id, question.answer if knows else "I'm sorry, I don't know.", now=at)


def evolve(conversation: Conversation, bad: dict[str, Any]) -> tuple[list[str], list[float]]:
    """What was changed in each round, and evidence found after it."""
    asked = [item for item in conversation.questions if item.evidence and item.category != "adversarial"]
    train, held_out = asked[::2], asked[1::2]
    start = end_of(conversation)
    changes, figures = [], [probe(conversation, bad, held_out)]
    with Engram.open(":memory:") as engram:
        memory = engram.memory("bench/evolution")
        memory.add(list(conversation.messages), now=start)
        memory.set_policy(**bad)
        for number in range(ROUNDS):
            questions = [train[(number * A_ROUND + place) % len(train)] for place in range(A_ROUND)]
            at = start + timedelta(days=number)
            ask(memory, questions, at)
            memory.reflect(now=at + timedelta(hours=1))
            done = memory.evolve(now=at + timedelta(hours=2))
            if done.state == "settled":
                changes.append(done.line.split(":")[0])
                done = memory.evolve(now=at + timedelta(hours=3))
            if done.state == "proposed" and done.proposal is not None:
                engram.approve(done.proposal, reason="benchmark", now=at + timedelta(hours=4))
                changes.append(", ".join(f"{name} {new['before']}>{new['after']}" for name, new in done.diff.items()))
            else:
                changes.append(f"({done.state})")
            policy = {name: getattr(memory.policy, name) for name in type(memory.policy).model_fields}
            figures.append(probe(conversation, policy, held_out))
    return changes, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--only", type=int, nargs="*", default=[0, 1], help="which conversations")
    arguments = parser.parse_args()
    conversations = load(arguments.data)
    print("| conversation | bad policy | at first | after each round | best preset | short of it |")
    print("|---|---|---|---|---|---|")
    for place in arguments.only:
        conversation = conversations[place]
        asked = [item for item in conversation.questions if item.evidence and item.category != "adversarial"]
        presets = {name: probe(conversation, preset.model_dump(), asked[1::2]) for name, preset in PRESETS.items()}
        best = max(presets, key=lambda name: presets[name])
        for name, bad in BAD.items():
            changes, figures = evolve(conversation, bad)
            rounds = " ".join(f"{value:.3f}" for value in figures[1:])
            print(
                f"| {conversation.id} | {name} | {figures[0]:.3f} | {rounds} | {best} {presets[best]:.3f} | "
                f"{100 * (presets[best] - figures[-1]):+.1f} |",
                flush=True,
            )
            print(f"<!-- {'; '.join(changes)} -->", flush=True)


if __name__ == "__main__":
    main()
