"""Reembed: every fact's vectors anew with another embedder, in one transaction. It changes nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from engram_core.domain.fact import Fact
from engram_core.measure import words
from engram_core.ports import Embedder, FreshVectors, Indexed, Ledger

_PAGE = 500


def reembed(
    ledger: Ledger, embedder: Embedder, fingerprint: str, progress: Callable[[int, int], None] | None = None
) -> int:
    """Embed every fact of a store and make `fingerprint` its embedder; return how many facts.

    Args:
        ledger: The store's record.
        embedder: Gives unit vectors, checked.
        fingerprint: What the store remembers from now on.
        progress: Called with (done, total) facts.

    Raises:
        EmbeddingFailed: The embedder failed; the store is as it was.
    """
    total = sum(state.recallable for state in ledger.scopes())
    done = 0

    def fresh() -> Iterator[FreshVectors]:
        nonlocal done
        for page in _pages(ledger):
            yield from _embedded(ledger, embedder, page)
            done += len(page)
            if progress is not None:
                progress(min(done, total), max(total, done))

    ledger.replace_vectors(fresh(), fingerprint)
    return done


def _pages(ledger: Ledger) -> Iterator[list[Indexed]]:
    for state in ledger.scopes():
        after = 0
        while rows := ledger.changes(state.id, after, _PAGE, vectors=False):
            yield [row for row in rows if row.status != "erased"]
            after = rows[-1].seq


def _embedded(ledger: Ledger, embedder: Embedder, rows: Sequence[Indexed]) -> Iterator[FreshVectors]:
    around = {id_ for row in rows for id_ in (row.id, row.previous, row.following) if id_}
    facts = {fact.id: fact for fact in ledger.facts(sorted(around))}
    pairs = [(row.id, facts[row.id].text, _context(row, facts)) for row in rows if row.id in facts]
    texts = list(dict.fromkeys(text for _, body, context in pairs for text in (body, context)))
    if not texts:
        return
    vectors = dict(zip(texts, embedder.embed(texts).astype(np.float16), strict=True))
    for id_, body, context in pairs:
        yield FreshVectors(id_, vectors[body], vectors[context])


def _context(row: Indexed, facts: dict[str, Fact]) -> str:
    previous, following = facts.get(row.previous or ""), facts.get(row.following or "")
    return words.context_text(
        facts[row.id].text, previous.text if previous else None, following.text if following else None
    )
