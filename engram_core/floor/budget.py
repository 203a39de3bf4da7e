"""Budget: which ranked facts are shown, and the fenced text they become. Pure; every drop gets a Reason.

The tokens of the finished text are counted, wrapper included, and never exceed the budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final

from engram_core.domain.fact import Fact
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.floor.fence import close_fence, defused, open_fence
from engram_core.floor.unseen import visible
from engram_core.measure import citations, validity, words
from engram_core.measure.dates import RELATIVE_TIME

Count = Callable[[str], int]
TIGHT: Final = "token_budget"
LENGTH_COST: Final = 0.05
"""Score that a line e times as long has to have more, where not all fit; chosen on development conversations."""
BRIEF: Final = 192
"""Tokens of a budget below which days are written only for who asks about time: each one takes a third of a line."""
LEAST_WORDS: Final = 4
"""Distinct words that a statement has at least to be left out for saying nothing new."""

_LABELLED: Final = frozenset({"tool", "web", "import"})
FOCUS: Final = 0.7
"""Share of the score of a merged fact's best original from which another one is shown with it as one fact."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A fact with its rank's score, before rules and budget.

    Args:
        parent: The merged fact that `fact` is an original of and is shown as; None for a fact that stands for itself.
        newer: Id of a fact that may replace it; None if nothing does.
        stands: The fact that stands for it, where another time or the archive is asked for; None if none does.
    """

    fact: Fact
    score: float
    parent: Fact | None = None
    newer: str | None = None
    stands: Fact | None = None

    @property
    def shown_as(self) -> Fact:
        """The fact that a caller sees."""
        return self.parent or self.fact


@dataclass(frozen=True, slots=True)
class Line:
    """A shown fact: its place in the ranking, its rendered line, that line's tokens, and its marker if it has one."""

    place: int
    text: str
    tokens: int
    marker: str | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """What fits: the text, its tokens, the lines best first, and for every other place the reason.

    `is_full` tells that k was reached, so that facts further down need not be read.
    """

    text: str
    tokens: int
    lines: tuple[Line, ...]
    dropped: tuple[tuple[int, Reason], ...]
    is_full: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What a recall may show.

    Args:
        k: Facts at most. The originals of a merged fact that match almost as well as its best one count with it.
        max_tokens: Tokens of the whole text at most.
        min_score: Facts scoring less are dropped; None for no limit.
        now: For validity.
        kinds: Only these kinds; empty for all.
        query: A fact that says just this is dropped: the question is no answer to itself.
        is_dated: Show every fact's day; otherwise only where the words need it ("yesterday"), and not even there where
            `max_tokens` is less than `BRIEF`.
        is_cited: Put a marker before every line and ask the model to cite them.
    """

    k: int
    max_tokens: int
    min_score: float | None
    now: datetime
    kinds: frozenset[str] = frozenset()
    is_dated: bool = True
    query: str = ""
    is_cited: bool = False


def pack(ranked: Sequence[Ranked], limits: Limits, policy: MemoryPolicy, marker: str, count: Count) -> Packed:
    """Choose and render.

    Args:
        ranked: Best first.
        limits: See `Limits`.
        policy: For the trust floor.
        marker: Random hex that stored text cannot know.
        count: Tokens of a text.

    Returns:
        The k best facts where they fit, originals of merged facts like any other; else those that are worth their
        tokens, best first: one that does not fit is skipped and the next is tried. Lines are rendered oldest first, so
        that the newest word on a matter stands last; those whose day matters follow under day headings.
    """
    tokens_of = _Counted(count)
    in_rank_order = _taken(range(len(ranked)), ranked, limits, policy, marker, tokens_of)
    tight = {place: float(reason.terms["needed"]) for place, reason in in_rank_order.dropped if reason.rule == TIGHT}
    if not tight:
        return in_rank_order
    # Not everything fits: a long line has to be worth the shorter ones that it keeps out.
    costs = {line.place: float(line.tokens) for line in in_rank_order.lines} | tight
    order = [*_by_worth(costs, ranked), *(place for place in range(len(ranked)) if place not in costs)]
    return _taken(order, ranked, limits, policy, marker, tokens_of)


class _Counted:
    """A token counter that counts each text once: the same lines are tried in two orders."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._known: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = self._count(text)
        return self._known[text]


def _by_worth(costs: Mapping[int, float], ranked: Sequence[Ranked]) -> list[int]:
    """Places by score less `LENGTH_COST` for the logarithm of their tokens; a replaced fact after what replaces it."""
    worth: dict[str, float] = {}
    by_place: dict[int, float] = {}
    for place in sorted(costs):
        item = ranked[place]
        value = item.score - LENGTH_COST * math.log(costs[place])
        if item.newer is not None and item.newer in worth:
            value = min(value, worth[item.newer])
        worth[item.fact.id] = by_place[place] = value
    return sorted(by_place, key=lambda place: (-by_place[place], place))


def _taken(
    order: Sequence[int], ranked: Sequence[Ranked], limits: Limits, policy: MemoryPolicy, marker: str, count: Count
) -> Packed:
    """Take facts in `order` until k are shown; one that does not fit is skipped and the next is tried."""
    lines: list[Line] = []
    dropped: list[tuple[int, Reason]] = []
    seen: dict[str, int] = {}
    said: list[tuple[int, frozenset[str]]] = []
    facts_shown: dict[str, float] = {}
    count_shown = 0
    shown: set[str] = set()
    days: set[date] = set()
    spent = count(_render([], ranked, marker, limits))
    for place in order:
        item = ranked[place]
        reason = ruled_out(item, limits, policy)
        best = facts_shown.get(item.shown_as.id)
        is_another = best is None or item.score < FOCUS * best
        if reason is None and is_another and count_shown >= limits.k:
            reason = Reason("rank", f"{limits.k} better facts are shown already.", {"rank": place + 1})
        is_earlier = item.newer is not None and item.newer in shown
        text = line_of(item.fact, is_earlier=is_earlier, is_archived=_is_archived(item, limits))
        if reason is None and text in seen:
            reason = Reason("same_text", f"The same words are shown already, at rank {seen[text] + 1}.")
        own = frozenset(words.tokens(item.fact.text)) if reason is None else frozenset()
        if reason is None and (told := _told_by(item.fact, own, said, ranked)) is not None:
            reason = Reason("nothing_new", f"All its words are shown already, at rank {told + 1}.")
        if reason is not None:
            dropped.append((place, reason))
            continue
        name = citations.marker(len(lines) + 1) if limits.is_cited else None
        line = text if name is None else citations.marked(citations.unforged(text), name)
        tokens = count(line) + 1
        day = item.fact.said_at.date()
        is_new_day = day not in days and _needs_day(item.fact, limits)
        needed = tokens + (count(_heading(day, days)) + 1 if is_new_day else 0)
        if spent + needed > limits.max_tokens:
            dropped.append((place, _does_not_fit(needed, limits.max_tokens - spent)))
            continue
        spent += needed
        if is_new_day:
            days.add(day)
        seen[text] = place
        said.append((place, own))
        shown.add(item.fact.id)
        facts_shown.setdefault(item.shown_as.id, item.score)
        count_shown += is_another
        lines.append(Line(place, line, tokens, name))
    packed = _trimmed(lines, dropped, ranked, limits, marker, count)
    best_first = tuple(sorted(packed.lines, key=lambda line: line.place))
    return replace(packed, lines=best_first, is_full=count_shown >= limits.k and len(packed.lines) == len(lines))


def _told_by(
    fact: Fact, own: frozenset[str], said: Sequence[tuple[int, frozenset[str]]], ranked: Sequence[Ranked]
) -> int | None:
    """The place of a shown line of the same speaker that holds every word of `fact`, small ones included; or None.

    Short statements are left alone: what "yes" says hangs on where it stands. So is "yesterday" said on another day.
    """
    if len(own) < LEAST_WORDS:
        return None
    for place, theirs in said:
        other = ranked[place].fact
        is_same_day = other.said_at.date() == fact.said_at.date()
        is_same_voice = other.speaker == fact.speaker and other.origin.channel == fact.origin.channel
        if own <= theirs and is_same_voice and (is_same_day or RELATIVE_TIME.search(fact.text) is None):
            return place
    return None


def _bare(text: str) -> str:
    return " ".join(text.lower().split()).strip(" .!?")


def _does_not_fit(needed: int, left: int) -> Reason:
    line = f"It needs {needed} tokens and {max(left, 0)} are left in the budget."
    return Reason("token_budget", line, {"needed": needed, "left": max(left, 0)})


def _trimmed(
    lines: list[Line],
    dropped: list[tuple[int, Reason]],
    ranked: Sequence[Ranked],
    limits: Limits,
    marker: str,
    count: Count,
) -> Packed:
    # Tokens of parts do not always add up to tokens of the whole; the finished text has the last word.
    while lines:
        text = _render(lines, ranked, marker, limits)
        tokens = count(text)
        if tokens <= limits.max_tokens:
            return Packed(text, tokens, tuple(lines), tuple(sorted(dropped, key=lambda item: item[0])))
        last = lines.pop()
        dropped.append((last.place, _does_not_fit(tokens, limits.max_tokens)))
    return Packed("", 0, (), tuple(sorted(dropped, key=lambda item: item[0])))


def ruled_out(item: Ranked, limits: Limits, policy: MemoryPolicy) -> Reason | None:
    """Why a fact may not be shown, whatever the budget; None if it may. A merged fact's own validity binds as well."""
    reason = _ruled_out(item, limits, policy)
    if reason is None and item.parent is not None:
        reason = _ruled_out(Ranked(item.parent, item.score), replace(limits, kinds=frozenset()), policy)
    return reason


def _ruled_out(item: Ranked, limits: Limits, policy: MemoryPolicy) -> Reason | None:
    fact = item.fact
    if limits.query and _bare(fact.text) == _bare(limits.query):
        return Reason("the_question", "It is the question itself, said before.")
    if limits.kinds and fact.kind not in limits.kinds:
        return Reason("kind", f"Its kind is {fact.kind}; asked for: {', '.join(sorted(limits.kinds))}.")
    if fact.trust < policy.trust_floor:
        terms = {"trust": fact.trust, "trust_floor": policy.trust_floor}
        return Reason("trust_floor", "It is trusted less than the policy's floor.", terms)
    # An archived fact is here because its reader asked for the archive, where nothing holds any more.
    if fact.valid_until is not None and fact.valid_until <= limits.now and fact.is_recallable:
        return Reason("expired", f"It was valid until {fact.valid_until.date()}.")
    if (
        fact.valid_from is not None
        and fact.valid_from > limits.now
        and not validity.says_from(fact.text, fact.said_at, fact.valid_from)
    ):
        return Reason("not_yet_valid", f"It is valid from {fact.valid_from.date()}.")
    if limits.min_score is not None and item.score < limits.min_score:
        terms = {"score": item.score, "min_score": limits.min_score}
        return Reason("min_score", "It scores less than the caller's minimum.", terms)
    return None


def _is_archived(item: Ranked, limits: Limits) -> bool:
    """Whether to say that a fact is archived: not where it held at the time asked for, or another says its words."""
    fact = item.stands or item.shown_as
    held = fact.valid_until is not None and fact.valid_until > limits.now
    return not fact.is_recallable and not held


def line_of(fact: Fact, *, is_earlier: bool = False, is_archived: bool = False) -> str:
    """A fact as one line of context, unable to forge the fence; origins other than a user and earlier states are told.

    Unseen characters are left out here too: a row may be older than the rules that keep them out, or written by hand.
    """
    earlier = "[archived] " if is_archived else "[earlier] " if is_earlier else ""
    said = visible(fact.display).replace("\n", " ").replace("\t", " ")
    return defused(f"{earlier}{_label(fact)}{said}")


def _label(fact: Fact) -> str:
    """`[web]` and the like. What a named speaker said in a conversation is told by the name, which costs no tokens."""
    channel = fact.origin.channel
    if channel in _LABELLED or (channel == "assistant" and fact.speaker is None):
        return f"[{channel}] "
    return ""


def _heading(day: date, others: Collection[date]) -> str:
    """The heading of a day: the year is named only where it is new."""
    return f"{day.day} {day:%b}" if any(other.year == day.year for other in others) else f"{day.day} {day:%b %Y}"


def _needs_day(fact: Fact, limits: Limits) -> bool:
    is_roomy = limits.max_tokens >= BRIEF
    return limits.is_dated or (is_roomy and RELATIVE_TIME.search(fact.text) is not None)


def _render(lines: Sequence[Line], ranked: Sequence[Ranked], marker: str, limits: Limits) -> str:
    facts = {line.place: ranked[line.place].fact for line in lines}
    headed = {fact.said_at.date() for fact in facts.values() if _needs_day(fact, limits)}
    by_time = sorted(lines, key=lambda line: (facts[line.place].said_at, facts[line.place].id))
    body = [line.text for line in by_time if facts[line.place].said_at.date() not in headed]
    shown: list[date] = []
    for line in by_time:
        day = facts[line.place].said_at.date()
        if day in headed:
            if shown[-1:] != [day]:
                body.append(_heading(day, shown[-1:]))
                shown.append(day)
            body.append(line.text)
    asked = [citations.CITE_INSTRUCTION] if limits.is_cited else []
    return "\n".join([open_fence(marker), *asked, *body, close_fence(marker)])
