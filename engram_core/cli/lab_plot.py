"""Lab plot: lineage and frontier as pictures. It draws what the commands found; it needs the extra `plot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engram_core.domain.errors import InvalidInput, MissingExtra

Rows = Sequence[Mapping[str, Any]]


def _figure(path: Path) -> Any:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - the extra `plot`
    except ImportError as error:
        raise MissingExtra('Plots need matplotlib: pip install "engram-agent-memory[plot]"') from error
    if path.suffix not in (".svg", ".png", ".pdf"):
        raise InvalidInput(f"A plot is an .svg, .png or .pdf file, not {path.name!r}.")
    return Figure(figsize=(8, 5), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise InvalidInput(f"The plot cannot be written to {path}: {error}.") from error


def draw_frontier(rows: Rows, task: str, path: Path) -> None:
    """Every design's score over its tokens; those that nothing beats in both are joined."""
    figure = _figure(path)
    axes = figure.subplots()
    best = sorted((row for row in rows if row["on_frontier"]), key=lambda row: row["tokens"])
    axes.scatter([row["tokens"] for row in rows], [row["score"] for row in rows], s=14, color="0.6", label="tried")
    axes.plot([row["tokens"] for row in best], [row["score"] for row in best], "o-", color="C0", label="frontier")
    axes.set(xlabel="tokens of a recall", ylabel=f"score: {task}", ylim=(-0.03, 1.03))
    axes.legend(loc="lower right")
    _save(figure, path)


def draw_lineage(rows: Rows, path: Path) -> None:
    """Designs by generation and fitness, joined to their parents."""
    figure = _figure(path)
    axes = figure.subplots()
    depth: dict[str, int] = {}
    for row in rows:  # oldest first, so parents come before their children
        depth[row["id"]] = 1 + max((depth[parent] for parent in row["parents"] if parent in depth), default=-1)
    height = {row["id"]: row["fitness"] if row["fitness"] is not None else 0.0 for row in rows}
    for row in rows:
        for parent in row["parents"]:
            if parent in depth:
                ends = (parent, row["id"])
                axes.plot([depth[end] for end in ends], [height[end] for end in ends], color="0.7", zorder=1)
    axes.scatter([depth[row["id"]] for row in rows], [height[row["id"]] for row in rows], color="C0", zorder=2)
    for row in rows:
        name = f"{row['operator']}\n{row['id'].partition(':')[2][:8]}"
        axes.annotate(
            name, (depth[row["id"]], height[row["id"]]), textcoords="offset points", xytext=(5, 5), fontsize=7
        )
    axes.set(xlabel="generation", ylabel="fitness (dev)")
    _save(figure, path)
