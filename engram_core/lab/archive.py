"""Archive: the members of one search, which of them to start from next, and how they descend."""

from __future__ import annotations

import difflib
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from engram_core.books import DesignBook
from engram_core.domain.errors import InvalidInput
from engram_core.domain.spec import DesignSpec, Trial

Rule = Literal["niche", "alma", "greedy", "uniform"]
RULES: Final[tuple[Rule, ...]] = ("niche", "alma", "greedy", "uniform")

ALPHA: Final = 0.5
"""What ln(1 + children) costs a member, in standard deviations of fitness."""
FLOOR: Final = 0.2
"""Share of the draws that go to any niche alike, failed ones included: stepping stones are never out of reach."""
TEMPERATURE: Final = 0.5
_TOKEN_EDGES: Final = (1, 25, 50, 100, 200, 400)


@dataclass(slots=True)
class Member:
    """One design in a search: its trial, and how many designs were made from it."""

    spec: DesignSpec
    trial: Trial
    children: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether its trial went through."""
        return self.trial.status == "evaluated"


@dataclass(slots=True)
class Archive:
    """The members of one arm of a search, in the order of their trials."""

    members: list[Member] = field(default_factory=list)
    _by_id: dict[str, Member] = field(default_factory=dict)

    def put(self, spec: DesignSpec, trial: Trial) -> Member:
        """Take in a design with its trial; one that is here already stays as it is."""
        found = self._by_id.get(spec.id)
        if found is not None:
            return found
        member = Member(spec, trial)
        self.members.append(member)
        self._by_id[spec.id] = member
        for parent in spec.parents:
            if parent in self._by_id:
                self._by_id[parent].children += 1
        return member

    def __contains__(self, id_: str) -> bool:
        return id_ in self._by_id

    def member(self, id_: str) -> Member | None:
        """The member of that id."""
        return self._by_id.get(id_)

    @property
    def best(self) -> Member | None:
        """The fittest sound member; of equals the oldest."""
        return max((m for m in self.members if m.is_sound), key=lambda m: m.trial.fitness, default=None)

    def sample(self, rng: random.Random, rule: Rule = "niche", *, baseline: float = 0.0) -> Member:
        """A parent.

        Args:
            rule: `niche`: a niche by its best member's fitness in standard deviations less `ALPHA` ln(1 + children),
                softmax, with `FLOOR` spread evenly over all niches; then a member of it, the fittest most often.
                `alma`: ALMA's own rule over all members, sigmoid(fitness - baseline) - 0.5 ln(1 + children), softmax at
                0.5 (arXiv 2602.07755, core/memo_manager.py). `greedy`: the fittest. `uniform`: any.
            baseline: Fitness without a memory, for `alma`.

        Raises:
            InvalidInput: The archive is empty, or the rule unknown.
        """
        if not self.members:
            raise InvalidInput("An empty archive has no parent to give; evaluate a design first.")
        match rule:
            case "greedy":
                return self.best or self.members[-1]
            case "uniform":
                return rng.choice(self.members)
            case "alma":
                scores = [
                    1.0 / (1.0 + math.exp(-(m.trial.fitness - baseline))) - 0.5 * math.log1p(m.children)
                    for m in self.members
                ]
                return self.members[_drawn(rng, softmax(scores))]
            case "niche":
                return self._from_niche(rng)
        raise InvalidInput(f"There is no rule {rule!r}; choose one of {', '.join(RULES)}.")

    def _from_niche(self, rng: random.Random) -> Member:
        niches = self.niches()
        sound = [m.trial.fitness for m in self.members if m.is_sound] or [0.0]
        centre = sum(sound) / len(sound)
        spread = math.sqrt(sum((value - centre) ** 2 for value in sound) / len(sound)) or 1.0
        # A failed member counts as two deviations below the mean: reachable, seldom reached.
        worth = {m.spec.id: (m.trial.fitness - centre) / spread if m.is_sound else -2.0 for m in self.members}
        scores = [
            max(worth[m.spec.id] for m in members) - ALPHA * math.log1p(sum(m.children for m in members))
            for members in niches.values()
        ]
        odds = [(1.0 - FLOOR) * share + FLOOR / len(scores) for share in softmax(scores)]
        chosen = list(niches.values())[_drawn(rng, odds)]
        inside = [worth[m.spec.id] - ALPHA * math.log1p(m.children) for m in chosen]
        return chosen[_drawn(rng, softmax(inside))]

    def niches(self) -> dict[tuple[str, ...], list[Member]]:
        """Members by what they are like: tokens of a recall, how much they forget, which operators, or failed."""
        found: dict[tuple[str, ...], list[Member]] = {}
        for member in self.members:
            found.setdefault(niche_of(member), []).append(member)
        return found


def niche_of(member: Member) -> tuple[str, ...]:
    """Token bucket, forgetting in quarters, and the sources of its stages."""
    if not member.is_sound:
        return ("failed",)
    metrics = member.trial.metrics
    tokens = [values["tokens"] for values in metrics.values() if values.get("tokens")]
    mean = sum(tokens) / len(tokens) if tokens else 0.0
    bucket = sum(mean >= edge for edge in _TOKEN_EDGES)
    forgets = round(4 * metrics.get("forgetting", {}).get("recall", 0.0))
    return (f"tokens {bucket}", f"forgets {forgets}", *operators_of(member.spec))


def operators_of(spec: DesignSpec) -> tuple[str, ...]:
    """The first operator of `update` and `retrieve`, and how many `sleep` has; the kind for what is no genome."""
    if spec.kind != "genome":
        return (spec.kind,)
    try:
        genome = json.loads(spec.source)
        first = [genome[stage][0]["op"] if genome.get(stage) else "-" for stage in ("update", "retrieve")]
        return (*first, f"sleep {len(genome.get('sleep') or ())}")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return ("unreadable",)


def softmax(scores: Sequence[float], temperature: float = TEMPERATURE) -> list[float]:
    """Shares that sum to 1."""
    top = max(scores)
    raised = [math.exp((score - top) / temperature) for score in scores]
    total = sum(raised)
    return [value / total for value in raised]


def _drawn(rng: random.Random, odds: Sequence[float]) -> int:
    return rng.choices(range(len(odds)), weights=odds)[0]


# --- looking at what is kept ---


def lineage(book: DesignBook, id_: str) -> list[DesignSpec]:
    """A design and all it descends from, oldest first; parents that the archive does not hold are left out."""
    found: dict[str, DesignSpec] = {}
    wanted = [id_]
    while wanted:
        spec = book.get(wanted.pop())
        if spec is not None and spec.id not in found:
            found[spec.id] = spec
            wanted += spec.parents
    order = {spec.id: place for place, spec in enumerate(book.listing())}
    return sorted(found.values(), key=lambda spec: order.get(spec.id, -1))


def diff(one: DesignSpec, other: DesignSpec) -> str:
    """A unified diff of two designs' text, genomes spread over lines."""
    left, right = (_spread(spec) for spec in (one, other))
    lines = difflib.unified_diff(left, right, one.id[:20], other.id[:20], lineterm="", n=2)
    return "\n".join(lines)


def _spread(spec: DesignSpec) -> list[str]:
    if spec.kind == "code":
        return spec.source.splitlines()
    try:
        value = json.loads(spec.source)
    except ValueError:
        return spec.source.splitlines()
    if spec.kind == "policy" or not isinstance(value, dict):
        return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).splitlines()
    lines = []
    for stage in ("update", "retrieve", "sleep"):
        lines.append(f"{stage}:")
        for gene in value.get(stage) or ():
            lines.append(f"  {gene.get('op')} v{gene.get('version', 1)}")
            lines += [f"    {name} = {given!r}" for name, given in sorted((gene.get("params") or {}).items())]
    return lines


@dataclass(frozen=True, slots=True)
class Point:
    """A design on the plane of score and tokens of one family."""

    design: str
    family: str
    score: float
    tokens: float
    on_frontier: bool


def frontier(trials: Iterable[Trial], family: str) -> list[Point]:
    """Every sound design's score and tokens in one family, by falling score.

    On the frontier stands what no other design beats in one of the two without losing in the other.
    """
    last: dict[str, Mapping[str, float]] = {
        trial.design: trial.metrics[family]
        for trial in trials
        if trial.status == "evaluated" and family in trial.metrics
    }
    pairs = {id_: (values["score"], values.get("tokens", 0.0)) for id_, values in last.items()}
    points = [
        Point(id_, family, score, tokens, not any(_beats(other, (score, tokens)) for other in pairs.values()))
        for id_, (score, tokens) in pairs.items()
    ]
    return sorted(points, key=lambda point: (-point.score, point.tokens, point.design))


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] >= other[0] and one[1] <= other[1] and one != other
