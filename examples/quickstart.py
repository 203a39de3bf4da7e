"""The core in ten lines: remember, recall, and learn which of the recalled facts helped. Offline; run it twice."""

from __future__ import annotations

from engram_core import default_engram

engram = default_engram()  # the store at ENGRAM_URL, else ./.engram; closed when the program ends
memory = engram.memory("acme/support/alice")
memory.add(["I moved to Lisbon in May.", "I am allergic to peanuts.", "My sister Ana keeps bees."])

recall = memory.recall("Which city did I move to?", k=2)
print(recall.text)
usage = memory.observe(recall.id, "You moved to Lisbon in May.")
for item in recall.facts:
    print(f"{item.score:.3f} {'used  ' if item.fact.id in usage.used else 'unused'} {item.fact.text}")
