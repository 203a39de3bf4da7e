"""Likeness: how close two facts must be for one to stand for both. It turns a policy's number into a cosine; pure.

A policy's `cluster_similarity` is nominal: embedders spread their cosines differently, and raw 0.8 is a near copy for
one and common for another. The store's own embedder is measured on the sentences here (docs/algorithms.md section 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from engram_core.measure.clusters import Floats

NOMINAL: Final = 0.8
"""The nominal similarity that `related` gives the raw cosine for; the founding note's trigger."""
MEASURED: Final = {"wordllama": 0.48, "minilm": 0.60}
"""Raw cosines measured on conversations (docs/algorithms.md section 7), by a part of the embedder's name."""
SPREAD: Final = {"wordllama": (0.016, 0.585), "minilm": (0.061, 0.606)}
"""Mean cosines of `PAIRS`, unrelated and about one matter, of embedders met often, by a part of their name."""
LEAST_SPREAD: Final = 0.05
BETWEEN: Final = 0.92
"""For any other embedder: how far from unrelated pairs (0) towards pairs about one matter (1), in mean cosine."""

# Two sentences a line say something about one matter; the lines have nothing to do with each other.
PAIRS: Final = (
    ("The invoice for the server was paid on Tuesday.", "We still wait for the second invoice for the server."),
    ("My grandmother bakes bread with walnuts.", "The walnut bread of my grandmother never lasts a day."),
    ("We took the night train to Vienna.", "The night train to Vienna was two hours late."),
    ("The goalkeeper broke his wrist in the final.", "The goalkeeper's wrist was operated on last night."),
    ("Please send the contract to the lawyer.", "The lawyer found a mistake in the contract."),
    ("Tomatoes grow badly on a shady balcony.", "I planted four tomatoes on the balcony this spring."),
    ("The old lighthouse will be painted white.", "Volunteers look after the old lighthouse."),
    ("She practises the cello before school.", "Her new cello was made in Cremona."),
    ("A virus closed the kindergarten for a week.", "The kindergarten opens again on Monday."),
    ("The database is copied every night at two.", "Last night the copy of the database failed."),
    ("He is allergic to cats and to dust.", "His allergy to cats got worse this year."),
    ("Our flight was cancelled because of fog.", "The airline paid a hotel after the flight was cancelled."),
    ("The novel is set in a mining town.", "I liked the ending of the novel about the mine."),
    ("I learned to dive in the Red Sea.", "My first dive in the Red Sea was at night."),
    ("The committee rejected the new logo.", "A designer from Ghent drew the new logo."),
    ("They adopted a puppy from the shelter.", "The puppy chews every shoe in their house."),
    ("The bridge is closed to lorries until spring.", "Engineers found cracks in the bridge."),
    ("He collects stamps with birds on them.", "His rarest stamp shows a green parrot."),
    ("The interest rate rose by half a point.", "A higher interest rate makes our loan dearer."),
    ("I prefer mountain hikes to beaches.", "My longest mountain hike took eleven hours."),
    ("The printer on the second floor has no toner.", "Somebody jammed the printer on the second floor again."),
    ("Her brother teaches chemistry in Leeds.", "Her brother's chemistry class won a prize."),
    ("We repaired the roof after the storm.", "The storm tore forty tiles off our roof."),
    ("The recipe needs two spoons of mustard.", "Without mustard the recipe tastes of nothing."),
)
SENTENCES: Final = tuple(sentence for pair in PAIRS for sentence in pair)


def measured(embedder: str) -> float | None:
    """The raw cosine that nominal 0.8 stands for, if this embedder was measured on conversations."""
    return next((cosine for name, cosine in MEASURED.items() if name in embedder.lower()), None)


def known_spread(embedder: str) -> tuple[float, float] | None:
    """`spread` of an embedder that was measured once and for all."""
    return next((cosines for name, cosines in SPREAD.items() if name in embedder.lower()), None)


def spread(vectors: Sequence[Sequence[float]] | Floats) -> tuple[float, float]:
    """How far an embedder spreads its cosines: between it all rankings by cosine are on one scale.

    Args:
        vectors: Unit vectors of `SENTENCES`, shape (len(SENTENCES), d).

    Returns:
        The mean cosine of unrelated pairs and that of pairs about one matter, which is at least `LEAST_SPREAD` more.
    """
    values = np.asarray(vectors, dtype=np.float32).reshape(len(PAIRS), 2, -1)
    together = float(np.einsum("pd,pd->p", values[:, 0], values[:, 1]).mean())
    firsts = values[:, 0]
    apart = float((firsts @ firsts.T)[np.triu_indices(len(firsts), k=1)].mean())
    return apart, max(together, apart + LEAST_SPREAD)


def related(vectors: Sequence[Sequence[float]] | Floats) -> float:
    """The raw cosine that nominal 0.8 stands for, for the embedder that gave these vectors.

    Args:
        vectors: Unit vectors of `SENTENCES`, shape (len(SENTENCES), d).

    Returns:
        Unrelated pairs' mean cosine and `BETWEEN` of the way to that of pairs about one matter, 0.2 to 0.95.
    """
    apart, together = spread(vectors)
    return float(np.clip(apart + BETWEEN * (together - apart), 0.2, 0.95))


def raw(nominal: float, at_nominal: float) -> float:
    """A policy's similarity as a raw cosine: straight from (0, 0) to (0.8, `at_nominal`) to (1, 1)."""
    if nominal <= NOMINAL:
        return nominal / NOMINAL * at_nominal
    return at_nominal + (nominal - NOMINAL) / (1 - NOMINAL) * (1 - at_nominal)
