"""Chart: draws the usage view as a picture. Needs matplotlib, which only this file knows; it computes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engram_core.cli.views import View
from engram_core.domain.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS: Final = (".svg", ".png")
MAX_GROUPS: Final = 24
"""Scopes and kinds drawn; the ones that hold most. All of them are in the table and the JSON."""
_COLOURS: Final = {"used": "#2a7f62", "unused": "#c9a227", "unknown": "#b8bec7", "never_recalled": "#b8bec7"}


def check(path: Path) -> None:
    """Refuse early what could not be drawn in the end.

    Raises:
        InvalidInput: The name does not end in .svg or .png, or its folder is not there.
        MissingExtra: matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise InvalidInput(f"A plot is an .svg or a .png file; {path.name!r} is neither.")
    if not path.parent.is_dir():
        raise InvalidInput(f"There is no folder {path.parent} to draw into; make it first.")
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415
    except ImportError as error:
        raise MissingExtra('Drawing needs matplotlib: pip install "engram-agent-memory[plot]"') from error


def draw(view: View, path: Path) -> None:
    """Draw facts by scope and kind, and verdicts by week. The same view gives the same file.

    Raises:
        InvalidInput: The file cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    groups = sorted(view["groups"], key=lambda group: -group["stored"])[:MAX_GROUPS]
    with mpl.rc_context(
        {"svg.hashsalt": "engram", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(9, 4 + 0.3 * len(groups)), layout="constrained")
        above, below = figure.subplots(2, 1, height_ratios=[max(len(groups), 3), 6])
        _facts(above, groups)
        _weeks(below, view["weeks"])
        figure.suptitle(f"Usage of {view['scope'] or 'the whole store'}, {view['at'][:10]}")
        try:
            figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None, dpi=144)
        except OSError as error:
            raise InvalidInput(f"The plot cannot be written to {path}: {error}.") from error


def _facts(axes: Axes, groups: list[dict[str, Any]]) -> None:
    labels = [f"{group['scope']}  {group['kind']}" for group in groups]
    parts = {
        "used": [group["used"] for group in groups],
        "unused": [group["recalled"] - group["used"] for group in groups],
        "never_recalled": [group["never_recalled"] for group in groups],
    }
    names = {"used": "used in a response", "unused": "recalled, not used", "never_recalled": "never recalled"}
    start = [0] * len(groups)
    for part, values in parts.items():
        axes.barh(labels, values, left=start, color=_COLOURS[part], label=names[part])
        start = [sum(pair) for pair in zip(start, values, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("facts")
    axes.legend(loc="best", frameon=False)


def _weeks(axes: Axes, weeks: list[dict[str, Any]]) -> None:
    labels = [week["start"] for week in weeks]
    start = [0] * len(weeks)
    for part in ("used", "unused", "unknown"):
        values = [week[part] for week in weeks]
        axes.bar(labels, values, bottom=start, color=_COLOURS[part], label=part)
        start = [sum(pair) for pair in zip(start, values, strict=True)]
    axes.set_ylabel("verdicts")
    axes.set_xlabel("week from")
    axes.tick_params(axis="x", rotation=45)
    if weeks:
        axes.legend(loc="best", frameon=False)
    else:
        axes.text(0.5, 0.5, "no verdicts yet", ha="center", va="center", transform=axes.transAxes)
