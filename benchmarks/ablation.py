"""What each ranking term is worth: evidence found with its weight at 0, paired with the full ranking by question.

    python -m benchmarks.ablation [--data FILE] [--files FOLDER] [--form NAME] [--terms NAME ...]

Prints the change of R@10, NDCG@10 and R@256t (docs/recall.md) when a term is switched off, with 95 % bootstrap
intervals over questions (5,000 resamples, fixed seed; adversarial questions left out). Everything is asked through
`Design.retrieve` over the store's own view, so that candidates, statistics and links are the real ones. `--files` names
the folder of a sentence encoder (`engram_core.SentenceFiles`) to use in place of the offline default, `--form` another
form of the same conversations (`benchmarks.forms`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forms import FORMS
from benchmarks.locomo import DEFAULT, Conversation
from engram_core import Engram, SentenceFiles
from engram_core.designs.pipeline import Pipeline, rank
from engram_core.domain.recall import Query
from engram_core.lab.bench.metrics import DEPTH, Hit, of_ranking, paired_intervals
from engram_core.measure import succession
from engram_core.operations.add import view_of

NOW = datetime(2024, 6, 1, tzinfo=UTC)
METRICS = ("R@10", "NDCG@10", "R@256t")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "all words (bm25*)": ("bm25", "bm25_context", "bm25_around"),
    "all vectors (dense*)": ("dense", "dense_context"),
    "all conversation (context, around, neighbour, session, leads)": (
        "dense_context",
        "bm25_context",
        "bm25_around",
        "neighbour",
        "session",
        "leads",
        "scattered",
    ),
    "all answer marks": ("names", "numbers", "titles"),
    "all spreading out (scattered, again)": ("scattered", "again"),
}


def variants(terms: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What to switch off together, by name: each weight alone, then the groups."""
    names = [field.name for field in fields(rank.Weights)]
    alone: dict[str, tuple[str, ...]] = {name: (name,) for name in [*names, "importance"]}
    wanted = alone | dict(GROUPS)
    return {name: off for name, off in wanted.items() if not terms or name in terms}


class _Seen:
    """A view whose candidates are gathered once: switching terms off changes how they are ranked, not what is found."""

    def __init__(self, view: Any) -> None:
        self._view = view
        self._candidates: Any = None
        self.policy = view.policy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def candidates(self, ask: Any) -> Any:
        if self._candidates is None:
            self._candidates = self._view.candidates(ask)
        return self._candidates


def rows_of(conversation: Conversation, offs: Mapping[str, tuple[str, ...]], embedder: Any) -> Iterator[dict[str, Any]]:
    """For each question with evidence its category and, for the full ranking ("") and each variant, the metrics."""
    with Engram.open(":memory:", embedder=embedder) as store:
        memory = store.memory(f"bench/{conversation.id}")
        memory.add(list(conversation.messages))
        context = store.context
        policy = context.ledger.policy(memory.scope).policy
        lines: dict[str, Hit] = {}
        for question in conversation.questions:
            if not question.evidence:
                continue
            row: dict[str, Any] = {"category": question.category}
            view, _ = view_of(context, memory.scope, NOW, readable=[memory.scope], policy=policy)
            seen = _Seen(view)
            for name, off in {"": (), **offs}.items():
                weights = replace(rank.Weights(), **{term: 0.0 for term in off if term != "importance"})
                mine = policy.changed(importance_weight=0.0) if "importance" in off else policy
                seen.policy = mine
                found = Pipeline(weights=weights).retrieve(Query(question.text, DEPTH, NOW), seen)
                newer = {
                    link.older: succession.Newer(link.newer, link.probability)
                    for link in context.ledger.links([item.fact_id for item in found])
                    if link.verdict == "update"
                }
                ranking = succession.placed(found, newer)[:DEPTH]
                unread = [item.fact_id for item in ranking if item.fact_id not in lines]
                lines |= {
                    fact.id: Hit(frozenset(fact.origin.message_ids), context.counter.count(fact.display))
                    for fact in context.ledger.facts(unread)
                }
                hits = [lines[item.fact_id] for item in ranking]
                measured = of_ranking(hits, frozenset(question.evidence))
                row[name] = [measured[metric] for metric in METRICS]
            yield row


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="conversations in the format of ../shared/data")
    parser.add_argument("--files", type=Path, default=None, help="folder of a sentence encoder to use")
    parser.add_argument("--form", choices=FORMS, default="turns", help="what the conversations are made into")
    parser.add_argument("--terms", nargs="*", default=[], help="switch off only these")
    options = parser.parse_args()
    if not options.data.exists():
        print(f"No data at {options.data}; pass --data FILE.")
        return
    offs = variants(options.terms)
    embedder = SentenceFiles(options.files) if options.files else None
    conversations = FORMS[options.form](options.data)
    rows = [
        row
        for conversation in conversations
        for row in rows_of(conversation, offs, embedder)
        if row["category"] != "adversarial"
    ]
    full = np.array([row[""] for row in rows])
    means = ", ".join(f"{name} {value:.3f}" for name, value in zip(METRICS, full.mean(axis=0), strict=True))
    print(f"{len(rows)} questions; everything on: {means}\n")
    print("| without | " + " | ".join(METRICS) + " |\n|---|" + "---|" * len(METRICS))
    for name in offs:
        changes = np.array([row[name] for row in rows]) - full
        told = (
            f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" for mean, low, high in paired_intervals(changes)
        )
        print(f"| {name} | " + " | ".join(told) + " |")


if __name__ == "__main__":
    main()
