"""Errands: an agent fetches things in recorded houses, led by what memory shows. The environment says who won."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from engram_core.domain.message import Message
from engram_core.domain.spec import canonical
from engram_core.lab.games.houses import Errand, Played, Recording, Run, goal_of, play, recorded
from engram_core.lab.tasks.base import Result, Split, scored
from engram_core.lab.tasks.worlds import START
from engram_core.lab.workbench import LabStore, Workbench, mean

_SCOPE = "lab/errands"
Play = Callable[[Errand, str, random.Random], Played]
"""How an errand is run: in the recorded map, or live (`lab.games.textworld.play_live`)."""


@dataclass(frozen=True)
class ErrandTask:
    """Moved-object houses: memory has seen every object in its old and its new place, told apart by nothing but time.

    Args:
        runs: How often each errand is run, with another random walk each.
        k, budget: Of the one recall before each errand.
        play: None plays in the recorded map.
    """

    runs: int = 3
    k: int = 8
    budget: int = 400
    seed: int = 0
    recording: Recording = field(default_factory=recorded)
    play: Play = play
    name: str = "errands"
    family: str = "errands"

    @property
    def fingerprint(self) -> str:
        """Of the recorded episodes and the settings."""
        told = [[run.house, run.object, run.version, run.steps] for run in self.recording.runs]
        settings = [self.runs, self.k, self.budget, self.seed]
        return hashlib.sha256(canonical([told, settings]).encode()).hexdigest()[:16]

    def errands(self, split: Split) -> list[Errand]:
        """Every other house is `gate`."""
        houses = [house.name for house in self.recording.houses]
        mine = set(houses[1::2] if split == "gate" else houses[0::2])
        found = [errand for errand in self.recording.errands() if errand.house.name in mine]
        return found[:3] if split == "smoke" else found

    def run(self, bench: Workbench, split: Split) -> Result:
        """Score: the share of runs that fetched the object in time."""
        # What the game prints is the agent's own senses: tools are trusted here, and "you should try going east" is
        # nobody's order. Otherwise some runs could not be recalled.
        store = bench.filled(f"{self.name}/{self.fingerprint}", self.fill, quarantine_channels=(), on_injection="flag")
        memory = store.memory(_SCOPE)
        rows: list[float] = []
        tokens: list[int] = []
        steps: list[float] = []
        traces: list[str] = []
        now = START + timedelta(days=2 * len(self.recording.runs))
        for errand in self.errands(split):
            recall = bench.recall(memory, errand.goal, now, k=self.k, max_tokens=self.budget)
            advice = "\n".join(item.text for item in recall.facts)
            played = [
                self.play(errand, advice, random.Random(f"{self.seed}/{split}/{errand.goal}/{number}"))
                for number in range(self.runs)
            ]
            rows.append(mean([float(one.won) for one in played]))
            steps.append(mean([float(one.steps) for one in played]))
            tokens.append(recall.tokens)
            if rows[-1] < 1.0:
                traces.append(f"goal {errand.goal} shown {advice or 'nothing'}")
        return Result(scored(rows, tokens, steps=mean(steps)), tuple(rows), traces=tuple(traces[:4]))

    def fill(self, store: LabStore) -> None:
        """Show memory every recorded episode, version 1 before version 2, one a day."""
        memory = store.memory(_SCOPE)
        for day, run in enumerate(self.recording.runs):
            at = START + timedelta(days=day)
            memory.add(_messages(run, day), session=f"run{day}", now=at + timedelta(hours=2))


def _messages(run: Run, day: int) -> list[Message]:
    at = START + timedelta(days=day)
    told = [("user", goal_of(run.house, run.object)), ("tool", run.opening)]
    for command, seen in run.steps:
        told += [("assistant", f"> {command}"), ("tool", seen)]
    return [
        Message(
            role,
            text or "Nothing happens.",
            at=at + timedelta(seconds=place),
            session=f"run{day}",
            id=f"e{day}-{place}",
            channel=role,
        )
        for place, (role, text) in enumerate(told)
    ]
