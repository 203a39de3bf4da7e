"""Learning: a memory that is told which facts helped should show those next time. Replays of use, no judge."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

from engram_core.domain.message import Message
from engram_core.lab.tasks.base import Result, Split, scored
from engram_core.lab.tasks.worlds import START
from engram_core.lab.workbench import Workbench

_SCOPE = "lab/learning"
_THINGS = {
    "dev": "printer,boiler,router,scanner,heater,fridge".split(","),
    "gate": "copier,mower,drill,kettle,projector,freezer".split(","),
}
_SAID = (
    "The {} has a blue switch at the back.", "The {} was bought in spring.", "The {} stands next to the door.",
    "The {} needs two screws of five millimetres.", "The {} hums when it is warm.", "The {} came with a thin manual.",
)  # fmt: skip
_ASKS = (
    "Tell me about the {}.", "I have to deal with the {} today.", "What should I know about the {}?",
    "Help me with the {}.", "Anything on the {}?",
)  # fmt: skip


@dataclass(frozen=True)
class UsefulnessTask:
    """About each thing six facts that every question fits alike; answers only ever use one of them.

    After some rounds with verdicts, the score is the share of what a recall shows that is of use. Observed use only: it
    says nothing about facts that were never shown.
    """

    rounds: int = 3
    k: int = 2
    seed: int = 51
    name: str = "usefulness"
    family: str = "usefulness"

    @property
    def fingerprint(self) -> str:
        """The settings."""
        return f"things1/{self.rounds}/{self.k}/{self.seed}"

    def run(self, bench: Workbench, split: Split) -> Result:
        """Score of each last question: 1 if the useful fact is shown first, .5 if second, and so on; 0 if not."""
        rng = random.Random(f"{split}/{self.seed}")
        things = _THINGS["gate" if split == "gate" else "dev"]
        things = things[:2] if split == "smoke" else things
        said = [(thing, text.format(thing)) for thing in things for text in _SAID]
        rng.shuffle(said)
        useful = {thing: rng.choice([text for of, text in said if of == thing]) for thing in things}
        store = bench.fresh()
        memory = store.memory(_SCOPE)
        at = START
        for number, (_, text) in enumerate(said):
            at += timedelta(hours=1)
            memory.add([Message("user", text, speaker="Kim", at=at, session=f"s{number}", id=f"u{number}")], now=at)
        for turn in range(self.rounds):
            for thing in things:
                at += timedelta(hours=1)
                recall = bench.recall(memory, _ASKS[turn % len(_ASKS)].format(thing), at, k=6)
                memory.observe(recall.id, useful[thing], now=at)
        rows: list[float] = []
        tokens: list[int] = []
        for thing in things:
            for ask in _ASKS[self.rounds :]:
                at += timedelta(hours=1)
                recall = bench.recall(memory, ask.format(thing), at, k=self.k)
                shown = [item.fact.text for item in recall.facts]
                rows.append(1.0 / (1 + shown.index(useful[thing])) if useful[thing] in shown else 0.0)
                tokens.append(recall.tokens)
        return Result(scored(rows, tokens), tuple(rows))
