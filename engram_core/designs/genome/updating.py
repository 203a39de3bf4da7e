"""Operators of update: what of an episode becomes a fact, and what an older fact makes way for. They propose only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

from pydantic import Field

from engram_core.design import View
from engram_core.designs.genome.registry import NoParams, Operator, Params
from engram_core.designs.pipeline.update import update as statements_of
from engram_core.designs.plain import Null, Similarity
from engram_core.domain.change import Add, Change, Draft, Ignore, Merge, Supersede, messages_of
from engram_core.domain.fact import MAX_TEXT_BYTES, Fact, Slot
from engram_core.domain.message import Episode, Message
from engram_core.domain.reason import Reason
from engram_core.measure import sameness

_COMMAND = re.compile(r"^>\s*(\S.*)$", re.MULTILINE)
_PLACE = re.compile(r"-=\s*(.+?)\s*=-")
_RUN = Reason("kept_run", "One fact for the whole run: what it was for, and what was done.")

Update = Callable[[Sequence[Change], Episode, View], Sequence[Change]]


class _Commands(Params):
    form: Literal["transcript", "commands", "path"] = "path"


def _commands(params: _Commands) -> Callable[[Episode, View], Sequence[Change]]:
    def update(episode: Episode, view: View) -> Sequence[Change]:
        draft = _run(episode.messages, params.form)
        return Similarity().update(episode, view) if draft is None else [Add(draft, _RUN)]

    return update


def _run(messages: Sequence[Message], form: str) -> Draft | None:
    """One draft for an agent's run; None for an episode that is none, or too long for one fact."""
    goal = next((message.content.strip() for message in messages if message.role == "user"), "")
    steps = [(found[1].strip(), "") for message in messages for found in [_COMMAND.match(message.content)] if found]
    if not goal or not steps or any(not message.content.strip() for message in messages):
        return None
    if form == "transcript":
        lines = [message.content.strip() for message in messages if message.content.strip() != goal]
    elif form == "commands":
        lines = [f"> {command}" for command, _ in steps]
    else:
        lines = [f"> {command}" for command in _path(messages)]
    text = "\n".join([goal, *lines])
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        return None
    return Draft(text, tuple(messages), slot=_goal_slot(goal))


def _goal_slot(goal: str) -> Slot | None:
    # As bytes, because that is what a slot's limit counts.
    return Slot("goal", sameness.normal_form(goal)) if len(goal.encode("utf-8", "surrogatepass")) <= 500 else None


def _path(messages: Sequence[Message]) -> list[str]:
    """The commands without the detours that came back to where they began."""
    kept: list[tuple[str, str]] = []
    command, place, start = None, "", ""
    for message in messages:
        found = _COMMAND.match(message.content)
        if found:
            command = found[1].strip()
            continue
        seen = _PLACE.search(message.content)
        if seen and command is None:
            start = place = seen[1]
        if command is not None:
            before, place = place, seen[1] if seen else place
            kept.append((command, place))
            # Looking round names the place again; only a move can close a loop.
            kept = _without_loop(kept, place, start) if place != before else kept
            command = None
    return [command for command, _ in kept] + ([command] if command is not None else [])


def _without_loop(kept: list[tuple[str, str]], place: str, start: str) -> list[tuple[str, str]]:
    if place == start:
        return []
    first = next(number for number, (_, at) in enumerate(kept) if at == place)
    return kept[: first + 1]


# --- refinements ---


def _supersede_slot(params: NoParams) -> Update:
    def refine(changes: Sequence[Change], episode: Episode, view: View) -> Sequence[Change]:
        slots = [change.draft.slot for change in changes if isinstance(change, Add) and change.draft.slot is not None]
        held = view.holders(slots) if slots else []
        named = [change.fact_id for change in changes if isinstance(change, Supersede | Merge)]
        taken = {id_ for id_ in named if isinstance(id_, str)}
        done: list[Change] = []
        newest: dict[Slot, Draft] = {}
        for change in changes:
            if not isinstance(change, Add) or change.draft.slot is None or change.superseded_by is not None:
                done.append(change)
                continue
            slot = change.draft.slot
            stored = [fact.id for fact in held if _gives_way(fact, slot, taken)]
            taken.update(stored)
            older: list[str | Draft] = [*stored, *([newest[slot]] if slot in newest else [])]
            newest[slot] = change.draft
            reason = Reason("slot_newer", f"It is the newest word on {slot.subject}: {slot.attribute[:80]}.")
            done += [Supersede(target, change.draft, reason) for target in older] or [change]
        return done

    return refine


def _gives_way(fact: Fact, slot: Slot, taken: set[str]) -> bool:
    return fact.slot == slot and not fact.pinned and fact.id not in taken


def _merge_repeats(params: NoParams) -> Update:
    def refine(changes: Sequence[Change], episode: Episode, view: View) -> Sequence[Change]:
        fixed = _referred(changes)
        keys = [_key(change.draft, episode) if _is_free(change, fixed) else "" for change in changes]  # type: ignore[union-attr]
        twins = view.twins([key for key in keys if key])
        done: list[Change] = []
        for change, key in zip(changes, keys, strict=True):
            twin = twins.get(key) if key else None
            if twin is not None and isinstance(change, Add) and twin.origin.channel == change.draft.messages[0].channel:
                done.append(Merge(twin.id, change.draft, Reason("duplicate", "The same speaker said the same before.")))
            else:
                done.append(change)
        return done

    return refine


def _key(draft: Draft, episode: Episode) -> str:
    return sameness.key(draft.text, draft.speaker, draft.messages[0].at or episode.at)


class _Role(Params):
    role: Literal["user", "assistant", "tool"] = "assistant"


def _skip_role(params: _Role) -> Update:
    reason = Reason("skipped_role", f"This design keeps nothing that a message of the role {params.role} says.")

    def refine(changes: Sequence[Change], episode: Episode, view: View) -> Sequence[Change]:
        return _without(changes, lambda draft: draft.messages[0].role == params.role, reason)

    return refine


class _Importance(Params):
    importance: float = Field(default=0.3, ge=0.0, le=1.0)


def _admit(params: _Importance) -> Update:
    def refine(changes: Sequence[Change], episode: Episode, view: View) -> Sequence[Change]:
        reason = Reason("not_admitted", f"Its importance is below {params.importance:g}.")
        return _without(changes, lambda draft: draft.importance < params.importance, reason)

    return refine


class _Words(Params):
    words: int = Field(default=3, ge=1, le=12)


def _skip_short(params: _Words) -> Update:
    def refine(changes: Sequence[Change], episode: Episode, view: View) -> Sequence[Change]:
        reason = Reason("skipped_short", f"It has fewer than {params.words} words.")
        return _without(changes, lambda draft: len(draft.text.split()) < params.words, reason)

    return refine


def _without(changes: Sequence[Change], is_out: Callable[[Draft], bool], reason: Reason) -> list[Change]:
    """The changes without the plain additions that are out; every message is still accounted for."""
    fixed = _referred(changes)
    out = {place for place, item in enumerate(changes) if _is_free(item, fixed) and is_out(item.draft)}  # type: ignore[union-attr]
    named = {id(message) for place, item in enumerate(changes) if place not in out for message in messages_of(item)}
    done: list[Change] = []
    for place, change in enumerate(changes):
        if place not in out:
            done.append(change)
            continue
        for message in messages_of(change):
            if id(message) not in named:
                named.add(id(message))
                done.append(Ignore(message, reason))
    return done


def _is_free(change: Change, fixed: set[int]) -> bool:
    """Whether a change is an addition that no other change of the proposal refers to."""
    return isinstance(change, Add) and change.superseded_by is None and id(change.draft) not in fixed


def _referred(changes: Sequence[Change]) -> set[int]:
    """Identities of the drafts that other changes point to, or that stand in several changes."""
    found: list[Draft] = []
    for change in changes:
        found += [target for target in _targets(change) if isinstance(target, Draft)]
    many = [change.draft for change in changes if isinstance(change, Add | Supersede)]
    repeated = [draft for draft in many if sum(other is draft for other in many) > 1] if len(many) < 200 else []
    return {id(draft) for draft in (*found, *repeated)}


def _targets(change: Change) -> Iterator[str | Draft | None]:
    if isinstance(change, Add):
        yield change.superseded_by
        yield from (update.older for update in change.draft.updates)
    elif isinstance(change, Supersede):
        yield change.fact_id
        yield from (update.older for update in change.draft.updates)


OPERATORS: Final = (
    Operator(
        "statements",
        "update",
        "source",
        "Statements word for word, without small talk; duplicates merged, new values of a slot supersede: the default.",
        lambda params: statements_of,
        reads=("words", "slots", "vectors"),
    ),
    Operator("verbatim", "update", "source", "Every message as it is.", lambda params: Similarity().update),
    Operator("nothing", "update", "source", "Remembers nothing.", lambda params: Null().update),
    Operator(
        "commands",
        "update",
        "source",
        "One fact for an agent's run: its goal and its commands (`> go east`), without loops in the form `path`; other "
        "episodes message by message.",
        _commands,
        _Commands,
        ("words",),
    ),
    Operator(
        "supersede_slot",
        "update",
        "refine",
        "A new fact replaces older ones with the same slot, such as the same goal.",
        _supersede_slot,
        reads=("slots",),
    ),
    Operator(
        "merge_repeats",
        "update",
        "refine",
        "A statement that is known word for word joins the fact that says it.",
        _merge_repeats,
        reads=("words",),
    ),
    Operator("skip_role", "update", "refine", "Leaves out what one role says.", _skip_role, _Role),
    Operator(
        "admit",
        "update",
        "refine",
        "Leaves out what is less important than this.",
        _admit,
        _Importance,
        ("importance",),
    ),
    Operator("skip_short", "update", "refine", "Leaves out what has fewer words than this.", _skip_short, _Words),
)
