"""Bench subject: Engram as the bench measures it: through the facade, on disk, with the vectors everyone gets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from engram_core.domain.message import Message
from engram_core.engram import Engram
from engram_core.lab.bench.metrics import DEPTH
from engram_core.lab.bench.subject import Embed, Found, Item, SharedEmbedder, System

SCOPE: Final = "bench/conversation"
_ENOUGH: Final = 1_000_000
"""A budget of tokens that nothing is dropped for: the bench cuts rankings itself, the same way for everyone."""
_MOST: Final = 10_000


class EngramMemory:
    """One scope of a fresh store; defaults throughout, but for the design."""

    def __init__(self, embedder: SharedEmbedder, folder: Path, design: str) -> None:
        self._engram = Engram.open(folder / "store", embedder=embedder)
        self._memory = self._engram.memory(SCOPE)
        self._memory.set_policy(design=design)
        self._engram.context.failures.are_shown = True
        self._now: datetime | None = None

    def add(self, items: Sequence[Item]) -> None:
        """One `add`, at the time of its last message."""
        messages = [_message(one) for one in items]
        self._memory.add(messages, now=messages[-1].at)

    def at(self, moment: datetime) -> None:
        """Ask and forget as of `moment`."""
        self._now = moment

    def search(self, question: str, k: int) -> Sequence[Found]:
        """The facts of one `recall`, as its context would show them."""
        found = self._memory.recall(question, k=k, max_tokens=_ENOUGH, now=self._now)
        return [(one.message_ids or one.fact.origin.message_ids, one.text) for one in found.facts]

    def context(self, question: str, max_tokens: int) -> Sequence[Found]:
        """What `recall(max_tokens=…)` shows, fence and days within the budget."""
        found = self._memory.recall(question, k=DEPTH, max_tokens=max_tokens, now=self._now)
        return [(one.message_ids or one.fact.origin.message_ids, one.text) for one in found.facts]

    def forget(self, keep: int) -> None:
        """One night with a cap and no other change."""
        self._memory.set_policy(max_facts=max(keep, 1), auto_forget=True, protect_days=0)
        self._engram.sleep(SCOPE, now=self._now)

    def kept(self) -> set[str]:
        """Messages that some recallable fact comes from."""
        return {id_ for fact in self._memory.list(limit=_MOST) for id_ in fact.origin.message_ids}

    def close(self) -> None:
        """Close the store."""
        self._engram.close()


def system(embedder: SharedEmbedder, design: str, name: str, *, is_ours: bool) -> System:
    """Engram with a design, as a system of a run."""

    def opens(embed: Embed, folder: Path) -> EngramMemory:
        return EngramMemory(embedder, folder, design)

    return System(name, opens, is_ours=is_ours)


def _message(one: Item) -> Message:
    return Message(
        one["role"],
        one["words"],
        speaker=one["speaker"],
        at=datetime.fromisoformat(one["at"]) if one["at"] else None,
        session=one["session"],
        id=one["id"],
        channel=one["role"] if one["role"] in {"assistant", "tool"} else "user",
    )
