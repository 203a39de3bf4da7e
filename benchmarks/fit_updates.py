"""Fits the ranker of possible updates on statements of our own making, beside turns of real conversations that update
nothing, and prints its coefficients. Seeded.

    python -m benchmarks.fit_updates [--data FILE]

Positives and hard negatives come from topics, wordings and values put together at random; what is fitted is checked on
topics and wordings left out, and `benchmarks.supersession` (c) asks about statements of neither kind.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.locomo import DEFAULT, load
from engram_core import Engram
from engram_core.measure import content, updates

# Topic: how it is called, first in full; what fills it.
_TOPICS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("kitchen renovation budget", "budget for the kitchen renovation", "kitchen budget"), "$"),
    (("marketing budget", "budget for marketing", "marketing budget this quarter"), "$"),
    (("monthly rent", "rent for my flat", "rent"), "$"),
    (("salary", "base salary at work", "yearly salary"), "$"),
    (("hourly rate", "rate for freelance work", "freelance rate"), "$"),
    (("savings goal for the house", "house savings goal", "savings target"), "$"),
    (("grocery allowance", "weekly grocery allowance", "allowance for groceries"), "$"),
    (("API rate limit", "rate limit of the API", "API limit"), "calls per minute"),
    (("daily quota for the maps service", "maps service quota", "daily quota"), "requests"),
    (("newsletter list", "subscriber count of the newsletter", "newsletter audience"), "subscribers"),
    (("word count of my thesis", "thesis length", "length of my thesis"), "words"),
    (("vocabulary deck", "Spanish vocabulary deck", "deck of Spanish words"), "cards"),
    (("team at work", "size of my team", "engineering team"), "people"),
    (("guest list", "guest list for the party", "party guest list"), "guests"),
    (("weekly mileage", "weekly running distance", "running mileage"), "km"),
    (("bench press record", "best bench press", "bench press"), "kg"),
    (("calorie target", "daily calorie target", "target for calories"), "calories"),
    (("step goal", "daily step goal", "goal for steps"), "steps"),
    (("page load time", "load time of the landing page", "landing page load time"), "ms"),
    (("query latency", "latency of the search query", "search latency"), "ms"),
    (("test coverage", "unit test coverage", "coverage of the parser tests"), "%"),
    (("conversion rate", "conversion rate of the shop", "shop conversion"), "%"),
    (("attendance rate", "class attendance", "attendance of my class"), "%"),
    (("error rate", "error rate of the importer", "importer error rate"), "%"),
    (("deadline for the grant proposal", "grant proposal deadline", "proposal deadline"), "date"),
    (("launch of the beta", "beta launch date", "beta launch"), "date"),
    (("flight to Denver", "Denver flight", "departure for Denver"), "date"),
    (("job interview", "interview with the bank", "bank interview"), "date"),
    (("wedding date", "date of our wedding", "wedding"), "date"),
    (("driving test", "date of the driving test", "driving exam"), "date"),
    (("therapy appointment", "weekly therapy slot", "therapy slot"), "day"),
    (("standup with the design team", "design standup", "team standup"), "day"),
    (("piano lesson", "piano lesson with the new teacher", "weekly piano lesson"), "day"),
    (("editor for the novel", "novel editor", "editor"), "person"),
    (("project lead", "lead of the mobile project", "mobile project lead"), "person"),
    (("coach", "swimming coach", "coach at the pool"), "person"),
    (("flatmate", "flatmate in the new place", "room mate"), "person"),
    (("web framework", "framework of the booking app", "booking app framework"), "tool"),
    (("note app", "app for my notes", "note taking app"), "tool"),
    (("hosting provider", "hosting of the blog", "blog host"), "tool"),
    (("bank", "bank for my savings", "savings bank"), "tool"),
    (("gym", "gym near the office", "gym membership"), "tool"),
    (("holiday destination", "destination of our summer trip", "summer trip destination"), "place"),
    (("conference city", "city of the yearly conference", "location of the conference"), "place"),
    (("storage unit", "location of the storage unit", "storage location"), "place"),
)
_PEOPLE = (
    "Amelia Boris Celine Dmitri Esther Felix Gloria Hassan Ivy Julian Karen Leon Miriam Noel Ophelia Peter".split()
)
_TOOLS = "Flask Django Notion Joplin Fly Lightsail Monzo Revolut Gravity Puregym Rails Laravel Linode Sunrise".split()
_SPOTS = "Sicily Corfu Bruges Krakow Malmo Seville Bristol Ghent Tallinn Split Nantes Bergen Graz Cork".split()
_MONTHS = "January February March April May June July August September October November December".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_OLD = (
    "My {full} is {a}, {aside}.",
    "I'm working with a {other} of {a} and I want to {goal}.",
    "My {other} is set to {a} for now, {aside}.",
    "Given a {full} of {a}, how should I {goal}?",
    "I'd like some help to {goal}, my {full} is {a}.",
    "We agreed on {a} for the {other}, {aside}.",
    "At the moment the {full} is {a}, which feels right. I want to {goal}.",
    "I'm trying to {goal} and the {full} is {a}.",
    "The {full} is {a}. Could you help me {goal}?",
    "I told {p} that the {other} is {a}, {aside}.",
    "{aside}, and the {full} is {a}.",
    "So far the {full} is at {a} and I keep track of it in a spreadsheet.",
)
_NEW = (
    "I've {up} my {full} from {a} to {b}, {aside}.",
    "I've {up} the {other} to {b}, can you help me {goal}?",
    "My {other} is now {b}, {aside}.",
    "The {full} has been {up} to {b} after a talk with {p}.",
    "Quick update: the {other} went from {a} to {b}.",
    "I recently {up} my {full} to {b} so that I can {goal}.",
    "The {full} moved to {b} because {p} asked for it.",
    "It turns out that the {other} is actually {b} instead of {a}.",
    "The {other} isn't {a} any more, it's {b}.",
    "We switched the {full} from {a} to {b} last week.",
    "My new {other} is {b}, {aside}.",
    "The {full} has improved to {b} since we last spoke. I want to {goal}.",
    "They pushed the {full} to {b}, {aside}.",
    "{p} and I decided on {b} for the {full} instead, {aside}.",
    "I had to adjust the {other} to {b}. How do I {goal} now?",
    "Things changed: {b} is the new {full}.",
    "Now that the {other} has grown to {b}, I'd like to {goal}.",
    "We finally changed the {full}, it will be {b}.",
    "I replaced {a} with {b} for the {full}.",
    "The {full} dropped to {b} recently, {aside}.",
    "Correction, the {other} is {b}.",
    "I currently have {b} as {full}, {aside}.",
)
_SAME_TOPIC = (
    "How do other people decide on a {other}?",
    "I've been thinking a lot about the {full} recently, {aside}.",
    "I talked to {p} about the {other} and we finally agreed to {goal}.",
    "The {full} is still {a}, {aside}.",
    "Is a {full} of {a} enough now that I want to {goal}?",
    "I'm happy with the {other} and now I want to {goal}.",
    "Besides the {full} I now have to think about the {else_full}, which is {c}.",
    "I've {up} the {else_full} to {c}, {aside}.",
    "My new {else_other} is {c}, {aside}.",
    "{p} has a similar {other} and has been asking me to {goal}.",
    "I was wondering whether the {full} should be reviewed before I {goal}.",
    "I shared the {other} with {p} last week, and it was finally approved.",
)
_OTHER_TOPIC = (
    "I've {up} the {else_full} from {c} to {d}, {aside}.",
    "The {else_other} is now {c}, {aside}.",
    "I recently started to {goal}, {aside}.",
    "My new {else_full} is {c} and I'm trying to {goal}.",
    "I finally finished the book that {p} gave me.",
    "I've been trying to {goal} for {n} weeks now.",
)
_UP = "increased raised changed moved updated reduced lowered adjusted set bumped extended".split()
_GOALS = (
    "plan the next month", "split the costs", "prepare for the review", "keep everything on track", "save some time",
    "explain it to my family", "write a short summary", "set up a reminder", "compare a few options", "stay motivated",
    "optimise the schedule", "track my progress", "build a small dashboard", "talk to the sponsor",
)  # fmt: skip
_ASIDES = (
    "which works for me", "and my partner agrees", "as we discussed with the team", "so I need to plan around it",
    "mostly because of the weather", "and I'm a bit nervous about it", "which took a while to sort out",
    "and it keeps me busy on weekends", "even though it was not easy", "and I'd love your thoughts",
    "as far as I can tell", "and everyone seems fine with it",
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """An earlier and a later text; `is_update` whether the later one replaces a value of the earlier."""

    old: str
    new: str
    is_update: bool
    topic: int
    wording: int


def _value(kind: str, rng: random.Random) -> str:
    match kind:
        case "$":
            return f"${rng.choice([rng.randrange(20, 99) * 10, rng.randrange(10, 99) * 100]):,}"
        case "%":
            return f"{rng.randrange(5, 98)}%"
        case "date":
            return f"{rng.choice(_MONTHS)} {rng.randrange(1, 29)}"
        case "day":
            return f"{rng.choice(_DAYS)}{rng.choice(['', f' at {rng.randrange(1, 12)} pm'])}"
        case "person":
            return rng.choice(_PEOPLE)
        case "tool":
            return rng.choice(_TOOLS)
        case "place":
            return rng.choice(_SPOTS)
        case unit:
            return f"{rng.choice([rng.randrange(5, 99), rng.randrange(100, 9_999)]):,} {unit}"


def pairs(count: int, seed: int) -> Iterator[Pair]:
    """`count` pairs, a quarter of them updates."""
    rng = random.Random(seed)
    for number in range(count):
        topic, other = rng.sample(range(len(_TOPICS)), 2)
        names, kind = _TOPICS[topic]
        else_names, else_kind = _TOPICS[other]
        a, b = _value(kind, rng), _value(kind, rng)
        words = {
            "a": a, "c": _value(else_kind, rng), "d": _value(else_kind, rng), "n": rng.randrange(2, 30),
            "up": rng.choice(_UP), "else_full": else_names[0], "else_other": rng.choice(else_names),
        }  # fmt: skip
        old = rng.choice(_OLD).format(**_round(words, names, rng))
        sort = ("update", "same topic", "other topic", "same wording")[number % 4]
        wordings = {"update": _NEW, "same topic": _SAME_TOPIC, "other topic": _OTHER_TOPIC, "same wording": _NEW}[sort]
        wording = rng.randrange(len(wordings))
        if sort == "same wording":
            # Said in one way, they are still two things: "I raised my rent to ...", "I raised my salary to ...".
            old = wordings[wording].format(b=a, **_round(words, names, rng))
            names, b = else_names, _value(else_kind, rng)
        new = wordings[wording].format(b=b, **_round(words, names, rng))
        if a != b:
            yield Pair(_opened(old), _opened(new), sort == "update", topic, wording)


def _round(words: dict[str, object], names: Sequence[str], rng: random.Random) -> dict[str, object]:
    own = {"full": rng.choice(names[:2]), "other": rng.choice(names), "p": rng.choice(_PEOPLE)}
    return {**words, **own, "goal": rng.choice(_GOALS), "aside": rng.choice(_ASIDES)}


def _opened(text: str) -> str:
    return text[0].upper() + text[1:]


class _Rarity(dict[str, float]):
    def __init__(self, texts: Sequence[str]) -> None:
        self._df = Counter(token for text in texts for token in set(content.tokens(text)))
        self._facts = len(texts)

    def __missing__(self, token: str) -> float:
        self[token] = weight = content.idf(max(self._df[token], 1), self._facts)
        return weight


Matrix = NDArray[np.float64]


def made(count: int, seed: int, store: Engram) -> tuple[Matrix, Matrix, list[Pair]]:
    """Features and labels of generated pairs; words are as rare as they are in a scope of 200 such statements."""
    found = list(pairs(count, seed))
    texts = [text for pair in found for text in (pair.old, pair.new)]
    vectors = np.asarray(store.context.embedder.embed(texts))
    rows = []
    for start in range(0, len(found), 100):
        block = found[start : start + 100]
        rarity = _Rarity([text for pair in block for text in (pair.old, pair.new)])
        for place, pair in enumerate(block, start):
            cosine = float(vectors[2 * place] @ vectors[2 * place + 1])
            rows.append(updates.features(updates.analysed(pair.old), updates.analysed(pair.new), cosine, rarity))
    return np.array(rows), np.array([float(pair.is_update) for pair in found]), found


def talked(path: Path, store: Engram) -> list[tuple[Matrix, int]]:
    """For each conversation the features of what its turns would be compared with, and its number of turns."""
    result = []
    for conversation in load(path):
        messages = list(conversation.messages)
        texts = [message.content for message in messages]
        vectors = np.asarray(store.context.embedder.embed(texts))
        rarity = _Rarity(texts)
        speakers = np.array([message.speaker for message in messages])
        rows = []
        for place, text in enumerate(texts):
            if not updates.may_update(text):
                continue
            new = updates.analysed(text)
            near = [n for n in np.argsort(-(vectors[:place] @ vectors[place]))[:20] if speakers[n] == speakers[place]]
            scored = sorted(
                near,
                key=lambda n: (
                    -(
                        float(vectors[n] @ vectors[place])
                        + 0.5 * updates.overlap(updates.analysed(texts[n]), new, rarity)
                    )
                ),
            )
            for n in scored[:5]:
                old = updates.analysed(texts[n])
                rows.append([place, *updates.features(old, new, float(vectors[n] @ vectors[place]), rarity)])
        result.append((np.array(rows), len(texts)))
    return result


def fitted(x: Matrix, y: Matrix, weight: Matrix, *, strength: float) -> tuple[Matrix, float]:
    """Logistic regression by Newton steps, with an L2 penalty of `strength` on the coefficients."""
    design = np.hstack([x, np.ones((len(x), 1))])
    beta = np.zeros(design.shape[1])
    penalty = np.full(design.shape[1], strength)
    penalty[-1] = 0.0
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        gradient = design.T @ (weight * (p - y)) + penalty * beta
        hessian = (design * (weight * p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        beta -= step
        if np.abs(step).max() < 1e-8:
            break
    return beta[:-1], float(beta[-1])


def auc(scores: Matrix, y: Matrix) -> float:
    """Area under the ROC curve."""
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    hits = y > 0
    return float((ranks[hits].sum() - hits.sum() * (hits.sum() + 1) / 2) / (hits.sum() * (~hits).sum()))


def linked(
    conversations: Sequence[tuple[Matrix, int]], columns: Sequence[int], beta: Matrix, bias: float
) -> list[Matrix]:
    """Per conversation the best score of each statement that has candidates, and -inf for every other statement."""
    result = []
    for rows, size in conversations:
        best = np.full(size, -math.inf)
        scores = rows[:, 1:][:, columns] @ beta + bias
        np.maximum.at(best, rows[:, 0].astype(int), scores)
        result.append(best)
    return result


def report(columns: Sequence[int], data: Path, *, share: float, strength: float, of_talk: float) -> None:
    """Fit on everything, check on topics, wordings and conversations left out, and print the coefficients."""
    with Engram.open(":memory:") as store:
        x, y, found = made(8_000, 1, store)
        talk = talked(data, store) if data.exists() else []
    x = x[:, columns]
    topics = np.array([pair.topic for pair in found])
    wordings = np.array([pair.wording for pair in found])
    thresholds = []
    for fold in range(max(len(talk), 1)):
        out = (topics % 5 == fold) | (wordings % 5 == fold)
        rest = [rows for number, (rows, _) in enumerate(talk) if number != fold]
        beta, bias = _fit(x[~out], y[~out], rest, columns, strength=strength, of_talk=of_talk)
        left = (topics % 5 == fold) & (wordings % 5 == fold)
        scores = x[left] @ beta + bias
        seen = np.concatenate(linked([t for n, t in enumerate(talk) if n != fold], columns, beta, bias))
        level = float(np.quantile(seen, 1 - share))
        unseen = linked([talk[fold]], columns, beta, bias)[0]
        print(
            f"  left out {fold}: AUC {auc(scores, y[left]):.3f}"
            f"  updates linked {(scores[y[left] > 0] >= level).mean():.2f}"
            f"  others linked {(scores[y[left] == 0] >= level).mean():.2f}  turns linked {(unseen >= level).mean():.3f}"
        )
        thresholds.append(level)
    beta, bias = _fit(x, y, [rows for rows, _ in talk], columns, strength=strength, of_talk=of_talk)
    level = float(np.quantile(np.concatenate(linked(talk, columns, beta, bias)), 1 - share))
    for column, value in zip(columns, beta, strict=True):
        print(f"    {updates.FEATURES[column]:12} {value:7.3f}")
    print(f"    bias {bias:.3f}, threshold {1 / (1 + math.exp(-level)):.4f} (links {share:.0%} of the turns)")


def _fit(
    x: Matrix, y: Matrix, talk: Sequence[Matrix], columns: Sequence[int], *, strength: float, of_talk: float
) -> tuple[Matrix, float]:
    none = np.vstack([rows[:, 1:][:, columns] for rows in talk]) if talk else np.zeros((0, len(columns)))
    weight = np.concatenate([np.ones(len(x)), np.full(len(none), of_talk * len(x) / max(len(none), 1))])
    return fitted(np.vstack([x, none]), np.concatenate([y, np.zeros(len(none))]), weight, strength=strength)


CHOSEN = (
    "cov_o", "cov_n", "numchg", "unitctx", "datechg", "capdiff_o", "capdiff_n", "strong", "fromhit", "numsame",
    "nums_o",
)  # fmt: skip
"""Few features, each with a meaning of its own. None is a cosine, so the fit holds for every embedder."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="conversations in the format of ../shared/data")
    parser.add_argument("--share", type=float, default=0.03)
    parser.add_argument("--strength", type=float, default=3.0)
    parser.add_argument("--of-talk", type=float, default=1.0)
    options = parser.parse_args()
    for title, names in (("every feature", updates.FEATURES), ("chosen features", CHOSEN)):
        print(title)
        columns = [updates.FEATURES.index(name) for name in names]
        report(columns, options.data, share=options.share, strength=options.strength, of_talk=options.of_talk)


if __name__ == "__main__":
    main()
