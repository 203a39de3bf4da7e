"""Chats: evidence found in recorded conversations, within a budget of tokens. No judge: labels name the messages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from engram_core.lab.bench.data import Conversation, Dataset, Question
from engram_core.lab.tasks.base import Result, Split, scored
from engram_core.lab.workbench import LabStore, Workbench, covered

SMOKE = 5
_SCOPE = "lab/chat"


@dataclass(frozen=True)
class EvidenceTask:
    """Evidence recall on labelled conversations (docs/benchmarks.md has the formats).

    The first half of the conversations is `dev`, the others are `gate`: questions about one conversation never stand
    on both sides. Of a single conversation every other question is `gate`, and the report says so.

    Args:
        data: From `lab.bench.readers.load`.
        budget: Tokens of each recall.
        questions: At most this many per conversation, evenly spread.
    """

    data: Dataset
    budget: int = 256
    questions: int = 40
    name: str = "chats"
    family: str = "chats"

    @property
    def fingerprint(self) -> str:
        """Of the conversations' words and questions, and the settings."""
        digest = hashlib.sha256(f"{self.budget}/{self.questions}".encode())
        for chat in self.data.conversations:
            for message in chat.messages:
                digest.update(f"{message.id}\x00{message.content}\x01".encode("utf-8", "replace"))
            for question in chat.questions:
                digest.update(f"{question.text}\x00{question.evidence}\x01".encode("utf-8", "replace"))
        return digest.hexdigest()[:16]

    def asked(self, split: Split) -> list[tuple[Conversation, Sequence[Question]]]:
        """Conversations of a split and the questions that are asked about them."""
        chats = self.data.conversations
        half = max(1, len(chats) // 2)
        is_gate = split == "gate"
        mine = chats if len(chats) == 1 else chats[half:] if is_gate else chats[:half]
        found: list[tuple[Conversation, Sequence[Question]]] = []
        for chat in mine[:1] if split == "smoke" else mine:
            able = [item for item in chat.questions if item.evidence and item.category not in self.data.apart]
            able = able[int(is_gate) :: 2] if len(chats) == 1 else able
            most = SMOKE if split == "smoke" else self.questions
            step = max(1, len(able) // most)
            found.append((chat, able[::step][:most]))
        return found

    def run(self, bench: Workbench, split: Split) -> Result:
        """Score: the share of a question's evidence that its recall shows."""
        rows: list[float] = []
        tokens: list[int] = []
        for chat, questions in self.asked(split):
            store = bench.filled(f"{self.name}/{self.fingerprint}/{chat.id}", partial(_fill, chat=chat))
            memory = store.memory(_SCOPE)
            last = max((message.at for message in chat.messages if message.at is not None), default=None)
            assert last is not None
            for question in questions:
                now = question.asked_at or last + timedelta(days=1)
                recall = bench.recall(memory, question.text, now, k=60, max_tokens=self.budget)
                evidence = frozenset(question.evidence)
                sessions = {id_.partition("/")[0] for id_ in evidence}
                shown = covered(recall) | ({item.fact.origin.session or "" for item in recall.facts} & sessions)
                rows.append(len(shown & evidence) / len(evidence))
                tokens.append(recall.tokens)
        return Result(scored(rows, tokens), tuple(rows))


def _fill(store: LabStore, chat: Conversation) -> None:
    memory = store.memory(_SCOPE)
    for session in chat.sessions:
        if session:
            memory.add(list(session), now=session[-1].at)
