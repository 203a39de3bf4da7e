"""Paper: where results are written, for people on a terminal and for pipes. It formats; it knows nothing about memory.

On a terminal a table wraps to the window and an id stands under its text. In a pipe every row is one line of columns
separated by tabs, in full. Remarks go to stderr in both, so that a pipe carries results only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engram_core.floor.unseen import visible

LONGEST_CELL = 300
"""Characters of a cell on a terminal; pipes get everything."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        name: Key of the value in a row, and the heading.
        is_wide: It takes the room the others leave.
        is_right: Aligned right.
        style: Of rich, on terminals.
    """

    name: str
    is_wide: bool = False
    is_right: bool = False
    style: str = ""


class Paper:
    """Writes to stdout, and remarks to stderr. Colours follow the terminal and `NO_COLOR`."""

    def __init__(self) -> None:
        self._out = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        self._err = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)

    def line(self, text: str = "", style: str = "") -> None:
        """A line of result."""
        if self._out.is_terminal:
            self._out.print(Text(visible(text), style), soft_wrap=True)
        else:
            sys.stdout.write(f"{visible(text)}\n")

    def remark(self, text: str) -> None:
        """Something beside the result: counts, hints."""
        self._err.print(Text(visible(text), "dim"), soft_wrap=True)

    def error(self, text: str) -> None:
        """Why a command failed, on one line."""
        self._err.print(Text(f"engram: {_one_line(text)}", "red"), soft_wrap=True)

    def json(self, value: object) -> None:
        """The one JSON document of a `--json` call."""
        is_unicode = "utf" in (getattr(sys.stdout, "encoding", None) or "").lower()
        sys.stdout.write(json.dumps(value, ensure_ascii=not is_unicode, indent=2) + "\n")

    def table(self, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], *, under: str = "") -> None:
        """Rows under headings.

        Args:
            columns: In order.
            rows: Values by column name.
            under: On a terminal this column stands under the first wide one instead of beside it.
        """
        if self._out.is_terminal:
            self._out.print(_table(columns, rows, under))
            return
        lines = [[column.name for column in columns]]
        lines += [[_one_line(row.get(column.name)) for column in columns] for row in rows]
        sys.stdout.writelines("\t".join(cells) + "\n" for cells in lines)


def _table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], under: str) -> Table:
    beside = [column for column in columns if column.name != under]
    host = next((column.name for column in beside if column.is_wide), None)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in beside:
        table.add_column(
            column.name,
            style=column.style,
            justify="right" if column.is_right else "left",
            no_wrap=not column.is_wide,
            overflow="fold",
            ratio=1 if column.is_wide else None,
        )
    for row in rows:
        table.add_row(*(_cell(row, column.name, under if column.name == host else "") for column in beside))
    return table


def _cell(row: Mapping[str, Any], name: str, under: str) -> Text:
    value = visible(_text(row.get(name)))
    cell = Text(value if len(value) <= LONGEST_CELL else f"{value[:LONGEST_CELL]}…")
    if under and row.get(under):
        cell.append(f"\n{_text(row[under])}", "dim")
    return cell


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _one_line(value: object) -> str:
    return " ".join(visible(_text(value)).split())
