"""Ledger contract, part two: reads. What is found equals a recount from the facts, in the promised order."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engram_core.domain.fact import Fact, Status
from engram_core.domain.scope import Scope
from engram_core.measure import words
from engram_core.ports import Batch, ContextWrite, Features, FreshVectors, Ledger, Write
from engram_core.testing import samples
from engram_core.testing.ledger_commits import ALICE, LedgerFixtures

WORDS = ("cat", "dog", "lisbon", "münchen", "漢字", "x2", "don't", "running", "2024")
SPEAKERS = (None, "Alice", "Bob")
LONGEST_STEM = 200

_scopes = itertools.count()


@dataclass
class _Model:
    """What a scope should hold, kept in the plainest way there is."""

    scope: Scope
    facts: dict[str, Fact] = field(default_factory=dict)
    features: dict[str, Features] = field(default_factory=dict)
    touched: list[str] = field(default_factory=list)

    def put(self, fact: Fact, features: Features) -> None:
        self.facts[fact.id] = fact
        self.features[fact.id] = features
        self.touched = [*(id_ for id_ in self.touched if id_ != fact.id), fact.id]

    @property
    def recallable(self) -> list[Fact]:
        return [fact for fact in self.facts.values() if fact.is_recallable]

    def stems(self, name: str) -> Iterator[tuple[str, ...]]:
        return (getattr(self.features[fact.id], name) for fact in self.recallable)

    def counted(self, name: str) -> Counter[str]:
        return Counter(stem for stems in self.stems(name) for stem in set(stems))


_text = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(_text, min_size=1, max_size=3), st.sampled_from(SPEAKERS), st.booleans()),
        st.tuples(st.just("archive"), st.integers(0, 30)),
        st.tuples(st.just("quarantine"), st.integers(0, 30)),
        st.tuples(st.just("restore"), st.integers(0, 30)),
        st.tuples(st.just("edit"), st.integers(0, 30), _text),
        st.tuples(st.just("move"), st.integers(0, 30), _text),
    ),
    min_size=1,
    max_size=10,
)


class ReadClauses(LedgerFixtures):
    """Reads."""

    def test_statistics_equal_a_recount(self, ledger: Ledger) -> None:
        @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(_steps)
        def run(steps: Sequence[Any]) -> None:
            model = _Model(Scope(f"recount/n{next(_scopes)}"))
            samples.add(ledger, model.scope.child("below"), ["cat dog"])  # nobody else's words may count
            for step in steps:
                _take(ledger, model, step)
            if model.facts:
                _compare(ledger, model)

        run()

    def test_contexts_are_the_changes_that_exact_search_reads(self, ledger: Ledger) -> None:
        facts = samples.add(ledger, ALICE, ["cat", "dog", "cat dog"])
        ledger.commit(samples.archived(facts[0])[1])
        scope_id = samples.state(ledger, ALICE).id
        changes = ledger.changes(scope_id, 0, 100)
        assert ledger.contexts(scope_id, 0, 100) == [(row.id, row.seq, row.status, row.context) for row in changes]
        assert ledger.contexts(scope_id, changes[0].seq, 1) == ledger.contexts(scope_id, 0, 100)[1:2]

    def test_holders_of_a_stem_are_known_by_key(self, ledger: Ledger) -> None:
        cat, dog, both = samples.add(ledger, ALICE, ["cat", "dog", "cat dog"])
        samples.add(ledger, Scope("acme/other"), ["cat"])
        scope_id = samples.state(ledger, ALICE).id
        keys = {row.key: row.id for row in ledger.indexed([cat.id, dog.id, both.id])}
        held = ledger.holding(scope_id, "cat").tolist()
        assert {keys[key] for key in held} == {cat.id, both.id}
        assert ledger.ids_at([*keys, 1 << 40]) == keys
        ledger.commit(samples.archived(cat)[1])
        assert [keys[key] for key in ledger.holding(scope_id, "cat").tolist()] == [both.id]
        assert ledger.holding(scope_id, "horse").tolist() == ledger.holding(scope_id, "x" * 300).tolist() == []
        assert ledger.ids_at([]) == {}

    def test_matching_adds_weights_and_prefers_the_older(self, ledger: Ledger) -> None:
        cat, dog, both, twin = samples.add(ledger, ALICE, ["cat", "dog dog dog", "cat dog", "dog cat"])
        scope_id = samples.state(ledger, ALICE).id
        assert ledger.matching(scope_id, {"cat": 1.0, "dog": 1.5}, 10) == [both.id, twin.id, dog.id, cat.id]
        assert ledger.matching(scope_id, {"cat": 2.0, "dog": 1.5}, 3) == [both.id, twin.id, cat.id]
        keys = ledger.heaviest(scope_id, {"cat": 1.0, "dog": 1.5}, 3)
        assert [ledger.ids_at(keys)[key] for key in keys] == [both.id, twin.id, dog.id]
        for nothing in ({}, {"horse": 1.0}, {"x" * 300: 1.0}):
            assert ledger.matching(scope_id, nothing, 10) == []
            assert ledger.heaviest(scope_id, nothing, 10) == []

    def test_any_word_can_be_looked_for(self, ledger: Ledger) -> None:
        odd = [
            "café",
            "naïve",
            "xc3a9",
            "é",
            "日本語",
            "ß",
            "ﬁ",
            "x" * LONGEST_STEM,
            "é" * LONGEST_STEM,
            "0",
            "and",
            "or",
            "near",
        ]
        odd += ["a" * 64 + tail for tail in ("b", "c")]
        facts = [samples.fact(ALICE, f"fact {number}") for number in range(len(odd))]
        writes = [
            Write(said, replace(samples.features(said), body_stems=(stem,), context_stems=(stem,)))
            for said, stem in zip(facts, odd, strict=True)
        ]
        ledger.commit(Batch(ALICE, writes=tuple(writes)))
        scope_id = samples.state(ledger, ALICE).id
        for said, stem in zip(facts, odd, strict=True):
            assert ledger.matching(scope_id, {stem: 1.0}, 10) == [said.id], stem
            assert ledger.frequencies(scope_id, [stem]) == {stem: (1, 1)}, stem

    def test_words_nobody_says_are_harmless(self, ledger: Ledger) -> None:
        (said,) = samples.add(ledger, ALICE, ["cat"])
        scope_id = samples.state(ledger, ALICE).id
        strange = [
            '"',
            "'",
            "*",
            "a OR b",
            "cat*",
            "NEAR(a b)",
            "-cat",
            ":",
            "\\",
            "%",
            "_",
            "?",
            "x" * 5_000,
            "cat\n",
            "",
        ]
        assert ledger.matching(scope_id, dict.fromkeys(strange, 1.0), 10) == []
        assert ledger.frequencies(scope_id, strange) == {}
        assert ledger.matching(scope_id, {"cat": 1.0}, 10) == [said.id]

    def test_an_overlong_stem_does_not_break_a_commit(self, ledger: Ledger) -> None:
        said = samples.fact(ALICE, "a blob")
        features = replace(samples.features(said), body_stems=("y" * 8_000,), context_stems=("é" * 4_000, "blob"))
        ledger.commit(Batch(ALICE, writes=(Write(said, features),)))
        state = samples.state(ledger, ALICE)
        assert (state.body_words, state.context_words) == (1, 2)
        assert ledger.matching(state.id, {"blob": 1.0}, 10) == [said.id]
        ledger.commit(samples.archived(said)[1])
        assert samples.state(ledger, ALICE).context_words == 0

    def test_said_between_takes_both_ends_oldest_first(self, ledger: Ledger) -> None:
        times = [samples.START + timedelta(days=day) for day in (3, 1, 2, 1, 9)]
        facts = [samples.fact(ALICE, f"day {number}", said_at=at) for number, at in enumerate(times)]
        ledger.commit(samples.batch(*facts))
        scope_id = samples.state(ledger, ALICE).id
        first, last = times[1].timestamp(), times[0].timestamp()
        expected = [facts[1].id, facts[3].id, facts[2].id, facts[0].id]
        assert ledger.said_between(scope_id, [(first, last)], 10) == expected
        assert ledger.said_between(scope_id, [(first, last)], 3) == expected[:3]
        assert ledger.said_between(scope_id, [(last, last), (first, first)], 10) == [
            facts[0].id,
            facts[1].id,
            facts[3].id,
        ]
        assert ledger.said_between(scope_id, [], 10) == []
        ledger.commit(samples.archived(facts[1])[1])
        assert ledger.said_between(scope_id, [(first, first)], 10) == [facts[3].id]

    def test_the_weightiest_come_first_pinned_ones_before_them(self, ledger: Ledger) -> None:
        light, heavy, older, pinned, gone = (
            samples.fact(ALICE, f"weight {weight}", importance=weight, pinned=is_pinned, said_at=samples.START)
            for weight, is_pinned in ((0.2, False), (0.9, False), (0.5, False), (0.1, True), (1.0, False))
        )
        newer = samples.fact(ALICE, "said later", importance=0.5, said_at=samples.START + timedelta(days=1))
        ledger.commit(samples.batch(light, heavy, older, pinned, gone, newer))
        ledger.commit(samples.archived(gone)[1])
        scope_id = samples.state(ledger, ALICE).id
        assert ledger.weightiest(scope_id, 10) == [pinned.id, heavy.id, newer.id, older.id, light.id]
        assert ledger.weightiest(scope_id, 2) == [pinned.id, heavy.id]
        assert ledger.weightiest(scope_id + 1, 2) == []

    def test_rows_tell_what_stands_for_what(self, ledger: Ledger) -> None:
        first, second = samples.add(ledger, ALICE, ["one half", "the other half"])
        ids = (first.id, second.id)
        merged = samples.fact(ALICE, "both", form="merged", is_consolidated=True, consolidated_from=ids)
        summary = samples.fact(ALICE, "in short", form="summary", is_consolidated=True, consolidated_from=ids)
        ledger.commit(samples.batch(merged, summary))
        ledger.commit(samples.changed(first, status=Status.ARCHIVED, consolidated_into=merged.id)[1])
        rows = {row.id: row for row in ledger.indexed([first.id, second.id, merged.id, summary.id])}
        assert json.loads(rows[merged.id].members) == list(ids)
        assert rows[summary.id].members == rows[first.id].members == "[]"
        assert rows[first.id].into == merged.id
        assert rows[second.id].into is None
        assert (samples.state(ledger, ALICE).held, samples.state(ledger, ALICE).rows) == (2, 5)
        changes = {row.id: row for row in samples.outbox(ledger, rows[first.id].scope_id)}
        assert changes[merged.id].members == rows[merged.id].members
        assert [said.form for said in ledger.facts([first.id, merged.id, summary.id])] == [
            "statement",
            "merged",
            "summary",
        ]

    def test_newest_comes_first_and_later_written_wins_ties(self, ledger: Ledger) -> None:
        times = [samples.START + timedelta(days=day) for day in (3, 1, 3, 2)]
        facts = [samples.fact(ALICE, f"day {number}", said_at=at) for number, at in enumerate(times)]
        ledger.commit(samples.batch(*facts))
        scope_id = samples.state(ledger, ALICE).id
        assert ledger.newest(scope_id, 10) == [facts[2].id, facts[0].id, facts[3].id, facts[1].id]
        assert ledger.newest(scope_id, 2) == [facts[2].id, facts[0].id]

    def test_listing_filters_and_pages(self, ledger: Ledger) -> None:
        kinds = ["task", "event", "task", "task", "event"]
        facts = [samples.fact(ALICE, f"number {number}", kind=kind) for number, kind in enumerate(kinds)]
        ledger.commit(samples.batch(*facts))
        gone, edit = samples.archived(facts[2])
        ledger.commit(edit)
        assert ledger.listing(ALICE) == [facts[0], facts[1], gone, facts[3], facts[4]]
        assert ledger.listing(ALICE, kind="task", statuses=[Status.LIVE]) == [facts[0], facts[3]]
        assert ledger.listing(ALICE, statuses=[Status.ARCHIVED, Status.PENDING]) == [gone]
        assert ledger.listing(ALICE, limit=2, after=facts[0].id) == [facts[1], gone]
        assert ledger.listing(ALICE, after=facts[4].id) == []
        assert ledger.listing(ALICE, after=samples.new_id()) == []

    def test_twins_are_recallable_and_the_oldest(self, ledger: Ledger) -> None:
        same = [samples.fact(ALICE, "I like tea", speaker="Alice") for _ in range(3)]
        key = samples.features(same[0]).key
        for said in same:
            ledger.commit(samples.batch(said))
        assert ledger.twins(ALICE, [key, "unknown"]) == {key: same[0]}
        ledger.commit(samples.archived(same[0])[1])
        assert ledger.twins(ALICE, [key]) == {key: same[1]}
        for said in same[1:]:
            ledger.commit(samples.archived(said)[1])
        assert ledger.twins(ALICE, [key]) == {}

    def test_no_key_has_no_twin(self, ledger: Ledger) -> None:
        said = samples.fact(ALICE, "it has no key")
        ledger.commit(Batch(ALICE, writes=(Write(said, replace(samples.features(said), key="")),)))
        assert ledger.twins(ALICE, [""]) == {}

    def test_the_tail_is_the_last_recallable_statement_of_a_session(self, ledger: Ledger) -> None:
        first, second, third = (samples.fact(ALICE, text, session="s1") for text in ("one", "two", "three"))
        other = samples.fact(ALICE, "elsewhere", session="s2")
        links = ((first, None), (second, first), (other, None), (third, second))
        writes = tuple(Write(said, samples.features(said, previous=before)) for said, before in links)
        ledger.commit(Batch(ALICE, writes=writes))
        tail = ledger.tail(ALICE, "s1")
        assert tail is not None
        assert (tail.fact_id, tail.text, tail.version, tail.previous_text) == (third.id, "three", 1, "two")
        gone = replace(third, status=Status.ARCHIVED, version=2)
        ledger.commit(Batch(ALICE, writes=(Write(gone, samples.features(gone, previous=second), replaces=1),)))
        tail = ledger.tail(ALICE, "s1")
        assert tail is not None
        assert (tail.fact_id, tail.previous_text) == (second.id, "one")
        assert ledger.tail(ALICE, "s3") is None
        assert ledger.tail(Scope("acme"), "s1") is None

    def test_pending_facts_wait_oldest_first(self, ledger: Ledger) -> None:
        waiting = [samples.fact(scope, "not embedded", status=Status.PENDING) for scope in (ALICE, Scope("b"), ALICE)]
        samples.add(ledger, ALICE, ["embedded"])
        for said in waiting:
            ledger.commit(samples.batch(said))
        assert ledger.pending(10) == waiting
        assert ledger.pending(2) == waiting[:2]
        state = samples.state(ledger, ALICE)
        assert (state.live, state.recallable) == (1, 3)
        _, done = samples.changed(waiting[0], status=Status.LIVE)
        ledger.commit(done)
        assert ledger.pending(10) == waiting[1:]

    def test_changes_page_in_order_with_the_last_state_only(self, ledger: Ledger) -> None:
        facts = samples.add(ledger, ALICE, [f"number {number}" for number in range(5)])
        middle, edit = samples.changed(facts[2], text="edited")
        ledger.commit(edit)
        state = samples.state(ledger, ALICE)
        rows = ledger.changes(state.id, 0, 100)
        assert [row.id for row in rows] == [facts[0].id, facts[1].id, facts[3].id, facts[4].id, middle.id]
        assert rows[-1].version == 2
        assert rows[-1].seq <= state.seq
        assert ledger.changes(state.id, 0, 2) == rows[:2]
        assert ledger.changes(state.id, rows[1].seq, 100) == rows[2:]
        assert ledger.changes(state.id, state.seq, 100) == []

    def test_changes_without_vectors_keep_what_the_index_needs(self, ledger: Ledger) -> None:
        samples.add(ledger, ALICE, ["cat", "dog"])
        scope_id = samples.state(ledger, ALICE).id
        whole = ledger.changes(scope_id, 0, 10)
        light = ledger.changes(scope_id, 0, 10, vectors=False)
        kept = ("id", "scope_id", "seq", "version", "status", "context")
        assert [[getattr(row, name) for name in kept] for row in light] == [
            [getattr(row, name) for name in kept] for row in whole
        ]

    def test_indexed_rows_hold_what_was_written(self, ledger: Ledger) -> None:
        before, said = (
            samples.fact(ALICE, "a cat", session="s1"),
            samples.fact(ALICE, "Did the dog bark in May?", session="s1"),
        )
        described = samples.features(said, previous=before)
        ledger.commit(
            Batch(ALICE, writes=(Write(before, samples.features(before, following=said)), Write(said, described)))
        )
        (row,) = ledger.indexed([said.id])
        assert row == ledger.changes(row.scope_id, 0, 10)[-1]
        assert (row.id, row.version, row.status, row.kind) == (said.id, 1, "live", "observation")
        assert (row.said_at, row.session, row.speaker) == (said.said_at.timestamp(), "s1", None)
        assert (row.previous, row.following) == (before.id, None)
        assert row.body_stems == "".join(f" {stem} " for stem in described.body_stems)
        assert tuple(row.context_stems.split()) == described.context_stems
        assert (row.body_length, row.context_length) == (len(described.body_stems), len(described.context_stems))
        assert (row.time_words, row.asks) == (described.time_words, int(described.asks))
        assert (row.importance, row.trust, row.valid_from, row.valid_until) == (0.5, 1.0, None, None)
        assert described.content is not None
        assert described.context is not None
        assert row.content == described.content.tobytes()
        assert row.context == described.context.tobytes()

    def test_a_context_move_changes_neighbour_and_words_but_not_the_fact(self, ledger: Ledger) -> None:
        (said,) = samples.add(ledger, ALICE, ["the cat sat"], session="s1")
        following = samples.fact(ALICE, "on the mat", session="s1")
        vector = samples.vector("the cat sat on the mat")
        move = ContextWrite(said.id, following.id, ("cat", "sat", "mat"), vector)
        ledger.commit(replace(samples.batch(following), contexts=(move,)))
        (row,) = ledger.indexed([said.id])
        assert (row.following, row.context_stems, row.version) == (following.id, " cat  sat  mat ", 1)
        assert row.context == vector.tobytes()
        assert ledger.facts([said.id]) == [said]
        state = samples.state(ledger, ALICE)
        assert {found.id for found in ledger.changes(state.id, 0, 10)} == {said.id, following.id}
        assert ledger.matching(state.id, {"mat": 1.0}, 10) == [said.id, following.id]
        ledger.commit(Batch(ALICE, contexts=(ContextWrite(said.id, following.id, ("cat",), None),)))
        (again,) = ledger.indexed([said.id])
        assert again.context == row.context
        assert again.seq > row.seq

    def test_replacing_vectors_is_one_change_of_everything(self, ledger: Ledger) -> None:
        facts = samples.add(ledger, ALICE, ["cat", "dog"])
        waiting = samples.fact(ALICE, "not embedded", status=Status.PENDING)
        ledger.commit(samples.batch(waiting))
        before = samples.state(ledger, ALICE)
        whole = [*facts, waiting]
        fresh = [
            FreshVectors(said.id, samples.vector(f"a {said.id}"), samples.vector(f"b {said.id}")) for said in whole
        ]

        def half() -> Iterator[FreshVectors]:
            yield fresh[0]
            raise ConnectionError("the new embedder failed")

        with pytest.raises(ConnectionError):
            ledger.replace_vectors(half(), "new/16/abc")
        assert samples.state(ledger, ALICE) == before
        assert ledger.setting("embedder") is None
        ledger.replace_vectors(iter(fresh), "new/16/abc")
        assert ledger.setting("embedder") == "new/16/abc"
        assert ledger.pending(10) == []
        state = samples.state(ledger, ALICE)
        assert (state.live, state.recallable, state.body_words) == (3, 3, before.body_words)
        rows = ledger.changes(state.id, before.seq, 10)
        assert [(row.id, row.content, row.context) for row in rows] == [
            (item.fact_id, item.content.tobytes(), item.context.tobytes()) for item in fresh
        ]
        assert rows[-1].seq <= state.seq

    def test_scopes_come_in_the_order_asked_or_by_path(self, ledger: Ledger) -> None:
        for path in ("b", "a/z", "a"):
            samples.add(ledger, path, ["something"])
        assert [state.scope.path for state in ledger.scopes()] == ["a", "a/z", "b"]
        asked = [Scope("b"), Scope("nobody"), Scope("a")]
        assert [state.scope.path for state in ledger.scopes(asked)] == ["b", "a"]
        assert ledger.scopes([]) == []

    def test_small_scopes_can_be_left_out(self, ledger: Ledger) -> None:
        samples.add(ledger, "a", ["one", "two", "three"])
        samples.add(ledger, "b", ["four", "five"])
        assert [state.scope.path for state in ledger.scopes(at_least=3)] == ["a"]
        assert [state.scope.path for state in ledger.scopes(at_least=2)] == ["a", "b"]


def _take(ledger: Ledger, model: _Model, step: Sequence[Any]) -> None:
    action, *rest = step
    if action == "add":
        texts, speaker, is_pending = rest
        status = Status.PENDING if is_pending else Status.LIVE
        facts = [samples.fact(model.scope, text, speaker=speaker, status=status) for text in texts]
        ledger.commit(samples.batch(*facts))
        for said in facts:
            model.put(said, samples.features(said))
        return
    if not model.facts:
        return
    before = list(model.facts.values())[rest[0] % len(model.facts)]
    if action == "move":
        stems = tuple(words.stems(rest[1]))
        move = ContextWrite(before.id, samples.new_id(), stems, samples.vector(rest[1]))
        ledger.commit(Batch(model.scope, contexts=(move,)))
        kept = replace(model.features[before.id], context_stems=stems, following=move.following, context=move.context)
        model.put(before, kept)
        return
    statuses = {"archive": Status.ARCHIVED, "quarantine": Status.QUARANTINED, "restore": Status.LIVE}
    fields: dict[str, Any] = {"text": rest[1]} if action == "edit" else {"status": statuses[action]}
    after, batch = samples.changed(before, **fields)
    ledger.commit(batch)
    model.put(after, samples.features(after))


def _compare(ledger: Ledger, model: _Model) -> None:
    state = samples.state(ledger, model.scope)
    assert state.live == sum(fact.status is Status.LIVE for fact in model.facts.values())
    assert state.recallable == len(model.recallable)
    assert state.body_words == sum(map(len, model.stems("body_stems")))
    assert state.context_words == sum(map(len, model.stems("context_stems")))
    assert dict(state.speakers) == dict(Counter(fact.speaker for fact in model.recallable if fact.speaker))
    vocabulary = sorted({stem for word in WORDS for stem in words.stems(word)})
    body, context = model.counted("body_stems"), model.counted("context_stems")
    said = {stem: (body[stem], context[stem]) for stem in vocabulary if body[stem] or context[stem]}
    assert ledger.frequencies(state.id, vocabulary) == said
    for stem in vocabulary:
        holders = [fact.id for fact in model.recallable if stem in model.features[fact.id].context_stems]
        assert ledger.matching(state.id, {stem: 1.0}, 1_000) == holders
    rows = samples.outbox(ledger, state.id, page=3)
    assert [row.id for row in rows] == model.touched
    assert [row.seq for row in rows] == sorted({row.seq for row in rows})
    assert {row.id: (row.version, row.status) for row in rows} == {
        fact.id: (fact.version, fact.status.value) for fact in model.facts.values()
    }
    assert ledger.listing(model.scope, limit=1_000) == list(model.facts.values())
