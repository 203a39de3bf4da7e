"""Report: a run's figures as tables and Markdown. It computes means and intervals from rows; it reads no clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from engram_core.lab.bench import metrics
from engram_core.lab.bench.metrics import Interval
from engram_core.lab.bench.run import USUAL, Clocked, ForgetRow, Measured, Row
from engram_core.measure.paired import RESAMPLES

ALL: Final = "all"
MAIN: Final = (
    "R@1",
    "R@5",
    "R@10",
    "R@20",
    "All@10",
    "NDCG@10",
    "MRR",
    "R@256t",
    "R@512t",
    "C@256t",
    "A@256t",
    "A@512t",
)
"""Columns of the main table."""
COMPARED: Final = ("R@10", "R@256t", "A@256t")
"""Metrics with intervals."""
CHANGED: Final = ("stale@5", "stale@10", "latest first")
REFERENCE: Final = "chroma"
"""The memory whose speed the others are divided by."""

Means = Mapping[str, Mapping[str, Mapping[str, float]]]
"""System → category → metric → mean."""


def means(rows: Iterable[Row], apart: frozenset[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Means over questions.

    Args:
        rows: Of one data set.
        apart: Categories that do not count in `all`.

    Returns:
        System → category, `all` first → metric → mean over the questions that have it.
    """
    grouped: dict[str, dict[str, list[Row]]] = defaultdict(lambda: {ALL: []})
    for row in rows:
        grouped[row.system].setdefault(row.category, []).append(row)
        if row.category not in apart:
            grouped[row.system][ALL].append(row)
    return {
        system: {category: _mean(found) for category, found in _ordered(categories).items() if found}
        for system, categories in grouped.items()
    }


def _ordered(categories: dict[str, list[Row]]) -> dict[str, list[Row]]:
    return {name: categories[name] for name in [ALL, *sorted(set(categories) - {ALL})]}


def _mean(rows: Sequence[Row]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for metric, value in row.values.items():
            values[metric].append(value)
    return {metric: float(np.mean(found)) for metric, found in values.items()}


def differences(
    rows: Sequence[Row], ours: str, apart: frozenset[str], *, seed: int = 0
) -> dict[str, dict[str, dict[str, Interval]]]:
    """Ours minus each other memory, paired by question: system → category → metric → interval."""
    by_key = {(row.system, row.key): row for row in rows}
    mine = [row for row in rows if row.system == ours]
    categories = {ALL: [row for row in mine if row.category not in apart]}
    for name in sorted({row.category for row in mine}):
        categories[name] = [row for row in mine if row.category == name]
    found: dict[str, dict[str, dict[str, Interval]]] = {}
    for system in dict.fromkeys(row.system for row in rows if row.system != ours):
        found[system] = {}
        for category, asked in categories.items():
            intervals = _paired(asked, [by_key[system, row.key] for row in asked], seed)
            if intervals:
                found[system][category] = intervals
    return found


def _paired(ours: Sequence[Row], theirs: Sequence[Row], seed: int) -> dict[str, Interval]:
    found = {}
    for metric in COMPARED:
        pairs = [(a.values[metric], b.values[metric]) for a, b in zip(ours, theirs, strict=True) if metric in a.values]
        if pairs:
            mine, other = zip(*pairs, strict=True)
            found[metric] = metrics.paired_interval(mine, other, seed=seed)
    return found


def forgetting(rows: Iterable[ForgetRow]) -> list[dict[str, Any]]:
    """One row per memory and way of forgetting: precision, recall, the share kept of what should be, counts."""
    grouped: dict[str, list[ForgetRow]] = defaultdict(list)
    for row in rows:
        grouped[row.system].append(row)
    found = []
    for system, told in grouped.items():
        # Ids are unique in a conversation only.
        forget = frozenset((row.conversation, id_) for row in told for id_ in row.forget)
        keep = frozenset((row.conversation, id_) for row in told for id_ in row.keep)
        for way in ("own", "cap"):
            gone = {(row.conversation, id_) for row in told for id_ in getattr(row, way)}
            judged = metrics.of_forgetting(map(repr, gone), _named(forget), _named(keep))
            base = len(forget) / max(len(forget | keep), 1)
            found.append({"system": system, "way": way, "at random": base, **judged._asdict()})
    return found


def _named(pairs: Iterable[tuple[str, str]]) -> frozenset[str]:
    return frozenset(map(repr, pairs))


def speeds(clocks: Mapping[str, Clocked]) -> list[dict[str, Any]]:
    """One row per memory: adds per second, milliseconds per search, and both beside plain Chroma in the same run."""
    base = clocks.get(REFERENCE)
    found = []
    for system, clock in clocks.items():
        rate, middle = _rate(clock), _percentile(clock.searches, 50)
        found.append(
            {
                "system": system,
                "adds/s": rate,
                "adds, ratio": rate / _rate(base) if base and _rate(base) else None,
                "p50 ms": middle,
                "p95 ms": _percentile(clock.searches, 95),
                "p50, ratio": middle / _percentile(base.searches, 50) if base and base.searches else None,
            }
        )
    return found


def _rate(clock: Clocked) -> float:
    return clock.items / clock.adding if clock.adding else 0.0


def _percentile(seconds: Sequence[float], share: int) -> float:
    return float(np.percentile(seconds, share)) * 1_000 if seconds else 0.0


# --- the view --------------------------------------------------------------------------------------------------------


def view(measured: Measured, *, embedder: str, counter: str, adds: str, seed: int, with_times: bool) -> dict[str, Any]:
    """Everything a report says, as JSON-able values; the same rows give the same view, times apart."""
    whole = {system.name for system in measured.whole}
    ours = next((system.name for system in measured.whole if system.is_ours), None)
    sets = []
    for data in measured.datasets:
        rows = [row for row in measured.rows if row.dataset == data.name and row.system in whole]
        sets.append(
            {
                "name": data.name,
                "format": data.format,
                **data.size,
                "apart": sorted(data.apart),
                "means": means(rows, data.apart),
                "differences": differences(rows, ours, data.apart, seed=seed) if ours else {},
                "forgetting": forgetting(
                    row for row in measured.forgets if row.dataset == data.name and row.system in whole
                ),
            }
        )
    return {
        "embedder": embedder,
        "counter": counter,
        "adds": adds,
        "ours": ours,
        "systems": {system.name: system.versions for system in measured.whole},
        "datasets": sets,
        "speeds": speeds({name: clock for name, clock in measured.clocks.items() if name in whole})
        if with_times
        else [],
        "failures": [
            {"system": failure.system, "conversation": failure.conversation, "error": failure.error}
            for failure in measured.failures
        ],
    }


# --- Markdown --------------------------------------------------------------------------------------------------------


def markdown(found: Mapping[str, Any], plots: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """The report as Markdown.

    Args:
        found: A `view`.
        plots: Data set → (what it shows, path relative to the page).
    """
    parts = [_about(found), *(_dataset(found, data, plots.get(data["name"], ())) for data in found["datasets"])]
    if found["speeds"]:
        parts.append(_speeds(found))
    if found["failures"]:
        lines = [f"- {one['system']}, in {one['conversation']}: {one['error']}" for one in found["failures"]]
        parts.append("**Failed and left out:**\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _about(found: Mapping[str, Any]) -> str:
    versions = "; ".join(f"{name}: {version}" for name, version in found["systems"].items() if version)
    return (
        f"One run; embedder `{found['embedder']}` for every memory, tokens by `{found['counter']}`. "
        f"Intervals are 95 %, paired over questions, {RESAMPLES:,} resamples." + (f" {versions}." if versions else "")
    )


def _dataset(found: Mapping[str, Any], data: Mapping[str, Any], plots: Sequence[tuple[str, str]]) -> str:
    parts = [f"### {data['name']}", _size(data)]
    if data["means"]:
        parts += [_main(data), *(f"![{title}]({path})" for title, path in plots)]
        parts += [_categories(data, metric) for metric in ("R@10", "R@256t")]
    if data["differences"]:
        parts.append(_differences(found["ours"], data))
    if any(metric in means for each in data["means"].values() for means in each.values() for metric in CHANGED):
        parts.append(_changed(data))
    if data["forgetting"]:
        parts.append(_forgetting(data))
    return "\n\n".join(parts)


def _size(data: Mapping[str, Any]) -> str:
    apart = f" `{ALL}` leaves out {', '.join(data['apart'])}." if data["apart"] else ""
    return (
        f"{data['conversations']} conversations, {data['messages']:,} messages; {data['scored']:,} of "
        f"{data['questions']:,} questions have evidence and are scored.{apart}"
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def share(value: float | None) -> str:
    """A share as the pages write it: .825; – where there is none."""
    if value is None:
        return "–"
    return f"{value:.3f}".removeprefix("0") if value < 1 else "1"


def points(interval: Interval | Sequence[float]) -> str:
    """An interval in points: +24.1 [21.9, 26.3]; bold if it leaves out zero."""
    mean, low, high = (100 * value for value in interval)
    text = f"{mean:+.1f} [{low:.1f}, {high:.1f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def _main(data: Mapping[str, Any]) -> str:
    rows = [
        [system, *(share(categories.get(ALL, {}).get(metric)) for metric in MAIN)]
        for system, categories in data["means"].items()
    ]
    return table(["", *MAIN], rows)


def categories_of(data: Mapping[str, Any]) -> list[str]:
    """The categories of a data set in a view, without `all`."""
    return [name for name in next(iter(data["means"].values())) if name != ALL]


def _categories(data: Mapping[str, Any], metric: str) -> str:
    names = categories_of(data)
    rows = [
        [system, *(share(categories.get(name, {}).get(metric)) for name in names)]
        for system, categories in data["means"].items()
    ]
    return table([f"{metric} by category", *names], rows)


def _differences(ours: str, data: Mapping[str, Any]) -> str:
    names = categories_of(data)
    rows = [
        [system, *(points(each[ALL][metric]) if metric in each.get(ALL, {}) else "–" for metric in COMPARED)]
        for system, each in data["differences"].items()
    ]
    by_category = [
        [system, *(points(each[name]["R@10"]) if name in each else "–" for name in names)]
        for system, each in data["differences"].items()
    ]
    first = table([f"{ours} minus …, points", *COMPARED], rows)
    return first + "\n\n" + table([f"R@10, {ours} minus …", *names], by_category)


def _changed(data: Mapping[str, Any]) -> str:
    rows = []
    for system, categories in data["means"].items():
        values = categories.get(ALL, {})
        rows.append([system, *(share(values.get(metric)) for metric in CHANGED)])
    return table(["what changed", *CHANGED], rows)


_WAYS: Final = {"own": "on its own", "cap": "down to the number to keep"}


def _forgetting(data: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{row['system']}, {_WAYS[row['way']]}",
            *(share(row[name]) for name in ("precision", "recall", "kept")),
            str(row["forgotten"]),
            share(row["at random"]),
        ]
        for row in data["forgetting"]
    ]
    return table(
        ["forgetting", "precision", "recall", "kept of what to keep", "forgotten", "precision at random"], rows
    )


def _speeds(found: Mapping[str, Any]) -> str:
    def ratio(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    rows = [
        [
            row["system"],
            f"{row['adds/s']:,.0f}",
            ratio(row["adds, ratio"]),
            f"{row['p50 ms']:.2f}",
            f"{row['p95 ms']:.2f}",
            ratio(row["p50, ratio"]),
        ]
        for row in found["speeds"]
    ]
    how = {"one": "one message at a time", "session": "a session at a time", "all": "all at once"}[found["adds"]]
    return (
        f"Speed in the same run, embedding left out, messages added {how}; {USUAL} hits per search. Ratios "
        f"are to `{REFERENCE}`. Times depend on the machine and on what else it does: compare within the table.\n\n"
        + table(["", "adds/s", "ratio", "search p50 ms", "p95 ms", "ratio of p50"], rows)
    )
