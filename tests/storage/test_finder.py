"""The finder: read-your-writes with the index behind, replays, stale and planted ids, and its caches."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support_finder import ALICE, LIMIT, WORDS, add, archive, opened, query, same, texts, truth
from support_remote import SCOPE

from engram_core import Engram
from engram_core.domain.fact import Fact, Status
from engram_core.domain.scope import Scope
from engram_core.ports import Batch, ContextWrite, Indexed, Ledger, Point, Write
from engram_core.storage import chroma
from engram_core.storage.decks import Decks
from engram_core.storage.finder import LedgerFinder
from engram_core.storage.ledger import SqlLedger
from engram_core.storage.matrices import Matrices
from engram_core.storage.projector import REMAINDER
from engram_core.storage.snapshots import Snapshots
from engram_core.testing import samples
from engram_core.testing.fakes import WordHashEmbedder
from engram_core.testing.memory_ledger import MemoryLedger


@pytest.fixture(params=["embedded", "server"])
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """SQLite with an index in a directory, and PostgreSQL with one on a Chroma server."""
    if request.param == "server":
        ledger: Ledger = SqlLedger(request.getfixturevalue("postgres_url"))
    else:
        ledger = request.getfixturevalue("open_sqlite")()
    yield ledger
    ledger.close()


@pytest.fixture
def place(ledger: Ledger, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where the index of the ledger is."""
    is_server = isinstance(ledger, SqlLedger) and ledger.url.startswith("postgresql")
    return str(request.getfixturevalue("chroma_server").url if is_server else tmp_path / "index")


@pytest.fixture
def finder(ledger: Ledger, place: str) -> Iterator[LedgerFinder]:
    finder = opened(ledger, place)
    yield finder
    finder.close()


def behind(ledger: Ledger) -> int:
    (live,) = [item for item in ledger.generations() if item.state == "live"]
    (collection,) = ledger.collections(live.id)
    return samples.state(ledger, ALICE).seq - collection.watermark


# --- read-your-writes ---


def test_the_index_answers_once_it_has_caught_up(ledger: Ledger, finder: LedgerFinder) -> None:
    add(ledger, 300)
    state = samples.state(ledger, ALICE)
    assert finder.nearest(state, query("red cat"), 10).degraded
    assert finder.flush(30)
    found = finder.nearest(samples.state(ledger, ALICE), query("red cat"), 10)
    assert not found.degraded
    same(found, truth(ledger, query("red cat"), 10))


def test_an_index_that_is_behind_still_sees_every_write(ledger: Ledger, finder: LedgerFinder) -> None:
    facts = add(ledger, 100)
    assert finder.flush(30)
    (fresh,) = samples.add(ledger, ALICE, ["red cat in a red house"])
    moved, edit = samples.changed(facts[0], text="red cat and red dog")
    ledger.commit(edit)
    near = ContextWrite(facts[1].id, None, ("red", "cat"), samples.vector("red cat"))
    ledger.commit(Batch(ALICE, contexts=(near,)))
    archive(ledger, facts[2:4])
    assert behind(ledger) > 0
    for words in ("red cat", facts[2].text, facts[3].text, fresh.text, moved.text):
        found = finder.nearest(samples.state(ledger, ALICE), query(words), 10)
        assert not found.degraded
        same(found, truth(ledger, query(words), 10))
        assert not {facts[2].id, facts[3].id} & {hit.id for hit in found.hits}
    top = finder.nearest(samples.state(ledger, ALICE), query("red cat"), 1).hits[0]
    assert top.id == facts[1].id


def test_archiving_the_best_hits_makes_room_for_the_next_best(ledger: Ledger, finder: LedgerFinder) -> None:
    """The index still answers with what has left; that must not cost the facts behind them."""
    add(ledger, 120)
    assert finder.flush(30)
    best = truth(ledger, query("red cat"), 40)
    archive(ledger, ledger.facts([hit.id for hit in best]))
    found = finder.nearest(samples.state(ledger, ALICE), query("red cat"), 40)
    assert not found.degraded
    same(found, truth(ledger, query("red cat"), 40))


def test_an_index_too_far_behind_is_not_asked(ledger: Ledger, finder: LedgerFinder) -> None:
    add(ledger, LIMIT + 1)
    assert finder.flush(30)
    add(ledger, REMAINDER + 10, start=1000)
    found = finder.nearest(samples.state(ledger, ALICE), query("red cat"), 10)
    assert found.degraded
    same(found, truth(ledger, query("red cat"), 10))
    assert finder.flush(60)
    found = finder.nearest(samples.state(ledger, ALICE), query("red cat"), 10)
    assert not found.degraded
    same(found, truth(ledger, query("red cat"), 10))


def test_pending_and_quarantined_facts_are_not_in_the_index(ledger: Ledger, finder: LedgerFinder, place: str) -> None:
    facts = add(ledger, LIMIT + 5)
    hidden = [samples.fact(ALICE, "red cat", status=status) for status in (Status.PENDING, Status.QUARANTINED)]
    ledger.commit(samples.batch(*hidden))
    assert finder.flush(30)
    assert indexed_ids(finder, ledger, place) == {fact.id for fact in facts}


# --- replays ---


def indexed_ids(finder: LedgerFinder, ledger: Ledger, place: str) -> set[str]:
    """Close the finder and look into the index behind its back."""
    finder.close()
    (live,) = [item for item in ledger.generations() if item.state == "live"]
    (collection,) = ledger.collections(live.id)
    index = chroma.server(place) if "://" in place else chroma.embedded(str(Path(place, live.place)))
    try:
        return index.ids(collection.name)
    finally:
        index.close()


@pytest.mark.parametrize("seed", range(2))
def test_a_drain_replayed_from_any_watermark_changes_nothing(ledger: Ledger, place: str, seed: int) -> None:
    chance = np.random.default_rng(seed)
    facts = add(ledger, 60)
    finder = opened(ledger, place)
    assert finder.flush(30)
    archive(ledger, [facts[number] for number in chance.choice(60, 15, replace=False)])
    add(ledger, 20, start=500)
    assert finder.flush(30)
    finder.close()
    seq = samples.state(ledger, ALICE).seq
    wanted = {fact.id for fact in ledger.listing(ALICE, statuses=[Status.LIVE], limit=1_000)}
    for watermark in (0, int(chance.integers(0, seq)), int(chance.integers(0, seq))):
        (live,) = ledger.generations()
        (collection,) = ledger.collections(live.id)
        ledger.save_collections([replace(collection, watermark=watermark)])
        again = opened(ledger, place)
        assert again.flush(30)
        for words in ("red cat", "green dog n3", "rain"):
            found = again.nearest(samples.state(ledger, ALICE), query(words), 15)
            assert not found.degraded
            same(found, truth(ledger, query(words), 15))
        assert indexed_ids(again, ledger, place) == wanted


# --- stale and planted ids ---


def test_ids_planted_in_the_index_never_leak(tmp_path: Path) -> None:
    """An index that answers archived, foreign or invented ids costs quality at most."""
    embedder = WordHashEmbedder()
    with Engram.open(tmp_path / "store", embedder=embedder, exact_limit=LIMIT) as engram:
        memory = engram.memory(SCOPE)
        memory.set_policy(design="similarity")
        gone = [memory.forget(fact.id) for fact in memory.add(["the secret word is swordfish"] * 2).facts]
        foreign = engram.memory("acme/support/bob").add(["bob says the secret word is swordfish"]).facts
        kept = memory.add([f"plain fact {text}" for text in texts(LIMIT + 10)]).facts
        assert engram.flush()
        ledger = engram.context.ledger
        (live,) = ledger.generations()
        (collection,) = ledger.collections(live.id)
    planted = [*(fact.id for fact in (*gone, *foreign)), "no-such-fact", samples.new_id()]
    index = chroma.embedded(str(tmp_path / "store" / "index" / live.place))
    vector = embedder.embed(["the secret word is swordfish"])[0]
    index.put(collection.name, [Point(id_, vector) for id_ in planted])
    index.close()
    with Engram.open(tmp_path / "store", embedder=embedder, exact_limit=LIMIT) as engram:
        assert engram.flush()
        recall = engram.memory(SCOPE).recall("the secret word is swordfish", k=10)
        assert not recall.degraded
        assert {item.fact.id for item in recall.facts} <= {fact.id for fact in kept}
        assert len(recall.facts) == 10
        assert "swordfish" not in recall.text
        assert not any("swordfish" in item.text or item.fact_id in planted for item in recall.dropped)


# --- exact search and caches ---


def test_exact_search_finds_opposites_too(ledger: Ledger) -> None:
    """Rows that were freed score nothing; they must not push out facts with a negative cosine."""
    facts = add(ledger, 40)
    matrices = Matrices(ledger, lambda: samples.DIMENSION)
    matrices.nearest(samples.state(ledger, ALICE), query("red"), 5)
    archive(ledger, facts[:30])
    for words in WORDS:
        for vector in (query(words), -query(words)):
            same(matrices.nearest(samples.state(ledger, ALICE), vector, 10), truth(ledger, vector, 10))


def test_exact_search_follows_every_kind_of_change(ledger: Ledger) -> None:
    matrices = Matrices(ledger, lambda: samples.DIMENSION)
    chance = np.random.default_rng(1)
    add(ledger, 10)
    for step in range(40):
        facts = ledger.listing(ALICE, limit=1_000)
        fact = facts[int(chance.integers(len(facts)))]
        match step % 4:
            case 0:
                add(ledger, int(chance.integers(1, 9)), start=1_000 + 10 * step)
            case 1:
                ledger.commit(samples.changed(fact, text=texts(1, start=5_000 + step)[0])[1])
            case 2:
                archive(ledger, [fact])
            case _:
                ledger.commit(samples.changed(fact, status=Status.LIVE)[1])
        vector = query(texts(1, start=step)[0])
        same(matrices.nearest(samples.state(ledger, ALICE), vector, 7), truth(ledger, vector, 7))


class _Moving(MemoryLedger):
    """A ledger in which somebody archives a fact while its changes are being paged through."""

    victim: str | None = None

    def changes(self, scope_id: int, after: int, limit: int, *, vectors: bool = True) -> list[Indexed]:
        rows = super().changes(scope_id, after, limit, vectors=vectors)
        if self.victim is not None and rows and len(rows) == limit:
            (fact,) = self.facts([self.victim])
            self.victim = None
            self.commit(samples.archived(fact)[1])
        return rows


def test_a_fact_that_leaves_while_a_scope_is_read_does_not_stay(tmp_path: Path) -> None:
    ledger = _Moving()
    facts = add(ledger, 5_050)
    ledger.victim = facts[0].id
    matrices = Matrices(ledger, lambda: samples.DIMENSION)
    hits = matrices.nearest(samples.state(ledger, ALICE), query(facts[0].text), 10)
    assert facts[0].id not in {hit.id for hit in hits}
    ledger.victim = facts[1].id
    snapshots = Snapshots(ledger, lambda: samples.DIMENSION, limit=10_000)
    snapshot = snapshots.get(samples.state(ledger, ALICE))
    assert snapshot is not None
    assert len(snapshot.columns.ids) == len(set(snapshot.columns.ids)) == 5_048
    assert facts[1].id not in snapshot.columns.ids


def test_matrices_stay_within_their_bytes(ledger: Ledger) -> None:
    scopes = [Scope(f"many/s{number}") for number in range(8)]
    for scope in scopes:
        add(ledger, 50, scope=scope)
    one = 50 * samples.DIMENSION * 4
    matrices = Matrices(ledger, lambda: samples.DIMENSION, max_bytes=3 * one)
    for _ in range(2):
        for scope in scopes:
            found = matrices.nearest(samples.state(ledger, scope), query("red cat"), 5)
            same(found, truth(ledger, query("red cat"), 5, scope))
            assert sum(matrix.values.nbytes for matrix in matrices._held.values()) <= 3 * one


def decks_of(ledger: Ledger, **options: int) -> Decks:
    return Decks(ledger, lambda: samples.DIMENSION, **options)


def settle(decks: Decks) -> None:
    """Wait until nothing is left to do in the background."""
    while (thread := decks._worker) is not None:
        thread.join(30)


def test_gathered_rows_are_never_older_than_the_scope(ledger: Ledger) -> None:
    facts = add(ledger, 30)
    elsewhere = add(ledger, 3, start=90, scope=Scope("acme/other"))
    decks = decks_of(ledger)
    ids = [fact.id for fact in facts]
    asked = [[*ids, *(fact.id for fact in elsewhere), samples.new_id()]]
    for step in range(10):
        gathered = decks.gather(samples.state(ledger, ALICE), asked, ["red", "cat"], 0)
        alive = [fact for fact in ledger.facts(ids) if fact.is_recallable]
        assert gathered.columns.ids == [fact.id for fact in alive]
        for column, stem in enumerate(["red", "cat"]):
            counts = [fact.text.split().count(stem) for fact in alive]
            assert gathered.body_counts[:, column].tolist() == counts
        archive(ledger, ledger.facts([ids[step]]))
        (changed,) = ledger.facts([ids[-1]])
        ledger.commit(samples.changed(changed, importance=step / 10)[1])
        again = decks.gather(samples.state(ledger, ALICE), [[ids[-1]]], [], 0)
        assert again.columns.importance.tolist() == pytest.approx([step / 10])


def test_gathering_brings_neighbours_and_says_where_they_stand(ledger: Ledger) -> None:
    facts = [samples.fact(ALICE, text, session="s") for text in texts(6)]
    around = zip([None, *facts], facts, [*facts[1:], None], strict=False)
    written = [Write(own, samples.features(own, previous=before, following=after)) for before, own, after in around]
    ledger.commit(Batch(ALICE, writes=tuple(written)))
    gathered = decks_of(ledger).gather(samples.state(ledger, ALICE), [[facts[2].id], [facts[5].id]], [], 1)
    columns = gathered.columns
    assert set(columns.ids) == {facts[place].id for place in (1, 2, 3, 4, 5)}
    at = {id_: place for place, id_ in enumerate(columns.ids)}
    assert columns.previous[at[facts[2].id]] == at[facts[1].id]
    assert columns.following[at[facts[3].id]] == at[facts[4].id]
    assert columns.previous[at[facts[1].id]] == -1
    want = np.stack([np.frombuffer(row.context or b"", dtype="<f2") for row in ledger.indexed(columns.ids)])
    held = {row.id: place for place, row in enumerate(ledger.indexed(columns.ids))}
    assert np.array_equal(columns.context, want.astype(np.float32)[[held[id_] for id_ in columns.ids]])


def test_a_row_read_too_early_does_not_undo_a_later_change(ledger: Ledger) -> None:
    (fact,) = add(ledger, 1)
    early = ledger.indexed([fact.id])
    decks = decks_of(ledger)
    ledger.commit(samples.changed(fact, importance=0.25)[1])
    state = samples.state(ledger, ALICE)
    decks.gather(state, [[fact.id]], [], 0)
    decks._held[state.id].put(early, state.id)
    assert decks.gather(state, [[fact.id]], [], 0).columns.importance.tolist() == [0.25]


def test_many_changes_at_once_leave_no_old_row(ledger: Ledger) -> None:
    facts = add(ledger, 400)
    ids = [fact.id for fact in facts]
    decks = decks_of(ledger)
    decks.gather(samples.state(ledger, ALICE), [ids], [], 0)
    deck = decks._held[samples.state(ledger, ALICE).id]
    changes = [samples.changed(fact, importance=0.125)[1] for fact in facts[:350]]
    ledger.commit(Batch(ALICE, writes=tuple(write for batch in changes for write in batch.writes)))
    columns = decks.gather(samples.state(ledger, ALICE), [ids], [], 0).columns
    assert columns.ids == ids
    assert columns.importance.tolist() == [0.125] * 350 + [fact.importance for fact in facts[350:]]
    assert decks._held[samples.state(ledger, ALICE).id] is deck
    decks.close()


def test_words_held_together_are_found_as_the_ledger_finds_them(ledger: Ledger) -> None:
    decks = decks_of(ledger)
    chance = np.random.default_rng(3)
    facts: list[Fact] = []
    for step in range(12):
        facts += add(ledger, 25, start=25 * step)
        archive(ledger, ledger.facts([facts[int(place)].id for place in chance.choice(len(facts), 3, replace=False)]))
        state = samples.state(ledger, ALICE)
        for _ in range(3):
            weights = dict.fromkeys([str(word) for word in chance.choice(WORDS, 3, replace=False)], 1.0)
            want = ledger.matching(state.id, weights, 40, together=True)
            assert decks.matching(state, weights, 40, together=True) == want
            settle(decks)
            assert decks._held[state.id].lacks_bits(weights) == []
            assert decks.matching(state, weights, 40, together=True) == want
            assert decks.frequencies(state, WORDS) == ledger.frequencies(state.id, WORDS)


def test_the_rest_of_a_scope_is_read_beside_recalls_if_there_is_room(ledger: Ledger) -> None:
    facts = add(ledger, 350)
    state = samples.state(ledger, ALICE)
    decks, small = decks_of(ledger), decks_of(ledger, max_bytes=100_000)
    for each in (decks, small):
        each.gather(state, [[facts[0].id]], [], 0)
    settle(decks)
    places = [decks._held[state.id].place(fact.id) for fact in facts]
    assert decks._held[state.id].unknown(places) == []
    assert small._worker is None
    for fact in facts:
        small.gather(state, [[fact.id]], [], 0)
        assert small.size <= 1.6 * 100_000  # room is made by halves
    decks.close()


def in_threads(work: Sequence[Callable[[], None]]) -> None:
    """Run each at once; raise what the first of them raised."""
    failures: list[BaseException] = []

    def guarded(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(task,)) for task in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if failures:
        raise failures[0]


def test_decks_lose_nothing_between_threads() -> None:
    """Every gather moves the deck on while others add to it; threads take turns a thousand times as often as usual."""
    memory = MemoryLedger()
    ids = [fact.id for fact in samples.add(memory, ALICE, texts(2_000))]
    decks = decks_of(memory)
    state = samples.state(memory, ALICE)
    seqs = itertools.count(state.seq)

    def read(seed: int) -> None:
        chance = np.random.default_rng(seed)
        for _ in range(40):
            picked = [ids[place] for place in chance.choice(len(ids), 200, replace=False)]
            found = decks.gather(replace(state, seq=next(seqs)), [picked], ["red"], 0)
            assert found.columns.ids == picked

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        in_threads([lambda seed=seed: read(seed) for seed in range(6)])
    finally:
        sys.setswitchinterval(usual)
        decks.close()


def test_caches_can_be_read_by_many_while_others_write(ledger: Ledger) -> None:
    facts = add(ledger, 400)
    ids = [fact.id for fact in facts]
    decks, matrices = decks_of(ledger), Matrices(ledger, lambda: samples.DIMENSION)
    snapshots = Snapshots(ledger, lambda: samples.DIMENSION, limit=100_000)
    is_done = threading.Event()

    def write() -> None:
        for number in range(40):
            (fact,) = ledger.facts([ids[number]])
            ledger.commit(samples.changed(fact, importance=0.75)[1])
        is_done.set()

    def read(seed: int) -> None:
        chance = np.random.default_rng(seed)
        while not is_done.is_set():
            picked = [ids[place] for place in chance.choice(400, 120, replace=False)]
            changed = {fact.id for fact in ledger.facts(picked) if fact.importance == 0.75}
            state = samples.state(ledger, ALICE)
            columns = decks.gather(state, [picked], [], 0).columns
            assert columns.ids == picked
            assert all(columns.importance[columns.ids.index(id_)] == 0.75 for id_ in changed)
            assert len(matrices.nearest(state, query("red cat"), 10)) == 10
            snapshot = snapshots.get(state)
            assert snapshot is not None
            assert len(snapshot.columns) == 400

    in_threads([write, *(lambda seed=seed: read(seed) for seed in range(4))])
