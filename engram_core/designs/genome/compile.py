"""Compile: makes a design out of a genome. It joins operators; what they do is theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engram_core.design import View
from engram_core.designs.genome.genome import Gene, Genome
from engram_core.designs.genome.registry import Registry, registry
from engram_core.domain.change import Archive, Change, Ignore, Reweigh
from engram_core.domain.fact import Fact
from engram_core.domain.message import Episode
from engram_core.domain.reason import Reason
from engram_core.domain.recall import Query, Scored
from engram_core.domain.spec import Stage
from engram_core.floor import legality

_NOTHING = Reason("null_design", "This design's update has no operators: it remembers nothing.")


@dataclass(slots=True)
class Look:
    """What a refinement of a ranking may look at: the query, the view, and the ranked facts, read once."""

    query: Query
    view: View
    _facts: dict[str, Fact] = field(default_factory=dict)

    def facts(self, ranking: Sequence[Scored]) -> list[Fact]:
        """The facts of a ranking in its order. Those that are gone are left out of both by `ranked`."""
        missing = [item.fact_id for item in ranking if item.fact_id not in self._facts]
        if missing:
            self._facts |= {fact.id: fact for fact in self.view.facts(missing)}
        return [self._facts[item.fact_id] for item in ranking if item.fact_id in self._facts]

    def known(self, ranking: Sequence[Scored]) -> list[tuple[Scored, Fact]]:
        """Each ranked fact that still exists, with its place in the ranking."""
        facts = {fact.id: fact for fact in self.facts(ranking)}
        return [(item, facts[item.fact_id]) for item in ranking if item.fact_id in facts]


@dataclass(frozen=True, slots=True)
class GenomeDesign:
    """A compiled genome; see `engram_core.design.Design`. Stateless."""

    name: str
    genome: Genome
    _update: tuple[Callable[..., Sequence[Change]], ...]
    _retrieve: tuple[Callable[..., Sequence[Scored]], ...]
    _sleep: tuple[Callable[..., Sequence[Change]], ...]

    def update(self, episode: Episode, view: View) -> Sequence[Change]:
        """The source's changes, refined in order."""
        if not self._update:
            return [Ignore(message, _NOTHING) for message in episode.messages]
        source, *refinements = self._update
        changes = source(episode, view)
        for refine in refinements:
            changes = refine(changes, episode, view)
        return changes

    def retrieve(self, query: Query, view: View) -> Sequence[Scored]:
        """The source's ranking, refined in order; best first."""
        if not self._retrieve:
            return []
        source, *refinements = self._retrieve
        ranking = source(query, view)
        look = Look(query, view)
        for refine in refinements:
            if not ranking:
                break
            ranking = refine(ranking, look)
        return ranking

    def sleep(self, view: View) -> Sequence[Change]:
        """What the sources propose, each fact once, and only what the floor would allow."""
        proposed: dict[str, Archive | Reweigh] = {}
        for source in self._sleep:
            for change in source(view):
                if isinstance(change, Archive | Reweigh):
                    proposed.setdefault(change.fact_id, change)
        facts = {fact.id: fact for fact in view.facts(list(proposed))} if proposed else {}
        return [
            change
            for change in proposed.values()
            if legality.judge(change, scope=view.scope, facts=facts, by_person=False, policy=view.policy, now=view.now)
            is None
        ]


def compiled(genome: Genome, operators: Registry | None = None) -> GenomeDesign:
    """The design of a genome. Raises InvalidDesign if it names what does not exist."""
    known = operators or registry()
    whole = genome.complete(known)
    return GenomeDesign(
        whole.id,
        whole,
        _steps(whole.update, "update", known),
        _steps(whole.retrieve, "retrieve", known),
        _steps(whole.sleep, "sleep", known),
    )


def _steps(genes: Sequence[Gene], stage: Stage, known: Registry) -> tuple[Callable[..., Any], ...]:
    operators = [known.operator(gene.op, gene.version, stage) for gene in genes]
    return tuple(
        operator.build(known.params(operator, gene.params)) for operator, gene in zip(operators, genes, strict=True)
    )
