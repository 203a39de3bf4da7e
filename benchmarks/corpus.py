"""Makes as many distinct, chat-like statements as a scale benchmark needs. Seeded: the same numbers, the same text."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from engram_core import Message

_PEOPLE = (
    "Ana Bruno Carla Dario Elena Farid Greta Hugo Ines Jonas Kira Luca Mara Nils Olga Pablo Rosa Sven Tara Vito".split()
)
_VERBS = (
    "started finished cancelled planned reviewed broke repaired bought sold borrowed painted cooked visited joined"
).split()
_THINGS = (
    "garden kitchen guitar bicycle report invoice database server course novel marathon recipe camera ticket contract "
    "laptop workshop balcony piano sofa tent boat drone printer archive budget survey poster fence oven ladder"
).split()
_PLACES = (
    "Lisbon Porto Madrid Berlin Oslo Turin Athens Dublin Vienna Prague Warsaw Krakow Geneva Bergen Malmo Ghent Lyon "
    "Nantes Seville Bilbao Hamburg Leipzig Bremen Graz Zagreb Split Riga Vilnius Tartu Cork"
).split()
_WHY = (
    "because the deadline moved", "after a long talk with my sister", "since the old one failed",
    "for the summer party",
    "to save some money", "while the children were away", "before the audit", "as a surprise", "with two colleagues",
    "although it rained all week", "instead of flying", "on the advice of a doctor",
)  # fmt: skip
_ADJECTIVES = "red small wooden heavy borrowed vintage quiet bright broken spare northern second cheap foldable".split()
_START = datetime(2024, 1, 1, 9, tzinfo=UTC)
SESSION_LENGTH = 20


def statements(count: int, seed: int = 7) -> list[Message]:
    """`count` messages in sessions of 20, a minute apart, sessions six hours apart, by twenty speakers."""
    return list(told(count, seed))


def told(count: int, seed: int = 7) -> Iterator[Message]:
    """The same, one by one: a million of them need not fit into memory."""
    rng = random.Random(seed)
    for number in range(count):
        session, place = divmod(number, SESSION_LENGTH)
        text = (
            f"I {rng.choice(_VERBS)} the {rng.choice(_ADJECTIVES)} {rng.choice(_THINGS)} in {rng.choice(_PLACES)} "
            f"{rng.choice(_WHY)}, it cost {rng.randrange(10, 9_999)} euros and took {rng.randrange(2, 90)} days."
        )
        at = _START + timedelta(hours=6 * session, minutes=place)
        yield Message("user", text, speaker=rng.choice(_PEOPLE), at=at, session=f"s{session}", id=f"m{number}")


def questions(count: int, seed: int = 11) -> list[str]:
    """`count` questions about such statements."""
    rng = random.Random(seed)
    parts = (_PEOPLE, _ADJECTIVES, _THINGS, _PLACES)
    chosen = [[rng.choice(words) for words in parts] for _ in range(count)]
    return [f"Where did {who} put the {how} {what} from {where}?" for who, how, what, where in chosen]
