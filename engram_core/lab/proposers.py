"""Proposers: new genomes by chance or from old ones. They write text; others check and try it. Seeded throughout."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from engram_core.domain.errors import InvalidDesign
from engram_core.domain.spec import MAX_GENES, STAGES, Knob, Part, canonical
from engram_core.lab.archive import Archive, Member

Genome = dict[str, Any]
Gene = dict[str, Any]
_MOST_REFINEMENTS: Final = 3
_TRIES: Final = 20


class Space(Protocol):
    """What a search may combine."""

    @property
    def parts(self) -> Sequence[Part]: ...
    def checked(self, source: str) -> str:
        """The canonical text of a genome. Raises InvalidDesign."""
        ...


@dataclass(frozen=True, slots=True)
class Idea:
    """A design as proposed.

    Attributes:
        operator: How it was made.
    """

    source: str
    parents: tuple[str, ...]
    operator: str
    rationale: str
    kind: str = "genome"


class Proposer(Protocol):
    """Makes one idea. `parent` is what the search's rule chose; others may be looked up in the archive."""

    def propose(self, rng: random.Random, parent: Member, archive: Archive) -> Idea: ...


@dataclass(frozen=True)
class RandomProposer:
    """Any genome: the control that a search has to beat. It looks at no parent."""

    space: Space

    def propose(self, rng: random.Random, parent: Member, archive: Archive) -> Idea:
        """A source for each stage, up to three refinements, up to two night operators; half of the knobs turned."""
        genome: Genome = {"format": 1, "update": [], "retrieve": [], "sleep": []}
        for stage in ("update", "retrieve"):
            genome[stage] = [self._gene(rng, stage, "source")]
            genome[stage] += [self._gene(rng, stage, "refine") for _ in range(rng.randrange(_MOST_REFINEMENTS + 1))]
        genome["sleep"] = [self._gene(rng, "sleep", "source") for _ in range(rng.choice((0, 0, 1, 2)))]
        return Idea(self.space.checked(canonical(genome)), (), "random", "Drawn at random.")

    def _gene(self, rng: random.Random, stage: str, role: str) -> Gene:
        return random_gene(rng, self.space, stage, role)


def random_gene(rng: random.Random, space: Space, stage: str, role: str) -> Gene:
    """An operator of a stage with about half of its knobs turned."""
    part = rng.choice(sorted(_parts(space, stage, role), key=lambda part: part.name))
    params = {knob.name: drawn(rng, knob) for knob in part.knobs if rng.random() < 0.5}
    return {"op": part.name, "version": part.version, "params": params}


def _parts(space: Space, stage: str, role: str) -> list[Part]:
    return [part for part in space.parts if part.stage == stage and part.role == role]


def drawn(rng: random.Random, knob: Knob) -> Any:
    """Any value of a knob; wide ranges on a logarithmic scale."""
    if knob.optional and rng.random() < 0.5:
        return None
    if knob.kind == "switch":
        return rng.random() < 0.5
    if knob.kind == "choice":
        return rng.choice(knob.choices)
    if knob.low > 0 and knob.high / knob.low > 50:
        value = math.exp(rng.uniform(math.log(knob.low), math.log(knob.high)))
    else:
        value = rng.uniform(knob.low, knob.high)
    return _fitted(value, knob)


def _fitted(value: float, knob: Knob) -> float | int:
    value = min(max(value, knob.low), knob.high)
    return round(value) if knob.kind == "whole" else round(value, 3)


@dataclass(frozen=True)
class MutationProposer:
    """One change to a parent; a third of the time the one that its own figures suggest."""

    space: Space

    def propose(self, rng: random.Random, parent: Member, archive: Archive) -> Idea:
        """A child that differs from its parent; after 20 changes that made nothing new, a random one."""
        try:
            genome = json.loads(parent.spec.source)
        except ValueError:
            genome = None
        if parent.spec.kind == "genome" and isinstance(genome, dict):
            moves = [*_MOVES] * 2
            for _ in range(_TRIES):
                hints = _hints(parent)
                if hints and rng.random() < 1 / 3:
                    move: _Move = rng.choice(hints)
                else:
                    move = rng.choice(moves)
                made = move.make(rng, copy.deepcopy(genome), self.space, archive)
                if made is None:
                    continue
                changed, others = made
                try:
                    source = self.space.checked(canonical(changed))
                except InvalidDesign:
                    continue
                if source != parent.spec.source:
                    return Idea(source, (parent.spec.id, *others), move.name, move.says)
        return RandomProposer(self.space).propose(rng, parent, archive)


# --- moves ---

Made = tuple[Genome, tuple[str, ...]] | None


@dataclass(frozen=True, slots=True)
class _Move:
    name: str
    says: str
    make: Callable[[random.Random, Genome, Space, Archive], Made]


def _places(genome: Genome, space: Space) -> list[tuple[str, int, Part]]:
    """Each gene: stage, place, and its operator if it is known."""
    known = {part.name: part for part in space.parts}
    return [
        (stage, place, known[gene["op"]])
        for stage in STAGES
        for place, gene in enumerate(genome.get(stage) or ())
        if gene.get("op") in known
    ]


def _nudge(rng: random.Random, genome: Genome, space: Space, archive: Archive) -> Made:
    able = [(stage, place, part) for stage, place, part in _places(genome, space) if part.knobs]
    if not able:
        return None
    stage, place, part = rng.choice(able)
    for knob in rng.sample(list(part.knobs), min(len(part.knobs), rng.choice((1, 1, 2)))):
        params = genome[stage][place].setdefault("params", {})
        params[knob.name] = _nudged(rng, params.get(knob.name, knob.default), knob)
    return genome, ()


def _nudged(rng: random.Random, value: Any, knob: Knob) -> Any:
    if knob.kind in ("switch", "choice") or value is None or rng.random() < 0.15:
        return drawn(rng, knob)
    if knob.low > 0 and knob.high / knob.low > 50:
        return _fitted(value * math.exp(rng.gauss(0.0, 0.7)), knob)
    step = max(abs(rng.gauss(0.0, 0.15 * (knob.high - knob.low))), 1.0 if knob.kind == "whole" else 0.0)
    return _fitted(value + rng.choice((-1.0, 1.0)) * step, knob)


def _swap(rng: random.Random, genome: Genome, space: Space, archive: Archive) -> Made:
    places = _places(genome, space)
    if not places:
        return None
    stage, place, part = rng.choice(places)
    genome[stage][place] = random_gene(rng, space, stage, part.role)
    return genome, ()


def _insert(rng: random.Random, genome: Genome, space: Space, archive: Archive) -> Made:
    stage = rng.choice(("update", "retrieve", "retrieve", "sleep"))
    genes = genome.setdefault(stage, [])
    if len(genes) >= MAX_GENES:
        return None
    if stage == "sleep" or not genes:
        genes.append(random_gene(rng, space, stage, "source"))
    else:
        genes.insert(rng.randrange(1, len(genes) + 1), random_gene(rng, space, stage, "refine"))
    return genome, ()


def _remove(rng: random.Random, genome: Genome, space: Space, archive: Archive) -> Made:
    able = [
        (stage, place) for stage, place, part in _places(genome, space) if part.role == "refine" or stage == "sleep"
    ]
    if not able:
        return None
    stage, place = rng.choice(able)
    del genome[stage][place]
    return genome, ()


def _simplify(rng: random.Random, genome: Genome, space: Space, archive: Archive) -> Made:
    """Knobs back to their defaults, all of one operator; or away with the last refinement."""
    turned = [
        (stage, place, part)
        for stage, place, part in _places(genome, space)
        if any((genome[stage][place].get("params") or {}).get(k.name, k.default) != k.default for k in part.knobs)
    ]
    if not turned:
        return _remove(rng, genome, space, archive)
    stage, place, _ = rng.choice(turned)
    genome[stage][place]["params"] = {}
    return genome, ()


def _other(rng: random.Random, archive: Archive, genome: Genome) -> tuple[str, Genome] | None:
    """Another genome of the archive, mostly one of the better half."""
    found = [
        m for m in archive.members if m.spec.kind == "genome" and m.is_sound and json.loads(m.spec.source) != genome
    ]
    if not found:
        return None
    ranked = sorted(found, key=lambda m: -m.trial.fitness)
    member = rng.choice(ranked[: max(1, len(ranked) // 2)] if rng.random() < 0.7 else ranked)
    return member.spec.id, json.loads(member.spec.source)


def _crossover(rng: random.Random, genome: Genome, space: Space, archive: Archive) -> Made:
    other = _other(rng, archive, genome)
    if other is None:
        return None
    id_, theirs = other
    for stage in rng.sample(STAGES, rng.choice((1, 2))):
        genome[stage] = theirs.get(stage, [])
    return genome, (id_,)


def _transplant(rng: random.Random, genome: Genome, space: Space, archive: Archive) -> Made:
    other = _other(rng, archive, genome)
    if other is None:
        return None
    id_, theirs = other
    places = _places(theirs, space)
    if not places:
        return None
    stage, place, part = rng.choice(places)
    gene, genes = theirs[stage][place], genome.setdefault(stage, [])
    if part.role == "source" and stage != "sleep":
        genome[stage] = [gene, *genes[1:]]
    elif len(genes) < MAX_GENES and (genes or stage == "sleep"):
        genes.append(gene)
    else:
        return None
    return genome, (id_,)


_MOVES: Final = (
    _Move("nudge", "One or two parameters moved.", _nudge),
    _Move("nudge", "One or two parameters moved.", _nudge),
    _Move("swap", "An operator exchanged for another one.", _swap),
    _Move("insert", "An operator put in.", _insert),
    _Move("remove", "An operator taken out.", _remove),
    _Move("transplant", "An operator of another design taken over.", _transplant),
    _Move("crossover", "Stages of another design taken over.", _crossover),
    _Move("simplify", "Made simpler: back to defaults, or one operator less.", _simplify),
)


# --- moves that a design's own figures suggest ---


def _adding(stage: str, ops: Sequence[tuple[str, Mapping[str, Any]]]) -> Callable[..., Made]:
    def make(rng: random.Random, genome: Genome, space: Space, archive: Archive) -> Made:
        op, params = rng.choice(list(ops))
        part = next((part for part in space.parts if part.name == op), None)
        genes = genome.setdefault(stage, [])
        if part is None or len(genes) >= MAX_GENES or (not genes and part.role == "refine"):
            return None
        knobs = {knob.name: knob for knob in part.knobs}
        given = {
            name: drawn(rng, knobs[name]) if value is ... else value for name, value in params.items() if name in knobs
        }
        there = [gene for gene in genes if gene.get("op") == op]
        if there:
            there[0]["params"] = {**there[0].get("params", {}), **given}
        elif part.role == "source" and stage != "sleep":
            genome[stage] = [{"op": op, "version": part.version, "params": given}, *genes[1:]]
        else:
            genes.append({"op": op, "version": part.version, "params": given})
        return genome, ()

    return make


_SHORTER = _Move(
    "usage: shorter", "Recalls were long for what was used of them.",
    _adding("retrieve", [("top", {"facts": ...}), ("above_share", {"share": ...}), ("short", {"weight": ...})]),
)  # fmt: skip
_SILENT = _Move(
    "usage: silent", "It showed something where nothing fits.",
    _adding("retrieve", [("above", {"score": ...}), ("above_share", {"share": ...})]),
)  # fmt: skip
_NEWER = _Move(
    "usage: newer", "It showed what no longer holds.",
    _adding(
        "retrieve",
        [
            ("keep_newest", {"by": "slot"}),
            ("keep_newest", {"by": "words", "likeness": ...}),
            ("fresh", {"weight": ..., "half_life_days": ...}),
        ],
    ),
)  # fmt: skip
_REPLACING = _Move(
    "usage: replacing", "It kept what no longer holds.",
    _adding("update", [("supersede_slot", {}), ("statements", {}), ("commands", {"form": ...})]),
)  # fmt: skip
_FORGETTING = _Move(
    "usage: forgetting", "It forgot little of what should go.",
    _adding("sleep", [("archive_older_slots", {}), ("archive_repeats", {"likeness": ...}), ("archive_expired", {})]),
)  # fmt: skip
_WIDER = _Move(
    "usage: wider", "It missed much of what was needed.",
    _adding("retrieve", [("relevance", {"breadth": ..., "dense": ..., "bm25": ...}), ("top", {"facts": ...})]),
)  # fmt: skip
_LEARNING = _Move(
    "usage: learning", "It made little of what was used before.",
    _adding("retrieve", [("relevance", {"usefulness_weight": ..., "importance_weight": ...})]),
)  # fmt: skip


def _hints(parent: Member) -> list[_Move]:
    """What a design's own figures suggest."""
    metrics = parent.trial.metrics
    found: list[_Move] = []
    if any(values.get("tokens", 0.0) > 40.0 for values in metrics.values()):
        found.append(_SHORTER)
    if metrics.get("abstention", {}).get("false_recall", 0.0) > 0.2:
        found.append(_SILENT)
    if metrics.get("updates", {}).get("stale_shown", 0.0) > 0.1:
        found += [_NEWER, _REPLACING]
    if metrics.get("errands", {}).get("score", 1.0) < 0.9:
        found += [_NEWER, _REPLACING]
    if metrics.get("forgetting", {}).get("recall", 1.0) < 0.5:
        found.append(_FORGETTING)
    if metrics.get("updates", {}).get("found", 1.0) < 0.8 or metrics.get("chats", {}).get("score", 1.0) < 0.8:
        found.append(_WIDER)
    if metrics.get("usefulness", {}).get("score", 1.0) < 0.9:
        found.append(_LEARNING)
    return found
