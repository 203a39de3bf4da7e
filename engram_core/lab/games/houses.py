"""Houses: recorded TextWorld houses in which an object moves, and an agent that obeys memory. No game code.

Three objects in each of eight houses. Between version 1 and version 2 most of them move. Memory is shown one episode of
each version for every object, as TextWorld printed it; then the object is fetched in version 2 with three steps more
than the shortest way takes. The agent takes the object on sight, does what recalled lines such as `> go east` say, and
walks at random where they say nothing; so it is memory that decides.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

SPARE_STEPS: Final = 3
_COMMAND = re.compile(r">\s*((?:go|take) [^\n>]{1,60})")


@dataclass(frozen=True, slots=True)
class House:
    """One house.

    Attributes:
        exits: Room to direction to room.
        places: For each version, object to room.
    """

    name: str
    start: str
    exits: Mapping[str, Mapping[str, str]]
    places: tuple[Mapping[str, str], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Run:
    """A recorded episode: the goal, what the game printed first, then command by command.

    Attributes:
        version: 0 or 1.
        steps: Each a command and what TextWorld printed after it.
    """

    house: str
    object: str
    version: int
    opening: str
    steps: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Errand:
    """Fetch an object in version 2 of a house, within so many steps."""

    house: House
    object: str
    limit: int

    @property
    def goal(self) -> str:
        """As the agent, and memory, are told it."""
        return goal_of(self.house.name, self.object)


def goal_of(house: str, thing: str) -> str:
    """The goal's words: the same in every version."""
    return f"Fetch the {thing} in {house}."


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything that was recorded."""

    houses: tuple[House, ...]
    runs: tuple[Run, ...]

    def errands(self) -> list[Errand]:
        """One for each object, in the order of the houses."""
        return [
            Errand(house, thing, shortest(house, house.places[1][thing]) + 1 + SPARE_STEPS)
            for house in self.houses
            for thing in house.places[1]
        ]

    @property
    def moved(self) -> int:
        """How many objects are elsewhere in version 2."""
        return sum(house.places[0][thing] != place for house in self.houses for thing, place in house.places[1].items())


@cache
def recorded() -> Recording:
    """The recording that ships with Engram (made by `engram_core.lab.games.textworld.record`)."""
    text = resources.files("engram_core.lab.games").joinpath("houses.json").read_text(encoding="utf-8")
    return parsed(json.loads(text))


def parsed(value: Mapping[str, Any]) -> Recording:
    """A recording from its JSON."""
    houses = [
        House(item["name"], item["start"], item["exits"], (item["places"][0], item["places"][1]))
        for item in value["houses"]
    ]
    runs = [
        Run(item["house"], item["object"], item["version"], item["opening"], tuple((a, b) for a, b in item["steps"]))
        for item in value["runs"]
    ]
    return Recording(tuple(houses), tuple(runs))


def shortest(house: House, room: str) -> int:
    """Moves from the start to a room."""
    seen, edge, moves = {house.start}, [house.start], 0
    while room not in edge:
        edge = [to for at in edge for to in house.exits[at].values() if to not in seen]
        seen |= set(edge)
        moves += 1
        if not edge:
            raise ValueError(f"{room} cannot be reached in {house.name}")
    return moves


@dataclass(slots=True)
class Played:
    """How an errand went."""

    won: bool
    steps: int


def play(errand: Errand, advice: str, rng: random.Random) -> Played:
    """Run an errand in the recorded map of version 2.

    Args:
        advice: What memory shows; its lines are obeyed once each, in their order.
        rng: Of the random walk.
    """
    house, place = errand.house, errand.house.start
    orders = [found[1].strip() for found in _COMMAND.finditer(advice)]
    for step in range(1, errand.limit + 1):
        if house.places[1][errand.object] == place:
            return Played(won=True, steps=step)  # it is in sight: take it
        exits = house.exits[place]
        order = next_order(orders, exits)
        place = exits[order or rng.choice(sorted(exits))]
    return Played(won=False, steps=errand.limit)


def next_order(orders: list[str], exits: Mapping[str, str]) -> str | None:
    """The next direction that the orders give and this room has; spent orders are taken off the list."""
    while orders:
        verb, _, what = orders.pop(0).partition(" ")
        if verb == "go" and what in exits:
            return what
    return None


Ask = Callable[[Errand], str]
"""What a memory shows for an errand."""


def play_all(errands: Sequence[Errand], ask: Ask, *, runs: int = 3, seed: int = 0) -> list[list[Played]]:
    """Every errand several times with the same memory: each run another random walk."""
    return [
        [play(errand, advice, random.Random(f"{seed}/{errand.goal}/{number}")) for number in range(runs)]
        for errand in errands
        for advice in [ask(errand)]
    ]
