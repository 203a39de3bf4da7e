"""Forks: lets objects get ready for `os.fork` and start afresh in the child. It forks nothing and knows no object."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

Call = Callable[[], None]


def on_fork(*, before: Call | None = None, in_parent: Call | None = None, in_child: Call | None = None) -> None:
    """Call bound methods around every later fork of this process, as long as their object is alive.

    `subprocess` does not count: it replaces the child at once.
    """
    if hasattr(os, "register_at_fork"):
        if before is not None:
            os.register_at_fork(before=_weak(before))
        if in_parent is not None:
            os.register_at_fork(after_in_parent=_weak(in_parent))
        if in_child is not None:
            os.register_at_fork(after_in_child=_weak(in_child))


def _weak(method: Call) -> Call:
    mine = weakref.WeakMethod(method)

    def call() -> None:
        alive = mine()
        if alive is not None:
            alive()

    return call
