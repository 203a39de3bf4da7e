"""The recorded houses: what TextWorld printed agrees with the maps, and memory decides who fetches what."""

from __future__ import annotations

import importlib.util
import random
import re

import pytest

from engram_core import MissingExtra
from engram_core.lab.games import textworld
from engram_core.lab.games.houses import SPARE_STEPS, Errand, play, play_all, recorded, shortest


def test_the_recording_agrees_with_its_maps() -> None:
    """Every recorded step, followed in the map, is in the room that TextWorld named; and ends at the object."""
    found = recorded()
    assert (len(found.houses), len(found.runs), len(found.errands())) == (8, 48, 24)
    assert found.moved >= 20
    houses = {house.name: house for house in found.houses}
    for run in found.runs:
        house = houses[run.house]
        place = house.start
        for command, seen in run.steps:
            verb, _, what = command.partition(" ")
            if verb == "go":
                place = house.exits[place][what]
                heading = re.search(r"-= (.+?) =-", seen)
                assert heading is not None
                assert heading[1].lower() == place
        assert run.steps[-1][0] == f"take {run.object}"
        assert "You pick up" in run.steps[-1][1]
        assert place == house.places[run.version][run.object]


def way(errand: Errand, version: int) -> str:
    """The shortest way to where the object is, or was, as memory could show it."""
    return "\n".join(f"> {command}" for command in textworld._walk(errand.house, version, errand.object))


def wins(advice: str | int | None) -> float:
    def ask(errand: Errand) -> str:
        return way(errand, advice) if isinstance(advice, int) else advice or ""

    played = play_all(recorded().errands(), ask, runs=5)
    return sum(one.won for runs in played for one in runs) / sum(len(runs) for runs in played)


def test_memory_decides() -> None:
    """What holds now wins always; nothing, nonsense and what held before win about as seldom as chance."""
    assert wins(1) == 1.0
    chance = wins(None)
    assert 0.1 < chance < 0.4
    assert wins("I would go left. > go nowhere > dance") == chance
    assert wins(0) < 0.5


def test_an_errand_ends_at_its_limit() -> None:
    for errand in recorded().errands():
        assert errand.limit == shortest(errand.house, errand.house.places[1][errand.object]) + 1 + SPARE_STEPS
        assert play(errand, "> go nowhere", random.Random(1)).steps <= errand.limit


@pytest.mark.skipif(importlib.util.find_spec("textworld") is not None, reason="TextWorld is installed here")
def test_a_live_game_without_textworld_names_the_extra() -> None:
    with pytest.raises(MissingExtra, match=r"engram-agent-memory\[games\]"):
        textworld.play_live(recorded().errands()[0], "", random.Random(1))


@pytest.mark.skipif(importlib.util.find_spec("textworld") is None, reason="TextWorld is not installed here")
def test_the_game_itself_agrees_with_its_recorded_map() -> None:
    for errand in recorded().errands()[:2]:
        for advice in (way(errand, 1), ""):
            live, simulated = (run(errand, advice, random.Random(7)) for run in (textworld.play_live, play))
            assert (live.won, live.steps) == (simulated.won, simulated.steps)
