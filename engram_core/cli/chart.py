"""Chart: draws the usage view as a picture. Needs matplotlib, which only this file knows; it computes nothing."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engram_core.cli.views import View
from engram_core.domain.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS: Final = (".svg", ".png")
MAX_GROUPS: Final = 24
"""Scopes and kinds drawn; the ones that hold most. All of them are in the table and the JSON."""
MAX_TICKS: Final = 8
_EPOCH: Final = date(1970, 1, 1)
_BAR_DAYS: Final = 5.5
_MARGIN: Final = timedelta(days=5)
_LEAST_SPAN: Final = timedelta(weeks=5)
_COLOURS: Final = {"used": "#2a7f62", "unused": "#c9a227", "unknown": "#b8bec7", "never_recalled": "#dde1e7"}


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
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    axes.set_title("Facts in recall", loc="left")
    if not groups:
        _nothing(axes, "no facts yet")
        return
    labels = [f"{group['scope']}  {group['kind']}" for group in groups]
    parts = {
        "used": ("used in a response", [group["used"] for group in groups]),
        "unused": ("recalled, not used", [group["recalled"] - group["used"] for group in groups]),
        "never_recalled": ("never recalled", [group["never_recalled"] for group in groups]),
    }
    start = [0] * len(groups)
    for part, (name, values) in parts.items():
        axes.barh(labels, values, left=start, height=0.7, color=_COLOURS[part], label=name)
        start = [sum(pair) for pair in zip(start, values, strict=True)]
    for row, group in enumerate(groups):
        axes.annotate(str(group["stored"]), (group["stored"], row), (4, 0), textcoords="offset points", va="center")
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("facts")
    _legend(axes)


def _weeks(axes: Axes, weeks: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    axes.set_title("Verdicts by week", loc="left")
    if not weeks:
        _nothing(axes, "no verdicts yet")
        return
    starts = [date.fromisoformat(week["start"]) for week in weeks]
    below = [0] * len(weeks)
    for part in ("used", "unused", "unknown"):
        values = [week[part] for week in weeks]
        axes.bar(starts, values, bottom=below, width=_BAR_DAYS, color=_COLOURS[part], label=part)  # type: ignore[arg-type]  # dates are fine
        below = [sum(pair) for pair in zip(below, values, strict=True)]
    # Weeks without verdicts leave a gap, and one week alone is no wall.
    last = max(starts)
    axes.set_xlim(min(*starts, last - _LEAST_SPAN) - _MARGIN, last + _MARGIN)  # type: ignore[arg-type]
    ticks = [last - timedelta(weeks=back) for back in range((last - min(starts)).days // 7 + 1)]
    axes.set_xticks(ticks[:: -(-len(ticks) // MAX_TICKS)])  # type: ignore[arg-type]
    axes.xaxis.set_major_formatter(lambda day, _: (_EPOCH + timedelta(days=day)).isoformat())
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("verdicts")
    axes.set_xlabel("week from")
    _legend(axes)


def _legend(axes: Axes) -> None:
    """Above the bars on the right, where it hides none."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, borderaxespad=0.2, columnspacing=1.2)


def _nothing(axes: Axes, words: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", color="#66707c", transform=axes.transAxes)
