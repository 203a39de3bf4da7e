"""Genome: the text of a design as data: three lists of operators with parameters. It checks form; it runs nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engram_core.designs.genome.registry import Registry
from engram_core.domain.errors import InvalidDesign
from engram_core.domain.spec import MAX_GENES, MAX_SOURCE_BYTES, STAGES, Stage, canonical, content_id

FORMAT: Final = 1


class Gene(BaseModel):
    """One operator and its parameters; those left out have their defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    op: str = Field(min_length=1, max_length=60)
    version: int = Field(default=1, ge=1, le=1_000)
    params: dict[str, Any] = Field(default_factory=dict)


class Genome(BaseModel):
    """A design as data. A stage without operators does nothing: it ignores, finds nothing, proposes nothing.

    Attributes:
        update, retrieve: A source first, then refinements in order.
        sleep: Sources; their proposals are united, the first one on a fact counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    update: tuple[Gene, ...] = Field(default=(), max_length=MAX_GENES)
    retrieve: tuple[Gene, ...] = Field(default=(), max_length=MAX_GENES)
    sleep: tuple[Gene, ...] = Field(default=(), max_length=MAX_GENES)

    @classmethod
    def of(cls, **stages: Sequence[str | tuple[str, Mapping[str, Any]]]) -> Genome:
        """Shorthand: `Genome.of(update=["statements"], retrieve=[("relevance", {"dense": 0.5}), "top"])`."""
        made = {
            stage: [
                {"op": gene} if isinstance(gene, str) else {"op": gene[0], "params": dict(gene[1])} for gene in genes
            ]
            for stage, genes in stages.items()
        }
        return cls.model_validate(made)

    @classmethod
    def parsed(cls, source: str, registry: Registry) -> Genome:
        """A genome from JSON, checked against the operators, every parameter spelled out.

        Raises:
            InvalidDesign: It is no JSON of this form, too long, or names what does not exist.
        """
        if len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE_BYTES:
            raise InvalidDesign(f"A genome has at most {MAX_SOURCE_BYTES:,} bytes.")
        try:
            genome = cls.model_validate(json.loads(source))
        except (ValueError, RecursionError) as error:
            raise InvalidDesign(f"This is no genome: {_first(error)}") from error
        return genome.complete(registry)

    def complete(self, registry: Registry) -> Genome:
        """The same with every parameter spelled out, so that equal designs have equal text. Raises InvalidDesign."""
        return self.model_copy(update={stage: _completed(getattr(self, stage), stage, registry) for stage in STAGES})

    @property
    def source(self) -> str:
        """Canonical JSON. Its hash is the design's id once the genome is complete."""
        return canonical(self.model_dump(mode="json"))

    @property
    def id(self) -> str:
        """`genome:<sha256>`."""
        return content_id("genome", self.source)


def _completed(genes: Sequence[Gene], stage: Stage, registry: Registry) -> tuple[Gene, ...]:
    done = []
    for place, gene in enumerate(genes):
        operator = registry.operator(gene.op, gene.version, stage)
        expected = "source" if place == 0 or stage == "sleep" else "refine"
        if operator.role != expected:
            raise InvalidDesign(
                f"{stage} has {gene.op!r} in place {place + 1}, where a {expected} belongs: one source first, then "
                "refinements."
            )
        params = registry.params(operator, gene.params).model_dump(mode="json")
        done.append(gene.model_copy(update={"params": params}))
    return tuple(done)


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the document'}: {first['msg']}."
    return f"{error}."
