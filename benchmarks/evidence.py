"""Evidence recall on labelled conversations, without a judge: the share of the evidence in k facts or b tokens.

    python -m benchmarks.evidence [--data FILE] [--design NAME] [--per-question OUT.jsonl]

Prints R@10, NDCG@10, R@256t and R@512t as docs/recall.md defines them, by category, for Engram and for BM25 and plain
vector search over the same turns and vectors, all in one run.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.locomo import DEFAULT, Conversation, Question, load
from engram_core import Engram
from engram_core.lab.bench.metrics import DEPTH, Hit, of_ranking

SHOWN = ("R@10", "NDCG@10", "R@256t", "R@512t")


def engram_searcher(conversation: Conversation, store: Engram) -> Callable[[Question], list[Hit]]:
    """Engram through its facade, one scope per conversation."""
    memory = store.memory(f"bench/{conversation.id}")
    memory.add(list(conversation.messages))

    def search(question: Question) -> list[Hit]:
        found = memory.recall(question.text, k=DEPTH, max_tokens=100_000)
        return [Hit(frozenset(item.fact.origin.message_ids), item.tokens - 1) for item in found.facts]

    return search


def plain_searchers(conversation: Conversation, store: Engram) -> dict[str, Callable[[Question], list[Hit]]]:
    """Plain vector search and BM25 over `Speaker: words`, with the store's own vectors and tokens."""
    from engram_core.designs.pipeline.rank import bm25
    from engram_core.measure.words import stems

    texts = [f"{message.speaker}: {message.content}" for message in conversation.messages]
    ids = [frozenset([message.id or ""]) for message in conversation.messages]
    tokens = [store.context.counter.count(text) for text in texts]
    vectors = store.context.embedder.embed(texts)
    words = [stems(text) for text in texts]
    lengths = np.array([len(found) for found in words], dtype=np.float32)

    def ranked(scores: np.ndarray) -> list[Hit]:
        return [Hit(ids[row], tokens[row]) for row in np.argsort(-scores, kind="stable")[:DEPTH]]

    def lexical(question: Question) -> list[Hit]:
        asked = list(dict.fromkeys(stems(question.text)))
        counts = np.array([[found.count(stem) for stem in asked] for found in words], dtype=np.float32)
        df = (counts > 0).sum(axis=0).astype(np.float32)
        weights = np.ones(len(asked), dtype=np.float32)
        return ranked(bm25(counts, lengths, weights, len(texts), int(lengths.sum()), df))

    return {
        "vectors (plain Chroma)": lambda q: ranked(vectors @ store.context.embedder.embed_queries([q.text])[0]),
        "BM25": lexical,
    }


def run(path: Path, design: str, out: Path | None) -> dict[str, dict[str, dict[str, float]]]:
    """Every system on every question: system → category (and `all`, without adversarial) → metric → mean."""
    rows: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    lines = []
    for conversation in load(path):
        with Engram.open(":memory:") as store:
            store.memory("bench").set_policy(design=design)
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
    parser.add_argument("--design", default="pipeline")
    parser.add_argument("--per-question", type=Path, default=None, help="write one JSON line per system and question")
    options = parser.parse_args()
    if not options.data.exists():
        print(f"No data at {options.data}; pass --data FILE.")
        return
    results = run(options.data, options.design, options.per_question)
    print(f"{'':28}{'category':14}" + "".join(f"{name:>10}" for name in SHOWN))
    for system, categories in results.items():
        for category in ["all", *sorted(set(categories) - {"all"})]:
            print(f"{system:28}{category:14}" + "".join(f"{categories[category][name]:10.3f}" for name in SHOWN))


if __name__ == "__main__":
    main()
