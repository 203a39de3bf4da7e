"""Supersession: what is hidden automatically, what should have been, and whether a new value stands above the old one.

    python -m benchmarks.supersession [--data FILE] [--seeds 5]

(a) keyed updates from a seeded generator, with the templates the rules were written with and templates set aside;
(b) real conversations without any labelled update: how many true facts are hidden or linked;
(c) free-text updates: how often the new value is above the old one, with links, by recency alone, and by neither.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from benchmarks.locomo import DEFAULT, load
from benchmarks.updates import START, FreeUpdate, Split, Stream, free, keyed
from engram_core import Engram, Fact, Memory, Message

_LATER = timedelta(days=400)
RECENCY = (0.1, 0.3)
"""Weights of the recency baseline: that much for the newest fact, none for the oldest."""


def hidden(memory: Memory) -> dict[str, Fact]:
    """The facts that something superseded, by the id of their first message."""
    facts = memory.list(status="archived", limit=10_000)
    return {fact.origin.message_ids[0]: fact for fact in facts if fact.superseded_by is not None}


def on_keyed(stream: Stream, *, one_by_one: bool) -> tuple[set[str], set[str]]:
    """Message ids that were hidden, and those that are out of date."""
    with Engram.open(":memory:") as store:
        memory = store.memory("bench")
        if one_by_one:
            for message in stream.messages:
                memory.add(message, now=message.at)
        else:
            memory.add(stream.messages)
        return set(hidden(memory)), stream.outdated


def keyed_figures(split: Split, seeds: int) -> str:
    """Precision and recall over all seeds, and the first mistakes."""
    right = wrong = missed = 0
    mistakes: dict[str, str] = {}
    for seed in range(seeds):
        stream = keyed(split, seed)
        gone, outdated = on_keyed(stream, one_by_one=seed == 0)
        right += len(gone & outdated)
        wrong += len(gone - outdated)
        missed += len(outdated - gone)
        mistakes |= {f"hidden  {stream.cases[int(id_)].text}": "" for id_ in sorted(gone - outdated)}
        mistakes |= {f"missed  {stream.cases[int(id_)].key}": "" for id_ in sorted(outdated - gone)}
    precision, recall = right / max(right + wrong, 1), right / max(right + missed, 1)
    lines = [f"  keyed {split:5} precision {precision:.3f}  recall {recall:.3f}  ({right} right, {wrong} wrong)"]
    lines += [f"      {text}" for text in list(mistakes)[:8]]
    return "\n".join(lines)


def on_conversations(path: Path) -> str:
    """False flags: nothing here is labelled as replaced, so whatever is hidden has to be read by a person."""
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    shown: list[str] = []
    turns = {conversation.id: list(conversation.messages) for conversation in load(path)}
    stated = {item["id"]: _observations(item) for item in json.loads(path.read_text())}
    for source, by_conversation in (("turns", turns), ("observations", stated)):
        for messages in by_conversation.values():
            with Engram.open(":memory:") as store:
                memory = store.memory("bench")
                memory.add(messages)
                gone = hidden(memory)
                facts = memory.list(status="all", limit=10_000)
                links = store.context.ledger.links([fact.id for fact in facts])
                rows[source][0] += len(facts)
                rows[source][1] += len(gone)
                rows[source][2] += sum(link.probability < 1 for link in links)
                shown += [f"      hidden  {fact.text} ({fact.archived_reason})" for fact in gone.values()]
    lines = [
        f"  {source:12} {facts:5} facts, {gone} hidden, {links} linked ({links / facts:.1%})"
        for source, (facts, gone, links) in rows.items()
    ]
    return "\n".join([*lines, *shown])


def _observations(item: dict[str, object]) -> list[Message]:
    said = []
    for number, session in enumerate(item["sessions"]):  # type: ignore[arg-type, var-annotated]
        for place, one in enumerate(session["observations"]):
            at = START + timedelta(days=number, minutes=place)
            said.append(Message("user", one["text"], speaker=one["speaker"], at=at, id=f"{number}-{place}"))
    return said


def new_above_old(updates: Sequence[FreeUpdate], stream: Stream) -> dict[str, list[bool]]:
    """For each way of ranking, whether each question finds the new value above the old one."""
    with Engram.open(":memory:") as store:
        memory = store.memory("bench")
        memory.add(stream.messages)
        now = START + _LATER
        found: dict[str, list[bool]] = defaultdict(list)
        for update in updates:
            ranked = memory.recall(update.question, k=300, max_tokens=100_000, include_archived=True, now=now).facts
            said = sorted(item.fact.said_at for item in ranked)
            age = {at: place / max(len(said) - 1, 1) for place, at in enumerate(said)}
            plain = {item.fact.text: item.score - item.terms.get("newer", 0.0) for item in ranked}
            share = {item.fact.text: age[item.fact.said_at] for item in ranked}
            live = {item.fact.text: item.score for item in ranked if item.fact.is_recallable}
            found["neither"].append(_above(plain, update))
            for weight in RECENCY:
                scores = {text: score + weight * share[text] for text, score in plain.items()}
                found[f"recency {weight}"].append(_above(scores, update))
            found["engram"].append(_above(live, update))
        return found


def _above(scores: dict[str, float], update: FreeUpdate) -> bool:
    return scores.get(update.new, -1.0) > scores.get(update.old, -1.0)


def free_figures(split: Split, seeds: int) -> str:
    """Shares over all seeds, and the templates that links miss."""
    all_found: dict[str, list[bool]] = defaultdict(list)
    missed: dict[str, int] = defaultdict(int)
    for seed in range(seeds):
        stream, updates = free(split, seed)
        found = new_above_old(updates, stream)
        for name, values in found.items():
            all_found[name] += values
        for update, is_above in zip(updates, found["engram"], strict=True):
            missed[update.question] += not is_above
    shares = "  ".join(f"{name} {sum(values) / len(values):.3f}" for name, values in all_found.items())
    lines = [f"  free {split:5} ({len(all_found['engram'])} updates) new above old: {shares}"]
    return "\n".join([*lines, *(f"      missed {count}: {question}" for question, count in missed.items() if count)])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="conversations in the format of ../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    splits: tuple[Split, ...] = ("dev", "held")
    print("(a) keyed updates: facts hidden automatically")
    for split in splits:
        print(keyed_figures(split, options.seeds))
    print("(b) conversations without labelled updates")
    print(on_conversations(options.data) if options.data.exists() else f"  no data at {options.data}")
    print("(c) updates in free text")
    for split in splits:
        print(free_figures(split, options.seeds))


if __name__ == "__main__":
    main()
