"""Plots: a run's figures as small SVG pictures, each beside its table. The same view gives the same bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engram_core.domain.errors import InvalidInput, MissingExtra
from engram_core.lab.bench.metrics import BUDGETS
from engram_core.lab.bench.report import ALL, categories_of, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OURS: Final = "#2a7f62"
_OTHERS: Final = ("#4f6d9a", "#c9a227", "#a2506c", "#7a7f87", "#5b9aa0", "#b5763c", "#8a6fae", "#9aa94f", "#3f3f3f")
_MARKERS: Final = "osD^vPX*<>hd"
_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "engram",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def check() -> None:
    """Refuse early what could not be drawn in the end.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra('Drawing needs matplotlib: pip install "engram-agent-memory[plot]"') from error


def draw(data: Mapping[str, Any], ours: str | None, folder: Path) -> list[tuple[str, str]]:
    """Draw one data set of a view: recall by system, recall by budget, recall by category.

    Args:
        data: One of the view's `datasets`.
        ours: The memory drawn in its own colour.
        folder: Where the files go; made if it is not there.

    Returns:
        (what it shows, file name) of each picture; nothing for a data set without scored questions.

    Raises:
        InvalidInput: A file cannot be written.
    """
    if not data["means"]:
        return []
    stem = re.sub(r"[^a-z0-9]+", "-", Path(data["name"]).stem.lower()).strip("-") or "data"
    systems = list(data["means"])
    made = [
        ("Evidence found in 10 hits", "recall", 0.7 + 0.26 * len(systems), _recall),
        ("Evidence found in a budget of tokens", "tokens", 3.4, _tokens),
        ("Evidence found in 10 hits, by category", "categories", 0.9 + 0.42 * len(categories_of(data)), _categories),
    ]
    found = []
    for title, name, height, drawn in made:
        file = f"{stem}-{name}.svg"
        _save(folder / file, height, lambda axes, drawn=drawn: drawn(axes, data, _colours(systems, ours)))  # type: ignore[misc]
        found.append((f"{title}: {data['name']}", file))
    return found


def _colours(systems: list[str], ours: str | None) -> dict[str, str]:
    others = [name for name in systems if name != ours]
    colours = {name: _OTHERS[place % len(_OTHERS)] for place, name in enumerate(others)}
    return {name: colours.get(name, _OURS) for name in systems}


def _save(path: Path, height: float, drawn: Callable[[Axes], None]) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure as NewFigure  # noqa: PLC0415

    with mpl.rc_context(_STYLE):
        figure: Figure = NewFigure(figsize=(7.5, height), layout="constrained")
        drawn(figure.subplots())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        except OSError as error:
            raise InvalidInput(f"The plot cannot be written to {path}: {error}.") from error


def _recall(axes: Axes, data: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    values = {system: categories[ALL]["R@10"] for system, categories in data["means"].items() if ALL in categories}
    names = sorted(values, key=lambda name: values[name])
    axes.barh(names, [values[name] for name in names], color=[colours[name] for name in names], height=0.7)
    for row, name in enumerate(names):
        axes.annotate(share(values[name]), (values[name], row), (4, 0), textcoords="offset points", va="center")
    axes.set_xlim(0, 1)
    axes.set_xlabel("R@10")
    axes.tick_params(axis="y", length=0)


def _tokens(axes: Axes, data: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    for place, (system, categories) in enumerate(data["means"].items()):
        if ALL in categories:
            values = [categories[ALL][f"R@{budget}t"] for budget in BUDGETS]
            marker = _MARKERS[place % len(_MARKERS)]
            axes.plot(range(len(BUDGETS)), values, marker=marker, ms=4, lw=1.2, color=colours[system], label=system)
    axes.set_xticks(range(len(BUDGETS)), [str(budget) for budget in BUDGETS])
    axes.set_ylim(0, 1)
    axes.set_xlabel("tokens")
    axes.set_ylabel("share of the evidence")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def _categories(axes: Axes, data: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    names = categories_of(data)
    for place, (system, categories) in enumerate(data["means"].items()):
        rows = [row for row, name in enumerate(names) if name in categories]
        values = [categories[names[row]]["R@10"] for row in rows]
        axes.scatter(values, rows, s=26, marker=_MARKERS[place % len(_MARKERS)], color=colours[system], label=system)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("R@10")
    axes.grid(axis="y", lw=0.4)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
