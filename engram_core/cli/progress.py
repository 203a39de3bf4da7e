"""Progress: bars on stderr for work that takes a while. They appear on terminals, unless the caller knows better."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on terminals that is moved by calling with (what is being done, done, total)."""
    console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        yield lambda label, done, total: None
        return
    with Progress(*_columns(), console=console, transient=True) as progress:
        task = progress.add_task("sleep", total=None)

        def move(label: str, done: int, total: int) -> None:
            progress.update(task, description=label, completed=done, total=total)

        yield move


@contextmanager
def bar(label: str, *, shown: bool | None = None) -> Iterator[Callable[[int, int], None]]:
    """A bar that is moved by calling with (done, total).

    Args:
        label: What is being done.
        shown: None shows it on terminals; True also elsewhere, where only its last state is printed; False never.
    """
    console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
    # A disabled Progress of older versions of rich still ends with an empty line.
    if not (console.is_terminal if shown is None else shown):
        yield lambda done, total: None
        return
    with Progress(*_columns(), console=console) as progress:
        task = progress.add_task(label, total=None)

        def move(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield move


def _columns() -> tuple[ProgressColumn, ...]:
    return TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
