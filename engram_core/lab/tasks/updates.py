"""Updates: what holds now comes first, and what held before is not shown as if it held. Generated, with labels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from engram_core.lab.tasks.base import Result, Split, scored
from engram_core.lab.tasks.worlds import World, batches, world
from engram_core.lab.workbench import LabStore, Workbench, covered, mean

MAX_TRACES = 4
_SCOPE = "lab/updates"


@dataclass(frozen=True)
class UpdateTask:
    """Attributes that change, told in other words than before, among look-alikes of other people and chatter.

    Args:
        worlds: How many worlds a split has; another seed each.
        budget: Tokens of each recall.
        k: Facts of each recall.
    """

    worlds: int = 2
    budget: int = 200
    k: int = 5
    seed: int = 1
    name: str = "updates"
    family: str = "updates"

    @property
    def fingerprint(self) -> str:
        """The generator's settings; worlds follow from them."""
        return f"worlds1/{self.worlds}/{self.budget}/{self.k}/{self.seed}"

    def run(self, bench: Workbench, split: Split) -> Result:
        """Score: 1 if the recall shows what holds now, and nothing that held before stands above it; else 0."""
        rows: list[float] = []
        tokens: list[int] = []
        found: list[float] = []
        stale: list[float] = []
        traces: list[str] = []
        for number in range(1 if split == "smoke" else self.worlds):
            made = world(split, self.seed + number)
            store = bench.filled(f"{self.name}/{split}/{self.seed + number}", partial(fill, made=made))
            memory = store.memory(_SCOPE)
            tellings = made.tellings[:4] if split == "smoke" else made.tellings
            for telling in tellings:
                recall = bench.recall(
                    memory, telling.ask, made.end + timedelta(days=1), k=self.k, max_tokens=self.budget
                )
                order = [id_ for item in recall.facts for id_ in item.message_ids]
                before = [id_ for id_ in order if id_ in telling.stale or id_ == telling.message]
                rows.append(float(bool(before) and before[0] == telling.message))
                found.append(float(telling.message in covered(recall)))
                stale.append(float(bool(covered(recall) & set(telling.stale))))
                tokens.append(recall.tokens)
                if not rows[-1]:
                    shown = " / ".join(item.fact.text for item in recall.facts) or "nothing"
                    traces.append(f"asked {telling.ask} shown {shown}")
        metrics = scored(rows, tokens, found=mean(found), stale_shown=mean(stale))
        return Result(metrics, tuple(rows), traces=tuple(traces[:MAX_TRACES]))


def fill(store: LabStore, made: World) -> None:
    """Tell a world to a store, session by session."""
    memory = store.memory(_SCOPE)
    for messages in batches(made.messages):
        memory.add(list(messages), now=messages[-1].at)


@dataclass(frozen=True)
class AbstentionTask:
    """Questions that the memory can answer, and as many that it cannot: then it should show nothing.

    Half of the score is for evidence shown where there is some, half for silence where there is none: a design that
    always shows something and one that never does both get .5.
    """

    budget: int = 200
    k: int = 3
    seed: int = 5
    name: str = "abstention"
    family: str = "abstention"

    @property
    def fingerprint(self) -> str:
        """The generator's settings."""
        return f"worlds1/{self.budget}/{self.k}/{self.seed}"

    def run(self, bench: Workbench, split: Split) -> Result:
        """Score: the mean over answerable (shown) and unanswerable questions (nothing shown), in turn."""
        made = world(split, self.seed, people=4, changes=0)
        store = bench.filled(f"{self.name}/{split}/{self.seed}", lambda store: fill(store, made))
        memory, empty = store.memory(_SCOPE), store.memory("lab/nobody")
        now = made.end + timedelta(days=1)
        rows: list[float] = []
        tokens: list[int] = []
        silent: list[float] = []
        tellings = made.tellings[:4] if split == "smoke" else made.tellings
        for telling, question in zip(tellings, _UNANSWERABLE * 10, strict=False):
            shown = bench.recall(memory, telling.ask, now, k=self.k, max_tokens=self.budget)
            rows.append(float(telling.message in covered(shown)))
            nothing = bench.recall(memory, question, now, k=self.k, max_tokens=self.budget)
            rows.append(float(not nothing.facts))
            silent.append(rows[-1])
            tokens += [shown.tokens, nothing.tokens]
        nobody = bench.recall(empty, "What is the gate code?", now)
        broken = ("An empty scope recalled something.",) if nobody.facts else ()
        return Result(scored(rows, tokens, false_recall=1.0 - mean(silent)), tuple(rows), broken)


_UNANSWERABLE = (
    "Which university did the chairman attend?", "How tall is the cathedral?", "What is the boiling point of mercury?",
    "Who won the regatta last spring?", "How many shares does the treasurer own?", "What caused the outage in Tokyo?",
    "Which vaccine did the veterinarian recommend?", "Who composed the opening hymn?", "When was the bridge painted?",
    "What is the licence plate of the ambulance?", "How deep is the quarry?", "Which appeal did the judge dismiss?",
)  # fmt: skip
