"""TextWorld: builds the moved-object houses as real games, records episodes in them and plays them. Needs `games`.

python -m engram_core.lab.games.textworld houses.json
"""

from __future__ import annotations

import json
import random
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from engram_core.domain.errors import MissingExtra
from engram_core.lab.games.houses import Errand, House, Played, next_order

HOUSES: Final = 8
ROOMS: Final = 8
SEED: Final = 20
MOST_STEPS: Final = 60
"""Steps of a recorded walk; one that does not find its object by then is walked again."""
_NAMES = "kitchen cellar attic study hall garage bedroom pantry library nursery laundry workshop".split()
_HOUSES = (
    "the mill house", "the old rectory", "the lake cabin", "the tower", "the forge", "the farmhouse", "the villa",
    "the lighthouse",
)  # fmt: skip
_THINGS = "brass key,silver spoon,red book,wool scarf,glass marble,tin whistle,oak box,paper map,clay mug".split(",")
_WAYS: Final[Mapping[str, tuple[int, int]]] = {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}
_BACK: Final = {"north": "south", "south": "north", "east": "west", "west": "east"}
_STATUS = re.compile(r"score|would you like to restart", re.IGNORECASE)
_ROOM = re.compile(r"-=\s*(.+?)\s*=-")
_COMMAND = re.compile(r">\s*((?:go|take) [^\n>]{1,60})")


def houses(seed: int = SEED) -> list[House]:
    """Eight houses of eight rooms on a grid, mostly corridors, with three objects that move. Seeded."""
    rng = random.Random(seed)
    return [_house(name, rng) for name in _HOUSES[:HOUSES]]


def _house(name: str, rng: random.Random) -> House:
    rooms = rng.sample(_NAMES, ROOMS)
    spots = {(0, 0): rooms[0]}
    exits: dict[str, dict[str, str]] = {room: {} for room in rooms}
    for room in rooms[1:]:
        while True:
            (x, y), at = rng.choice(sorted(spots.items()))
            way = rng.choice(sorted(_WAYS))
            spot = (x + _WAYS[way][0], y + _WAYS[way][1])
            if spot not in spots and len(exits[at]) < 3:
                spots[spot] = room
                exits[at][way], exits[room][_BACK[way]] = room, at
                break
    things = rng.sample(_THINGS, 3)
    first = dict(zip(things, rng.sample(rooms[2:], 3), strict=True))
    second = {thing: rng.choice([room for room in rooms[2:] if room != first[thing]]) for thing in things}
    if rng.random() < 3 / 8:
        second[things[0]] = first[things[0]]  # some things stay where they are
    return House(name, rooms[0], exits, (first, second))


@contextmanager
def game(house: House, version: int, thing: str) -> Iterator[Any]:
    """A compiled TextWorld game of one version of a house, open, whose quest is to take the object.

    Raises:
        MissingExtra: TextWorld is not installed.
    """
    try:
        import textworld  # noqa: PLC0415 - the extra `games`
        from textworld import GameMaker, GameOptions  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra('Live games need TextWorld: pip install "engram-agent-memory[games]"') from error

    maker = GameMaker()
    made = {room: maker.new_room(room) for room in house.exits}
    for room, ways in house.exits.items():
        for way, to in ways.items():
            if room < to:
                maker.connect(getattr(made[room], way), getattr(made[to], _BACK[way]))
    maker.set_player(made[house.start])
    for name, room in house.places[version].items():
        found = maker.new(type="o", name=name)
        made[room].add(found)
        if name == thing:
            wanted = found
    maker.quests = [maker.new_quest_using_commands([*_walk(house, version, thing), f"take {wanted.name}"])]
    with tempfile.TemporaryDirectory() as folder:
        options = GameOptions()
        options.path = str(Path(folder) / "house.z8")  # the .json form of a game gives no text
        options.force_recompile = True
        path = textworld.generator.compile_game(maker.build(), options)
        infos = textworld.EnvInfos(feedback=True, won=True, description=True, inventory=True)
        env = textworld.start(path, infos)
        try:
            yield env
        finally:
            env.close()


def _walk(house: House, version: int, thing: str) -> list[str]:
    """The commands of the shortest way to an object."""
    edge: list[tuple[str, list[str]]] = [(house.start, [])]
    seen = {house.start}
    while edge:
        place, way = edge.pop(0)
        if place == house.places[version][thing]:
            return way
        for direction, to in sorted(house.exits[place].items()):
            if to not in seen:
                seen.add(to)
                edge.append((to, [*way, f"go {direction}"]))
    raise ValueError(f"{thing} cannot be reached in {house.name}")


def record(seed: int = SEED) -> dict[str, Any]:
    """Play every object of every house in both versions with a walker that wanders, and write down what is printed."""
    rng = random.Random(seed + 1)
    built = houses(seed)
    runs = [
        _recorded(house, version, thing, rng)
        for version in (0, 1)
        for house in built
        for thing in house.places[version]
    ]
    told = [
        {"name": h.name, "start": h.start, "exits": h.exits, "places": [dict(h.places[0]), dict(h.places[1])]}
        for h in built
    ]
    return {"source": "TextWorld 1.7.0", "seed": seed, "houses": told, "runs": runs}


def _recorded(house: House, version: int, thing: str, rng: random.Random) -> dict[str, Any]:
    with game(house, version, thing) as env:
        while True:
            opening = _clean(env.reset().feedback)
            place, won = house.start, False
            steps: list[list[str]] = []
            while not won and len(steps) < MOST_STEPS:
                in_sight = house.places[version][thing] == place
                way = rng.choice(sorted(house.exits[place]))
                command = f"take {thing}" if in_sight else f"go {way}"
                state, _, won = env.step(command)
                place = place if in_sight else house.exits[place][way]
                steps.append([command, _clean(state.feedback)])
            if won:
                return {
                    "house": house.name, "object": thing, "version": version, "opening": opening, "steps": steps,
                }  # fmt: skip


def _clean(printed: str) -> str:
    """What a step printed, from the room's heading on where there is one, without score, banner and status line."""
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    text = "\n".join(line for line in lines if line and not line.startswith(">") and not _STATUS.search(line))
    return text[found.start() :] if (found := _ROOM.search(text)) else text


def play_live(errand: Errand, advice: str, rng: random.Random) -> Played:
    """`houses.play` in the game itself: what TextWorld says decides where the agent is and whether it won.

    Raises:
        MissingExtra: TextWorld is not installed.
    """
    orders = [found[1].strip() for found in _COMMAND.finditer(advice)]
    with game(errand.house, 1, errand.object) as env:
        seen = _clean(env.reset().feedback)
        place = errand.house.start
        for step in range(1, errand.limit + 1):
            if re.search(rf"\b{re.escape(errand.object)}\b", seen):
                command = f"take {errand.object}"
            else:
                exits = errand.house.exits[place]
                command = f"go {next_order(orders, exits) or rng.choice(sorted(exits))}"
            state, _, won = env.step(command)
            seen = _clean(state.feedback)
            heading = _ROOM.search(seen)
            place = heading[1].lower() if heading else place
            if won:
                return Played(won=True, steps=step)
    return Played(won=False, steps=errand.limit)


if __name__ == "__main__":
    recording = record()
    Path(sys.argv[1]).write_text(
        json.dumps(recording, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8"
    )
    sys.stdout.write(f"{len(recording['runs'])} runs in {len(recording['houses'])} houses\n")
