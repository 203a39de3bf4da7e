"""Operators of sleep: what the night should archive or reweigh in one scope. They propose; the floor decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from pydantic import Field

from engram_core.design import Ask, View
from engram_core.designs.genome.registry import NoParams, Operator, Params
from engram_core.domain.change import Archive, Change, Reweigh
from engram_core.domain.reason import Reason
from engram_core.measure import sameness

LOOKED_AT: Final = 600
"""The newest facts that a night's operator looks at: pairs among them are compared."""

Sleep = Callable[[View], Sequence[Change]]


def _expired(params: NoParams) -> Sleep:
    def sleep(view: View) -> Sequence[Change]:
        return [
            Archive(fact.id, Reason("expired_slot", "The time it holds for is over."))
            for fact in view.facts(view.candidates(Ask(newest=LOOKED_AT)).ids)
            if fact.valid_until is not None and fact.valid_until < view.now
        ]

    return sleep


def _older_slots(params: NoParams) -> Sleep:
    def sleep(view: View) -> Sequence[Change]:
        facts = view.facts(view.candidates(Ask(newest=LOOKED_AT)).ids)
        newest = {
            (fact.slot, fact.speaker): fact for fact in sorted(facts, key=lambda f: (f.said_at, f.id)) if fact.slot
        }
        return [
            Archive(fact.id, Reason("slot_older", "A newer fact fills the same slot."))
            for fact in facts
            if fact.slot is not None and newest[fact.slot, fact.speaker].id != fact.id
        ]

    return sleep


class _Likeness(Params):
    likeness: float = Field(default=0.9, ge=0.7, le=1.0)


def _repeats(params: _Likeness) -> Sleep:
    def sleep(view: View) -> Sequence[Change]:
        found = view.candidates(Ask(newest=LOOKED_AT))
        rows = np.argsort(found.said_at, kind="stable")[-LOOKED_AT:].tolist()
        near = found.content[rows] @ found.content[rows].T
        facts = {fact.id: fact for fact in view.facts([found.ids[row] for row in rows])}
        proposed: list[Change] = []
        for place, row in enumerate(rows):
            fact = facts.get(found.ids[row])
            for later in (np.flatnonzero(near[place, place + 1 :] >= params.likeness) + place + 1).tolist():
                other = facts.get(found.ids[rows[later]])
                if fact is None or other is None or fact.speaker != other.speaker or other.trust < fact.trust:
                    continue
                # Two texts that differ in one name are near and both true.
                if sameness.contradiction(fact.text, other.text) is None:
                    terms = {"cosine": round(float(near[place, later]), 4)}
                    proposed.append(Archive(fact.id, Reason("said_again", "A newer fact says the same.", terms)))
                    break
        return proposed

    return sleep


class _Unused(Params):
    below: float = Field(default=-0.1, ge=-0.5, le=0.0)
    days: float = Field(default=30.0, ge=0.0, le=3_650.0)


def _unused(params: _Unused) -> Sleep:
    def sleep(view: View) -> Sequence[Change]:
        found = view.candidates(Ask(newest=LOOKED_AT))
        old = (view.now.timestamp() - found.said_at) / 86_400.0 >= params.days
        return [
            Archive(found.ids[row], Reason("never_used", "Answers did not use it.", {"usefulness": float(value)}))
            for row in np.flatnonzero(old & (found.usefulness <= params.below) & (found.usefulness < 0.0)).tolist()
            for value in [round(float(found.usefulness[row]), 4)]
        ]

    return sleep


class _Pull(Params):
    pull: float = Field(default=0.5, ge=0.0, le=1.0)


def _by_use(params: _Pull) -> Sleep:
    def sleep(view: View) -> Sequence[Change]:
        found = view.candidates(Ask(newest=LOOKED_AT))
        proposed: list[Change] = []
        for row in np.flatnonzero(found.usefulness != 0.0).tolist():
            now = float(found.importance[row])
            wanted = round(min(max(now + params.pull * float(found.usefulness[row]), 0.0), 1.0), 4)
            # A night that changes hardly anything should change nothing: each change is a new version of a fact.
            if abs(wanted - now) >= 0.02:
                terms = {"before": round(now, 4), "usefulness": round(float(found.usefulness[row]), 4)}
                proposed.append(Reweigh(found.ids[row], wanted, Reason("by_use", "As answers used it.", terms)))
        return proposed

    return sleep


OPERATORS: Final = (
    Operator("archive_expired", "sleep", "source", "Archives what no longer holds.", _expired, reads=("time",)),
    Operator(
        "archive_older_slots", "sleep", "source", "Archives older facts of a slot.", _older_slots, reads=("slots",)
    ),
    Operator(
        "archive_repeats",
        "sleep",
        "source",
        "Archives what a newer fact of the same speaker says again.",
        _repeats,
        _Likeness,
        ("vectors", "words"),
    ),
    Operator(
        "archive_unused",
        "sleep",
        "source",
        "Archives old facts that recalls showed and answers did not use.",
        _unused,
        _Unused,
        ("usefulness", "time"),
    ),
    Operator(
        "reweigh_by_use",
        "sleep",
        "source",
        "Moves importance towards use.",
        _by_use,
        _Pull,
        ("usefulness", "importance"),
    ),
)
