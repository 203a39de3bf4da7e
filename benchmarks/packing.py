"""What a budget of tokens holds, measured on the text that goes into the prompt, fence and days included.

    python -m benchmarks.packing [--data FILE] [--files FOLDER]

For 128 to 1,024 tokens: the share of the evidence in what `recall(max_tokens=...)` shows, and the share of questions
all of whose gold answer's content words stand in its text. Beside it, in one run and inside the same fence: Engram's
own ranking packed in rank order without any days, and plain vector search over `Speaker: words`. Adversarial questions
are left out.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.locomo import DEFAULT, Conversation, Question, load
from engram_core import Engram, SentenceFiles
from engram_core.floor.fence import close_fence, open_fence
from engram_core.lab.bench.metrics import Hit, answer_words, covered, fitting

BUDGETS = (128, 256, 512, 1024)
DEPTH = 100
Cell = tuple[float, float]
"""Share of the evidence, and 1 if every content word of the answer is there (NaN for an answer without any)."""


def cell(hits: Sequence[Hit], question: Question) -> Cell:
    """What some shown hits hold."""
    said = answer_words((hit.text for hit in hits), question.answer)
    evidence = frozenset(question.evidence)
    return len(covered(hits) & evidence) / len(evidence), float("nan") if said is None else float(said == 1)


def rows(conversation: Conversation, store: Engram) -> dict[tuple[str, int], list[Cell]]:
    """System and budget to one cell per question."""
    memory = store.memory(f"bench/{conversation.id}")
    memory.add(list(conversation.messages))
    count = store.count_tokens
    fence = count(f"{open_fence('0' * 8)}\n{close_fence('0' * 8)}")
    turns = [f"{message.speaker}: {message.content}" for message in conversation.messages]
    names = [frozenset([message.id or ""]) for message in conversation.messages]
    lengths = [count(turn) for turn in turns]
    vectors = store.context.embedder.embed(turns)
    found: dict[tuple[str, int], list[Cell]] = defaultdict(list)
    for question in conversation.questions:
        if not question.evidence or question.category == "adversarial":
            continue
        everything = memory.recall(question.text, k=DEPTH, max_tokens=100_000)
        ranked = [Hit(frozenset(item.message_ids), item.tokens - 1, item.text) for item in everything]
        nearest = np.argsort(-(vectors @ store.context.embedder.embed_queries([question.text])[0]), kind="stable")
        dense = [Hit(names[row], lengths[row], turns[row]) for row in nearest[:DEPTH]]
        for budget in BUDGETS:
            shown = memory.recall(question.text, k=DEPTH, max_tokens=budget)
            # The text itself, days and all, is where the answer has to stand.
            hits = [Hit(frozenset(item.message_ids), 0, shown.text) for item in shown]
            found["engram", budget].append(cell(hits, question))
            found["engram, in rank order", budget].append(cell(fitting(ranked, budget - fence), question))
            found["vectors", budget].append(cell(fitting(dense, budget - fence), question))
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="conversations in the format of ../shared/data")
    parser.add_argument("--files", type=Path, default=None, help="folder of a sentence encoder to use")
    options = parser.parse_args()
    if not options.data.exists():
        print(f"No data at {options.data}; pass --data FILE.")
        return
    embedder = SentenceFiles(options.files) if options.files else None
    found: dict[tuple[str, int], list[Cell]] = defaultdict(list)
    for conversation in load(options.data):
        with Engram.open(":memory:", embedder=embedder) as store:
            for key, cells in rows(conversation, store).items():
                found[key] += cells
    print("| evidence / answers | " + " | ".join(map(str, BUDGETS)) + " |\n|---|" + "---|" * len(BUDGETS))
    for system in dict.fromkeys(name for name, _ in found):
        means = [np.nanmean(np.array(found[system, budget]), axis=0) for budget in BUDGETS]
        print(f"| {system} | " + " | ".join(f"{evidence:.3f} / {answers:.3f}" for evidence, answers in means) + " |")


if __name__ == "__main__":
    main()
