"""What memory does by itself: a new value replaces the old one, answers teach it, and a night tidies up. Offline."""

from __future__ import annotations

import tempfile

from engram_core import Engram

TEA = [
    "I drink green tea every morning.",
    "Green tea with jasmine is my favourite drink.",
    "I bought 3 kinds of green tea.",
    "My green tea pot broke in May.",
    "I prefer green tea to black tea.",
]
PRINTER = [
    "The printer was bought in May.",
    "The printer is on the second floor.",
    "The printer wants a long press on the green key.",
]
QUESTION = "The printer does not print, what do I do?"


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, Engram.open(directory) as engram:
        memory = engram.memory("acme/alice")

        print("A new value replaces the old one, which stays reachable:")
        memory.add("I live in Lisbon.")
        memory.add("I live in Porto now.")
        for fact in memory.list(status="all"):
            print(f"  {fact.status.value:8} {fact.text}")
        print(f"  {memory.recall('Where do I live?', k=2, include_archived=True).facts[1].text}")

        print("\nWhat answers use rises for questions like it:")
        memory.add(PRINTER)
        print(f"  before: {[item.fact.text for item in memory.recall(QUESTION, k=3).facts]}")
        for _ in range(6):
            recall = memory.recall(QUESTION, k=3)
            memory.observe(recall.id, "A long press on the green key helps.")
        print(f"  after:  {[item.fact.text for item in memory.recall(QUESTION, k=3).facts]}")

        print("\nA night's plan, which changes nothing:")
        memory.add(TEA)
        # A small cap, no mercy for the young, and four facts about one matter are a cluster.
        memory.set_policy(max_facts=8, auto_forget=True, protect_days=0, cluster_size=4)
        (plan,) = engram.sleep(dry_run=True).scopes
        for proposal in plan.forget["proposals"]:
            print(f"  forget {memory.get(proposal['id']).text}\n    {proposal['line']}")
        for cluster in plan.consolidate["clusters"]:
            print(f"  merge {cluster['text']}\n    {cluster['line']}")
        print(f"  facts in recall: {plan.live[0]} now, {plan.live[1]} after")

        print("\nThe night itself, and one fact back:")
        report = engram.sleep()
        print(f"  {report.totals['forgotten']} forgotten, {report.totals['clusters']} consolidated")
        gone = plan.forget["proposals"][0]["id"]
        print(f"  {memory.restore(gone).text} is {memory.get(gone).status.value} again.")


if __name__ == "__main__":
    main()
