"""Registry: which operators a genome may name, and what their parameters may be. It holds them; it applies none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata as distributions
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from engram_core.domain.errors import InvalidDesign
from engram_core.domain.spec import STAGES, Knob, Part, Stage

OPERATOR_GROUP: Final = "engram.operators"
"""Entry-point group under which other distributions register operators."""


class Params(BaseModel):
    """Parameters of an operator: frozen, every field with a default, every number with a range."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class NoParams(Params):
    """None."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One reviewed building block.

    Attributes:
        name: Unique; lower case.
        version: Grows when it comes to behave otherwise; a genome names the version it was tried with.
        stage: Which of the three methods of a design it is part of.
        role: See `domain.spec.Part`.
        params: Their model.
        reads: What it looks at, such as `vectors`, `words`, `time`, `slots`, `usefulness`.
        says: What it does, in one sentence.
        build: Makes the step. Of a source: (episode, view) to changes, (query, view) to a ranking, (view) to changes.
            Of a refinement: (changes, episode, view) to changes, or (ranking, look) to a ranking; see `compile.Look`.
    """

    name: str
    stage: Stage
    role: Literal["source", "refine"]
    says: str
    build: Callable[[Any], Callable[..., Any]]
    params: type[Params] = NoParams
    reads: tuple[str, ...] = ()
    version: int = 1

    @property
    def part(self) -> Part:
        """What a search sees of it."""
        knobs = tuple(_knob(name, field) for name, field in self.params.model_fields.items())
        return Part(self.name, self.version, self.stage, self.role, knobs, self.reads, self.says)


def _knob(name: str, field: FieldInfo) -> Knob:
    kind = field.annotation
    options = [item for item in get_args(kind) if item is not type(None)] if get_origin(kind) is not Literal else []
    is_optional = type(None) in get_args(kind)
    kind = options[0] if is_optional else kind
    if get_origin(kind) is Literal:
        return Knob(name, "choice", field.default, choices=tuple(get_args(kind)), optional=is_optional)
    if kind is bool:
        return Knob(name, "switch", field.default, optional=is_optional)
    limits = {key: getattr(item, key) for item in field.metadata for key in ("ge", "le") if hasattr(item, key)}
    if kind not in (int, float) or set(limits) != {"ge", "le"} or field.default is PydanticUndefined:
        raise InvalidDesign(f"The parameter {name!r} must be a number with ge and le, a Literal or a bool, by default.")
    size: Literal["whole", "number"] = "whole" if kind is int else "number"
    return Knob(name, size, field.default, float(limits["ge"]), float(limits["le"]), optional=is_optional)


class Registry:
    """Operators by name. Immutable once built.

    Raises:
        InvalidDesign: Two operators share a name, or one breaks the form.
    """

    def __init__(self, operators: Iterable[Operator]) -> None:
        self._operators: dict[str, Operator] = {}
        self.parts: tuple[Part, ...] = ()
        parts = []
        for operator in operators:
            if operator.name in self._operators:
                raise InvalidDesign(f"Two operators are called {operator.name!r}; give one another name.")
            if operator.stage not in STAGES:
                raise InvalidDesign(f"The operator {operator.name!r} names the stage {operator.stage!r}.")
            self._operators[operator.name] = operator
            parts.append(operator.part)
        self.parts = tuple(parts)

    def operator(self, name: str, version: int, stage: Stage) -> Operator:
        """The operator, or InvalidDesign: unknown, of another stage, or of another version."""
        found = self._operators.get(name)
        if found is None or found.stage != stage:
            known = ", ".join(sorted(op.name for op in self._operators.values() if op.stage == stage))
            raise InvalidDesign(f"There is no operator {name!r} for {stage}; there are {known}.")
        if found.version != version:
            raise InvalidDesign(
                f"The genome wants version {version} of {name!r}; installed is version {found.version}. "
                "Try the genome with that version before it is used again."
            )
        return found

    def params(self, operator: Operator, given: Mapping[str, Any]) -> Params:
        """Validated parameters. Raises InvalidDesign, naming the parameter."""
        try:
            return operator.params.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(place) for place in first["loc"]) or "parameters"
            known = ", ".join(operator.params.model_fields) or "none"
            raise InvalidDesign(
                f"Operator {operator.name!r}: {where}: {first['msg']}. Its parameters are: {known}."
            ) from error


@cache
def registry() -> Registry:
    """Engram's own operators and those that other distributions register under `engram.operators`.

    Such an entry point names an `Operator` or a sequence of them.
    """
    from engram_core.designs.genome import retrieving, sleeping, updating  # noqa: PLC0415 - they name this module

    found = [*updating.OPERATORS, *retrieving.OPERATORS, *sleeping.OPERATORS]
    for entry in distributions.entry_points(group=OPERATOR_GROUP):
        loaded = entry.load()
        found += [loaded] if isinstance(loaded, Operator) else list(loaded)
    return Registry(found)
