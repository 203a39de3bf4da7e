"""Erasures of the ledger in dictionaries, under the same contract as the real ones. Nothing outlives the object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from engram_core.domain.fact import Fact, Status
from engram_core.domain.message import Message
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.keeping import Aside, Erasure, Hold, Tombstone
from engram_core.measure.redaction import Redaction, without_words
from engram_core.ports import Decision, RecallRow, UsageRow

if TYPE_CHECKING:
    from engram_core.testing.memory_ledger import MemoryLedger


class MemoryErasures:
    """See `engram_core.keeping.ErasureBook`.

    Args:
        ledger: Whose dictionaries these are the books of.
    """

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self._tombstones: dict[str, Tombstone] = {}
        self._receipts: dict[str, dict[str, Any]] = {}
        self._holds: dict[str, Hold] = {}

    # --- carrying out ---

    def blank(self, scope: Scope, erasure: Erasure) -> None:
        """Carry out an erasure in one scope; its stubs are written already."""
        gone, covering = frozenset(erasure.fact_ids), Redaction(erasure.words)
        shown = {row.id for row in self._ledger._recalls.values() if not gone.isdisjoint(row.shown)}
        self._blank_messages(scope, erasure, covering)
        self._blank_histories(scope, erasure, covering)
        self._blank_recalls(scope, erasure, shown, covering)
        self._forget_relations(scope, erasure, gone, covering)
        for id_, generation in self._ledger._generations.items():
            if generation.state != "building":
                self._ledger._generations[id_] = replace(generation, state="bad")
        self.bury(erasure.tombstones)
        begun = {"id": erasure.id, "at": erasure.at.isoformat(), "principal": erasure.principal, "state": "begun"}
        self._receipts.setdefault(erasure.id, begun)

    def _blank_messages(self, scope: Scope, erasure: Erasure, covering: Redaction) -> None:
        state = self._ledger._state
        gone = set(erasure.message_ids)
        kept = {
            id_
            for item in state.facts.values()
            if item.fact.scope == scope and item.fact.status is not Status.ERASED
            for id_ in item.fact.origin.message_ids
        } - gone
        for item in state.episodes.values():
            if item.episode.scope != scope:
                continue
            after = () if erasure.is_whole else tuple(_message(m, gone, kept, covering) for m in item.episode.messages)
            if after != item.episode.messages and not any(message.content for message in after):
                item.extraction = "none"
                state.parked = [
                    replace(p, error="", payload={}) if p.episode_id == item.episode.id else p for p in state.parked
                ]
            item.episode = replace(item.episode, messages=after)

    def _blank_histories(self, scope: Scope, erasure: Erasure, covering: Redaction) -> None:
        state = self._ledger._state
        state.decisions = [_decision(item, scope, erasure, covering) for item in state.decisions]
        for kept in state.facts.values():
            reason = kept.fact.archived_reason
            if kept.fact.scope == scope and reason and covering.holds(reason):
                kept.fact = replace(kept.fact, archived_reason=covering.covered(reason))

    def _blank_recalls(self, scope: Scope, erasure: Erasure, shown: set[str], covering: Redaction) -> None:
        ledger = self._ledger
        for id_, row in list(ledger._recalls.items()):
            ledger._recalls[id_] = _recall(row, scope, erasure, shown, covering)

        def answered(row: UsageRow) -> UsageRow:
            if erasure.is_whole and row.scope == scope:
                return replace(row, response="", question=None, verdicts=[])
            if row.recall_id in shown:
                return replace(row, response="", question=None)
            return replace(row, response=covering.covered(row.response)) if scope.contains(row.scope) else row

        ledger._usage = [answered(row) for row in ledger._usage]
        ledger._judgements = [(tick, answered(row)) for tick, row in ledger._judgements]
        ledger._counted = {id_: (tick, answered(row)) for id_, (tick, row) in ledger._counted.items()}

    def _forget_relations(self, scope: Scope, erasure: Erasure, gone: frozenset[str], covering: Redaction) -> None:
        ledger, state = self._ledger, self._ledger._state
        here = {item.fact.id for item in state.facts.values() if item.fact.scope == scope}
        out = here if erasure.is_whole else gone
        state.links = [link for link in state.links if link.newer not in out and link.older not in out]
        for id_, row in list(ledger._recalls.items()):
            if not gone.isdisjoint(row.shown):
                ledger._unshown.setdefault(id_, set()).update(gone.intersection(row.shown))
        for by, tallies in ledger._tallies.items():
            lost = list(tallies) if erasure.is_whole and by == scope else [id_ for id_ in tallies if id_ in gone]
            for id_ in lost:
                del tallies[id_]
        for key in [key for key in ledger._scope_nights if erasure.is_whole and key[1] == scope]:
            del ledger._scope_nights[key]
        for key, report in ledger._scope_nights.items():
            if scope.contains(key[1]):
                ledger._scope_nights[key] = covering.covered_values(without_words(report, gone))
        gaps = ledger.diary._gaps
        for id_, gap in list(gaps.items()):
            if gap.fact_id in gone or (erasure.is_whole and gap.scope == scope):
                del gaps[id_]
            elif scope.contains(gap.scope):
                lapses = tuple(
                    replace(lapse, question=covering.covered(lapse.question), span=covering.covered(lapse.span))
                    for lapse in gap.lapses
                )
                line = covering.covered(gap.reason.line)
                said = {"question": covering.covered(gap.question), "reason": replace(gap.reason, line=line)}
                gaps[id_] = replace(gap, lapses=lapses, **said)  # type: ignore[arg-type]
        state.parked = [
            replace(item, error="", payload={})
            if erasure.is_whole and item.scope == scope
            else replace(item, error=covering.covered(item.error), payload=covering.covered_values(item.payload))
            if scope.contains(item.scope)
            else item
            for item in state.parked
        ]

    # --- the book ---

    def tombstoned(self, marks: Sequence[str]) -> set[str]:
        return {mark for mark in marks if mark in self._tombstones}

    def tombstones(self) -> list[Tombstone]:
        return [self._tombstones[mark] for mark in sorted(self._tombstones)]

    def bury(self, tombstones: Sequence[Tombstone]) -> int:
        fresh = {item.mark: item for item in tombstones if item.mark not in self._tombstones}
        self._tombstones |= fresh
        return len(fresh)

    def lift(self, erasure_id: str) -> int:
        gone = [mark for mark, item in self._tombstones.items() if item.erasure == erasure_id]
        for mark in gone:
            del self._tombstones[mark]
        return len(gone)

    def aside(self) -> Aside | None:
        return None

    def set_aside(self, key: str) -> None:
        """There is no beside: nothing outlives the object."""

    def receipts(self, limit: int = 100, *, begun: bool = False) -> list[dict[str, Any]]:
        found = sorted(self._receipts.values(), key=lambda item: (item["at"], item["id"]), reverse=True)
        found = [item for item in found if not begun or item["state"] == "begun"]
        return [json.loads(json.dumps(item)) for item in found[:limit]]

    def save_receipt(self, erasure_id: str, receipt: Mapping[str, Any]) -> None:
        if erasure_id in self._receipts:
            self._receipts[erasure_id] = dict(receipt)

    def about(self, subject: str, scope: Scope | None) -> list[str]:
        bare = subject.removeprefix("user:")
        names = (bare, f"user:{bare}")

        def is_about(fact: Fact) -> bool:
            return (
                not set(names).isdisjoint(fact.subjects)
                or fact.speaker in names
                or fact.origin.principal == names[1]
                or fact.scope.labels[-1] in names
            )

        facts = sorted(self._ledger._state.facts.values(), key=lambda item: item.born)
        return [
            item.fact.id
            for item in facts
            if item.fact.status is not Status.ERASED
            and (scope is None or scope.contains(item.fact.scope))
            and is_about(item.fact)
        ]

    def replaced_by(self, ids: Sequence[str]) -> list[Fact]:
        facts = sorted(self._ledger._state.facts.values(), key=lambda item: item.born)
        return [item.fact for item in facts if item.fact.consolidated_into in ids]

    def still_said(self, texts: Sequence[str]) -> set[str]:
        state = self._ledger._state
        kept = [item.fact for item in state.facts.values() if item.fact.status is not Status.ERASED]
        said = [fact.text for fact in kept] + [json.dumps(dict(fact.metadata), ensure_ascii=False) for fact in kept]
        said += [name for fact in kept for name in (fact.speaker, fact.origin.session, *fact.subjects) if name]
        said += [message.content for item in state.episodes.values() for message in item.episode.messages]
        return {text for text in texts if any(Redaction([text]).holds(one) for one in said)}

    def blank_before(self, scope: Scope, moment: datetime) -> int:
        ledger, count = self._ledger, 0
        for id_, row in list(ledger._recalls.items()):
            if row.scope == scope and row.at < moment and row.query:
                ledger._recalls[id_] = replace(row, query="", session=None, dropped=[])
                count += 1

        def answered(row: UsageRow) -> UsageRow:
            return replace(row, response="", question=None) if row.scope == scope and row.at < moment else row

        ledger._usage = [answered(row) for row in ledger._usage]
        ledger._judgements = [(tick, answered(row)) for tick, row in ledger._judgements]
        return count

    def scrub(self, *, thorough: bool = False) -> dict[str, str]:
        return {"rows": "held in this process's memory only"}

    def files(self) -> list[str]:
        return []

    def place_hold(self, hold: Hold) -> None:
        self._holds[hold.id] = hold

    def release_hold(self, hold_id: str, principal: str, at: datetime) -> bool:
        held = self._holds.get(hold_id)
        if held is None or held.released_at is not None:
            return False
        self._holds[hold_id] = replace(held, released_at=at, released_by=principal)
        return True

    def holds(self, *, released: bool = False) -> list[Hold]:
        found = sorted(self._holds.values(), key=lambda hold: (hold.at, hold.id))
        return [hold for hold in found if released or hold.released_at is None]


def _message(message: Message, gone: set[str], kept: set[str], covering: Redaction) -> Message:
    if message.id in gone:
        return Message(message.role, "", at=message.at, channel=message.channel)
    return message if message.id in kept else message.with_content(covering.covered(message.content))


def _decision(item: Decision, scope: Scope, erasure: Erasure, covering: Redaction) -> Decision:
    if item.fact_id in erasure.fact_ids or (erasure.is_whole and item.scope == scope):
        return replace(item, reason=Reason(item.reason.rule, ""), before=None, after=None)
    if item.fact_id in erasure.touched_ids:
        return replace(item, reason=replace(item.reason, line=""), before=None, after=None)
    if item.fact_id is None and (item.after or {}).get("message_id") in erasure.message_ids and item.scope == scope:
        return replace(item, reason=replace(item.reason, line=""), after=None)
    if item.fact_id in erasure.linked_ids:
        return replace(item, reason=replace(item.reason, line=""))
    if item.scope == scope and covering.holds(item.reason.line):
        return replace(item, reason=replace(item.reason, line=covering.covered(item.reason.line)))
    return item


def _recall(row: RecallRow, scope: Scope, erasure: Erasure, shown: set[str], covering: Redaction) -> RecallRow:
    if erasure.is_whole and row.scope == scope:
        return replace(row, query="", session=None, facts=[], dropped=[])
    gone = frozenset(erasure.fact_ids)
    if row.id in shown or scope.contains(row.scope):
        row = replace(
            row,
            query="" if row.id in shown else covering.covered(row.query),
            session=None if row.id in shown else row.session,
            dropped=covering.covered_values(without_words(list(row.dropped), gone)),
        )
    return replace(row, session=None) if row.session in erasure.sessions else row
