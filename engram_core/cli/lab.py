"""Lab: the commands of `engram lab`: search for designs, look at the archive, and promote one to a proposal."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram_core.cli.command import PROBLEMS, Place, Result, command

if TYPE_CHECKING:
    from engram_core.books import DesignBook
    from engram_core.cli.paper import Paper
    from engram_core.domain.spec import DesignSpec

lab = typer.Typer(
    name="lab",
    help="Search for memory designs offline, keep every one of them, promote the best to a proposal.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

View = dict[str, Any]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", "-t", metavar="NAME", help="errands, updates, abstention, forgetting, usefulness, chats."),
]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="FILE", help="Labelled conversations, for the task chats.")
]
DesignId = Annotated[str, typer.Argument(metavar="DESIGN", help="An id such as genome:3f2a…, or its first characters.")]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw it as .svg, .png or .pdf.")]


@command(lab, "run")
def run_(
    place: Place,
    tasks: Tasks = None,
    data: Data = None,
    evaluations: Annotated[int, typer.Option("--evaluations", "-n", help="Designs each search may try.")] = 60,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Stop after so long; what was found counts.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed and data give the same archive.")] = 0,
    rule: Annotated[str, typer.Option("--rule", help="How parents are chosen: niche, alma or uniform.")] = "niche",
    starts: Annotated[int, typer.Option("--starts", help="Random designs that every search begins with.")] = 10,
    questions: Annotated[int, typer.Option("--questions", help="Questions per conversation, for the task chats.")] = 40,
    resume: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="Go on with a run that was stopped.")
    ] = None,
    alone: Annotated[bool, typer.Option("--alone", help="Leave the greedy and the random search out.")] = False,
) -> Result:
    """Search for better designs offline, beside a greedy and a random search of equal budget."""
    from engram_core import workshop  # noqa: PLC0415
    from engram_core.cli.progress import stages  # noqa: PLC0415
    from engram_core.domain.errors import InvalidInput  # noqa: PLC0415
    from engram_core.lab.search import Budget, Setup  # noqa: PLC0415

    if minutes is not None and not minutes > 0:
        raise InvalidInput(f"--minutes must be above 0, not {minutes:g}.")
    suite = workshop.suite(tasks or (), data=data, questions=questions)
    setup = Setup(seed=seed, rule=rule, starts=starts, controls=not alone)  # type: ignore[arg-type]  # checked there
    budget = Budget(evaluations, minutes * 60 if minutes is not None else None)
    place.check_owner("searches for designs")
    with place.made() as engram, stages() as move:
        report = workshop.search(engram, suite, budget, setup, run=resume, progress=move)
    return Result(report, partial(_draw_report, report=report))


@command(lab)
def archive(
    place: Place,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Only what this run tried.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Designs at most, the fittest first.")] = 20,
) -> Result:
    """List the designs that were tried, fittest first, failed ones included."""
    with place.owned("lists designs") as engram:
        book = engram.context.ledger.designs
        trials = book.trials(run=run, split="dev")
        best = {trial.design: trial for trial in sorted(trials, key=lambda trial: trial.fitness)}
        specs = [spec for spec in book.listing() if run is None or spec.id in best]
        runs = [{"id": item.id, "at": item.at.isoformat(), "done": item.report is not None} for item in book.runs()]
    rows = []
    for spec in specs:
        trial = best.get(spec.id)
        rows.append(
            {
                **_shown(spec),
                "status": trial.status if trial is not None else "untried",
                "fitness": trial.fitness if trial is not None and trial.status == "evaluated" else None,
                "error": trial.error if trial is not None else "",
            }
        )
    rows.sort(key=lambda row: (row["fitness"] is None, -(row["fitness"] or 0.0), row["id"]))
    view = {"designs": len(rows), "runs": runs, "rows": rows[: max(limit, 0)]}
    return Result(view, partial(_draw_rows, view=view, columns=("id", "status", "fitness", "operator", "stages")))


@command(lab)
def lineage(place: Place, design: DesignId, plot: Plot = None) -> Result:
    """Show what a design descends from, oldest first."""
    from engram_core.lab.archive import lineage as ancestors  # noqa: PLC0415

    with place.owned("lists designs") as engram:
        book = engram.context.ledger.designs
        spec = _design(book, design)
        found = ancestors(book, spec.id)
        fitness = {trial.design: trial.fitness for trial in book.trials(split="dev") if trial.status == "evaluated"}
    rows = [{**_shown(item), "fitness": fitness.get(item.id), "rationale": item.rationale} for item in found]
    view = {"design": spec.id, "rows": rows}
    if plot is not None:
        from engram_core.cli.lab_plot import draw_lineage  # noqa: PLC0415

        draw_lineage(rows, plot)
    return Result(view, partial(_draw_rows, view=view, columns=("id", "operator", "fitness", "rationale")))


@command(lab)
def diff(place: Place, one: DesignId, other: DesignId) -> Result:
    """Show how two designs differ, operator by operator."""
    from engram_core.lab.archive import diff as difference  # noqa: PLC0415

    with place.owned("compares designs") as engram:
        book = engram.context.ledger.designs
        left, right = _design(book, one), _design(book, other)
    view = {"one": left.id, "other": right.id, "diff": difference(left, right)}
    return Result(view, lambda paper: paper.line(str(view["diff"]) or "They are the same."))


@command(lab)
def frontier(
    place: Place,
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task such as errands.")],
    split: Annotated[str, typer.Option("--split", help="dev or gate.")] = "dev",
    plot: Plot = None,
) -> Result:
    """Show score against tokens of one task: the designs that nothing beats in both."""
    from engram_core.lab.archive import frontier as points_of  # noqa: PLC0415

    with place.owned("lists designs") as engram:
        points = points_of(engram.context.ledger.designs.trials(split=split), task)
    rows = [
        {"id": point.design, "score": point.score, "tokens": point.tokens, "on_frontier": point.on_frontier}
        for point in points
    ]
    view = {"task": task, "split": split, "designs": len(rows), "rows": [row for row in rows if row["on_frontier"]]}
    if plot is not None:
        from engram_core.cli.lab_plot import draw_frontier  # noqa: PLC0415

        draw_frontier(rows, task, plot)
    return Result(view, partial(_draw_rows, view=view, columns=("id", "score", "tokens")))


@command(lab)
def promote(
    place: Place,
    design: DesignId,
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="Whose memory would use it.")],
    tasks: Tasks = None,
    data: Data = None,
    questions: Annotated[int, typer.Option("--questions", help="Questions per conversation, for the task chats.")] = 40,
) -> Result:
    """Take a design through the gate, and propose it for a scope if it passes. It takes an approval to be in force."""
    from engram_core import workshop  # noqa: PLC0415
    from engram_core.cli.progress import stages  # noqa: PLC0415

    with place.open() as engram, stages() as move:
        spec = _design(engram.context.ledger.designs, design)
        suite = workshop.suite(tasks or (), data=data, questions=questions)
        view = workshop.promote(engram, spec, scope, suite, principal=place.principal, progress=move)
    return Result(view, partial(_draw_examination, view=view), code=0 if view["passed"] else PROBLEMS)


# --- parts -----------------------------------------------------------------------------------------------------------


def _design(book: DesignBook, id_: str) -> DesignSpec:
    from engram_core.domain.errors import InvalidDesign  # noqa: PLC0415

    spec = book.get(id_) or book.get(f"genome:{id_}") or book.get(f"code:{id_}")
    if spec is None:
        raise InvalidDesign(f"The archive holds no design {id_!r}, or several; `engram lab archive` lists them.")
    return spec


def _shown(spec: DesignSpec) -> View:
    from engram_core.lab.archive import operators_of  # noqa: PLC0415

    return {
        "id": spec.id,
        "kind": spec.kind,
        "operator": spec.operator,
        "parents": list(spec.parents),
        "stages": " ".join(operators_of(spec)),
        "at": spec.at.isoformat(),
    }


def _draw_rows(paper: Paper, *, view: View, columns: tuple[str, ...]) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    numbers = {"fitness", "score", "tokens"}
    rows = [
        {name: f"{value:.3f}" if name in numbers and value is not None else value for name, value in row.items()}
        for row in view["rows"]
    ]
    made = [Column(name, is_wide=name in ("stages", "rationale"), is_right=name in numbers) for name in columns]
    paper.table(made, rows)
    if not rows:
        paper.remark("Nothing was tried yet. `engram lab run` does.")


def _draw_report(paper: Paper, *, report: View) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    paper.line(report["sentence"])
    rows = []
    for family, found in report["gate"].items():
        rows.append({"task": family, "search": "the default", **_figures(found["default"])})
        for name, arm in found["arms"].items():
            interval = arm["vs_default"]
            told = f"{interval['mean']:+.3f} ({interval['low']:+.3f} to {interval['high']:+.3f})"
            rows.append(
                {
                    "task": family,
                    "search": name,
                    **_figures(arm["gate"]),
                    "against default": told,
                    "design": arm["design"][:20],
                }
            )
    columns = ("task", "search", "score", "tokens", "against default", "design")
    paper.table([Column(name, is_right=name in ("score", "tokens")) for name in columns], rows)
    paper.remark(f"Run {report['run']}, {report['steps']} designs in each search. Gate split; intervals of 95 %.")


def _figures(values: View) -> View:
    return {"score": f"{values['score']:.3f}", "tokens": f"{values['tokens']:.0f}"}


def _draw_examination(paper: Paper, *, view: View) -> None:
    from engram_core.cli.paper import Column  # noqa: PLC0415

    rows = [
        {"check": check["name"], "": "passed" if check["passed"] else "FAILED", "why": check["line"]}
        for check in view["checks"]
    ]
    paper.table([Column("check"), Column(""), Column("why", is_wide=True)], rows)
    if view["proposal"]:
        paper.line(
            f"Proposed as {view['proposal']}. `engram approve {view['proposal']}` tries it beside the present design."
        )
    else:
        paper.line("It did not pass; nothing was proposed.")
