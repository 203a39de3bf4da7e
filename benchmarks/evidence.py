"""Evidence recall on labelled conversations, without a judge: the share of the evidence in k facts or b tokens.

    python -m benchmarks.evidence [--data FILE] [--form NAME] [--design NAME] [--files FOLDER] [--per-question OUT]

Prints R@1, R@10, MRR, NDCG@10, R@256t and R@512t (docs/bench-your-own.md), by category, for Engram and for BM25 and
plain vector search over the same turns and vectors, all in one run. `--form` makes something else of the conversations:
long messages, extracted facts, one scope of all, careless questions (`benchmarks.forms`).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.forms import FORMS
from benchmarks.locomo import DEFAULT, Conversation, Question
from engram_core import Engram, Scope, SentenceFiles
from engram_core.lab.bench.baselines import Bm25, Vectors
from engram_core.lab.bench.metrics import DEPTH, Hit, of_ranking
from engram_core.lab.bench.subject import item

SHOWN = ("R@1", "R@10", "MRR", "NDCG@10", "R@256t", "R@512t")


def engram_searcher(conversation: Conversation, store: Engram) -> Callable[[Question], list[Hit]]:
    """Engram through its facade, one scope per conversation."""
    memory = store.memory(Scope.of("bench", conversation.id))
    memory.add(list(conversation.messages))

    def search(question: Question) -> list[Hit]:
        found = memory.recall(question.text, k=DEPTH, max_tokens=100_000)
        return [Hit(frozenset(item.fact.origin.message_ids), item.tokens - 1) for item in found.facts]

    return search


def plain_searchers(conversation: Conversation, store: Engram) -> dict[str, Callable[[Question], list[Hit]]]:
    """The bench's own vector search and BM25 over `Speaker: words`, with the store's vectors and tokens."""

    def embed(texts: list[str]) -> list[list[float]]:
        return store.context.embedder.embed(texts).tolist()

    def searcher(subject: Vectors | Bm25) -> Callable[[Question], list[Hit]]:
        subject.add([item(message) for message in conversation.messages])
        count = store.context.counter.count
        return lambda asked: [Hit(frozenset(ids), count(text)) for ids, text in subject.search(asked.text, DEPTH)]

    return {"vectors (plain Chroma)": searcher(Vectors(embed, Path())), "BM25": searcher(Bm25(embed, Path()))}


def run(
    path: Path, design: str, out: Path | None, files: Path | None = None, form: str = "turns"
) -> dict[str, dict[str, dict[str, float]]]:
    """Every system on every question: system → category (and `all`, without adversarial) → metric → mean."""
    rows: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    lines = []
    for conversation in FORMS[form](path):
        with Engram.open(":memory:", embedder=SentenceFiles(files) if files else None) as store:
            store.memory("bench").set_policy(design=design)
            store.context.failures.are_shown = True
            searchers = {f"engram ({design})": engram_searcher(conversation, store)}
            searchers |= plain_searchers(conversation, store)
            for question in conversation.questions:
                if not question.evidence:
                    continue
                for name, search in searchers.items():
                    found = of_ranking(search(question), frozenset(question.evidence))
                    row = {metric: found[metric] for metric in SHOWN}
                    rows[name][question.category].append(row)
                    if question.category != "adversarial":
                        rows[name]["all"].append(row)
                    lines.append({"system": name, "conversation": conversation.id, "question": question.text, **row})
    if out is not None:
        out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {
        name: {
            category: {metric: float(np.mean([row[metric] for row in found])) for metric in found[0]}
            for category, found in categories.items()
        }
        for name, categories in rows.items()
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="conversations in the format of ../shared/data")
    parser.add_argument("--form", choices=FORMS, default="turns", help="what the conversations are made into")
    parser.add_argument("--design", default="pipeline")
    parser.add_argument("--files", type=Path, default=None, help="folder of a sentence encoder to use")
    parser.add_argument("--per-question", type=Path, default=None, help="write one JSON line per system and question")
    options = parser.parse_args()
    if not options.data.exists():
        print(f"No data at {options.data}; pass --data FILE.")
        return
    results = run(options.data, options.design, options.per_question, options.files, options.form)
    print(f"{'':28}{'category':14}" + "".join(f"{name:>10}" for name in SHOWN))
    for system, categories in results.items():
        for category in ["all", *sorted(set(categories) - {"all"})]:
            print(f"{system:28}{category:14}" + "".join(f"{categories[category][name]:10.3f}" for name in SHOWN))


if __name__ == "__main__":
    main()
