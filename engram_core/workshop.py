"""Workshop: wires the lab: real stores to try designs in, the operators to search among, the tasks. Nothing else."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, cast

from engram_core.designs.genome import Genome, registry
from engram_core.designs.genome.references import DEFAULT, REFERENCES
from engram_core.domain.errors import DesignFailed, InvalidDesign, InvalidInput
from engram_core.domain.scope import Scope
from engram_core.domain.spec import DesignSpec, Part, canonical
from engram_core.engram import Engram, Memory
from engram_core.lab.bench.readers import load
from engram_core.lab.evaluate import evaluate
from engram_core.lab.gate import Gate, risks
from engram_core.lab.proposers import MutationProposer, Proposer
from engram_core.lab.search import RANDOM, Budget, Progress, Search, Setup
from engram_core.lab.tasks.base import Suite, Task
from engram_core.lab.tasks.chats import EvidenceTask
from engram_core.lab.tasks.errands import ErrandTask
from engram_core.lab.tasks.guards import LeakTask, OrderTask
from engram_core.lab.tasks.learning import UsefulnessTask
from engram_core.lab.tasks.nights import ForgettingTask
from engram_core.lab.tasks.updates import AbstentionTask, UpdateTask
from engram_core.lab.tasks.worlds import START
from engram_core.lab.workbench import LabStore
from engram_core.lab.writing import ModelProposer, Traces
from engram_core.operations import proposals, warden
from engram_core.operations.recall import Asked, recall
from engram_core.testing.fakes import SequentialIds

ROOT: Final = "lab"
"""The scope above those of every task: the design on trial is set on its policy."""
GUARDS: Final = ("leak", "order")
"""Families that are watched and earn nothing."""


@dataclass(slots=True)
class _Store:
    """A store on trial, and the directory that goes with it."""

    engram: Engram
    ids: SequentialIds
    folder: tempfile.TemporaryDirectory[str] | None

    def memory(self, scope: str, *, principal: str | None = None) -> Memory:
        return self.engram.memory(scope, principal=principal)

    def sleep(self, scope: str | None = None, *, now: datetime | None = None) -> Any:
        return self.engram.sleep(scope, now=now)

    def close(self) -> None:
        self.engram.close()
        if self.folder is not None:
            self.folder.cleanup()


class StoreRunner:
    """Opens real stores, in memory or in a temporary directory, that decide alike every time: ids, time and chance
    are fixed. See `engram_core.lab.workbench.Runner`.

    Args:
        allow_code: Whether designs of kind `code` may run, in their sandbox.
    """

    def __init__(self, *, allow_code: bool = False) -> None:
        self._allow_code = allow_code

    def open(self, spec: DesignSpec, policy: Mapping[str, Any], *, durable: bool = False) -> LabStore:
        """A fresh store under the design."""
        folder = tempfile.TemporaryDirectory(prefix="engram-lab-") if durable else None
        url = str(Path(folder.name) / "store") if folder is not None else ":memory:"
        store = self._opened(url, SequentialIds(), folder)
        try:
            _set(store.engram, spec, policy)
        except BaseException:
            store.close()
            raise
        return cast("LabStore", store)

    def restart(self, store: LabStore) -> LabStore:
        """Close a durable store and open it again."""
        assert isinstance(store, _Store)
        store.engram.close()
        return cast("LabStore", self._opened(store.engram.url, store.ids, store.folder))

    def reopen(self, spec: DesignSpec, store: LabStore) -> LabStore:
        """The same store under another design."""
        assert isinstance(store, _Store)
        _set(store.engram, spec, {})
        return cast("LabStore", store)

    def writes(self, spec: DesignSpec) -> str:
        """A hash of what decides how it stores; only genomes tell."""
        if spec.kind != "genome":
            return ""
        genome = Genome.parsed(spec.source, registry()).model_dump(mode="json")
        return hashlib.sha256(canonical([genome["update"], genome["sleep"]]).encode()).hexdigest()

    def _opened(self, url: str, ids: SequentialIds, folder: tempfile.TemporaryDirectory[str] | None) -> _Store:
        engram = Engram.open(
            url,
            index="exact",
            clock=lambda: START,
            ids=ids,
            rng=random.Random(0),
            allow_code_designs=self._allow_code,
        )
        engram.context.failures.are_shown = True
        return _Store(engram, ids, folder)


def _set(store: Engram, spec: DesignSpec, policy: Mapping[str, Any]) -> None:
    memory = store.memory(ROOT)
    if spec.kind == "policy":
        memory.set_policy(**{**policy, **json.loads(spec.source)})
        return
    store.context.ledger.designs.add(spec)
    memory.set_policy(design=spec.id, **policy)


class GenomeSpace:
    """The operators a search may combine; see `engram_core.lab.proposers.Space`."""

    @property
    def parts(self) -> Sequence[Part]:
        """Every registered operator."""
        return registry().parts

    def checked(self, source: str) -> str:
        """The canonical text of a genome. Raises InvalidDesign."""
        return Genome.parsed(source, registry()).source


def references(at: datetime) -> dict[str, DesignSpec]:
    """The reference designs by name: what every search starts from and is compared with."""
    return {
        name: DesignSpec("genome", genome.complete(registry()).source, at, rationale=why, by="engram")
        for name, (genome, why) in REFERENCES.items()
    }


def default_spec(at: datetime) -> DesignSpec:
    """The hand-made default design as a genome."""
    return references(at)[DEFAULT]


def suite(families: Sequence[str] = (), *, data: Path | None = None, questions: int = 40, guards: bool = True) -> Suite:
    """The tasks of a search.

    Args:
        families: Which earn fitness; empty for all. `chats` needs `data`.
        data: Labelled conversations, in a format of docs/benchmarks.md.
        questions: Of each conversation at most.
        guards: Whether to watch leaks and the order of input as well.

    Raises:
        InvalidInput: An unknown family, or `chats` without data.
    """
    known = _families(data, questions)
    unknown = sorted(set(families) - known.keys() - set(GUARDS))
    if unknown:
        hint = " Give --data for chats." if "chats" in unknown else ""
        raise InvalidInput(f"There is no task {unknown[0]!r}; there are {', '.join(known)}.{hint}")
    chosen: list[Task] = [known[name]() for name in known if not families or name in families]
    weights = dict.fromkeys(GUARDS, 0.0)
    if guards:
        chosen += [LeakTask(), OrderTask()]
    return Suite(tuple(chosen), weights)


def _families(data: Path | None, questions: int) -> dict[str, Callable[[], Task]]:
    known: dict[str, Callable[[], Task]] = {
        "errands": ErrandTask,
        "updates": UpdateTask,
        "abstention": AbstentionTask,
        "forgetting": ForgettingTask,
        "usefulness": UsefulnessTask,
    }
    if data is not None:
        known["chats"] = lambda: EvidenceTask(load(data), questions=questions)
    return known


def spec_of(kind: str, source: str, at: datetime, *, by: str, rationale: str = "") -> DesignSpec:
    """A design from the text of a file, checked. Raises InvalidDesign."""
    if kind == "genome":
        return DesignSpec("genome", GenomeSpace().checked(source), at, operator="given", rationale=rationale, by=by)
    if kind == "code":
        from engram_core.designs.code import checked  # noqa: PLC0415 - only for those who ask

        return DesignSpec("code", checked(source), at, operator="given", rationale=rationale, by=by)
    raise InvalidDesign(f"A design given as a file is a genome (.json) or code (.py), not {kind!r}.")


def search(
    engram: Engram,
    tasks: Suite,
    budget: Budget,
    setup: Setup,
    *,
    run: str | None = None,
    proposer: Proposer | None = None,
    model: Any = None,
    level: Literal["genome", "code"] = "genome",
    max_calls: int = 60,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run a search whose archive is the store's; see `engram_core.lab.search.Search`.

    Args:
        run: Id of a run that goes on; None begins one.
        proposer: Of the main arm; None mutates, or asks `model`.
        model: A LangChain chat model, a LlamaIndex LLM, a callable from prompt to text, or a LanguageModel, that writes
            the main arm's designs; when its calls are spent, or it fails, that arm mutates.
        level: What the model writes; `code` needs `allow_code`.
        max_calls: Calls of the model in the whole run.
        allow_code: Whether designs that are code may be tried, in their sandbox.

    Returns:
        The report, which the ledger keeps.
    """
    context = engram.context
    space = GenomeSpace()
    mutation = MutationProposer(space)
    traces = Traces()
    runner = StoreRunner(allow_code=allow_code)
    if model is not None and proposer is None:
        proposer = _writer(
            model, level, max_calls, tasks, runner, mutation, traces, context.clock, allow_code=allow_code
        )
        setup = replace(setup, proposer=f"model {level}")
    done = Search(
        book=context.ledger.designs,
        suite=tasks,
        space=space,
        runner=runner,
        seeds=references(context.clock()),
        proposer=proposer or mutation,
        mutation=mutation,
        budget=budget,
        setup=setup,
        run=run or context.new_id(),
        now=context.clock,
        default=DEFAULT,
        progress=progress,
        seen=lambda spec, split, task, result: traces.note(spec.id, split, task, result),
    )
    return done.go()


def _writer(
    model: Any,
    level: Literal["genome", "code"],
    max_calls: int,
    tasks: Suite,
    runner: StoreRunner,
    fallback: Proposer,
    traces: Traces,
    clock: Callable[[], datetime],
    *,
    allow_code: bool,
) -> ModelProposer:
    from engram_core.models.language import as_language_model  # noqa: PLC0415 - only with a model

    def try_out(kind: str, source: str) -> None:
        spec = DesignSpec("code" if kind == "code" else "genome", source, clock())
        trial = evaluate(spec, tasks, "smoke", runner, at=clock())
        if trial.status != "evaluated":
            raise DesignFailed(trial.error)

    def check_code(source: str) -> str:
        return spec_of("code", source, clock(), by="model").source

    return ModelProposer(
        model=as_language_model(model),
        space=GenomeSpace(),
        fallback=fallback,
        traces=traces,
        level=level,
        max_calls=max_calls,
        try_out=try_out,
        check_code=check_code if allow_code else None,
    )


def promote(
    engram: Engram,
    spec: DesignSpec,
    scope: Scope | str,
    tasks: Suite,
    *,
    principal: str | None = None,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Take a design through the gate against the design in force in a scope, and propose it if it passes.

    Args:
        spec: A design of the store's archive.
        tasks: What it is examined on; for the job it is meant to do, choose that family.
        principal: Who proposes; default the owner.
        allow_code: Whether a code design may be examined, in its sandbox.

    Returns:
        `passed`, `checks` and `proposal`, the id of a pending proposal or None. JSON-able.

    Raises:
        InvalidScope, InvalidInput: An argument is malformed, or the design is in force there already.
        AccessDenied: It takes `curate` and `read` in the scope.
    """
    context = engram.context
    where = Scope.coerce(scope)
    now = context.clock()
    who = principal or engram.owner
    warden.require(context, who, "read", where, now, "promote")
    warden.admit(context, who, "curate", where, now, "promote", spec.id)
    policy = context.ledger.policy(where).policy
    known = references(now)
    gate = Gate(
        suite=tasks,
        space=GenomeSpace(),
        runner=StoreRunner(allow_code=allow_code),
        present=_present(engram, policy.design, known, now),
        nothing=known["no_memory"],
        control=_control(engram, tasks),
        latency_ms=policy.latency_ms,
        at=now,
        progress=progress,
    )
    checks = gate.examine(spec)
    passed = all(check.passed for check in checks)
    for trial in gate.trials:
        if context.ledger.designs.get(trial.design) is not None:
            context.ledger.designs.record(trial)
    view: dict[str, Any] = {
        "design": spec.id,
        "scope": where.path,
        "passed": passed,
        "checks": [check.to_dict() for check in checks],
        "proposal": None,
    }
    if passed:
        evidence = {
            **{name: value for name, value in gate.evidence.items() if name != "prediction"},
            "risks": risks(spec),
            "recalls": _changed(engram, where, spec, now),
            "design": {name: value for name, value in spec.to_dict().items() if name != "source"},
        }
        made = proposals.propose(
            context,
            where,
            {"design": spec.id},
            now,
            kind="design",
            evidence=evidence,
            prediction=gate.evidence["prediction"],
            rationale=spec.rationale or f"Made by {spec.operator}.",
            by=who,
        )
        view["proposal"] = made.id
    return view


def _present(engram: Engram, name: str, known: Mapping[str, DesignSpec], now: datetime) -> DesignSpec:
    """The design in force as one the lab can open: an archived one, or a policy that names an installed one."""
    if name in known and name == DEFAULT:
        return known[name]
    archived = engram.context.ledger.designs.get(name)
    return archived or DesignSpec("policy", canonical({"design": name}), now)


def _control(engram: Engram, tasks: Suite) -> DesignSpec | None:
    """The fittest design that a random search tried on the same tasks."""
    book = engram.context.ledger.designs
    tried = [trial for trial in book.trials(suite=tasks.fingerprint, split="dev") if trial.arm == RANDOM]
    sound = [trial for trial in tried if trial.status == "evaluated"]
    best = max(sound, key=lambda trial: trial.fitness, default=None)
    return book.get(best.design) if best is not None else None


def _changed(engram: Engram, scope: Scope, spec: DesignSpec, now: datetime, most: int = 10) -> list[dict[str, Any]]:
    """The scope's latest judged recalls, answered again: ids of the facts shown then and by the design. No words."""
    context = engram.context
    states = context.ledger.scopes([scope])
    design = context.designs(spec.id)
    if not states or design is None:
        return []
    found = []
    for judged in context.ledger.judged(states[0].id, 0, most):
        row = context.ledger.recall(judged.recall_id)
        if row is None or not row.query.strip():
            continue
        asked = Asked(row.query, max(len(row.facts), 1), None, None, frozenset(), row.session)
        again = recall(context, scope, row.principal, asked, now, rehearsed=design)
        found.append(
            {
                "recall": row.id,
                "before": [fact["id"] for fact in row.facts],
                "after": [item.fact.id for item in again.facts],
                "tokens_before": row.text_tokens,
                "tokens_after": again.tokens,
            }
        )
    return found
