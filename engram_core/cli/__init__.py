"""The command line, a door for operators: it reads arguments and shows results; the facade does everything."""

from __future__ import annotations

from importlib import import_module

__all__ = ["main"]


def main() -> None:
    """Run the `engram` command with the process's arguments, and exit."""
    # Typer loads with the first command, not with the package: other code may look at `engram_core.cli` for its data.
    import_module("engram_core.cli.app").run()
