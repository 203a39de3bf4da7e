"""CodeDesign: a design as one Python file behind the same seam. Plain data goes in; every answer is checked.

The file has three functions, all pure:

    update(episode, view)   -> [{"add": text, "messages": [0], "kind": ..., "importance": ..., "reason": ...}, ...]
    retrieve(query, view)   -> [[fact id, {term: weight}], ...], best first
    sleep(view)             -> [{"archive": fact id, "reason": ...} or {"reweigh": fact id, "importance": ...}, ...]

`view` holds facts as plain dictionaries: in `update` the ones nearest to what was said, in `retrieve` the ones worth
ranking, with the default ranking's terms, in `sleep` the newest of the scope. The design can name no other.
"""

from __future__ import annotations

import ast
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from engram_core.design import Ask, View
from engram_core.designs.code.sandbox import Limits, Sandbox, require_sandbox
from engram_core.designs.pipeline import Pipeline
from engram_core.domain.change import Add, Archive, Change, Draft, Ignore, Reweigh
from engram_core.domain.errors import DesignFailed, EmbeddingFailed, InvalidDesign
from engram_core.domain.fact import MAX_TEXT_BYTES, Fact
from engram_core.domain.message import Episode, Message
from engram_core.domain.reason import Reason
from engram_core.domain.recall import Query, Scored
from engram_core.domain.scope import Scope
from engram_core.domain.spec import MAX_SOURCE_BYTES, content_id
from engram_core.floor import legality
from engram_core.floor.unseen import visible

NEARBY: Final = 20
SLEEP_FACTS: Final = 600
MOST_CHANGES: Final = 1_000
MOST_TERMS: Final = 16
SCOPES: Final = 4
"""Processes at a time: each sees one scope's facts, and the longest unused one ends."""
FUNCTIONS: Final = ("update", "retrieve", "sleep")
_SILENT: Final = Reason("code_design", "The design proposed nothing for it.")


def checked(source: str) -> str:
    """The text of a design, if it can be one: UTF-8, not too long, Python, with the three functions.

    It is no security check: what a design may do is decided by the kernel.

    Raises:
        InvalidDesign: It is none, and why.
    """
    try:
        size = len(source.encode("utf-8"))
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidDesign(f"A code design is Python in UTF-8: {type(error).__name__}: {error}.") from error
    if size > MAX_SOURCE_BYTES:
        raise InvalidDesign(f"A code design has at most {MAX_SOURCE_BYTES:,} bytes, not {size:,}.")
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    missing = [name for name in FUNCTIONS if name not in defined]
    if missing:
        raise InvalidDesign(f"A code design defines the functions {', '.join(FUNCTIONS)}; {missing[0]} is missing.")
    return source


@dataclass(frozen=True, slots=True)
class CodeDesign:
    """See `engram_core.design.Design`.

    Args:
        source: Its text; see `checked`.

    Raises:
        InvalidDesign: The text is no design.
        SandboxUnavailable: This machine cannot isolate it.
    """

    source: str
    limits: Limits = field(default_factory=Limits)
    _boxes: OrderedDict[Scope, Sandbox] = field(default_factory=OrderedDict, compare=False, repr=False)
    _lock: Any = field(default_factory=threading.Lock, compare=False, repr=False)

    def __post_init__(self) -> None:
        checked(self.source)
        require_sandbox()

    @property
    def name(self) -> str:
        """`code:<sha256>`."""
        return content_id("code", self.source)

    def update(self, episode: Episode, view: View) -> Sequence[Change]:
        """What it keeps of an episode; a message it does not name is ignored."""
        if not episode.messages:
            return []
        told = {"messages": [_message(place, item) for place, item in enumerate(episode.messages)]}
        answer = self._call(view.scope, "update", [told, {**_about(view), "nearby": _nearby(episode, view)}])
        drafts = [_draft(item, episode) for item in _list(answer)]
        changes: list[Change] = [Add(draft, reason) for draft, reason in drafts]
        named = {id(message) for draft, _ in drafts for message in draft.messages}
        changes += [Ignore(message, _SILENT) for message in episode.messages if id(message) not in named]
        return changes

    def retrieve(self, query: Query, view: View) -> Sequence[Scored]:
        """Its ranking of the default ranking's candidates."""
        candidates = Pipeline().retrieve(query, view)
        if not candidates:
            return []
        facts = {fact.id: fact for fact in view.facts([item.fact_id for item in candidates])}
        told = [
            {**_fact(facts[item.fact_id]), "score": item.score, "terms": dict(item.terms)}
            for item in candidates
            if item.fact_id in facts
        ]
        asked = {"text": query.text, "k": query.k, "kinds": sorted(query.kinds)}
        answer = self._call(view.scope, "retrieve", [asked, {**_about(view), "candidates": told}])
        return _ranking(answer, {item["id"] for item in told})

    def sleep(self, view: View) -> Sequence[Change]:
        """What it wants archived or reweighed; proposals that the floor would refuse are left to the floor."""
        facts = view.facts(list(view.candidates(Ask(newest=SLEEP_FACTS)).ids)[:SLEEP_FACTS])
        own = {fact.id for fact in facts if fact.scope == view.scope}
        told = [_fact(fact) for fact in facts if fact.id in own]
        answer = self._call(view.scope, "sleep", [{**_about(view), "facts": told}])
        return [_night(item, own) for item in _list(answer)]

    def _call(self, scope: Scope, function: str, arguments: Sequence[Any]) -> Any:
        with self._lock:
            box = self._boxes.pop(scope, None) or Sandbox(self.source, self.limits)
            self._boxes[scope] = box
            idle = [self._boxes.popitem(last=False)[1] for _ in range(len(self._boxes) - SCOPES)]
        for old in idle:
            old.close()
        return box.call(function, arguments)

    def close(self) -> None:
        """End its processes; the next call starts new ones."""
        with self._lock:
            boxes = list(self._boxes.values())
            self._boxes.clear()
        for box in boxes:
            box.close()


# --- what it is told ---


def _about(view: View) -> dict[str, Any]:
    return {"now": view.now.isoformat(), "policy": view.policy.model_dump(mode="json")}


def _message(place: int, message: Message) -> dict[str, Any]:
    return {
        "index": place,
        "role": message.role,
        "content": message.content,
        "speaker": message.speaker,
        "channel": message.channel,
        "at": message.at.isoformat() if message.at else None,
    }


def _fact(fact: Fact) -> dict[str, Any]:
    return {
        "id": fact.id,
        "text": fact.text,
        "speaker": fact.speaker,
        "kind": fact.kind,
        "slot": [fact.slot.subject, fact.slot.attribute] if fact.slot else None,
        "said_at": fact.said_at.isoformat(),
        "session": fact.origin.session,
        "channel": fact.origin.channel,
        "importance": fact.importance,
        "trust": fact.trust,
        "pinned": fact.pinned,
    }


def _nearby(episode: Episode, view: View) -> list[dict[str, Any]]:
    texts = [message.content for message in episode.messages if message.content.strip()][:8]
    try:
        found = view.alike(texts, 4).found if texts else ()
    except EmbeddingFailed:
        return []
    facts = {item.fact.id: item.fact for one in found for item in one}
    return [_fact(fact) for fact in list(facts.values())[:NEARBY]]


# --- what it answers, checked ---


def _list(answer: Any) -> list[Any]:
    if not isinstance(answer, list) or len(answer) > MOST_CHANGES:
        raise DesignFailed(f"The design must answer a list of at most {MOST_CHANGES:,} items.")
    return answer


def _mapping(item: Any) -> Mapping[str, Any]:
    if not isinstance(item, dict):
        raise DesignFailed(f"The design must propose objects, not {type(item).__name__}.")
    return item


def _draft(item: Any, episode: Episode) -> tuple[Draft, Reason]:
    item = _mapping(item)
    text, places = item.get("add"), item.get("messages")
    if not isinstance(text, str) or not text.strip() or len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise DesignFailed("The design must add a text of at most 8 KiB.")
    if not isinstance(places, list) or not places or len(places) > len(episode.messages):
        raise DesignFailed("The design must say which messages a text rests on.")
    if not all(type(place) is int and 0 <= place < len(episode.messages) for place in places):
        raise DesignFailed("The design named a message that is not there.")
    messages = tuple(episode.messages[place] for place in dict.fromkeys(places))
    kind = item.get("kind", "observation")
    if not isinstance(kind, str) or legality.unfit_kind(kind) is not None:
        raise DesignFailed("The design named a kind that is no word such as 'preference'.")
    share = _share(item.get("importance", 0.5))
    draft = Draft(text, messages, kind=kind, importance=share, speaker=messages[0].speaker)
    return draft, _reason(item)


def _ranking(answer: Any, known: set[str]) -> list[Scored]:
    if not isinstance(answer, list) or len(answer) > len(known):
        raise DesignFailed("The design must rank the candidates, each once at most.")
    ranked: list[Scored] = []
    seen: set[str] = set()
    for item in answer:
        if not isinstance(item, list) or len(item) != 2:
            raise DesignFailed("The design must rank by pairs of a fact's id and its terms.")
        id_, terms = item
        if not isinstance(id_, str) or id_ not in known or id_ in seen:
            raise DesignFailed("The design named a fact that is no candidate, or one twice.")
        seen.add(id_)
        ranked.append(Scored(id_, _terms(terms)))
    return sorted(ranked, key=lambda scored: -scored.score)


def _terms(terms: Any) -> dict[str, float]:
    if not isinstance(terms, dict) or not 0 < len(terms) <= MOST_TERMS:
        raise DesignFailed(f"A ranked fact has from 1 to {MOST_TERMS} terms.")
    for name, value in terms.items():
        is_number = type(value) in (int, float) and math.isfinite(value) and abs(value) <= 1_000
        if not is_number or not name.isidentifier() or len(name) > 40:
            raise DesignFailed("A term is a name and a finite number.")
    return {name: float(value) for name, value in terms.items()}


def _night(item: Any, own: set[str]) -> Change:
    item = _mapping(item)
    id_ = item.get("archive", item.get("reweigh"))
    if not isinstance(id_, str) or id_ not in own or ("archive" in item) == ("reweigh" in item):
        raise DesignFailed("The design must archive or reweigh a fact that it was shown.")
    if "archive" in item:
        return Archive(id_, _reason(item))
    return Reweigh(id_, _share(item.get("importance")), _reason(item))


def _share(value: Any) -> float:
    if type(value) not in (int, float) or not 0.0 <= value <= 1.0:
        raise DesignFailed("Importance is a number from 0 to 1.")
    return float(value)


def _reason(item: Mapping[str, Any]) -> Reason:
    line = item.get("reason", "")
    told = " ".join(visible(line).split())[:200] if isinstance(line, str) else ""
    return Reason("code_design", told or "The design gave no reason.")
