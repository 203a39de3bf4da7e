"""Rows: a run question by question as JSON Lines, written and read back, so that slow memories need not run again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engram_core.domain.errors import InvalidInput
from engram_core.lab.bench.data import Dataset
from engram_core.lab.bench.readers.broken import part
from engram_core.lab.bench.run import Measured, Row
from engram_core.lab.bench.subject import Embed, Subject, System


def check(path: Path) -> None:
    """Refuse early what could not be written in the end.

    Raises:
        InvalidInput: There is no such folder.
    """
    if not path.parent.is_dir():
        raise InvalidInput(f"There is no folder {path.parent} for the rows; make it first.")


def write(measured: Measured, path: Path, *, embedder: str, counter: str) -> None:
    """Write what the run was into the first line, then a line per memory and question.

    Raises:
        InvalidInput: The file cannot be written.
    """
    whole = {system.name: system.versions for system in measured.whole}
    about = {"embedder": embedder, "counter": counter, "systems": whole}
    lines = [{"run": about}, *(row.to_dict() for row in measured.rows if row.system in whole)]
    try:
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"The rows cannot be written to {path}: {error}.") from error


@dataclass(frozen=True, slots=True)
class Earlier:
    """Memories of an earlier run, and what they answered to the questions of this one."""

    systems: tuple[System, ...]
    rows: tuple[Row, ...]

    def join(self, measured: Measured) -> None:
        """Show those that did not run now among those that did."""
        present = {system.name for system in measured.systems}
        measured.systems += tuple(system for system in self.systems if system.name not in present)
        measured.rows += [row for row in self.rows if row.system not in present]


def read(path: Path, datasets: Sequence[Dataset], *, embedder: str, counter: str) -> Earlier:
    """What an earlier run wrote, if it can stand beside a run on `datasets`.

    Args:
        path: The file.
        datasets: Of the present run.
        embedder, counter: Of the present run; those of the earlier one must be the same.

    Raises:
        InvalidInput: The file cannot be read, was made with other vectors, tokens or data, or a memory in it did not
            answer every question that is asked now.
    """
    about, rows = _read(path)
    if (about["embedder"], about["counter"]) != (embedder, counter):
        raise InvalidInput(
            f"{path} was made with the embedder {about['embedder']} and tokens by {about['counter']}; this run has "
            f"{embedder} and {counter}. Run those memories again."
        )
    asked = dict(_asked(datasets))
    systems, kept = [], []
    for name, versions in about["systems"].items():
        theirs = {row.key: row for row in rows if row.system == name}
        if any(key not in theirs or theirs[key].gold != gold for key, gold in asked.items()):
            raise InvalidInput(f"In {path}, {name} did not answer the questions asked now, or they had other evidence.")
        kept += [theirs[key] for key in asked]
        systems.append(System(name, _past, versions=f"{versions}, from an earlier run".removeprefix(", ")))
    return Earlier(tuple(systems), tuple(kept))


def _past(embed: Embed, folder: Path) -> Subject:
    raise NotImplementedError("a memory of an earlier run is not asked again")


def _asked(datasets: Sequence[Dataset]) -> Iterator[tuple[tuple[str, str, str], tuple[str, ...]]]:
    for data in datasets:
        for conversation in data.conversations:
            for question in conversation.questions:
                if question.evidence:
                    yield (data.name, conversation.id, question.id), question.evidence


def _read(path: Path) -> tuple[dict[str, Any], list[Row]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The rows at {path} cannot be read: {error}.") from error
    lines = text.splitlines()
    with part(path.name, "line 1"):
        about = json.loads(lines[0])["run"]
        about = {"embedder": about["embedder"], "counter": about["counter"], "systems": dict(about["systems"])}
    rows = []
    for number, line in enumerate(lines[1:], 2):
        with part(path.name, f"line {number}"):
            rows.append(Row.from_dict(json.loads(line)))
    return about, rows
