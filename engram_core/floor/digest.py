"""Digest: the fenced text of a warm start: facts by kind, within a budget. Pure; it renders and chooses nothing.

The tokens of the finished text are counted, fence and headings included, and never exceed the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from engram_core.domain.fact import Fact
from engram_core.floor.budget import Count, line_of
from engram_core.floor.fence import close_fence, open_fence
from engram_core.measure.dates import RELATIVE_TIME


def fitted(facts: Sequence[Fact], max_tokens: int, marker: str, count: Count) -> tuple[str, int, list[int]]:
    """Render as many facts as fit.

    Args:
        facts: In the order in which they may take their place; one that does not fit is skipped.
        max_tokens: Of the whole text.
        marker: For the fence.
        count: Tokens of a text.

    Returns:
        The text, its tokens and the places of the facts in it, in the order given; ("", 0, []) if nothing fits. Kinds
        stand in the order of their first fact, facts of one kind oldest first. A fact whose words need its day
        ("yesterday") has it in front.
    """
    spent = count(rendered([], marker))
    kept: list[int] = []
    kinds: set[str] = set()
    seen: set[str] = set()
    for place, fact in enumerate(facts):
        line = _line(fact)
        if line in seen:
            continue
        needed = count(line) + 1 + (0 if fact.kind in kinds else count(_heading(fact.kind)) + 1)
        if spent + needed > max_tokens:
            continue
        spent += needed
        kept.append(place)
        kinds.add(fact.kind)
        seen.add(line)
    # Tokens of parts do not always add up to tokens of the whole; the finished text has the last word.
    while kept:
        text = rendered([facts[place] for place in kept], marker)
        tokens = count(text)
        if tokens <= max_tokens:
            return text, tokens, kept
        kept.pop()
    return "", 0, []


def rendered(facts: Sequence[Fact], marker: str) -> str:
    """The fenced text of facts, by kind."""
    lines: list[str] = []
    for kind in dict.fromkeys(fact.kind for fact in facts):
        lines.append(_heading(kind))
        lines += [_line(fact) for fact in sorted(facts, key=lambda fact: (fact.said_at, fact.id)) if fact.kind == kind]
    return "\n".join([open_fence(marker), *lines, close_fence(marker)])


def _heading(kind: str) -> str:
    return f"{kind}:"


def _line(fact: Fact) -> str:
    line = line_of(fact)
    return f"{_day(fact.said_at.date())}, {line}" if RELATIVE_TIME.search(fact.text) else line


def _day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"
