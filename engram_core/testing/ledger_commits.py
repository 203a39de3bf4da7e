"""Ledger contract, part one: commits. Nothing is lost, nothing is half done, no scope sees another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest

from engram_core.domain.errors import Conflict, InvalidInput
from engram_core.domain.fact import Fact, Origin, Slot, Status
from engram_core.domain.scope import Scope
from engram_core.ports import Batch, ContextWrite, Ledger, Parked, Write
from engram_core.testing import samples
from engram_core.testing.fakes import wait_until

OpenLedger = Callable[[], Ledger]

ALICE = Scope("acme/support/alice")
SIBLINGS = tuple(map(Scope, ("acme", "acme-corp", "acme.corp", "acme/x", "acme/x/y", "a/cme", "acme_", "acme+")))


class LedgerFixtures:
    """What the clauses stand on."""

    is_durable: ClassVar[bool] = True
    """Whether a ledger opened later sees what an earlier one wrote after it was closed."""

    @pytest.fixture
    def open_ledger(self) -> OpenLedger:
        """Override: a function that opens the same store, empty at first, each time it is called."""
        raise NotImplementedError

    @pytest.fixture
    def ledger(self, open_ledger: OpenLedger) -> Iterator[Ledger]:
        """One open ledger."""
        opened = open_ledger()
        yield opened
        opened.close()

    @pytest.fixture
    def another(self, open_ledger: OpenLedger) -> Iterator[Ledger]:
        """A second handle on the same store."""
        opened = open_ledger()
        yield opened
        opened.close()


class CommitClauses(LedgerFixtures):
    """Commits."""

    def test_two_writers_lose_nothing(self, ledger: Ledger, another: Ledger) -> None:
        texts = [f"writer says number {number}" for number in range(40)]

        def write(who: int) -> list[Fact]:
            own = (ledger, another)[who % 2]
            return [said for text in texts for said in samples.add(own, ALICE, [f"{who} {text}"])]

        with ThreadPoolExecutor(4) as pool:
            acknowledged = [said for facts in pool.map(write, range(4)) for said in facts]
        ids = [said.id for said in acknowledged]
        assert ledger.facts(ids) == acknowledged
        assert another.facts(ids) == acknowledged
        assert {row.id for row in samples.outbox(ledger, samples.state(ledger, ALICE).id)} == set(ids)
        assert samples.state(ledger, ALICE).live == len(ids)

    def test_two_writers_of_one_fact_do_not_overwrite_each_other(self, ledger: Ledger, another: Ledger) -> None:
        (said,) = samples.add(ledger, ALICE, ["the counter starts at zero"])

        def count_up(own: Ledger) -> None:
            done = 0
            while done < 15:
                (now,) = own.facts([said.id])
                _, batch = samples.changed(now, metadata={"count": int(str(now.metadata.get("count", 0))) + 1})
                try:
                    own.commit(batch)
                    done += 1
                except Conflict:
                    continue

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(count_up, (ledger, another)))
        (after,) = ledger.facts([said.id])
        assert after.metadata == {"count": 30}
        assert after.version == 31
        assert len(ledger.history(said.id)) == 31

    def test_reopening_sees_everything(self, open_ledger: OpenLedger) -> None:
        if not self.is_durable:
            pytest.skip("this ledger declares that nothing outlives it")
        first = open_ledger()
        facts = samples.add(first, ALICE, ["Alice moved to Lisbon", "Alice has two cats"], session="s1")
        _, edit = samples.archived(facts[1])
        first.commit(edit)
        row = samples.recall_row(ALICE, facts[0])
        first.record_recall(row)
        first.set_setting("colour", "green")
        before = (first.scopes(), first.facts([said.id for said in facts]), samples.outbox(first, first.scopes()[0].id))
        first.close()
        later = open_ledger()
        after = (later.scopes(), later.facts([said.id for said in facts]), samples.outbox(later, later.scopes()[0].id))
        assert after == before
        assert later.recall(row.id) == row
        assert later.setting("colour") == "green"
        assert [item.action for item in later.history(facts[1].id)] == ["add", "edit"]
        later.close()

    def test_a_second_handle_sees_a_commit_at_once(self, ledger: Ledger, another: Ledger) -> None:
        (said,) = samples.add(ledger, ALICE, ["seen at once"])
        assert another.facts([said.id]) == [said]
        assert samples.state(another, ALICE) == samples.state(ledger, ALICE)

    def test_a_scope_never_sees_a_sibling(self, ledger: Ledger) -> None:
        owners = {scope: samples.add(ledger, scope, [f"secret of {scope}"], session="s1")[0] for scope in SIBLINGS}
        for scope, own in owners.items():
            state = samples.state(ledger, scope)
            assert state.live == 1
            assert ledger.listing(scope) == [own]
            assert [row.id for row in ledger.changes(state.id, 0, 100)] == [own.id]
            assert ledger.newest(state.id, 100) == [own.id]
            assert ledger.matching(state.id, {"secret": 1.0}, 100) == [own.id]
            assert ledger.said_between(state.id, [(0.0, 1e12)], 100) == [own.id]
            assert ledger.frequencies(state.id, ["secret"]) == {"secret": (1, 1)}
            tail = ledger.tail(scope, "s1")
            assert tail is not None
            assert tail.fact_id == own.id
            assert [item.fact_id for item in ledger.decisions(scope)] == [own.id]
            key = samples.features(own).key
            assert ledger.twins(scope, [key]) == {key: own}
            others = [samples.features(other).key for other in owners.values() if other is not own]
            assert ledger.twins(scope, others) == {}

    def test_a_write_cannot_reach_into_another_scope(self, ledger: Ledger) -> None:
        (said,) = samples.add(ledger, Scope("acme"), ["it belongs to acme"])
        stolen = replace(said, scope=Scope("acme-corp"), version=2, text="stolen")
        with pytest.raises(Conflict):
            ledger.commit(Batch(stolen.scope, writes=(Write(stolen, samples.features(stolen), replaces=1),)))
        with pytest.raises(Conflict):
            ledger.commit(Batch(stolen.scope, contexts=(ContextWrite(said.id, None, ("stolen",), None),)))
        assert ledger.facts([said.id]) == [said]

    def test_ids_nobody_knows_are_left_out(self, ledger: Ledger) -> None:
        (said,) = samples.add(ledger, ALICE, ["known"])
        unknown = samples.new_id()
        assert ledger.facts([]) == []
        assert ledger.facts([unknown, said.id, unknown]) == [said]
        assert ledger.indexed([]) == []
        assert [row.id for row in ledger.indexed([unknown, said.id])] == [said.id]
        assert ledger.history(unknown) == []
        assert ledger.episode(unknown) is None
        assert ledger.recall(unknown) is None
        assert ledger.recalls_of(unknown, 10) == []
        assert ledger.usage(unknown) == []
        assert ledger.setting(unknown) is None
        assert ledger.scopes([Scope("nobody"), ALICE]) == [samples.state(ledger, ALICE)]
        nowhere = samples.state(ledger, ALICE).id + 1000
        assert ledger.changes(nowhere, 0, 10) == []
        assert ledger.matching(nowhere, {"known": 1.0}, 10) == []
        assert ledger.newest(nowhere, 10) == []
        assert ledger.said_between(nowhere, [(0.0, 1e12)], 10) == []
        assert ledger.frequencies(nowhere, ["known"]) == {}
        assert ledger.listing(Scope("nobody")) == []
        assert ledger.decisions(Scope("nobody")) == []
        assert ledger.tail(ALICE, "no such session") is None
        assert ledger.twins(ALICE, ["no such key", ""]) == {}

    def test_a_stale_plan_conflicts_and_writes_nothing(self, ledger: Ledger, another: Ledger) -> None:
        seen = ledger.commit(samples.batch(samples.fact(ALICE, "first")))
        assert samples.state(ledger, ALICE).seq == seen
        another.commit(samples.batch(samples.fact(ALICE, "second"), expect=seen))
        late = samples.fact(ALICE, "late")
        before = samples.state(ledger, ALICE)
        with pytest.raises(Conflict):
            ledger.commit(samples.batch(late, expect=seen))
        assert ledger.facts([late.id]) == []
        assert ledger.history(late.id) == []
        assert samples.state(ledger, ALICE) == before
        assert ledger.commit(samples.batch(late, expect=before.seq)) > before.seq

    def test_a_new_scope_is_expected_at_zero(self, ledger: Ledger) -> None:
        assert ledger.commit(samples.batch(samples.fact(ALICE, "first"), expect=0)) > 0
        with pytest.raises(Conflict):
            ledger.commit(samples.batch(samples.fact(ALICE, "second"), expect=0))

    def test_an_edit_of_an_old_version_conflicts(self, ledger: Ledger) -> None:
        (said,) = samples.add(ledger, ALICE, ["version one"])
        newer, edit = samples.changed(said, text="version two")
        ledger.commit(edit)
        with pytest.raises(Conflict):
            ledger.commit(samples.changed(said, text="another version two")[1])
        assert ledger.facts([said.id]) == [newer]
        with pytest.raises(Conflict):
            ledger.commit(samples.changed(samples.fact(ALICE, "never written"))[1])

    @pytest.mark.parametrize("flaw", ["missing neighbour", "old version", "id in use"])
    def test_a_batch_that_fails_half_way_leaves_nothing(self, ledger: Ledger, flaw: str) -> None:
        (known,) = samples.add(ledger, ALICE, ["already there"])
        before = self._everything(ledger, known)
        good = samples.fact(ALICE, "good and new")
        turn = samples.episode(ALICE, "good and new")
        whole = samples.batch(good, episode=turn, extraction="due")
        item = Parked("adapter", ALICE, samples.START, "it failed", {"n": 1})
        match flaw:
            case "missing neighbour":
                bad = replace(whole, contexts=(ContextWrite(samples.new_id(), None, ("x",), None),), parked=(item,))
            case "old version":
                edit = Write(replace(known, version=9), samples.features(known), replaces=8)
                bad = replace(whole, writes=(*whole.writes, edit), parked=(item,))
            case _:
                again = Write(replace(known, text="an impostor"), samples.features(known))
                bad = replace(whole, writes=(*whole.writes, again), parked=(item,))
        with pytest.raises(InvalidInput if flaw == "id in use" else Conflict):
            ledger.commit(bad)
        assert self._everything(ledger, known) == before
        assert ledger.facts([good.id]) == []
        assert ledger.history(good.id) == []
        assert ledger.episode(turn.id) is None

    @staticmethod
    def _everything(ledger: Ledger, known: Fact) -> object:
        state = samples.state(ledger, known.scope)
        words = ledger.frequencies(state.id, ["good", "alreadi", "new", "x", "impostor"])
        rows = samples.outbox(ledger, state.id)
        parts = (ledger.facts([known.id]), ledger.decisions(known.scope), ledger.parked(), ledger.episodes_due(10))
        return state, words, rows, parts, ledger.matching(state.id, {"good": 1.0, "alreadi": 1.0}, 10)

    def test_every_field_of_a_fact_comes_back(self, ledger: Ledger) -> None:
        moment = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
        full = samples.fact(
            ALICE,
            "Ünïcode, 漢字, 🙂, “quotes”, \\ and 'apostrophes'; -- DROP TABLE facts",
            origin=Origin("agent:helpdesk", "tool", samples.new_id(), "session/1", ("m1", "m2")),
            said_at=moment,
            version=1,
            speaker="Alice O'Hara",
            kind="preference",
            slot=Slot("alice", "city"),
            importance=0.9,
            confidence=0.25,
            trust=0.5,
            valid_from=moment - timedelta(days=1),
            valid_until=moment + timedelta(days=1),
            pinned=True,
            status=Status.QUARANTINED,
            forget_score=0.125,
            forget_terms={"decayed": 0.1, "unused": 0.025},
            superseded_by=samples.new_id(),
            consolidated_from=(samples.new_id(), samples.new_id()),
            is_consolidated=True,
            consolidated_into=samples.new_id(),
            form="merged",
            sources=(samples.new_id(),),
            archived_at=moment,
            archived_reason="rule: a line",
            metadata={"a": 1, "b": [1.5, None, True, {"c": "é"}], "empty": {}},
        )
        ledger.commit(samples.batch(full))
        (found,) = ledger.facts([full.id])
        assert found == full
        assert found.said_at.tzinfo is not None

    @pytest.mark.parametrize("year", [1, 1969, 2300, 9999])
    def test_the_ends_of_time_can_be_stored_and_read(self, ledger: Ledger, year: int) -> None:
        aware = datetime.min.replace(tzinfo=UTC) if year == 1 else datetime.max.replace(year=year, tzinfo=UTC)
        said = samples.fact(ALICE, "valid for ever", said_at=aware, valid_from=aware, valid_until=aware)
        ledger.commit(samples.batch(said))
        (found,) = ledger.facts([said.id])
        assert found.valid_until is not None
        assert abs(found.valid_until - aware) < timedelta(milliseconds=1)
        assert abs(found.said_at - aware) < timedelta(milliseconds=1)
        assert ledger.listing(ALICE) == [found]

    def test_a_mapping_changed_after_the_commit_changes_nothing(self, ledger: Ledger) -> None:
        metadata: dict[str, object] = {"tags": ["a"]}
        (said,) = samples.add(ledger, ALICE, ["it has tags"], metadata=metadata)
        metadata["tags"] = "gone"
        assert ledger.facts([said.id])[0].metadata == {"tags": ["a"]}

    def test_decisions_are_kept_in_order(self, ledger: Ledger) -> None:
        (said,) = samples.add(ledger, ALICE, ["first wording"])
        _, edit = samples.changed(said, text="second wording")
        before, after = {"text": "first wording"}, {"text": "second wording"}
        noted = samples.decision("edit", said, before=before, after=after)
        ledger.commit(replace(edit, decisions=(noted, samples.decision("reweigh", said, refused=True))))
        (_, other) = samples.add(ledger, ALICE, ["another", "and another"])
        story = ledger.history(said.id)
        assert [item.action for item in story] == ["add", "edit", "reweigh"]
        assert [item.refused for item in story] == [False, False, True]
        assert replace(story[1], seq=0) == noted
        assert [item.seq for item in story] == sorted(item.seq for item in story)
        latest = ledger.decisions(ALICE, limit=2)
        assert latest[0].fact_id == other.id
        assert [item.action for item in ledger.decisions(ALICE)] == ["add", "add", "reweigh", "edit", "add"]

    def test_an_episode_is_due_until_its_extraction_is_done(self, ledger: Ledger) -> None:
        turns = [samples.episode(ALICE, f"turn {number}", session="s1") for number in range(3)]
        facts = []
        for turn in turns:
            said = samples.fact(ALICE, turn.messages[0].content)
            facts.append(said)
            noted = samples.decision("add", said, episode_id=turn.id)
            refused = samples.decision("add", samples.fact(ALICE, "no"), episode_id=turn.id, refused=True)
            ledger.commit(
                replace(samples.batch(said), episode=turn, extraction="due", decisions=(noted, refused, noted))
            )
        due = ledger.episodes_due(10)
        assert due == [replace(turn, kept=(said.id,)) for turn, said in zip(turns, facts, strict=True)]
        assert ledger.episodes_due(1) == due[:1]
        ledger.commit(Batch(ALICE, episode=due[0], extraction="done"))
        ledger.commit(Batch(ALICE, episode=due[1], extraction="parked"))
        assert ledger.episodes_due(10) == due[2:]
        assert ledger.episode(turns[0].id) == due[0]

    def test_changes_come_in_commit_order_without_gaps(self, ledger: Ledger, another: Ledger) -> None:
        """Commit order must be sequence order: a reader that moves its watermark up must not skip a late commit."""
        first = samples.add(ledger, ALICE, ["the scope exists"])
        state = samples.state(ledger, ALICE)
        written: list[str] = [said.id for said in first]
        is_done = threading.Event()
        seen: list[str] = []

        def follow() -> None:
            watermark = 0
            while True:
                was_done = is_done.is_set()
                rows = another.changes(state.id, watermark, 7, vectors=False)
                assert [row.seq for row in rows] == sorted(row.seq for row in rows)
                assert all(row.seq > watermark for row in rows)
                seen.extend(row.id for row in rows)
                watermark = rows[-1].seq if rows else watermark
                if was_done and not rows:
                    return

        def write(who: int) -> None:
            for number in range(20):
                texts = [f"{who} {number} {part}" for part in range(1 + (who + number) % 3)]
                written.extend(said.id for said in samples.add((ledger, another)[who % 2], ALICE, texts))

        reader = threading.Thread(target=follow)
        reader.start()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
        is_done.set()
        reader.join(30)
        assert not reader.is_alive()
        assert sorted(seen) == sorted(written)

    def test_reads_go_on_while_others_write(self, ledger: Ledger, another: Ledger) -> None:
        facts = samples.add(ledger, ALICE, [f"number {number}" for number in range(30)], session="s1")
        state = samples.state(ledger, ALICE)
        is_done = threading.Event()
        rounds = []

        def read() -> None:
            while not is_done.is_set():
                assert len(another.facts([said.id for said in facts])) == 30
                assert len(another.indexed([said.id for said in facts])) == 30
                assert len(another.listing(ALICE, limit=30)) == 30
                now = samples.state(another, ALICE)
                assert now.live >= 30
                assert len(another.changes(state.id, 0, 10_000)) >= now.live
                rounds.append(1)

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            for number in range(30):
                samples.add(ledger, ALICE, [f"more {number}"])
            assert wait_until(lambda: len(rounds) >= 2 or any(reader.done() for reader in readers))
            is_done.set()
            for reader in readers:
                reader.result(30)
