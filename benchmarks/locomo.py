"""Where the benchmarks find labelled conversations. The bench's readers read them; this measures nothing."""

from __future__ import annotations

from pathlib import Path

from engram_core.lab.bench.data import Conversation, Question
from engram_core.lab.bench.readers import load as read
from engram_core.lab.bench.readers.locomo import turn_ids

__all__ = ["DEFAULT", "Conversation", "Question", "load", "turn_ids"]

DEFAULT = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "locomo-dev.json"


def load(path: Path = DEFAULT) -> list[Conversation]:
    """The conversations of a file in any format that `engram bench` reads."""
    return list(read(path).conversations)
