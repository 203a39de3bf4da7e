"""Page: puts a report into a Markdown file between two marks, and touches nothing else there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engram_core.domain.errors import InvalidInput

BEGIN: Final = "<!-- engram bench: from here on made by the command -->"
END: Final = "<!-- engram bench: up to here -->"


def check(path: Path) -> None:
    """Refuse early what could not be written in the end.

    Raises:
        InvalidInput: The folder is not there, or the file is and has no marks.
    """
    if not path.parent.is_dir():
        raise InvalidInput(f"There is no folder {path.parent} for the report; make it first.")
    if path.exists():
        _parts(path)


def write(path: Path, report: str) -> None:
    """Write the report between the marks; a new file gets them.

    Raises:
        InvalidInput: As `check`.
    """
    before, after = _parts(path) if path.exists() else ("# Benchmark\n\n", "\n")
    path.write_text(f"{before}{BEGIN}\n\n{report.strip()}\n\n{END}{after}", encoding="utf-8")


def _parts(path: Path) -> tuple[str, str]:
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise InvalidInput(
            f"{path} exists and has no place for a report. Put these two lines where it should go: {BEGIN} and {END}; "
            "or name a new file."
        )
    return before, after
