"""Guards: nothing leaks between scopes, and the way messages come in does not matter. What a design must not break."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from engram_core.lab.tasks.base import Result, Split, scored
from engram_core.lab.tasks.worlds import World, batches, world
from engram_core.lab.workbench import LabStore, Workbench

_ONE, _OTHER = "lab/teams/one", "lab/teams/other"


@dataclass(frozen=True)
class LeakTask:
    """Two scopes with look-alike facts: what one asks must never show, or even name, what the other holds."""

    seed: int = 31
    name: str = "leak"
    family: str = "leak"

    @property
    def fingerprint(self) -> str:
        """The generator's settings."""
        return f"worlds1/{self.seed}"

    def run(self, bench: Workbench, split: Split) -> Result:
        """Score: the share of recalls that show nothing of the other scope; less than all of them is the end."""
        mine, theirs = (world(split, self.seed + number, people=2, changes=0, chatter=2) for number in (0, 1))
        store = bench.filled(f"{self.name}/{split}/{self.seed}", lambda store: _fill(store, mine, theirs))
        memory = store.memory(_ONE)
        foreign = {fact.id for fact in store.memory(_OTHER).list(limit=1_000)}
        rows: list[float] = []
        broken: list[str] = []
        for telling in theirs.tellings[: 4 if split == "smoke" else 12]:
            recall = bench.recall(memory, telling.ask, max(mine.end, theirs.end) + timedelta(days=1), k=20)
            shown = [item.fact.id for item in recall.facts if item.fact.id in foreign]
            named = [item.fact_id for item in recall.dropped if item.fact_id in foreign]
            rows.append(float(not shown))
            broken += [f"It showed fact {id_} of another scope." for id_ in shown]
            broken += [f"It named fact {id_} of another scope." for id_ in named]
        return Result(scored(rows, ()), tuple(rows), tuple(broken))


def _fill(store: LabStore, mine: World, theirs: World) -> None:
    for scope, made in ((_ONE, mine), (_OTHER, theirs)):
        for messages in batches(made.messages):
            store.memory(scope).add(list(messages), now=messages[-1].at)


@dataclass(frozen=True)
class OrderTask:
    """The same messages at once, in pieces, one by one, and with a restart in between: the same recalls.

    It counts recalls that come out alike; the gate asks that a design does no worse here than the one in force.
    """

    seed: int = 41
    name: str = "order"
    family: str = "order"

    @property
    def fingerprint(self) -> str:
        """The generator's settings."""
        return f"worlds1/{self.seed}"

    def run(self, bench: Workbench, split: Split) -> Result:
        """Score: the share of recalls that show the same lines in the same order as with all messages at once."""
        made = world(split, self.seed, people=2, changes=1, chatter=2)
        whole = self._lines(bench, made, len(made.messages), restart=False)
        ways = [(7, False)] if split == "smoke" else [(7, False), (1, False), (11, True)]
        rows = [
            float(one == other)
            for size, restart in ways
            for one, other in zip(whole, self._lines(bench, made, size, restart=restart), strict=True)
        ]
        return Result(scored(rows, ()), tuple(rows))

    def _lines(self, bench: Workbench, made: World, size: int, *, restart: bool) -> list[tuple[str, ...]]:
        store = bench.fresh(durable=restart)
        for place, messages in enumerate(batches(made.messages, size)):
            if restart and place == 2:
                store = bench.restarted(store)
            store.memory(_ONE).add(list(messages), now=made.end)
        memory = store.memory(_ONE)
        return [
            tuple(item.fact.text for item in memory.recall(telling.ask, k=5, now=made.end + timedelta(days=1)).facts)
            for telling in made.tellings
        ]
