"""Succession: which older statements a new one replaces, and which it may be a newer state of. It only proposes.

Replacing needs one slot and a new value, told by the same voice. Everything softer becomes a link, which hides nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from engram_core.design import Alike, Floats, Likeness, View
from engram_core.designs.pipeline.slots import Told, told_by
from engram_core.domain.change import Draft
from engram_core.domain.errors import EmbeddingFailed
from engram_core.domain.fact import Fact, Slot
from engram_core.domain.message import Episode
from engram_core.domain.reason import Reason
from engram_core.measure import content, updates
from engram_core.measure.slots import Keyed, is_new_value
from engram_core.measure.updates import Analysis, analysed
from engram_core.measure.words import is_bare_question

Target = str | int
"""A stored fact's id, or the number of an earlier statement of the same episode."""
RANKED: Final = 5
"""Older facts, stored or of the same batch, that the ranker sees for each new statement."""
_TELLING: Final = 6
"""Rarest words of a statement that bring up earlier ones of its batch."""
_RECENT: Final = 20
"""Earlier statements of the same batch that one word may bring up."""
ANYONE: Final = frozenset({"user", "human", "assistant", "ai"})
"""The names that callers give to people they cannot name."""


@dataclass(frozen=True, slots=True)
class Voice:
    """Who said something: people are known by name, and the nameless by who acts for them."""

    speaker: str
    channel: str
    principal: str

    @classmethod
    def of_draft(cls, draft: Draft, episode: Episode) -> Voice:
        """The voice of a draft."""
        return cls._of(draft.speaker, draft.messages[0].channel, episode.principal)

    @classmethod
    def of_fact(cls, fact: Fact) -> Voice:
        """The voice of a stored fact."""
        return cls._of(fact.speaker, fact.origin.channel, fact.origin.principal)

    @classmethod
    def _of(cls, speaker: str | None, channel: str, principal: str) -> Voice:
        name = (speaker or "user").lower()
        return cls(name, channel, principal if name in ANYONE else "")


@dataclass(frozen=True, slots=True)
class Said:
    """A new statement: its draft, what its sentences tell, and when it was said."""

    draft: Draft
    told: Told
    at: datetime


@dataclass(frozen=True, slots=True)
class Holder:
    """Who fills a slot now: a stored fact or a draft of this batch."""

    target: Target
    keyed: Keyed
    at: datetime
    voice: Voice
    text: str
    is_pinned: bool = False


@dataclass(frozen=True, slots=True)
class Newer:
    """A statement may be a newer state of `target`."""

    target: Target
    probability: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a statement replaces, and what has replaced it already because it was said later."""

    replaces: tuple[tuple[Target, Reason], ...] = ()
    replaced_by: tuple[Target, Reason] | None = None


@dataclass(slots=True)
class Slots:
    """The live holders of the slots an episode touches, kept up to date while its statements are taken in order."""

    episode: Episode
    gone: set[str] = field(default_factory=set)
    """Ids of stored facts that a statement of this episode replaces."""
    _holders: defaultdict[Slot, list[Holder]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, said: Sequence[Said], episode: Episode, view: View) -> Slots:
        """The stored holders of every slot in `said`."""
        here = cls(episode)
        wanted = dict.fromkeys(one.slot for item in said for one in item.told.keyed)
        for fact in view.holders(list(wanted)) if wanted else ():
            keyed = told_by(fact.text, fact.speaker).replaceable
            if keyed is not None and fact.slot is not None and not fact.sources:
                holder = Holder(fact.id, keyed, fact.said_at, Voice.of_fact(fact), fact.text, fact.pinned)
                here._holders[fact.slot].append(holder)
        return here

    def take(self, number: int, item: Said) -> Verdict:
        """Judge the next statement and let it hold its slot."""
        voice = Voice.of_draft(item.draft, self.episode)
        replaces: list[tuple[Target, Reason]] = []
        later: Holder | None = None
        for keyed in item.told.keyed:
            for holder in list(self._holders[keyed.slot]):
                if holder.voice != voice or holder.is_pinned or not is_new_value(holder.keyed, keyed):
                    continue
                if holder.at <= item.at:
                    replaces.append((holder.target, _reason(holder.text, keyed, holder.keyed)))
                    self._holders[keyed.slot].remove(holder)
                elif item.told.replaceable == keyed and (later is None or holder.at < later.at):
                    later = holder
        self.gone |= {target for target, _ in replaces if isinstance(target, str)}
        if later is not None:
            reason = _reason(item.draft.text, later.keyed, item.told.replaceable or later.keyed)
            return Verdict(tuple(replaces), (later.target, reason))
        if item.told.replaceable is not None:
            alone = item.told.replaceable
            self._holders[alone.slot].append(Holder(number, alone, item.at, voice, item.draft.text))
        return Verdict(tuple(replaces))


def _reason(old_text: str, new: Keyed, old: Keyed) -> Reason:
    line = f'{new.slot} has a new value by rule {new.rule}: "{_short(new.span)}" after "{_short(old.span)}".'
    return Reason("new_value", line)


def _short(span: str) -> str:
    return span if len(span) <= 120 else f"{span[:117]}..."  # noqa: PLR2004


def with_updates(said: Sequence[Said], episode: Episode, view: View) -> list[Newer | None]:
    """For each statement the older fact or draft it may be a newer state of; see docs/algorithms.md, tier P."""
    links: list[Newer | None] = [None for _ in said]
    places = [place for place, item in enumerate(said) if _may_update(item.draft)]
    if not places:
        return links
    batch = _Batch(said, episode)
    near = {place: batch.sharing(place) for place in places}
    also = sorted({number for numbers in near.values() for number in numbers} - set(places))
    order = [*places, *also]
    try:
        likeness = view.alike(
            [said[place].draft.text for place in places], RANKED, [said[number].draft.text for number in also]
        )
    except EmbeddingFailed:
        return links  # without vectors nothing can be compared; the statements are kept all the same
    vectors = dict(zip(order, likeness.vectors, strict=True))
    rankers = updates.rankers_of(view.embedder_name)
    for number, place in enumerate(places):
        older = [*_stored(batch, place, likeness.found[number]), *_earlier(batch, place, near[place], vectors)]
        if older:
            links[place] = _best(said[place].draft.text, older, _Rarity(likeness, batch, place), rankers)
    return links


def _may_update(draft: Draft) -> bool:
    if draft.messages[0].role != "user" or is_bare_question(draft.text):
        return False
    return updates.may_update(draft.text)


@dataclass(frozen=True, slots=True)
class _Older:
    target: Target
    analysis: Analysis
    cosine: float
    text: str


class _Batch:
    """The statements of one episode, found again by the words they share with a later one."""

    def __init__(self, said: Sequence[Said], episode: Episode) -> None:
        self.said = said
        self.voices = [Voice.of_draft(item.draft, episode) for item in said]
        self.df: Counter[str] = Counter()
        self._by_token: defaultdict[str, list[int]] = defaultdict(list)
        for number, item in enumerate(said):
            for token in set(content.tokens(item.draft.text)):
                self.df[token] += 1
                self._by_token[token].append(number)

    def sharing(self, place: int) -> list[int]:
        """Statements said before this one that share its rarest words, most shared first."""
        rare = sorted((self.df[token], token) for token in set(content.tokens(self.said[place].draft.text)))
        votes: defaultdict[int, float] = defaultdict(float)
        for df, token in rare[:_TELLING]:
            numbers = self._by_token[token]
            end = bisect_left(numbers, place)
            for number in numbers[max(0, end - _RECENT) : end]:
                votes[number] += 1.0 / df
        near = sorted(votes, key=lambda number: (-votes[number], number))
        voice, at = self.voices[place], self.said[place].at
        return [n for n in near if self.voices[n] == voice and self.said[n].at <= at][:RANKED]


def _earlier(batch: _Batch, place: int, near: Sequence[int], vectors: Mapping[int, Floats]) -> Iterator[_Older]:
    for number in near:
        text = batch.said[number].draft.text
        yield _Older(number, analysed(text), float(vectors[number] @ vectors[place]), text)


def _stored(batch: _Batch, place: int, found: Sequence[Alike]) -> Iterator[_Older]:
    for fact, cosine in found:
        if Voice.of_fact(fact) == batch.voices[place] and fact.said_at <= batch.said[place].at and not fact.sources:
            yield _Older(fact.id, analysed(fact.text), cosine, fact.text)


def _best(
    text: str, older: Sequence[_Older], rarity: updates.Rarity, rankers: Sequence[updates.Ranker]
) -> Newer | None:
    new = analysed(text)
    ranked = sorted(older, key=lambda one: -(one.cosine + 0.5 * updates.overlap(one.analysis, new, rarity)))[:RANKED]
    best, strength, said = None, 1.0, {}
    for one in ranked:
        if updates.are_two_things(one.analysis, new):
            continue
        found = updates.judged(rankers, updates.features(one.analysis, new, one.cosine, rarity))
        reached = updates.strength(rankers, found)
        if reached >= strength and one.analysis.tokens != new.tokens:
            best, strength, said = one, reached, found
    if best is None:
        return None
    terms = {name: round(value, 4) for name, value in {**said, "cosine": best.cosine}.items()}
    line = f'It may be a newer state of "{_short(best.text)}".'
    return Newer(best.target, max(terms[name] for name in said), Reason("possible_update", line, terms))


class _Rarity(dict[str, float]):
    """Weights of content tokens over scope and batch, each worked out once; a word that only old texts hold is rare."""

    def __init__(self, likeness: Likeness, batch: _Batch, place: int) -> None:
        self._likeness = likeness
        self._df = batch.df
        self._stems = content.lexical_stems([batch.said[place].draft.text])
        self._facts = likeness.facts + len(batch.said)

    def __missing__(self, token: str) -> float:
        df = self._df[token] + self._likeness.df.get(self._stems.get(token, token), 0)
        self[token] = weight = content.idf(max(df, 1), self._facts)
        return weight
