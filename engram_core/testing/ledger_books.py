"""Ledger contract, part three: the books: recalls, usage, failures, policies, settings, and what the index keeps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_core.domain.access import Grant
from engram_core.domain.audit import AuditEntry
from engram_core.domain.errors import Conflict
from engram_core.domain.fact import Fact, Status
from engram_core.domain.policy import MemoryPolicy
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.measure.usefulness import DECAY, decayed
from engram_core.ports import Batch, Collection, FreshVectors, Generation, Ledger, Night, Parked, UsageRow
from engram_core.testing import samples
from engram_core.testing.ledger_commits import ALICE, LedgerFixtures


class BooksClauses(LedgerFixtures):
    """Books."""

    def test_a_recall_comes_back_as_recorded(self, ledger: Ledger, another: Ledger) -> None:
        (said,) = samples.add(ledger, ALICE, ["shown"])
        dropped = [{"id": samples.new_id(), "score": -0.125, "terms": {"dense": -0.125}, "rule": "rank", "line": "Ünï"}]
        row = samples.recall_row(
            ALICE, said, session="s1", query="¿qué? 漢字 🙂", dropped=dropped, degraded=True, policy_version=3
        )
        ledger.record_recall(row)
        assert another.recall(row.id) == row
        assert another.recalls_of(said.id, 10) == [row]
        assert another.recalls_of(dropped[0]["id"], 10) == []  # type: ignore[arg-type]

    def test_a_recall_can_be_recorded_before_anything_was_added(self, ledger: Ledger) -> None:
        row = samples.recall_row(Scope("new/scope"))
        ledger.record_recall(row)
        assert ledger.recall(row.id) == row
        assert ledger.commit(samples.batch(samples.fact(Scope("new/scope"), "first"), expect=0)) > 0

    def test_the_latest_recalls_of_a_fact_come_first(self, ledger: Ledger) -> None:
        one, two = samples.add(ledger, ALICE, ["one", "two"])
        hours = (2, 0, 1)
        rows = [samples.recall_row(ALICE, one, at=samples.START + timedelta(hours=hour)) for hour in hours]
        for row in (*rows, samples.recall_row(ALICE, two)):
            ledger.record_recall(row)
        assert ledger.recalls_of(one.id, 10) == [rows[0], rows[2], rows[1]]
        assert ledger.recalls_of(one.id, 2) == [rows[0], rows[2]]

    def test_a_record_does_not_follow_its_caller(self, ledger: Ledger) -> None:
        shown: list[dict[str, object]] = [{"id": samples.new_id(), "score": 1.0, "terms": {"dense": 1.0}}]
        row = samples.recall_row(ALICE, facts=shown)
        ledger.record_recall(row)
        shown[0]["score"] = 2.0
        found = ledger.recall(row.id)
        assert found is not None
        assert found.facts[0]["score"] == 1.0

    def test_text_that_no_database_can_hold_costs_no_record(self, ledger: Ledger) -> None:
        """NUL and lone surrogates may be replaced, but nothing is refused and nobody's look-up fails."""
        odd = "a\x00b \ud83d c"

        def shown(text: str | None) -> str:
            return (text or "").translate({0: "\ufffd", 0xD83D: "\ufffd"})

        said = samples.fact(ALICE, odd, speaker=odd, session=odd, archived_reason=odd, metadata={"k": odd})
        noted = samples.decision("add", said, reason=Reason(odd, odd), after={"text": odd})
        turn = samples.episode(ALICE, odd)
        ledger.commit(replace(samples.batch(said), decisions=(noted,), episode=turn))
        (found,) = ledger.facts([odd, said.id])
        assert [shown(found.text), shown(found.speaker)] == [shown(odd)] * 2
        assert found.metadata == {"k": odd}
        (story,) = ledger.history(said.id)
        assert shown(story.reason.line) == shown(odd)
        assert story.after == {"text": odd}
        kept = ledger.episode(turn.id)
        assert kept is not None
        assert kept.messages == turn.messages
        row = samples.recall_row(ALICE, said, query=odd, session=odd, principal=odd)
        ledger.record_recall(row)
        recorded = ledger.recall(row.id)
        assert recorded is not None
        assert shown(recorded.query) == shown(odd)
        ledger.record_usage(UsageRow(row.id, ALICE, samples.START, odd, [{"id": odd}]))
        assert [shown(item.response) for item in ledger.usage(row.id)] == [shown(odd)]
        ledger.park(Parked("adapter", ALICE, samples.START, odd, {"where": odd}))
        assert [(shown(item.error), item.payload) for item in ledger.parked()] == [(shown(odd), {"where": odd})]
        ledger.set_policy(ALICE, MemoryPolicy(), odd, samples.START)
        assert ledger.recall(odd) is None
        assert ledger.usage(odd) == []
        assert ledger.history(odd) == []
        assert ledger.episode(odd) is None
        assert ledger.recalls_of(odd, 10) == []
        assert ledger.listing(ALICE, kind=odd) == []
        assert ledger.listing(ALICE, after=odd) == []
        assert ledger.tail(ALICE, "no\x00session") is None

    def test_usage_is_append_only(self, ledger: Ledger) -> None:
        row = samples.recall_row(ALICE)
        ledger.record_recall(row)
        verdicts = [[{"id": "f1", "verdict": verdict, "terms": {"overlap": 0.5}}] for verdict in ("unknown", "used")]
        usage = [UsageRow(row.id, ALICE, samples.START, f"answer {n}", given) for n, given in enumerate(verdicts)]
        for item in usage:
            ledger.record_usage(item)
        assert ledger.usage(row.id) == usage
        assert ledger.usage(samples.new_id()) == []

    def test_verdicts_are_counted_by_fact(self, ledger: Ledger, another: Ledger) -> None:
        one, two = samples.add(ledger, ALICE, ["one", "two"])
        self._judge(ledger, one, two, used={one.id: 0.9}, unused=[two.id])
        self._judge(another, one, two, used={one.id: 0.5}, unknown=[two.id])
        tallies = {tally.fact_id: tally for tally in ledger.tallies(samples.state(ledger, ALICE).id, 0)}
        assert samples.state(ledger, ALICE).judged == 2
        first = tallies[one.id]
        assert first.recalled == pytest.approx(1 + 0.99)
        assert first.used == pytest.approx(0.5 + 0.9 * 0.99)
        assert first[3:] == (2, 2, 2)
        # What is unknown leaves the tally as it was, at the tick it was of.
        assert tallies[two.id] == (two.id, 1.0, 0.0, 1, 0, 1)
        assert ledger.tallies(samples.state(ledger, ALICE).id, 1) == [first]
        assert ledger.tallies(samples.state(ledger, ALICE).id, 2) == []

    def test_a_recall_that_says_nothing_moves_no_tally(self, ledger: Ledger) -> None:
        (one,) = samples.add(ledger, ALICE, ["one"])
        self._judge(ledger, one, unknown=[one.id])
        self._judge(ledger)
        assert samples.state(ledger, ALICE).judged == 0
        assert ledger.tallies(samples.state(ledger, ALICE).id, 0) == []

    def test_a_later_verdict_on_a_recall_replaces_the_earlier_one(self, ledger: Ledger) -> None:
        """Whatever was said in between, the tallies end as if the last verdict had been given the first time."""
        one, two, three = samples.add(ledger, ALICE, ["one", "two", "three"])
        recall_id = self._judge(ledger, one, two, used={one.id: 1.0}, unused=[two.id])
        self._judge(ledger, three, used={three.id: 1.0})
        self._judge(ledger, one, two, used={two.id: 0.6, three.id: 0.7}, recall_id=recall_id)
        self._judge(ledger, one, two, unknown=[one.id, two.id], recall_id=recall_id)
        self._judge(ledger, one, two, used={two.id: 0.8}, unused=[three.id], recall_id=recall_id)
        state = samples.state(ledger, ALICE)
        tallies = {tally.fact_id: decayed(tally, state.judged) for tally in ledger.tallies(state.id, 0)}
        left = DECAY ** (state.judged - 1)
        assert tallies[one.id][1:5] == pytest.approx((0, 0, 0, 0))
        assert tallies[two.id][1:5] == pytest.approx((left, 0.8 * left, 1, 1))
        assert tallies[three.id][1:5] == pytest.approx((left / DECAY + left, left / DECAY, 2, 1))

    def test_worth_is_summed_over_the_scopes_that_recalled(self, ledger: Ledger) -> None:
        parent = Scope("acme")
        (shared,) = samples.add(ledger, parent, ["shared"])
        (own,) = samples.add(ledger, ALICE, ["own"])
        self._judge(ledger, shared, own, used={shared.id: 1.0}, unused=[own.id])
        self._judge(ledger, own, used={own.id: 1.0})
        self._judge(ledger, shared, unused=[shared.id], scope=parent)
        found = ledger.worth(samples.state(ledger, parent).id)
        assert set(found) == {shared.id}
        assert found[shared.id] == pytest.approx((1 + DECAY, DECAY))
        assert set(ledger.worth(samples.state(ledger, ALICE).id)) == {own.id}

    def test_originals_rendered_of_a_merged_fact_were_shown(self, ledger: Ledger) -> None:
        one, two, whole = samples.add(ledger, ALICE, ["one", "two", "one; two"])
        row = samples.recall_row(ALICE, whole)
        row = replace(row, facts=[{**row.facts[0], "members": [one.id]}])
        ledger.record_recall(row)
        assert row.shown == [whole.id, one.id]
        assert ledger.recalls_of(one.id, 5) == [row]
        shown = {usage.fact_id: usage.shown for usage in ledger.fact_usages(ALICE, below=False)}
        assert shown == {whole.id: 1, one.id: 1}
        assert ledger.never_recalled(ALICE, 5, below=False) == [two.id]

    def test_what_stands_for_others_is_worth_what_the_best_of_them_is(self, ledger: Ledger) -> None:
        one, two, whole, rest = samples.add(ledger, ALICE, ["one", "two", "one; two", "rest"])
        self._judge(ledger, one, two, rest, used={one.id: 1.0}, unused=[two.id, rest.id])
        for original in (one, two):
            ledger.commit(samples.changed(original, status=Status.ARCHIVED, consolidated_into=whole.id)[1])
        found = ledger.worth(samples.state(ledger, ALICE).id)
        assert found[whole.id] == found[one.id]
        assert found[rest.id] == found[two.id] < found[one.id]

    def test_judged_questions_come_back_in_order(self, ledger: Ledger, another: Ledger) -> None:
        (one,) = samples.add(ledger, ALICE, ["one"])
        vectors = [samples.vector(text) for text in ("first", "second", "third")]
        ids = [self._judge(ledger, one, used={one.id: 0.5}, question=vector) for vector in vectors]
        self._judge(ledger, one, unknown=[one.id], question=vectors[0])
        self._judge(ledger, one, unused=[one.id], recall_id=ids[0], question=None)
        scope_id = samples.state(ledger, ALICE).id
        found = another.judged(scope_id, 0, 10)
        assert [item.recall_id for item in found] == [*ids, ids[0]]
        assert [item.tick for item in found] == [1, 2, 3, 1]
        for item, vector in zip(found, vectors, strict=False):
            assert item.question is not None
            assert item.question.tolist() == vector.tolist()
        assert found[3].question is None
        assert found[0].verdicts == [{"id": one.id, "verdict": "used", "terms": {"weight": 0.5}}]
        assert [item.number for item in ledger.judged(scope_id, 0, 2)] == [item.number for item in found[2:]]
        assert [item.tick for item in ledger.judged(scope_id, found[1].number, 10)] == [3, 1]
        assert ledger.judged(scope_id + 1, 0, 10) == []

    def test_questions_do_not_outlive_their_embedder(self, ledger: Ledger) -> None:
        (one,) = samples.add(ledger, ALICE, ["one"])
        self._judge(ledger, one, used={one.id: 0.5}, question=samples.vector("asked"))
        ledger.replace_vectors([FreshVectors(one.id, samples.vector("new"), samples.vector("new"))], "another/16/x")
        (found,) = ledger.judged(samples.state(ledger, ALICE).id, 0, 10)
        assert found.question is None

    def test_verdicts_given_at_once_all_count(self, ledger: Ledger, another: Ledger) -> None:
        (one,) = samples.add(ledger, ALICE, ["one"])
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: self._judge((ledger, another)[n % 2], one, used={one.id: 1.0}), range(24)))
        (tally,) = ledger.tallies(samples.state(ledger, ALICE).id, 0)
        assert tally[3:] == (24, 24, 24)
        assert tally.used == pytest.approx(sum(DECAY**n for n in range(24)))

    def test_usage_is_reported_by_scope_kind_and_fact(self, ledger: Ledger) -> None:
        parent, other = Scope("acme/support"), Scope("acme/support-desk")
        one, two, three = samples.add(ledger, ALICE, ["one", "two", "three"], kind="task")
        (four,) = samples.add(ledger, parent, ["four"], importance=0.9)
        (five,) = samples.add(ledger, other, ["five"])
        _, gone = samples.archived(samples.add(ledger, ALICE, ["gone"])[0])
        ledger.commit(gone)
        self._judge(ledger, one, two, four, used={one.id: 1.0}, unused=[four.id], unknown=[two.id])
        self._judge(ledger, one, four, used={four.id: 0.5}, unused=[one.id], scope=parent)
        stored = {(item.scope, item.kind): item.facts for item in ledger.stored_counts(parent, below=True)}
        assert stored == {(ALICE, "task"): 3, (parent, "observation"): 1}
        assert [tuple(item) for item in ledger.stored_counts(parent, below=False)] == [(parent, "observation", 1)]
        assert sum(item.facts for item in ledger.stored_counts(None, below=True)) == 5
        rows = {row.fact_id: row for row in ledger.fact_usages(parent, below=True)}
        assert set(rows) == {one.id, two.id, four.id}
        assert rows[one.id][1:6] == (ALICE, "task", 2, 2, 1)
        assert rows[one.id][6:] == pytest.approx((2.0, 1.0))
        assert rows[two.id][1:] == (ALICE, "task", 1, 0, 0, 0.0, 0.0)
        assert rows[four.id][3:6] == (2, 2, 1)
        assert rows[four.id][6:] == pytest.approx((2.0, 0.5))
        assert {row.fact_id for row in ledger.fact_usages(ALICE, below=False)} == {one.id, two.id}
        assert [ledger.fact_usage(id_) for id_ in (one.id, two.id)] == [rows[one.id], rows[two.id]]
        assert ledger.fact_usage(three.id) is None is ledger.fact_usage(samples.new_id())
        assert ledger.never_recalled(None, 10, below=True) == [three.id, five.id]
        assert ledger.never_recalled(None, 1, below=True) == [three.id]
        assert ledger.never_recalled(other, 10, below=False) == [five.id]

    def test_verdicts_come_back_by_time_and_scope(self, ledger: Ledger) -> None:
        for scope in (ALICE, Scope("acme/support"), Scope("acme/support-desk")):
            for hour in range(2):
                at = samples.START + timedelta(hours=hour)
                verdicts = [{"id": "f", "verdict": "unknown"}]
                ledger.record_usage(UsageRow(samples.new_id(), scope, at, f"{scope} {hour}", verdicts))
        found = ledger.usage_since(Scope("acme/support"), samples.START + timedelta(hours=1), below=True)
        assert [row.response for row in found] == [f"{ALICE} 1", "acme/support 1"]
        assert len(ledger.usage_since(None, samples.START, below=True)) == 6
        assert [row.scope for row in ledger.usage_since(ALICE, samples.START, below=False)] == [ALICE, ALICE]

    def _judge(
        self,
        ledger: Ledger,
        *shown: Fact,
        used: Mapping[str, float] | None = None,
        unused: Sequence[str] = (),
        unknown: Sequence[str] = (),
        recall_id: str | None = None,
        scope: Scope = ALICE,
        question: NDArray[np.float16] | None = None,
    ) -> str:
        row = samples.recall_row(scope, *shown)
        if recall_id is None:
            ledger.record_recall(row)
        verdicts = [
            *({"id": id_, "verdict": "used", "terms": {"weight": weight}} for id_, weight in (used or {}).items()),
            *({"id": id_, "verdict": "unused", "terms": {"weight": 0.0}} for id_ in unused),
            *({"id": id_, "verdict": "unknown", "terms": {}} for id_ in unknown),
        ]
        ledger.record_usage(UsageRow(recall_id or row.id, scope, samples.START, "answer", verdicts, question))
        return recall_id or row.id

    def test_nights_are_kept_with_what_they_did(self, ledger: Ledger, another: Ledger) -> None:
        samples.add(ledger, ALICE, ["one"])
        samples.add(ledger, "acme", ["two"])
        hours = (1, 2, 0)
        nights = [
            Night(samples.new_id(), ALICE if hour else None, samples.PRINCIPAL, samples.START + timedelta(hours=hour))
            for hour in hours
        ]
        for night in nights:
            ledger.save_night(night)
        ended = replace(nights[0], totals={"forgotten": 3})
        ledger.save_night(ended)
        assert another.nights(10) == [nights[1], ended, nights[2]]
        assert another.nights(1) == [nights[1]]
        ledger.save_scope_night(nights[0].id, ALICE, {"scope": "first", "é": [1]})
        ledger.save_scope_night(nights[0].id, ALICE, {"scope": ALICE.path, "é": [1, 2]})
        ledger.save_scope_night(nights[0].id, Scope("acme"), {"scope": "acme"})
        assert another.scope_nights(nights[0].id) == [{"scope": "acme"}, {"scope": ALICE.path, "é": [1, 2]}]
        assert another.scope_nights(nights[1].id) == []

    def test_failures_are_kept_newest_first(self, ledger: Ledger) -> None:
        items = [Parked("adapter", ALICE, samples.START, f"error {n}", {"n": n, "é": [1]}) for n in range(3)]
        ledger.park(items[0])
        turn = samples.episode(ALICE, "a turn")
        ledger.commit(replace(samples.batch(samples.fact(ALICE, "a turn")), episode=turn, parked=(items[1],)))
        ledger.park(replace(items[2], episode_id=turn.id, kind="extraction"))
        found = ledger.parked()
        assert [item.error for item in found] == ["error 2", "error 1", "error 0"]
        assert len({item.id for item in found}) == 3
        assert replace(found[0], id=0) == replace(items[2], episode_id=turn.id, kind="extraction")
        assert ledger.parked(2) == found[:2]

    def test_a_policy_is_inherited_from_the_nearest_ancestor(self, ledger: Ledger) -> None:
        default = ledger.policy(ALICE)
        assert (default.scope, default.version, default.policy) == (None, 0, MemoryPolicy.preset("default"))
        whole = MemoryPolicy(max_facts=111, prioritize_types=("task", "event"))
        near = MemoryPolicy(max_facts=222)
        acme, support = Scope("acme"), Scope("acme/support")
        assert ledger.set_policy(acme, whole, samples.PRINCIPAL, samples.START).version == 1
        for scope in (acme, support, ALICE, Scope("acme/x")):
            found = ledger.policy(scope)
            assert (found.scope, found.version, found.policy) == (acme, 1, whole)
        for stranger in ("acme-corp", "acme.corp", "a", "b/acme"):
            assert ledger.policy(Scope(stranger)) == default
        ledger.set_policy(support, near, "user:other", samples.START)
        found = ledger.policy(ALICE)
        assert (found.scope, found.policy, found.principal, found.at) == (support, near, "user:other", samples.START)
        assert ledger.policy(Scope("acme/x")).policy == whole

    def test_the_outset_says_at_once_what_its_parts_say(self, ledger: Ledger, another: Ledger) -> None:
        acme, support = Scope("acme"), Scope("acme/support")

        def holds() -> None:
            for scope in (acme, support, ALICE, Scope("acme/x"), Scope("b/acme")):
                found = another.outset(scope)
                assert found.rules == ledger.access.number()
                assert found.policy == ledger.policy(scope)
                assert found.states == ledger.scopes(scope.lineage)

        holds()
        samples.add(ledger, ALICE, ["one", "two"])
        samples.add(ledger, acme, ["three"])
        holds()
        for number in (1, 2):
            ledger.set_policy(acme, MemoryPolicy(max_facts=number), samples.PRINCIPAL, samples.START)
        holds()
        ledger.set_policy(support, MemoryPolicy(max_facts=3), samples.PRINCIPAL, samples.START)
        entry = AuditEntry(samples.START, samples.PRINCIPAL, "admin", "grant", ALICE)
        ledger.access.grant([Grant("user:ann", "read", ALICE, samples.PRINCIPAL, samples.START)], entry)
        holds()
        ledger.save_generation(Generation("g1", "place", "building", "fp"))
        ledger.save_collections([Collection("g1", samples.state(ledger, acme).id, "c-1", 5)])
        holds()
        assert [state.collection for state in ledger.outset(ALICE).states] == [None] * 3
        ledger.swap_generation("g1")
        holds()
        (of_acme,) = ledger.collections("g1")
        assert [state.collection for state in ledger.outset(ALICE).states] == [None, None, of_acme]
        ledger.save_generation(Generation("g1", "place", "bad", "fp"))
        assert [state.collection for state in ledger.outset(ALICE).states] == [None] * 3

    def test_policy_versions_grow_by_scope(self, ledger: Ledger, another: Ledger) -> None:
        policies = [MemoryPolicy(max_facts=number) for number in range(1, 9)]

        def set_one(place: int) -> int:
            own = (ledger, another)[place % 2]
            return own.set_policy(ALICE, policies[place], samples.PRINCIPAL, samples.START).version

        with ThreadPoolExecutor(4) as pool:
            versions = list(pool.map(set_one, range(8)))
        assert sorted(versions) == list(range(1, 9))
        last = versions.index(8)
        assert ledger.policy(ALICE).policy == policies[last]
        assert ledger.set_policy(Scope("acme"), policies[0], samples.PRINCIPAL, samples.START).version == 1

    def test_settings_can_be_set_once_or_over_again(self, ledger: Ledger, another: Ledger) -> None:
        assert ledger.setting("embedder") is None
        assert ledger.set_setting("embedder", "one", only_if_absent=True) == "one"
        assert another.set_setting("embedder", "two", only_if_absent=True) == "one"
        assert another.setting("embedder") == "one"
        assert another.set_setting("embedder", "drei – 三") == "drei – 三"
        assert ledger.setting("embedder") == "drei – 三"

    def test_a_setting_set_by_many_is_the_same_for_all(self, ledger: Ledger, another: Ledger) -> None:
        def set_one(who: int) -> str:
            return (ledger, another)[who % 2].set_setting("owner", f"user:{who}", only_if_absent=True)

        with ThreadPoolExecutor(4) as pool:
            answers = set(pool.map(set_one, range(12)))
        assert answers == {ledger.setting("owner")}

    def test_one_generation_is_live(self, ledger: Ledger) -> None:
        one, two, three = (Generation(name, f"place-{name}", "building", "fp/64/abc") for name in ("g1", "g2", "g3"))
        for generation in (three, one, two):
            ledger.save_generation(generation)
        assert ledger.generations() == [one, two, three]
        ledger.swap_generation("g1")
        ledger.swap_generation("g2")
        assert [item.state for item in ledger.generations()] == ["retired", "live", "retired"]
        ledger.save_generation(replace(two, state="bad"))
        assert [item.state for item in ledger.generations()] == ["retired", "bad", "retired"]
        ledger.drop_generation("g1")
        ledger.drop_generation("unknown")
        assert [item.id for item in ledger.generations()] == ["g2", "g3"]

    def test_collections_belong_to_a_generation(self, ledger: Ledger) -> None:
        for path in ("a", "b"):
            samples.add(ledger, path, ["something"])
        first, second = (samples.state(ledger, path).id for path in ("a", "b"))
        for name in ("g1", "g2"):
            ledger.save_generation(Generation(name, name, "live", "fp"))
        one, two = Collection("g1", first, "c-1", 5), Collection("g1", second, "c-2", 6, dirty=True)
        other = Collection("g2", first, "c-3", 7)
        ledger.save_collections([one, two, other])
        ledger.save_collections([])
        assert sorted(ledger.collections("g1"), key=lambda item: item.scope_id) == [one, two]
        later = replace(one, watermark=9, dirty=True)
        ledger.save_collections([later])
        assert sorted(ledger.collections("g1"), key=lambda item: item.scope_id) == [later, two]
        ledger.drop_collection(later)
        ledger.drop_collection(later)
        assert ledger.collections("g1") == [two]
        ledger.drop_generation("g1")
        assert ledger.collections("g1") == []
        assert ledger.collections("g2") == [other]

    def test_a_collection_of_a_generation_that_is_gone_is_refused(self, ledger: Ledger) -> None:
        """Another process may have rebuilt the index: its predecessor's books must not come back."""
        samples.add(ledger, "a", ["something"])
        with pytest.raises(Conflict):
            ledger.save_collections([Collection("gone", samples.state(ledger, "a").id, "c", 1)])
        assert ledger.collections("gone") == []

    def test_a_lease_is_exclusive_until_it_runs_out(self, ledger: Ledger, another: Ledger) -> None:
        assert ledger.lease("projector", "one", 60.0)
        assert not another.lease("projector", "two", 60.0)
        assert another.lease("projector", "one", 60.0)
        assert another.lease("another name", "two", 60.0)
        assert ledger.lease("projector", "one", 0.05)
        time.sleep(0.1)
        assert another.lease("projector", "two", 60.0)
        assert not ledger.lease("projector", "one", 60.0)

    def test_a_lease_wanted_by_many_goes_to_one(self, ledger: Ledger, another: Ledger) -> None:
        def take(who: int) -> bool:
            return (ledger, another)[who % 2].lease("projector", f"holder {who}", 60.0)

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(take, range(12))) == 1

    def test_a_batch_without_facts_still_keeps_its_decisions(self, ledger: Ledger) -> None:
        (said,) = samples.add(ledger, ALICE, ["it stays"])
        before = samples.state(ledger, ALICE)
        ledger.commit(Batch(ALICE, decisions=(samples.decision("archive", said, refused=True),)))
        assert samples.state(ledger, ALICE) == before
        assert [item.refused for item in ledger.history(said.id)] == [False, True]
