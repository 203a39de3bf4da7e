"""Attribution on labelled conversations: which of ten shown facts an answer used, against annotated evidence.

    python -m benchmarks.attribution [--data FILE] [--fit]

Every verdict comes from `Memory.observe`. Printed beside it in the same run: token overlap (Jaccard), cosine, and the
scorer Engram started from. Sets of responses:

    turns        the gold answer, bare and in a sentence that echoes the question; shown is what `recall(k=10)` finds
    hybrid       the same, but shown are the ten best of BM25 and vectors, fused by rank
    observations the same, with model-written statements as facts instead of turns
    paraphrase   a model-written statement as the answer, shown are turns; gold are the turns it rests on
    long         three, or nine, such statements as one answer
    nothing      refusals, echoes, thinking aloud, and answers to other questions: nothing may be credited

`--fit` refits the weights, once with each conversation left out (the figures are then of conversations the weights have
not seen) and once on all of them, which is where `engram_core.measure.attribution.WEIGHTS` comes from.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import reference_attribution as reference
from benchmarks.locomo import DEFAULT, Conversation, load, turn_ids
from engram_core import Engram, Memory, Message
from engram_core.measure import attribution, content
from engram_core.measure.attribution import Shown
from engram_core.operations.observe import frequencies
from engram_core.ports import RecallRow

K = 10
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PIECES = tuple(name for name in attribution.WEIGHTS if name != "base")
COSINE_AT = 0.5
JACCARD_AT = 0.15
TEMPLATES = (
    "You asked: {question} The answer is {answer}.",
    "Regarding {echo}: it is {answer}.",
    'Based on our conversations, the answer to "{question}" is {answer}, as far as I can tell.',
    "{answer} - that is what I have on {echo}.",
)
NOTHING = {
    "refusal": ("I don't know {echo}.", "I'm sorry, there is no mention of {echo}.", "I am not certain {echo}, sorry."),
    "nothing": ("Nothing comes to mind about {echo}.", "My notes do not contain anything on {echo}."),
    "thinking": ("Let me think about {echo}.", "Hmm, let me think about {echo} for a moment."),
    "echo": ("{question} That is worth asking.", "So this is about {echo}."),
}


@dataclass
class Case:
    """One response and the facts shown for it; `gold` are the ids it rests on."""

    group: str
    form: str
    category: str
    conversation: str
    question: str
    response: str
    shown: list[Shown]
    gold: frozenset[str]
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    """Per scorer: 0 not used, 1 balanced or above a threshold, 2 strict; one per shown fact."""

    @property
    def labels(self) -> np.ndarray:
        return np.array([fact.fact_id in self.gold for fact in self.shown])


class Scope:
    """One conversation in a store: recalls first, verdicts later, so that no verdict can change a recall."""

    def __init__(self, store: Engram, memory: Memory, conversation: str, group: str) -> None:
        self.store, self.memory, self.conversation, self.group = store, memory, conversation, group
        self.cases: list[Case] = []
        self._ids: list[str] = []

    def recall(self, question: str, k: int = K) -> tuple[str, list[str]]:
        found = self.memory.recall(question, k=k, max_tokens=100_000, now=NOW)
        return found.id, [item.fact.id for item in found.facts]

    def show(self, question: str, fact_ids: Sequence[str]) -> str:
        """Record a recall of given facts, as if a retriever had found them."""
        context = self.store.context
        row = context.ledger.recall(self.recall(question, 1)[0])
        made = replace(row, id=f"shown-{len(self._ids)}-{self.group}", facts=[{"id": id_} for id_ in fact_ids])
        assert isinstance(made, RecallRow)
        context.ledger.record_recall(made)
        return made.id

    def case(self, recall_id: str, form: str, category: str, response: str, gold: Iterable[str]) -> None:
        row = self.store.context.ledger.recall(recall_id)
        facts = self.store.context.ledger.facts([fact["id"] for fact in row.facts])
        shown = [Shown(fact.id, fact.display, fact.said_at, speaker=fact.speaker) for fact in facts]
        wanted = frozenset(gold)
        known = frozenset(fact.id for fact in facts if wanted & set(fact.origin.message_ids))
        if known or form in ("unrelated", *NOTHING):
            self.cases.append(Case(self.group, form, category, self.conversation, row.query, response, shown, known))
            self._ids.append(recall_id)

    def judge(self) -> None:
        """Every scorer's verdicts on the cases of this scope."""
        context = self.store.context
        [state] = context.ledger.scopes([self.memory.scope])
        for case, recall_id in zip(self.cases, self._ids, strict=True):
            usage = self.memory.observe(recall_id, case.response, now=NOW)
            used = set(usage.used)
            case.verdicts = {fact_id: dict(terms) for fact_id, terms in usage.terms.items()}
            case.scores["engram"] = np.array(
                [(f.fact_id in used) + (case.verdicts[f.fact_id]["weight"] > 0) for f in case.shown]
            )
            counts = frequencies(context, [state], [case.response, case.question, *(f.text for f in case.shown)])
            size = state.recallable
            words_only = attribution.attribute(case.response, case.question, case.shown, size, counts)
            case.scores["engram, no vectors"] = np.array([v.used + (v.weight > 0) for v in words_only])
            old = reference.attribute(case.response, case.question, case.shown, size, counts)
            case.scores["reference"] = np.array([v.used + (v.band == "strict") for v in old])
            said = content.token_set(case.response)
            overlap = [len(said & content.token_set(f.text)) for f in case.shown]
            either = [len(said | content.token_set(f.text)) or 1 for f in case.shown]
            case.scores["token overlap"] = (np.array(overlap) / np.array(either) >= JACCARD_AT).astype(int)
            vectors = context.embedder.embed([case.response, *(f.text for f in case.shown)])
            case.scores["cosine"] = (vectors[1:] @ vectors[0] >= COSINE_AT).astype(int)


def echo(question: str) -> str:
    bare = question.strip().rstrip("?").strip()
    return bare[:1].lower() + bare[1:]


def answers(question: str, answer: str, number: int) -> dict[str, str]:
    template = TEMPLATES[number % len(TEMPLATES)]
    return {"bare": answer, "sentence": template.format(question=question, echo=echo(question), answer=answer)}


def cases_of(path: Path) -> list[Case]:
    """All cases of a file, judged."""
    conversations = load(path)
    raw = {item["id"]: item for item in json.loads(path.read_text())}
    cases: list[Case] = []
    for number, conversation in enumerate(conversations):
        other = conversations[(number + 1) % len(conversations)]
        sessions = raw[conversation.id]["sessions"]
        for group in (turns, hybrid, statements, paraphrases):
            with Engram.open(":memory:") as store:
                scope = Scope(store, store.memory("bench"), conversation.id, group.__name__)
                group(scope, conversation, other, sessions)
                scope.judge()
                cases += scope.cases
    return cases


def turns(scope: Scope, conversation: Conversation, other: Conversation, _: list[dict[str, Any]]) -> None:
    scope.memory.add(list(conversation.messages), now=NOW)
    rng = random.Random(5)
    pool = [question.answer for question in other.questions]
    for number, question in enumerate(conversation.questions):
        recall_id, _found = scope.recall(question.text)
        if question.category == "adversarial" or number % 3 == 0:
            for form, templates in NOTHING.items():
                response = templates[number % len(templates)]
                response = response.format(question=question.text, echo=echo(question.text))
                scope.case(recall_id, form, "nothing", response, ())
        if question.category == "adversarial" or not question.evidence:
            continue
        for form, response in answers(question.text, question.answer, number).items():
            scope.case(recall_id, form, question.category, response, question.evidence)
        scope.case(recall_id, "unrelated", "nothing", rng.choice(pool), ())


def hybrid(scope: Scope, conversation: Conversation, _: Conversation, __: list[dict[str, Any]]) -> None:
    scope.memory.add(list(conversation.messages), now=NOW)
    search = fused(scope)
    for number, question in enumerate(conversation.questions):
        if question.category == "adversarial" or not question.evidence:
            continue
        recall_id = scope.show(question.text, search(question.text))
        for form, response in answers(question.text, question.answer, number).items():
            scope.case(recall_id, form, question.category, response, question.evidence)


def fused(scope: Scope) -> Callable[[str], list[str]]:
    """BM25 and vectors over `Speaker: words`, fused by reciprocal rank with the constant 60."""
    from engram_core.designs.pipeline.rank import bm25
    from engram_core.measure.words import stems

    facts = scope.memory.list(limit=10_000)
    embedder = scope.store.context.embedder
    words = [stems(fact.display) for fact in facts]
    vectors = embedder.embed([fact.display for fact in facts])
    lengths = np.array([len(found) for found in words], dtype=np.float32)

    def search(question: str) -> list[str]:
        asked = list(dict.fromkeys(stems(question)))
        counts = np.array([[found.count(stem) for stem in asked] for found in words], dtype=np.float32)
        df = (counts > 0).sum(axis=0).astype(np.float32)
        lexical = bm25(counts, lengths, np.ones(len(asked), np.float32), len(facts), int(lengths.sum()), df)
        dense = vectors @ embedder.embed_queries([question])[0]
        fused = np.zeros(len(facts))
        for scores in (lexical, dense):
            fused[np.argsort(-scores, kind="stable")] += 1 / (60 + np.arange(1, len(facts) + 1))
        return [facts[row].id for row in np.argsort(-fused, kind="stable")[:K]]

    return search


def statements(scope: Scope, conversation: Conversation, _: Conversation, sessions: list[dict[str, Any]]) -> None:
    scope.group = "observations"
    rests_on: dict[str, set[str]] = {}
    for place, session in enumerate(sessions):
        start = conversation.sessions[place][0].at
        messages = []
        for statement in session.get("observations", []):
            id_ = f"o{len(rests_on)}"
            rests_on[id_] = set(turn_ids(statement["evidence"]))
            at = start + timedelta(minutes=len(messages))
            messages.append(
                Message("user", statement["text"], speaker=statement["speaker"], at=at, session=str(place), id=id_)
            )
        if messages:
            scope.memory.add(messages, now=NOW)
    for number, question in enumerate(conversation.questions):
        if question.category == "adversarial" or not question.evidence:
            continue
        gold = [id_ for id_, turns in rests_on.items() if turns & set(question.evidence)]
        recall_id, _found = scope.recall(question.text)
        for form, response in answers(question.text, question.answer, number).items():
            scope.case(recall_id, form, question.category, response, gold)


def paraphrases(scope: Scope, conversation: Conversation, _: Conversation, sessions: list[dict[str, Any]]) -> None:
    scope.group = "paraphrase"
    scope.memory.add(list(conversation.messages), now=NOW)
    for session in sessions:
        statements = session.get("observations", [])
        for statement in statements[::2]:
            recall_id = scope.show(
                f"What do you know about {statement['speaker']}?", scope.recall(statement["text"])[1]
            )
            scope.case(recall_id, "one", "paraphrase", statement["text"], set(turn_ids(statement["evidence"])))
        for size, k in ((3, 5), (9, 3)):
            for start in range(0, len(statements) - size + 1, size):
                some = statements[start : start + size]
                together = dict.fromkeys(id_ for statement in some for id_ in scope.recall(statement["text"], k)[1])
                recall_id = scope.show(f"What is new with {' and '.join(conversation.speakers)}?", sorted(together))
                gold = set().union(*(turn_ids(statement["evidence"]) for statement in some))
                answer = " ".join(statement["text"] for statement in some)
                scope.case(recall_id, f"long, {size} sentences", "long", answer, gold)


# --- figures ------------------------------------------------------------------------------------------------------


def counted(cases: Sequence[Case], scorer: str, least: int = 1) -> np.ndarray:
    """Facts rightly used, facts used and facts that are evidence, shape (cases, 3)."""
    found = []
    for case in cases:
        is_used, labels = case.scores[scorer] >= least, case.labels
        found.append(((is_used & labels).sum(), is_used.sum(), labels.sum()))
    return np.array(found, dtype=float)


def scored(counts: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall and F1 over all facts of the cases."""
    hits, used, gold = counts.sum(axis=0)
    precision, recall = hits / max(used, 1), hits / max(gold, 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)


def interval(counts: np.ndarray) -> str:
    """95 % of F1 when questions are drawn again."""
    rng = np.random.default_rng(1)
    found = [scored(counts[rng.integers(0, len(counts), len(counts))])[2] for _ in range(500)]
    return f"[{np.quantile(found, 0.025):.3f}, {np.quantile(found, 0.975):.3f}]"


def report(cases: Sequence[Case], scorers: Sequence[str]) -> None:
    groups: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        if case.category != "nothing":
            groups[case.group, case.form].append(case)
    for (group, form), found in groups.items():
        print(f"\n{group} / {form}: {len(found)} responses, {np.mean([len(c.shown) for c in found]):.1f} facts each")
        parts = defaultdict(list)
        for case in found:
            parts[case.category].append(case)
        for scorer in scorers:
            counts = counted(found, scorer)
            precision, recall, f1 = scored(counts)
            strict, reached, _ = scored(counted(found, scorer, 2))
            figures = f"P {precision:.3f} R {recall:.3f} F1 {f1:.3f} {interval(counts)}"
            by = "  ".join(f"{name} {scored(counted(part, scorer))[2]:.2f}" for name, part in sorted(parts.items()))
            print(f"  {scorer:20} {figures}  strict {strict:.3f} / {reached:.3f}  {by}")
    print("\nresponses that credit any fact, balanced / strict")
    for form in (*NOTHING, "unrelated"):
        found = [case for case in cases if case.form == form]
        shares = {s: [np.mean([(c.scores[s] >= least).any() for c in found]) for least in (1, 2)] for s in scorers}
        print(f"  {form:10} ({len(found)})  " + "  ".join(f"{s} {b:.3f}/{t:.3f}" for s, (b, t) in shares.items()))


def calibration(cases: Sequence[Case]) -> None:
    """The probability told against the share of facts that were evidence, over all sets with answers."""
    rows = [
        (case.verdicts[fact.fact_id]["probability"], fact.fact_id in case.gold)
        for case in cases
        for fact in case.shown
        if case.category != "nothing"
    ]
    told, truth = np.array(rows, dtype=float).T
    print("\nprobability told / share that was evidence (facts)")
    for low, high in pairwise((0, 0.031, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 0.95, 1.01)):
        part = (told >= low) & (told < high)
        if part.any():
            print(f"  {told[part].mean():.2f} / {truth[part].mean():.2f} ({part.sum()})", end="")
    print()


def cost(cases: Sequence[Case]) -> None:
    """Milliseconds of `attribute` per response of ten turns, tokenising included, embedding not."""
    chosen = [case for case in cases if case.group == "turns" and case.form == "sentence"][:300]
    spent = []
    for case in chosen:
        similarity = {fact.fact_id: 0.1 * place for place, fact in enumerate(case.shown)}
        started = time.perf_counter()
        attribution.attribute(case.response, case.question, case.shown, 500, {}, similarity)
        spent.append((time.perf_counter() - started) * 1000)
    print(f"\ncost without embedding: median {np.median(spent):.2f} ms, 95 % under {np.quantile(spent, 0.95):.2f} ms")


# --- fitting ------------------------------------------------------------------------------------------------------

IMPORTANCE = {"thinking": 0.3, "echo": 0.3, "unrelated": 1.0, "refusal": 0.0, "nothing": 0.0}
"""Of a response in the fit; 1 unless named."""


def pieces(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Values of the evidence of each fact, before weighing, and whether it has any."""
    has = np.array(["base" in case.verdicts[fact.fact_id] for fact in case.shown])
    values = [[case.verdicts[f.fact_id].get(n, 0.0) / attribution.WEIGHTS[n] for n in PIECES] for f in case.shown]
    return np.array(values).reshape(len(case.shown), len(PIECES)), has


def fitted(cases: Sequence[Case], ridge: float = 1.0) -> np.ndarray:
    """Weights of a logistic regression, base first, by Newton's method with a ridge on all but the base."""
    rows, truths, importance = [], [], []
    for case in cases:
        values, has = pieces(case)
        rows.append(values[has])
        truths.append(case.labels[has])
        importance.append(np.full(has.sum(), IMPORTANCE.get(case.form, 1.0)))
    x = np.concatenate(rows)
    x = np.hstack([np.ones((len(x), 1)), x])
    y, w = np.concatenate(truths).astype(float), np.concatenate(importance)
    penalty = np.diag([1e-6, *[ridge] * len(PIECES)])
    weights = np.zeros(x.shape[1])
    for _ in range(30):
        chance = 1 / (1 + np.exp(-x @ weights))
        slope = x.T @ (w * (chance - y)) + penalty @ weights
        weights -= np.linalg.solve((x * (w * chance * (1 - chance))[:, None]).T @ x + penalty, slope)
    return weights


def fit(cases: Sequence[Case]) -> None:
    """Print the weights of all, and give every case the verdict of weights fitted without its conversation."""
    names = ("base", *PIECES)
    every = []
    for left_out in sorted({case.conversation for case in cases}):
        weights = fitted([case for case in cases if case.conversation != left_out])
        every.append(weights)
        for case in cases:
            if case.conversation == left_out:
                values, has = pieces(case)
                chance = np.where(has, 1 / (1 + np.exp(-weights[0] - values @ weights[1:])), 0.0)
                case.scores["engram, left out"] = (chance >= attribution.BALANCED) * 1 + (chance >= attribution.STRICT)
    spread = np.std(every, axis=0)
    print("weights fitted on all (spread over the fits with one conversation left out):")
    print("  " + "  ".join(f"{n} {w:.2f} ({s:.2f})" for n, w, s in zip(names, fitted(cases), spread, strict=True)))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="conversations in the format of ../shared/data")
    parser.add_argument("--fit", action="store_true", help="refit the weights, leaving out one conversation at a time")
    options = parser.parse_args()
    if not options.data.exists():
        print(f"No data at {options.data}; pass --data FILE.")
        return
    cases = cases_of(options.data)
    scorers = ["token overlap", "cosine", "reference", "engram, no vectors", "engram"]
    if options.fit:
        fit(cases)
        scorers.append("engram, left out")
    report(cases, scorers)
    calibration(cases)
    cost(cases)


if __name__ == "__main__":
    main()
