"""Four questions that begin with "why": about a recall, a drop, a fact, and one that is not there. Offline."""

from __future__ import annotations

import tempfile

from engram_core import Engram

FACTS = [
    "The office key hangs behind desk 12.",
    "The office closes at eight.",
    "The office plants are watered on Fridays.",
    "The canteen serves soup on Fridays.",
]


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, Engram.open(directory) as engram:
        memory = engram.memory("acme/office")
        key, _, _, soup = memory.add(FACTS).facts
        memory.forget(soup.id, reason="The canteen closed.")
        recall = memory.recall("Where does the office key hang?", k=2)
        memory.observe(recall.id, "It hangs behind desk 12.")

        print("Why these facts? Each score is the sum of its terms:")
        for item in recall.facts:
            print(f"  {item.score:.3f} {item.text} {item.terms}")

        print("\nWhy not the others?")
        for drop in recall.dropped:
            print(f"  {drop.score:.3f} {drop.text} [{drop.reason}]")

        print("\nWhy is this fact there at all, and what became of it?")
        memory.update(key.id, text="The office key hangs behind desk 14.")
        print(memory.explain(key.id))

        print("\nWhy was that one not even considered?")
        print(memory.explain(recall.id, about=soup.id))


if __name__ == "__main__":
    main()
