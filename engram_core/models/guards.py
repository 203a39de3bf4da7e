"""Guards: outside detectors behind the guard hook. They convert what a detector says, and import none of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from engram_core.domain.errors import InvalidInput
from engram_core.domain.fact import Origin
from engram_core.domain.guard import Guard, GuardVerdict

THRESHOLD = 0.4


class _Span(NamedTuple):
    start: int
    end: int
    kind: str
    score: float


def presidio_guard(
    analyzer: Any, *, language: str = "en", threshold: float = THRESHOLD, entities: Sequence[str] | None = None
) -> Guard:
    """A guard that covers the personal data which Microsoft Presidio finds, before a text is stored or embedded.

    `ana@example.com` becomes `[redacted: email address]`. What an analyzer raises is handled as the policy's
    `on_guard_failure` says.

    Args:
        analyzer: An `AnalyzerEngine` of the package `presidio-analyzer`, with the models you chose. Engram brings none.
        language: What the analyzer is told the texts are in.
        threshold: Least score of a finding that counts, 0 to 1.
        entities: Only these kinds, such as `["PERSON", "EMAIL_ADDRESS"]`; None for all the analyzer knows.

    Raises:
        InvalidInput: `analyzer` cannot analyze, or `threshold` is out of range.
    """
    if not callable(getattr(analyzer, "analyze", None)):
        raise InvalidInput(f"presidio_guard() takes an AnalyzerEngine, not {type(analyzer).__qualname__}.")
    if not isinstance(threshold, int | float) or not 0.0 <= threshold <= 1.0:
        raise InvalidInput(f"threshold must be a number from 0 to 1, not {threshold!r}.")
    wanted = list(entities) if entities is not None else None

    def guard(text: str, _origin: Origin) -> GuardVerdict | None:
        told = analyzer.analyze(text=text, language=language, entities=wanted, score_threshold=threshold)
        found = _apart([_Span(one.start, one.end, _words(one.entity_type), float(one.score)) for one in told])
        if not found:
            return None
        kinds = Counter(span.kind for span in found)
        reason = f"presidio: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}"
        return GuardVerdict("redact", reason, text=_covered(text, found))

    return guard


def _words(entity: str) -> str:
    return entity.lower().replace("_", " ")


def _apart(found: Sequence[_Span]) -> list[_Span]:
    """Findings in order; those that overlap become one of the surest, then longest one's kind."""
    apart: list[_Span] = []
    for span in sorted(found):
        if apart and span.start < apart[-1].end:
            last = apart.pop()
            best = max(last, span, key=lambda one: (one.score, one.end - one.start))
            span = best._replace(start=last.start, end=max(last.end, span.end))  # noqa: PLW2901 - they are one
        apart.append(span)
    return apart


def _covered(text: str, found: Sequence[_Span]) -> str:
    parts, done = [], 0
    for span in found:
        parts += [text[done : span.start], f"[redacted: {span.kind}]"]
        done = span.end
    return "".join([*parts, text[done:]])
