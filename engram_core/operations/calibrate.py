"""Calibrate: how far the store's embedder spreads its cosines, measured once per store. It ranks nothing."""

from __future__ import annotations

from engram_core.domain.errors import EmbeddingFailed, StoreUnavailable
from engram_core.measure import likeness
from engram_core.ports import Ledger, StoreEmbedder

UNKNOWN = (0.0, 0.57)
"""While the embedder cannot be asked: as the default one, near enough."""


class Calibration:
    """The embedder's cosines, read or measured at the first recall and then at hand."""

    def __init__(self) -> None:
        self._cosines: tuple[float, float] | None = None

    def of(self, ledger: Ledger, embedder: StoreEmbedder) -> tuple[float, float]:
        """Mean cosine of unrelated texts and of texts about one matter (`measure.likeness.spread`).

        Measured on the 48 sentences of `measure.likeness`, embedded once in a store's life; not even that for
        embedders whose figures are known.
        """
        if self._cosines is None:
            try:
                self._cosines = likeness.known_spread(embedder.name) or _kept(ledger, embedder)
            except EmbeddingFailed:
                return UNKNOWN
        return self._cosines


def _kept(ledger: Ledger, embedder: StoreEmbedder) -> tuple[float, float]:
    name = f"cosines/{embedder.name}"[:100]
    kept = ledger.setting(name)
    if kept is None:
        apart, together = likeness.spread(embedder.embed(likeness.SENTENCES))
        # What is stored counts, and another process may have been first: the same store ranks the same everywhere.
        measured = f"{apart:.4f} {together:.4f}"
        try:
            kept = ledger.set_setting(name, measured, only_if_absent=True)
        except StoreUnavailable:
            kept = measured  # a full disk must not take recall away; the next process measures again
    apart, together = map(float, kept.split())
    return apart, together
