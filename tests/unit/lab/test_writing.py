"""A chat model as proposer, with scripted models: what it is shown, how it mends, and what becomes of failures."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime

import pytest

from engram_core import DesignSpec, Engram, InvalidInput, workshop
from engram_core.domain.spec import Trial
from engram_core.lab.archive import Archive
from engram_core.lab.proposers import MutationProposer
from engram_core.lab.search import Budget, Setup
from engram_core.lab.tasks.base import Result
from engram_core.lab.tasks.worlds import world
from engram_core.lab.writing import ModelProposer, Traces, redacted, source_in
from engram_core.testing.fakes import ScriptedModel

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SPACE = workshop.GenomeSpace()
GOOD = '{"update": [{"op": "verbatim"}], "retrieve": [{"op": "newest"}, {"op": "top", "params": {"facts": 2}}]}'


def parent() -> tuple[Archive, Traces]:
    archive, traces = Archive(), Traces()
    spec = workshop.default_spec(NOW)
    archive.put(spec, Trial(spec.id, NOW, "s", "dev", fitness=0.5, metrics={"updates": {"score": 0.5}}))
    lines = ("asked Where does Ana Gruber live, at ana@example.com or +49 170 1234567? shown I live in Porto.",)
    traces.note(spec.id, "dev", "updates", Result({"score": 0.5}, (1.0, 0.0), traces=lines))
    traces.note(spec.id, "gate", "updates", Result({"score": 0.1}, (0.0,), traces=("asked the gate question",)))
    return archive, traces


def proposer(model: ScriptedModel, traces: Traces, **more: object) -> ModelProposer:
    return ModelProposer(model, SPACE, MutationProposer(SPACE), traces, **more)  # type: ignore[arg-type]


def test_it_reflects_writes_and_mends_what_does_not_check() -> None:
    archive, traces = parent()
    model = ScriptedModel(["It shows too much.", '{"update": [{"op": "magic"}]}', f"Here:\n```json\n{GOOD}\n```"])
    idea = proposer(model, traces).propose(random.Random(1), archive.members[0], archive)
    assert idea.source == SPACE.checked(GOOD)
    assert (idea.operator, idea.rationale, idea.parents) == (
        "model",
        "It shows too much.",
        (archive.members[0].spec.id,),
    )
    reflect, write, mend = model.prompts
    assert "1 of 2 questions below one half" in reflect
    assert "It shows too much." in write
    assert "keep_newest" in write
    assert "no operator 'magic'" in mend


def test_prompts_hold_redacted_dev_traces_only() -> None:
    archive, traces = parent()
    model = ScriptedModel(["Hm.", GOOD])
    proposer(model, traces).propose(random.Random(1), archive.members[0], archive)
    everything = "\n".join(model.prompts)
    assert "asked Name does Name Name live" in everything
    for word in ("Ana", "Gruber", "Porto", "example.com", "1234567", "gate question", "0.100"):
        assert word not in everything
    assert re.search(r"\d", redacted("Room 4711, Tel. 0170/123, 7")) is None


def test_what_runs_wrongly_is_mended_too_and_given_up_after_three_rounds() -> None:
    archive, traces = parent()
    tried: list[str] = []

    def try_out(kind: str, source: str) -> None:
        tried.append(source)
        raise RuntimeError("It ranks nothing.")

    model = ScriptedModel(["Hm.", GOOD, GOOD, GOOD, GOOD, "never asked"])
    idea = proposer(model, traces, try_out=try_out).propose(random.Random(1), archive.members[0], archive)
    assert len(tried) == 4
    assert len(model.prompts) == 5
    assert "It could not be mended" in idea.rationale
    assert "ranks nothing" in model.prompts[-1]
    assert idea.source == GOOD, "the failure is kept as it is"


def test_spent_calls_and_a_failing_model_leave_it_to_mutation() -> None:
    archive, traces = parent()
    for model, calls in ((ScriptedModel([]), 0), (ScriptedModel([]), 10)):
        idea = proposer(model, traces, max_calls=calls).propose(random.Random(1), archive.members[0], archive)
        assert idea.operator != "model"
        SPACE.checked(idea.source)


def test_code_is_written_only_where_code_is_allowed() -> None:
    _, traces = parent()
    with pytest.raises(InvalidInput, match="off here"):
        proposer(ScriptedModel([]), traces, level="code")


@pytest.mark.parametrize(
    ("reply", "source"),
    [
        ('Sure! {"a": {"b": 1}} Hope it helps.', '{"a": {"b": 1}}'),
        ('```json\n{}\n```\nor rather\n```json\n{"a": 1}\n```', '{"a": 1}'),
        ("def update(e, v):\n    return {}", "def update(e, v):\n    return {}"),
        ("", ""),
    ],
)
def test_the_design_is_found_in_a_reply(reply: str, source: str) -> None:
    assert source_in(reply) == source


def test_a_search_with_a_model_keeps_what_it_wrote_and_what_failed() -> None:
    """Through the workshop, on a real task; the prompts never hold a value of the gate split's people."""
    prompts: list[str] = []

    def model(prompt: str) -> str:
        prompts.append(prompt)
        if "Do not write the design yet" in prompt:
            return "Show two facts only."
        return GOOD if len(prompts) < 4 else '{"update": [{"op": "magic"}]}'

    with Engram.open(":memory:", clock=lambda: NOW) as store:
        report = workshop.search(
            store,
            workshop.suite(["updates"], guards=False),
            Budget(9),
            Setup(starts=0, controls=False),
            model=model,
            max_calls=20,
        )
        book = store.context.ledger.designs
        written = [spec for spec in book.listing() if spec.operator == "model"]
        assert report["setup"]["proposer"] == "model genome"
        assert SPACE.checked(GOOD) in [spec.source for spec in written]
        failed = [trial for trial in book.trials(split="dev") if trial.status == "quarantined"]
        assert [book.get(trial.design).operator for trial in failed] == ["model"]  # type: ignore[union-attr]
        assert "magic" in failed[0].error
    assert isinstance(written[0], DesignSpec)
    people = {telling.person for seed in (2, 3) for telling in world("gate", seed).tellings}
    assert not [name for name in people if any(re.search(rf"\b{name}\b", prompt) for prompt in prompts)]
