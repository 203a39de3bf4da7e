"""Every verb in any order on a real store: what must hold whatever came before."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engram_core import ChangeRefused, Engram, FactNotFound, Message
from engram_core.domain.fact import Fact
from engram_core.measure.columns import standing
from engram_core.testing.fakes import SequentialIds, WordHashEmbedder

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
SCOPE, SIBLING = "acme/support/ana", "acme/support/ben"
REFUSALS = (ChangeRefused, FactNotFound)
LINES = (
    # Slots that change value, and updates that are only linked.
    "I live in Lisbon.",
    "I just moved to Porto.",
    "I moved to Oslo.",
    "My budget is $500",
    "My budget is $650 now.",
    "From next month I live in Faro.",
    "The release is planned for May.",
    "The release moved to June instead.",
    # Clusters, twins and near twins.
    "I drink green tea every morning.",
    "Green tea with jasmine is my favourite drink.",
    "I bought 3 kinds of green tea.",
    "My green tea pot broke in May.",
    "I prefer green tea to black tea.",
    "I drink green tea every single morning.",
    "Green tea is what I drink every morning.",
    "The cello lesson is on Monday.",
    "My cello teacher is strict.",
    "I bought a cello bow.",
    "The cello needs strings.",
    # Validity, questions, small talk.
    "Until the end of March I work from home.",
    "My parking permit is valid until 1 March 2026.",
    "Where does my train leave?",
    "Which green tea do I drink?",
    "Thanks!",
    "We sold the boat for 900 euros.",
)
QUESTIONS = (
    "Where do I live?", "Which green tea do I drink?", "What about the cello?", "What is my budget?",
    "When is the release?", "Where do I work?", "Is there a permit?",
)  # fmt: skip
POLICIES = (
    {}, {"cluster_size": 3}, {"auto_forget": True, "max_facts": 4, "protect_days": 0.0}, {"auto_forget": True, "forget_threshold": 0.3},
    {"cluster_size": 2}, {"cluster_size": 3, "compression_strategy": "summarize"},
    {"cluster_size": 2, "compression_strategy": "prune", "protect_days": 0.0},
    {"cluster_size": 2, "compression_strategy": "summarize", "protect_days": 0.0},
    {"cluster_size": 2, "cluster_similarity": 0.6, "protect_days": 0.0}, {"retain_archived_days": 5.0}, {"design": "similarity"}, {"design": "recency", "cluster_size": 2},
    {"auto_forget": True, "max_facts": 2, "protect_days": 0.0, "retention_floor": 1.0, "cluster_size": 2},
)  # fmt: skip

picks = st.integers(0, 10_000)


class AnyOrder(RuleBasedStateMachine):
    """One scope driven by all verbs, beside a sibling that nobody touches."""

    exact_limit = 2_000

    @initialize(first=st.randoms(use_true_random=False), is_night=st.booleans())
    def opened(self, first: random.Random, is_night: bool) -> None:
        self._place = tempfile.TemporaryDirectory()
        self._ids = SequentialIds()
        self.now = START
        self.texts: dict[str, str] = {}
        self.recalls: list[str] = []
        self._open()
        self.engram.memory(SIBLING).add(
            [Message("user", line, speaker="Ben", at=START) for line in LINES[:6]], now=START
        )
        self.sibling = self._rows(SIBLING)
        self.set_policy(first.choice(POLICIES[1:]))
        for _ in range(3):
            self.add([first.choice(LINES) for _ in range(6)], first.choice([None, "s1"]))
        if is_night:
            self.consolidate(dry_run=False)

    def _open(self) -> None:
        self.engram = Engram.open(
            Path(self._place.name) / "store",
            index="exact",
            embedder=WordHashEmbedder(),
            exact_limit=self.exact_limit,
            ids=self._ids,
            rng=random.Random(1),
        )
        self.memory = self.engram.memory(SCOPE)

    def teardown(self) -> None:
        if hasattr(self, "engram"):
            self.everything_can_be_explained()
            self.engram.close()
            self._place.cleanup()

    # --- verbs ---

    @rule(lines=st.lists(st.sampled_from(LINES), min_size=1, max_size=6), session=st.sampled_from([None, "s1", "s2"]))
    def add(self, lines: list[str], session: str | None) -> None:
        self._kept(self.memory.add(self._messages(lines), session=session, now=self.now).facts)

    @rule(line=st.sampled_from(LINES), at=picks, also=picks)
    def add_in_place_of(self, line: str, at: int, also: int) -> None:
        named = {fact.id for fact in (self._any(at), self._live(also)) if fact is not None}
        with contextlib.suppress(*REFUSALS):
            self._kept(self.memory.add(self._messages([line]), supersedes=sorted(named), now=self.now).facts)

    @rule(at=picks, line=st.sampled_from(LINES))
    def correct(self, at: int, line: str) -> None:
        fact = self._any(at)
        if fact is not None:
            with contextlib.suppress(*REFUSALS):
                self.texts[fact.id] = self.memory.update(fact.id, text=line, now=self.now).text

    @rule(at=picks, fields=st.sampled_from([{"pinned": True}, {"pinned": False}, {"importance": 0.9}, "until"]))
    def set_fields(self, at: int, fields: dict[str, object] | str) -> None:
        fact = self._live(at)
        if fact is not None:
            told = {"valid_until": self.now + timedelta(days=3)} if fields == "until" else fields
            self.memory.update(fact.id, **told, now=self.now)

    @rule(at=picks, dry_run=st.sampled_from([False, False, True]))
    def forget(self, at: int, dry_run: bool) -> None:
        fact = self._live(at)
        if fact is not None:
            self.memory.forget(fact.id, dry_run=dry_run, now=self.now)

    @rule(at=picks)
    def restore(self, at: int) -> None:
        gone = self.memory.list(status="archived", limit=1_000)
        if gone:
            with contextlib.suppress(ChangeRefused):
                back = self.memory.restore(gone[at % len(gone)].id, now=self.now)
                assert back.is_recallable
                assert back.superseded_by is None
                assert self.memory.get(back.id).restored_at == self.now

    @rule(at=picks)
    def split(self, at: int) -> None:
        held = [fact for fact in self._all() if fact.consolidated_from]
        if held:
            fact = held[at % len(held)]
            with contextlib.suppress(ChangeRefused):
                back = self.memory.split(fact.id, now=self.now)
                assert {item.id for item in back} == set(fact.consolidated_from)

    @rule(dry_run=st.sampled_from([False, False, True]))
    def consolidate(self, dry_run: bool) -> None:
        pinned = self._pinned()
        self.memory.consolidate(dry_run=dry_run, now=self.now)
        assert pinned <= self._pinned()

    @rule(what=st.sampled_from(["rehearse", "usage", "reopen", "brief"]), tokens=st.sampled_from([30, 200, 1_000]))
    def look(self, what: str, tokens: int) -> None:
        if what == "brief":
            self.brief(tokens)
        else:
            {"rehearse": self.rehearse, "usage": self.usage, "reopen": self.reopen}[what]()

    def rehearse(self) -> None:
        before = self._rows(SCOPE)
        self.engram.sleep(dry_run=True, now=self.now)
        assert self._rows(SCOPE) == before

    @rule()
    def sleep(self) -> None:
        pinned = self._pinned()
        report = self.engram.sleep("acme/support/ana", now=self.now)
        assert report.totals["failed"] == report.totals["busy"] == 0
        assert pinned <= self._pinned()
        if any(night.reflect["filled"] for night in report.scopes):
            # A gap that was filled after forgetting may put the scope over its cap, which the next night sees.
            self.engram.sleep("acme/support/ana", now=self.now)
        before = self._rows(SCOPE)
        again = self.engram.sleep("acme/support/ana", now=self.now)
        assert self._rows(SCOPE) == before
        assert not any(night.is_eventful for night in again.scopes)

    @rule(fields=st.sampled_from(POLICIES))
    def set_policy(self, fields: dict[str, object]) -> None:
        self.memory.set_policy("default", **{"cluster_similarity": 0.65, **fields}, now=self.now)

    @rule(
        query=st.sampled_from(QUESTIONS), k=st.sampled_from([1, 3, 8]), tokens=st.sampled_from([40, 120, 1_000]),
        cite=st.booleans(),
    )  # fmt: skip
    def recall(self, query: str, k: int, tokens: int, cite: bool) -> None:
        found = self.memory.recall(query, k=k, max_tokens=tokens, cite=cite, now=self.now)
        self._sound(found, tokens)
        for item in found.facts:
            assert self.memory.get(item.fact.id).is_recallable
            for original in map(self.memory.get, item.members):
                assert original.consolidated_into == item.fact.id

    @rule(
        query=st.sampled_from(QUESTIONS), days=st.sampled_from([None, 0, 2, 20, 60]), archived=st.booleans(),
        cite=st.booleans(),
    )  # fmt: skip
    def recall_of_another_time(self, query: str, days: int | None, archived: bool, cite: bool) -> None:
        then = None if days is None else self.now - timedelta(days=days)
        found = self.memory.recall(query, as_of=then, include_archived=archived, cite=cite, now=self.now)
        self._sound(found, None)
        for item in found.facts:
            assert then is None or item.fact.said_at <= then
            assert archived or "forgotten:" not in self._end(item.fact)

    @precondition(lambda self: self.recalls)
    @rule(at=picks, how=st.sampled_from(["right", "cited", "wrong", "none"]))
    def observe(self, at: int, how: str) -> None:
        id_ = self.recalls[at % len(self.recalls)]
        shown = self.memory.explain(id_).shown
        answer = {
            "right": " ".join(str(item["text"]) for item in shown[:2]) or "Nothing.",
            "cited": "It is so [m1].",
            "wrong": "I do not know.",
            "none": None,
        }[how]
        usage = self.memory.observe(id_, answer, now=self.now)
        assert {*usage.used, *usage.unused, *usage.unknown} == {item["id"] for item in shown}

    def brief(self, tokens: int) -> None:
        told = self.memory.brief(max_tokens=tokens, now=self.now)
        assert told.tokens <= tokens
        for fact in told.facts:
            held = self.memory.get(fact.id)
            stands = held if held.is_recallable else self.memory.get(held.consolidated_into or "")
            assert stands.is_recallable
            assert stands.valid_until is None or stands.valid_until > self.now

    def usage(self) -> None:
        report = self.engram.usage(now=self.now)
        for group in report.groups:
            assert group["stored"] == group["recalled"] + group["never_recalled"]
            assert 0 <= group["used"] + group["never_used"] <= group["recalled"] <= group["stored"]
        mine = [group["stored"] for group in report.groups if group["scope"] == SCOPE]
        assert sum(mine) == len(self.memory.list(limit=1_000))

    @rule(days=st.sampled_from([1, 5, 40, 100]))
    def wait(self, days: int) -> None:
        self.now += timedelta(days=days)

    def reopen(self) -> None:
        self.engram.close()
        self._open()

    # --- what must hold ---

    @invariant()
    def nothing_is_lost(self) -> None:
        for fact in self._all():
            if fact.id in self.texts:
                assert fact.text == self.texts[fact.id]
            assert fact.is_recallable == (fact.archived_at is None) == (fact.archived_reason is None)
        assert {fact.id for fact in self._all()} >= self.texts.keys()

    @invariant()
    def links_agree(self) -> None:
        facts = {fact.id: fact for fact in self._all()}
        holders = Counter(id_ for fact in facts.values() for id_ in fact.consolidated_from)
        assert all(count == 1 for count in holders.values())
        for fact in facts.values():
            for id_ in fact.consolidated_from:
                assert facts[id_].consolidated_into == fact.id
                assert not facts[id_].is_recallable
            if fact.consolidated_into is not None:
                assert not fact.is_recallable
                into = facts[fact.consolidated_into]
                if into.consolidated_from and not fact.is_consolidated:
                    assert fact.id in into.consolidated_from or "say" in (fact.archived_reason or "")
            seen, newer = {fact.id}, fact
            while newer.superseded_by is not None:
                newer = facts[newer.superseded_by]
                assert newer.id not in seen, "a cycle of successors"
                seen.add(newer.id)

    @invariant()
    def books_are_right(self) -> None:
        (state,) = self.engram.context.ledger.scopes([self.memory.scope]) or [None]
        if state is None:
            return
        rows = [row for row in self._indexed(state.id) if row.status in ("live", "pending")]
        assert state.live == sum(row.status == "live" for row in rows)
        assert state.recallable == len(rows)
        assert state.body_words == sum(row.body_length for row in rows)
        assert state.context_words == sum(row.context_length for row in rows)
        assert state.held == sum(row.members.count('"') // 2 for row in rows)
        assert dict(state.speakers) == Counter(row.speaker for row in rows if row.speaker)
        bodies = Counter(stem for row in rows for stem in set(row.body_stems.split()))
        contexts = Counter(stem for row in rows for stem in set(row.context_stems.split()))
        known = self.engram.context.ledger.frequencies(state.id, sorted(contexts))
        assert {stem: (bodies[stem], contexts[stem]) for stem in contexts} == known

    @invariant()
    def what_is_held_in_memory_is_what_is_stored(self) -> None:
        (state,) = self.engram.context.ledger.scopes([self.memory.scope]) or [None]
        held = self.engram.context.finder.snapshot(state) if state is not None else None
        if held is None:
            return
        rows = sorted(standing(self._indexed(state.id), ("live", "pending")), key=lambda row: row.id)
        places = sorted(range(len(held.columns.ids)), key=held.columns.ids.__getitem__)
        assert [held.columns.ids[place] for place in places] == [row.id for row in rows]
        assert np.allclose(held.columns.importance[places], [row.importance for row in rows])
        stems = sorted({stem for row in rows for stem in row.body_stems.split()})
        bodies, _ = held.counts(stems)
        assert (bodies[places] == [[row.body_stems.split().count(stem) for stem in stems] for row in rows]).all()

    @invariant()
    def the_sibling_is_untouched(self) -> None:
        assert self._rows(SIBLING) == self.sibling

    def everything_can_be_explained(self) -> None:
        for fact in self._all():
            assert str(self.memory.explain(fact.id))
        for id_ in self.recalls:
            assert str(self.memory.explain(id_))

    # --- hands ---

    def _messages(self, lines: list[str]) -> list[Message]:
        return [
            Message("user", line, speaker="Ana", at=self.now + timedelta(minutes=n)) for n, line in enumerate(lines)
        ]

    def _kept(self, facts: tuple[Fact, ...]) -> None:
        self.texts |= {fact.id: fact.text for fact in facts}
        self.now += timedelta(hours=1)

    def _all(self) -> list[Fact]:
        return self.memory.list(status="all", limit=10_000)

    def _any(self, at: int) -> Fact | None:
        facts = self._all()
        return facts[at % len(facts)] if facts else None

    def _live(self, at: int) -> Fact | None:
        facts = self.memory.list(limit=1_000)
        return facts[at % len(facts)] if facts else None

    def _pinned(self) -> set[str]:
        return {fact.id for fact in self.memory.list(limit=1_000) if fact.pinned}

    def _end(self, fact: Fact) -> str:
        """Why a fact is out of recall, or why what stands for it is."""
        while fact.consolidated_into is not None:
            fact = self.memory.get(fact.consolidated_into)
        return fact.archived_reason or ""

    def _sound(self, found, tokens: int | None) -> None:
        self.recalls.append(found.id)
        assert found.tokens <= (tokens or self.memory.policy.token_budget)
        assert found.tokens == (self.engram.count_tokens(found.text) if found.text else 0)
        for item in found.facts:
            assert item.score == sum(item.terms.values())
            assert item.text
        for item in found.dropped:
            assert item.reason.rule
        shown = [id_ for item in found.facts for id_ in item.members or (item.fact.id,)]
        dropped = [item.fact_id for item in found.dropped]
        assert len({*shown, *dropped}) == len(shown) + len(dropped)

    def _rows(self, path: str) -> list[str]:
        facts = self.engram.memory(path).list(status="all", limit=10_000)
        # The night may score without changing anything else.
        return [f"{fact.id} {fact.version} {fact.status} {fact.text} {fact.consolidated_into}" for fact in facts]

    def _indexed(self, scope_id: int):
        return self.engram.context.ledger.changes(scope_id, -1, 100_000)


class AnyOrderSearched(AnyOrder):
    """The same in a scope that is searched and never scanned whole."""

    exact_limit = 0


def run(machine: type[AnyOrder], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("machine", [AnyOrder, AnyOrderSearched])
def test_verbs_in_any_order(machine):
    run(machine, 8, 30)


@pytest.mark.full
@pytest.mark.parametrize("machine", [AnyOrder, AnyOrderSearched])
def test_verbs_in_any_order_at_length(machine):
    run(machine, 80, 60)
