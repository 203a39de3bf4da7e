"""Other forms of the same labelled conversations; no ranking should be judged by one alone. It measures nothing."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from benchmarks.locomo import Conversation, load
from engram_core import Message

TYPOS = 0.3
"""Share of the longer words of a question that get two letters swapped."""


def _pooled(path: Path) -> list[Conversation]:
    """All conversations in one."""
    sessions, questions = [], []
    for one in load(path):
        sessions += [tuple(replace(said, id=f"{one.id}:{said.id}") for said in session) for session in one.sessions]
        questions += [
            replace(asked, evidence=tuple(f"{one.id}:{turn}" for turn in asked.evidence)) for asked in one.questions
        ]
    return [Conversation("pooled", (), tuple(sessions), tuple(questions))]


def _long(conversation: Conversation) -> Conversation:
    """In messages of five to ten turns, by user and assistant in turn, without speakers."""
    rng = random.Random(conversation.id)
    home: dict[str, str] = {}
    sessions = []
    for session in conversation.sessions:
        joined: list[Message] = []
        rest = list(session)
        while rest:
            part = [rest.pop(0) for _ in range(min(rng.randint(5, 10), len(rest)))]
            name = f"long-{part[0].id}"
            home |= {message.id or "": name for message in part}
            text = "\n".join(f"{message.speaker}: {message.content}" for message in part)
            role = "assistant" if len(joined) % 2 else "user"
            joined.append(Message(role, text, at=part[0].at, session=part[0].session, id=name))
        sessions.append(tuple(joined))
    questions = tuple(
        replace(question, evidence=tuple(dict.fromkeys(home[turn] for turn in question.evidence)))
        for question in conversation.questions
    )
    return Conversation(conversation.id, conversation.speakers, tuple(sessions), questions)


def _unnamed(conversation: Conversation) -> Conversation:
    """The first speaker as user and the other as assistant, neither with a name."""
    first = conversation.speakers[0]
    sessions = tuple(
        tuple(replace(said, speaker=None, role="user" if said.speaker == first else "assistant") for said in session)
        for session in conversation.sessions
    )
    return replace(conversation, sessions=sessions)


def _facts(path: Path) -> list[Conversation]:
    """What a model extracted from each session (`observations`), in place of the turns; they rest on some of those."""
    found = []
    for one, raw in zip(load(path), json.loads(path.read_text(encoding="utf-8")), strict=True):
        rests: dict[str, frozenset[str]] = {}
        sessions = []
        for number, (session, told) in enumerate(zip(one.sessions, raw["sessions"], strict=True), 1):
            facts = []
            for place, fact in enumerate(told["observations"]):
                name = f"o{number}-{place}"
                rests[name] = frozenset(fact["evidence"])
                at = session[0].at + timedelta(minutes=place) if session[0].at else None
                speaker, place_told = fact.get("speaker"), session[0].session
                facts.append(Message("user", fact["text"], speaker=speaker, at=at, session=place_told, id=name))
            sessions.append(tuple(facts))
        questions = tuple(
            replace(asked, evidence=tuple(name for name, turns in rests.items() if turns & set(asked.evidence)))
            for asked in one.questions
        )
        found.append(replace(one, sessions=tuple(sessions), questions=questions))
    return found


def _careless(conversation: Conversation) -> Conversation:
    """Questions in small letters and without their question marks."""
    return _asked(conversation, lambda text, _: text.lower().rstrip("?"))


def _typos(conversation: Conversation) -> Conversation:
    """Two neighbouring letters swapped in some of the longer words of a question; first letters stay."""

    def swapped(text: str, rng: random.Random) -> str:
        def word(found: re.Match[str]) -> str:
            letters = found[0]
            if rng.random() >= TYPOS:
                return letters
            at = rng.randrange(1, len(letters) - 1)
            return letters[:at] + letters[at + 1] + letters[at] + letters[at + 2 :]

        return re.sub(r"[A-Za-z]{5,}", word, text)

    return _asked(conversation, swapped)


def _asked(conversation: Conversation, changed: Callable[[str, random.Random], str]) -> Conversation:
    rng = random.Random(conversation.id)
    questions = tuple(replace(asked, text=changed(asked.text, rng)) for asked in conversation.questions)
    return replace(conversation, questions=questions)


def _each(change: Callable[[Conversation], Conversation]) -> Callable[[Path], list[Conversation]]:
    return lambda path: [change(one) for one in load(path)]


FORMS: Final[Mapping[str, Callable[[Path], list[Conversation]]]] = {
    "turns": load,
    "pooled": _pooled,
    "long": _each(_long),
    "facts": _facts,
    "unnamed": _each(_unnamed),
    "careless": _each(_careless),
    "typos": _each(_typos),
}
"""What a path's conversations are made into; `facts` reads the format of `../shared/data` alone."""
