"""What tests that measure memory need: a scope that has learnt all it can keep in memory."""

from __future__ import annotations

from engram_core import Engram
from engram_core.operations.learned import MAX_QUESTIONS


def learn_all_it_can(engram: Engram, scope: str, question: str, answer: str) -> None:
    """Fill what a scope keeps of its judged recalls: it is bounded, and growing towards the bound is no leak."""
    memory = engram.memory(scope)
    for _ in range(MAX_QUESTIONS):
        memory.observe(memory.recall(question, k=1).id, answer)
