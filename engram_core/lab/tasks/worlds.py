"""Worlds: generated people who tell about themselves, change, and chat. Seeded; labels come with the words."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from engram_core.domain.message import Message

START: Final = datetime(2025, 1, 6, 9, tzinfo=UTC)

_NAMES: Final[Mapping[str, Sequence[str]]] = {
    "dev": "Ana Bruno Carla Dario Elena Farid Greta Hugo Ines Jonas Kira Luca".split(),
    "gate": "Mara Nils Olga Pablo Rosa Sven Tara Vito Wanda Xaver Yusuf Zora".split(),
}


@dataclass(frozen=True, slots=True)
class Trait:
    """Something that holds of a person and may change: how it is told first, told anew, and asked for."""

    first: tuple[str, ...]
    anew: tuple[str, ...]
    asks: tuple[str, ...]
    values: tuple[str, ...]


TRAITS: Final[Mapping[str, Trait]] = {
    "city": Trait(
        ("I live in {}.", "My flat is in {}.", "Home for me is {}."),
        ("I have moved to {}.", "I live in {} now.", "We left, {} is home these days."),
        ("Where does {} live?", "Which city is home for {}?"),
        tuple("Lisbon Porto Madrid Berlin Oslo Turin Athens Dublin Vienna Prague Warsaw Geneva Bergen Lyon".split()),
    ),
    "job": Trait(
        ("I work as a {}.", "My job is {} at a small firm.", "I earn my living as a {}."),
        ("I switched jobs, I am a {} now.", "I started over as a {}.", "These days I work as a {}."),
        ("What does {} do for a living?", "What is the job of {}?"),
        tuple("nurse baker welder pilot lawyer plumber gardener translator chemist surveyor tailor florist".split()),
    ),
    "drink": Trait(
        ("My favourite drink is {}.", "I always order {}.", "Nothing beats {} for me."),
        ("My favourite drink is {} now.", "I went off that, I drink {} instead.", "Lately I only order {}."),
        ("What does {} like to drink?", "What is the favourite drink of {}?"),
        tuple("tea coffee cocoa lemonade cider kefir matcha lassi mate tonic".split()),
    ),
    "pet": Trait(
        ("I have a {}.", "My {} sleeps on the sofa.", "There is a {} at my place."),
        ("I gave it away and have a {} now.", "A {} lives with me now instead.", "I got a {} after that."),
        ("Which pet does {} have?", "What animal lives with {}?"),
        tuple("parrot hamster tortoise ferret rabbit budgie gecko terrier poodle goat".split()),
    ),
    "gate code": Trait(
        ("The code of my gate is {}.", "You open my gate with {}.", "My gate takes the code {}."),
        ("I changed the code of my gate to {}.", "The gate opens with {} from now on.", "New gate code: {}."),
        ("What is the gate code of {}?", "Which code opens the gate of {}?"),
        tuple(str(number) for number in range(1_204, 9_900, 631)),
    ),
    "train": Trait(
        ("My train leaves at {}.", "I take the train at {}.", "I commute by the {} train."),
        ("My train leaves at {} now.", "They moved it, I take the {} train.", "From this week on my train goes at {}."),
        ("When does the train of {} leave?", "Which train does {} take?"),
        tuple(f"{hour}:{minute:02d}" for hour in range(5, 10) for minute in (12, 37, 54)),
    ),
}

_CHATTER: Final = (
    "It rained all {}.", "I slept badly on {}.", "The bus was late again on {}.", "My cousin rang on {}.",
    "We had soup on {}.", "The lift was broken on {}.", "I lost my umbrella on {}.", "The market was full on {}.",
    "I watched an old film on {}.", "Somebody sang in the yard on {}.", "The oven smoked on {}.",
    "I repaired the lamp on {}.", "The neighbours moved their piano on {}.", "I finished a long letter on {}.",
)  # fmt: skip
_DAYS: Final = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


@dataclass(frozen=True, slots=True)
class Telling:
    """One thing a person told, and what it replaced."""

    person: str
    trait: str
    value: str
    message: str
    stale: tuple[str, ...]
    ask: str


@dataclass(frozen=True, slots=True)
class World:
    """A talk in sessions, and for each person and trait the last telling."""

    messages: tuple[Message, ...]
    tellings: tuple[Telling, ...]
    end: datetime


def world(split: str, seed: int, *, people: int = 4, changes: int = 2, chatter: int = 6) -> World:
    """People tell their traits one session each, chat, and change some of them, up to `changes` times.

    Args:
        split: `gate` has other people than `dev`.
        seed: The same seed, the same world.
        people: 2 to 12.
        chatter: Remarks that say nothing lasting, per session.
    """
    rng = random.Random(f"world/{split}/{seed}")
    names = rng.sample(list(_NAMES["gate" if split == "gate" else "dev"]), people)
    talk = _Talk(rng)
    for name in names:
        talk.session([(name, trait, 0) for trait in TRAITS], chatter)
    for turn in range(1, changes + 1):
        for name in names:
            traits = [trait for trait in TRAITS if rng.random() < 0.5]
            talk.session([(name, trait, turn) for trait in traits], chatter)
    return World(tuple(talk.messages), tuple(talk.last.values()), talk.at)


class _Talk:
    """Writes the sessions."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.messages: list[Message] = []
        self.last: dict[tuple[str, str], Telling] = {}
        self.at = START
        self._sessions = 0

    def session(self, told: Sequence[tuple[str, str, int]], chatter: int) -> None:
        """One session of one person: the tellings among chatter."""
        self._sessions += 1
        self.at += timedelta(days=self.rng.randrange(3, 12))
        person = told[0][0] if told else "Somebody"
        lines: list[tuple[str, str, int] | None] = [*told, *([None] * chatter)]
        self.rng.shuffle(lines)
        for line in lines:
            self.at += timedelta(minutes=1)
            text = self._chatter() if line is None else self._telling(*line)
            id_ = f"t{len(self.messages)}"
            self.messages.append(
                Message("user", text, speaker=person, at=self.at, session=f"s{self._sessions}", id=id_)
            )

    def _chatter(self) -> str:
        return self.rng.choice(_CHATTER).format(self.rng.choice(_DAYS))

    def _telling(self, person: str, trait: str, turn: int) -> str:
        known = TRAITS[trait]
        before = self.last.get((person, trait))
        value = self.rng.choice([item for item in known.values if before is None or item != before.value])
        stale = (*before.stale, before.message) if before is not None else ()
        ask = self.rng.choice(known.asks).format(person)
        self.last[person, trait] = Telling(person, trait, value, f"t{len(self.messages)}", stale, ask)
        return self.rng.choice(known.anew if turn else known.first).format(value)


def batches(messages: Sequence[Message], size: int = 40) -> Iterator[Sequence[Message]]:
    """Messages in order, `size` at a time."""
    return (messages[start : start + size] for start in range(0, len(messages), size))
