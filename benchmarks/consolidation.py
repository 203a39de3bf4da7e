"""What consolidation saves and costs, on labelled conversations, through the real store and the real recall.

    python -m benchmarks.consolidation [--data FILE] [--only facts|turns|duplicates|brief|scale] [--size 100000]

For turns and for extracted facts: live vectors, and evidence recall at 200, 400 and 800 tokens, of the originals, of
Engram's merge, of pruning each cluster to its medoid and of replacing it by a half-length summary. Each system is
asked twice: with the scope scanned whole, and with the scope in the vector index. Then duplicates in a redundant
store, the digest of `brief`, and how long a first and a second night take.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.corpus import statements
from benchmarks.locomo import DEFAULT, Question, load
from engram_core import Engram, Fact, Memory, Message
from engram_core.domain.change import Consolidate
from engram_core.lab.bench.metrics import answer_words
from engram_core.measure import gathering
from engram_core.operations import consolidate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BUDGETS = (200, 400, 800)


@dataclass(frozen=True)
class Store:
    """A conversation to remember: its messages, what was asked, and the source turns of each message."""

    name: str
    messages: Sequence[Message]
    questions: Sequence[Question]
    sources: dict[str, frozenset[str]]


def turns(path: Path) -> list[Store]:
    """Each conversation's turns, verbatim."""
    return [
        Store(c.id, list(c.messages), _answerable(c.questions), {m.id: frozenset([m.id]) for m in c.messages})
        for c in load(path)
    ]


def observations(path: Path, *, with_summaries: bool = False) -> list[Store]:
    """Each conversation's model-written statements and the turns they rest on; optionally its summaries' sentences."""
    found = []
    for raw, conversation in zip(json.loads(path.read_text()), load(path), strict=True):
        messages, sources = [], {}
        for number, (session, told) in enumerate(zip(raw["sessions"], conversation.sessions, strict=True), 1):
            at = told[0].at
            for place, item in enumerate(session["observations"]):
                name = f"o{number}-{place}"
                messages.append(Message("user", item["text"], speaker=item["speaker"], at=at, id=name))
                sources[name] = frozenset(item["evidence"])
            if with_summaries:
                for place, sentence in enumerate(s.strip() for s in session["summary"].split(". ") if s.strip()):
                    who = next((w for w in conversation.speakers if w in sentence), None)
                    name = f"s{number}-{place}"
                    messages.append(Message("user", sentence, speaker=who, at=at, id=name))
                    sources[name] = frozenset()
        found.append(Store(conversation.id, messages, _answerable(conversation.questions), sources))
    return found


EVERY = 8
"""Of the questions, every eighth is asked, so that a run takes minutes."""


def _answerable(questions: Iterable[Question]) -> list[Question]:
    return [q for q in questions if q.evidence and q.category != "adversarial"][::EVERY]


# --- variants: what is done to a scope before it is asked ------------------------------------------------------------


def originals(store: Engram, memory: Memory) -> None:
    """Nothing."""


def merge(store: Engram, memory: Memory) -> None:
    """Engram's night."""
    plan = consolidate.plan(store.context, memory.scope, NOW)
    consolidate.apply(store.context, plan, "user:owner", NOW)


def to_medoid(store: Engram, memory: Memory) -> None:
    """Keep the medoid of each of the same clusters."""
    for change in _clusters(store, memory):
        rows = {row.id: row for row in store.context.ledger.indexed(change.fact_ids)}
        vectors = np.stack([np.frombuffer(rows[id_].content, dtype="<f2").astype("f4") for id_ in change.fact_ids])
        medoid = int((vectors @ vectors.mean(axis=0)).argmax())
        for place, id_ in enumerate(change.fact_ids):
            if place != medoid:
                memory.forget(id_)


def to_summary(store: Engram, memory: Memory) -> None:
    """Replace each of the same clusters by an extractive summary of half its length."""
    for change in _clusters(store, memory):
        facts = [memory.get(id_) for id_ in change.fact_ids]
        text = gathering.summary([gathering.Said(f.text, f.said_at, f.speaker) for f in facts])
        kept = [fact for fact in facts if fact.text.split(". ")[0].rstrip(".") in text]
        for fact in facts:
            memory.forget(fact.id)
        ids = "|".join(id_ for fact in kept for id_ in fact.origin.message_ids)
        memory.add(Message("user", text, speaker=facts[0].speaker, at=facts[-1].said_at, id=f"sum:{ids}"))


def _clusters(store: Engram, memory: Memory) -> list[Consolidate]:
    plan = consolidate.plan(store.context, memory.scope, NOW)
    return [cluster.change for cluster in plan.due if isinstance(cluster.change, Consolidate)]


VARIANTS: dict[str, Callable[[Engram, Memory], None]] = {
    "originals": originals,
    "engram merge": merge,
    "prune to medoid": to_medoid,
    "half-length summary": to_summary,
}


def evidence(told: Store, change: Callable[[Engram, Memory], None], exact_limit: int) -> tuple[int, list[list[float]]]:
    """Live vectors, and evidence recall per question at each budget."""
    directory = Path(tempfile.mkdtemp(prefix="engram-bench-"))
    try:
        with Engram.open(directory, exact_limit=exact_limit) as store:
            memory = store.memory(f"bench/{told.name}")
            memory.add(list(told.messages), now=NOW)
            change(store, memory)
            store.flush(600)
            live = len(memory.list(limit=10_000))
            rows = [[_recall(memory, told, q, budget) for budget in BUDGETS] for q in told.questions]
            return live, rows
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _recall(memory: Memory, told: Store, question: Question, budget: int) -> float:
    found = memory.recall(question.text, k=100, max_tokens=budget, now=NOW)
    shown: set[str] = set()
    for item in found.facts:
        for id_ in item.message_ids:
            for one in id_.removeprefix("sum:").split("|"):
                shown |= told.sources.get(one, frozenset())
    return len(shown.intersection(question.evidence)) / len(question.evidence)


def table(name: str, stores: Sequence[Store], variants: Sequence[str]) -> None:
    """One row per variant; differences to the originals per conversation, so that no single one decides."""
    for exact_limit, how in ((100_000, "scanned"), (0, "indexed")):
        base: list[np.ndarray] = []
        for variant in variants:
            lives, means = [], []
            for told in stores:
                live, rows = evidence(told, VARIANTS[variant], exact_limit)
                lives.append(live / len(told.messages) if variant == "originals" else live)
                means.append(np.array(rows).mean(axis=0))
            counts = np.array(lives)
            if variant == "originals":
                base, first = means, counts * [len(told.messages) for told in stores]
                print(f"\n{name}, {how}: {len(stores)} conversations, {int(first.sum())} live facts")
                counts = first
            mean = np.mean(means, axis=0)
            saved = 1 - counts / first
            change = np.array(means) - np.array(base)
            line = "  ".join(f"R{budget} {value:.3f}" for budget, value in zip(BUDGETS, mean, strict=True))
            print(
                f"  {variant:22} vectors {-100 * (1 - counts.sum() / first.sum()):+6.1f}% (per conversation "
                f"{-100 * saved.max():.0f} to {-100 * saved.min():.0f})  {line}  R400 change "
                f"{100 * change[:, 1].mean():+.1f} (worst {100 * change[:, 1].min():+.1f})",
                flush=True,
            )


# --- duplicates, digest, scale ---------------------------------------------------------------------------------------


def prune(store: Engram, memory: Memory) -> None:
    """Engram's night with `compression_strategy="prune"`."""
    memory.set_policy(compression_strategy="prune", protect_days=0)
    merge(store, memory)


def _covered(text: str, question: Question) -> float | None:
    return answer_words([text], question.answer)


def duplicates(stores: Sequence[Store]) -> None:
    """A redundant store: observations and the sentences of summaries that repeat them."""
    print(f"\nredundant store: {sum(len(told.messages) for told in stores)} statements")
    for name, change in {"originals": originals, "engram prune": prune, "engram merge": merge}.items():
        lives, total, rows = 0, 0, []
        for told in stores:
            with Engram.open(":memory:", exact_limit=100_000) as store:
                memory = store.memory(f"bench/{told.name}")
                memory.add(list(told.messages), now=NOW)
                total += len(memory.list(limit=10_000))
                change(store, memory)
                lives += len(memory.list(limit=10_000))
                for question in told.questions:
                    texts = [memory.recall(question.text, k=100, max_tokens=b, now=NOW).text for b in BUDGETS]
                    found = [_covered(text, question) for text in texts]
                    rows += [found] if found[0] is not None else []
        line = "  ".join(f"A{b} {value:.3f}" for b, value in zip(BUDGETS, np.mean(rows, axis=0), strict=True))
        print(f"  {name:22} live facts {100 * (lives / total - 1):+6.1f}%  {line}", flush=True)


def briefs(stores: Sequence[Store], tokens: int = 1_000) -> None:
    """How much of the answers and of the evidence a warm start of so many tokens holds."""
    scores: dict[str, list[tuple[float, float]]] = {}
    for told in stores:
        with Engram.open(":memory:", exact_limit=100_000) as store:
            memory = store.memory(f"bench/{told.name}")
            memory.add(list(told.messages), now=NOW)
            facts = memory.list(limit=10_000)
            texts = {"engram brief": _briefed(memory, tokens)}
            shuffled = list(np.random.default_rng(5).permutation(len(facts)))
            texts["random"] = _filled(store, [facts[place] for place in shuffled], tokens)
            texts["most recent"] = _filled(store, facts[::-1], tokens)
            plan = consolidate.plan(store.context, memory.scope, NOW)
            groups = sorted((c.change.fact_ids for c in plan.due if isinstance(c.change, Consolidate)), key=len)[::-1]
            known = {fact.id: fact for fact in facts}
            said = [[gathering.Said(known[i].text, known[i].said_at) for i in ids] for ids in groups]
            lines = [gathering.summary(group) for group in said]
            texts["cluster summaries"] = (_cut(store, lines, tokens), [])
            merge(store, memory)
            texts["brief after the night"] = _briefed(memory, tokens)
            for name, (text, ids) in texts.items():
                shown = frozenset().union(*(told.sources.get(id_, frozenset()) for id_ in ids))
                for question in told.questions:
                    answer = _covered(text, question)
                    held = len(shown.intersection(question.evidence)) / len(question.evidence)
                    if answer is not None:
                        scores.setdefault(name, []).append((answer, held))
    print(f"\nwarm start of {tokens} tokens: answer words, gold evidence")
    for name, rows in scores.items():
        answer, held = np.mean(rows, axis=0)
        print(
            f"  {name:22} {answer:.3f}  {held:.3f}" + (" (lines have no single source)" if "summaries" in name else "")
        )


def _briefed(memory: Memory, tokens: int) -> tuple[str, list[str]]:
    found = memory.brief(max_tokens=tokens, now=NOW)
    return found.text, [id_ for fact in found.facts for id_ in fact.origin.message_ids]


def _filled(store: Engram, facts: Sequence[Fact], tokens: int) -> tuple[str, list[str]]:
    text = _cut(store, [fact.display for fact in facts], tokens)
    return text, [id_ for fact in facts if fact.display in text for id_ in fact.origin.message_ids]


def _cut(store: Engram, lines: Sequence[str], tokens: int) -> str:
    kept: list[str] = []
    left = tokens - 20  # the fence
    for line in lines:
        cost = store.count_tokens(line) + 1
        if cost <= left:
            kept.append(line)
            left -= cost
    return "\n".join(kept)


def scale(size: int) -> None:
    """A first night over `size` facts of one scope, a second after 100 more, and a brief."""
    directory = Path(tempfile.mkdtemp(prefix="engram-bench-"))
    try:
        with Engram.open(directory, index="exact") as store:
            memory = store.memory("bench/scale")
            # One speaker, so that every fact may meet every other.
            told = [replace(message, speaker="Ana") for message in statements(size + 200)]
            for start in range(0, size, 5_000):
                memory.add(told[start : min(start + 5_000, size)], now=NOW)
            memory.recall("warm up")
            print(f"\nscale: {size:,} facts of one speaker, memory {_resident():,} MB")
            for name, more in {"first night": 0, "second night": 100, "third night": 200}.items():
                memory.add(told[size + max(more - 100, 0) : size + more], now=NOW)
                before = time.process_time(), time.perf_counter()
                plan = consolidate.plan(store.context, memory.scope, NOW)
                planned = time.process_time() - before[0], time.perf_counter() - before[1]
                before = time.process_time(), time.perf_counter()
                done = consolidate.apply(store.context, plan, "user:owner", NOW)
                applied = time.process_time() - before[0], time.perf_counter() - before[1]
                print(
                    f"  {name:14} looked at {plan.looked_at:,}, {len(done.fact_ids):,} clusters, "
                    f"{plan.vectors_saved:,} vectors fewer; plan {planned[0]:.1f} s CPU ({planned[1]:.1f} s), "
                    f"apply {applied[0]:.1f} s CPU "
                    f"({applied[1]:.1f} s), memory {_resident():,} MB",
                    flush=True,
                )
            spent = []
            for _ in range(5):
                before_brief = time.perf_counter()
                found = memory.brief(now=NOW)
                spent.append(1000 * (time.perf_counter() - before_brief))
            print(f"  brief: {np.median(spent):.0f} ms, {len(found.facts)} facts, {found.tokens} tokens")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _resident() -> int:
    """Highest resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="conversations in the format of ../shared/data")
    parser.add_argument("--only", default="", help="turns, facts, duplicates, brief or scale; default all")
    parser.add_argument("--conversations", type=int, default=100)
    parser.add_argument("--size", type=int, default=100_000, help="facts of the scale part")
    options = parser.parse_args()
    if options.only in ("", "scale"):
        scale(options.size)
    if not options.data.exists():
        print(f"No data at {options.data}; pass --data FILE.")
        return
    if options.only in ("", "facts"):
        table("extracted facts", observations(options.data)[: options.conversations], list(VARIANTS))
    if options.only in ("", "turns"):
        table("turns", turns(options.data)[: options.conversations], list(VARIANTS))
    if options.only in ("", "duplicates"):
        duplicates(observations(options.data, with_summaries=True)[: options.conversations])
    if options.only in ("", "brief"):
        briefs(observations(options.data)[: options.conversations])


if __name__ == "__main__":
    main()
