"""Evaluate: one design on the tasks of a suite. Whatever it does wrong ends up in its trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from engram_core.domain.errors import EngramError
from engram_core.domain.spec import DesignSpec, Trial
from engram_core.lab.tasks.base import Result, Split, Suite, fitness
from engram_core.lab.workbench import Collected, Runner, Workbench

MAX_ERROR = 500

Seen = Callable[[str, Result], None]


def evaluate(
    spec: DesignSpec,
    suite: Suite,
    split: Split,
    runner: Runner,
    *,
    at: datetime,
    cache: Collected | None = None,
    run: str = "",
    arm: str = "",
    number: int = 0,
    seen: Seen | None = None,
) -> Trial:
    """Try a design on every task of a suite.

    Args:
        split: `dev` for searching, `gate` for the last look, `smoke` for whether it runs at all.
        cache: Filled stores of earlier trials of designs that store alike.
        run, arm, number: Where the trial belongs in a search.
        seen: Called with each task's name and result.

    Returns:
        The trial; `quarantined` if the design raised or broke a hard limit: then the metrics hold what was found.
    """
    results: dict[str, Result] = {}
    bench = Workbench(spec, runner, cache)
    started = time.perf_counter()
    error = ""
    try:
        for task in suite.tasks:
            results[task.name] = task.run(bench, split)
            if seen is not None:
                seen(task.name, results[task.name])
            if results[task.name].broken:
                error = f"{task.name}: {results[task.name].broken[0]}"
                break
    except EngramError as failure:
        error = f"{type(failure).__name__}: {failure}"
    except Exception as failure:  # noqa: BLE001 - a design may raise anything, and that is what its trial says
        error = f"{type(failure).__name__}: {failure}"
    finally:
        bench.close()
    timings = {**bench.timings, "seconds": time.perf_counter() - started}
    return Trial(
        design=spec.id,
        at=at,
        suite=suite.fingerprint,
        split=split,
        status="quarantined" if error else "evaluated",
        run=run,
        arm=arm,
        number=number,
        fitness=0.0 if error else fitness(suite, results),
        metrics={name: dict(result.metrics) for name, result in results.items()},
        timings={name: round(value, 3) for name, value in timings.items()},
        rows={name: tuple(round(row, 6) for row in result.rows) for name, result in results.items()},
        error=error[:MAX_ERROR],
    )


def only(suite: Suite, families: Sequence[str]) -> Suite:
    """The suite's tasks of some families."""
    return Suite(tuple(task for task in suite.tasks if task.family in families), suite.weights)
