"""Consolidation through the facade: what becomes one, how it is recalled, how it comes apart, and what is never lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engram_core import ChangeRefused, Consolidate, Engram, Fact, Memory, Message, Reason
from engram_core.operations import consolidate
from engram_core.operations.commit import Plan

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEA = (
    "I drink green tea every morning.",
    "Green tea with jasmine is my favourite drink.",
    "I bought 3 kinds of green tea yesterday.",
    "My green tea pot broke in May.",
    "I prefer green tea to black tea.",
)
OTHER = ("My train leaves at nine.", "The garden needs water.")


@pytest.fixture(params=["memory", "sqlite", "indexed", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engram]:
    """Scanned whole, in memory and on both databases, and through the vector index."""
    url = ":memory:" if request.param == "memory" else str(tmp_path / "store")
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    with Engram.open(url, exact_limit=0 if request.param == "indexed" else 2_000) as engram:
        yield engram


def said(texts: tuple[str, ...], prefix: str = "m", speaker: str = "Ana", **fields: object) -> list[Message]:
    return [
        Message("user", text, speaker=speaker, at=NOW + timedelta(days=n), session="s", id=f"{prefix}{n}", **fields)  # type: ignore[arg-type]
        for n, text in enumerate(texts)
    ]


def told(store: Engram, *texts: str) -> Memory:
    memory = store.memory("acme/ana")
    memory.add(said((*TEA, *texts)), importance=0.5, now=NOW)
    return memory


def merged(memory: Memory) -> Fact:
    (found,) = [fact for fact in memory.list() if fact.is_consolidated]
    return found


def test_a_night_merges_what_belongs_together_and_loses_nothing(store: Engram) -> None:
    memory = told(store, *OTHER)
    before = {fact.text: fact for fact in memory.list()}
    plan = memory.consolidate(now=NOW)
    assert plan.vectors_saved == 4
    assert [cluster.refusal for cluster in plan.clusters] == [None]
    fact = merged(memory)
    assert len(memory.list()) == 3
    assert fact.form == "merged"
    assert fact.speaker == "Ana"
    assert fact.consolidated_from == tuple(before[text].id for text in TEA)
    assert fact.origin.message_ids == ("m0", "m1", "m2", "m3", "m4")
    assert fact.origin.channel == "derived"
    for text in TEA:
        assert text.rstrip(".") in fact.text
        original = memory.get(before[text].id)
        assert original.status == "archived"
        assert original.consolidated_into == fact.id
        assert fact.id in (original.archived_reason or "")
    json.dumps(plan.to_dict())


def test_trust_and_importance_follow_from_the_originals(store: Engram) -> None:
    memory = told(store)
    memory.set_policy(quarantine_channels=[])
    memory.update(memory.list()[2].id, importance=0.9)
    memory.add(said(tuple(f"{text} Or so the web says." for text in TEA), "w", channel="web"), now=NOW)
    memory.consolidate(now=NOW)
    by_trust = {fact.trust: fact for fact in memory.list() if fact.is_consolidated}
    assert by_trust.keys() == {1.0, 0.3}, "words of different trust never meet"
    assert by_trust[1.0].importance == 0.9
    assert by_trust[0.3].origin.channel == "web"
    shown = memory.recall("Which tea do I drink in the morning?", now=NOW)
    assert "[web] Ana: I drink green tea every morning. Or so the web says." in shown.text


def test_a_recall_ranks_and_renders_the_originals(store: Engram) -> None:
    memory = told(store, *OTHER)
    plain = memory.recall("What happened to the tea pot?", k=5, now=NOW)
    memory.consolidate(now=NOW)
    store.flush()
    recall = memory.recall("What happened to the tea pot?", k=5, now=NOW)
    fact = merged(memory)
    (shown,) = [item for item in recall.facts if item.fact.id == fact.id]
    assert shown.members[0] == fact.consolidated_from[3]
    assert shown.message_ids[0] == "m3"
    assert shown.text.splitlines()[0] == "Ana: My green tea pot broke in May."
    assert shown.score == pytest.approx(sum(shown.terms.values()))
    assert set(shown.members) <= set(fact.consolidated_from)
    assert plain.facts[0].text in recall.text
    assert fact.text not in recall.text
    assert recall.tokens <= 1024
    assert "3 Mar" in memory.recall("Which kinds of tea did I buy?", now=NOW).text, "an original keeps its own day"


def test_every_original_is_found_as_before(store: Engram) -> None:
    memory = told(store, *OTHER)
    questions = ("What do I drink every morning?", "jasmine", "Which tea do I prefer?", "When does my train leave?")
    before = [memory.recall(question, k=7, max_tokens=60, now=NOW).text.splitlines()[1:-1] for question in questions]
    memory.consolidate(now=NOW)
    store.flush()
    after = [memory.recall(question, k=7, max_tokens=60, now=NOW).text.splitlines()[1:-1] for question in questions]
    assert after == before


def test_what_was_rendered_is_recorded_and_judged(store: Engram) -> None:
    memory = told(store, *OTHER)
    memory.consolidate(now=NOW)
    store.flush()
    recall = memory.recall("What happened to the tea pot?", k=1, max_tokens=40, now=NOW)
    fact = merged(memory)
    row = store.context.ledger.recall(recall.id)
    assert row is not None
    assert row.facts[0]["members"] == list(recall.facts[0].members)
    assert fact.consolidated_from[0] not in recall.facts[0].members
    assert memory.observe(recall.id, "The pot broke in May.").used == (fact.id,)
    # Its other originals were not shown, so their words prove nothing.
    assert memory.observe(recall.id, "Jasmine.").used == ()
    explained = memory.explain(recall.id).to_dict()
    assert explained["shown"][0]["text"] == recall.facts[0].text
    assert memory.explain(recall.id, about=fact.consolidated_from[0]).absent is None


def test_small_pinned_slotted_and_short_lived_groups_stay_apart(store: Engram) -> None:
    memory = store.memory("acme/ana")
    memory.add(said(TEA[:4]), now=NOW)
    assert memory.consolidate(now=NOW).clusters == ()
    fifth = memory.add(said(TEA[4:], "n"), now=NOW).facts[0]
    memory.update(fifth.id, pinned=True)
    assert memory.consolidate(now=NOW).clusters == ()
    memory.update(fifth.id, pinned=False, valid_until=NOW + timedelta(days=9))
    assert memory.consolidate(now=NOW).clusters == ()
    assert len(memory.list()) == 5


def test_different_speakers_are_not_mixed(store: Engram) -> None:
    memory = store.memory("acme/ana")
    memory.add(said(TEA[:3]) + said(TEA[3:], "b", speaker="Ben"), now=NOW)
    assert memory.consolidate(now=NOW).clusters == ()


def test_a_dry_run_changes_nothing(store: Engram) -> None:
    memory = told(store)
    plan = memory.consolidate(dry_run=True, now=NOW)
    assert plan.due
    assert len(memory.list()) == 5
    again = memory.consolidate(dry_run=True, now=NOW)
    assert again == plan


def test_the_second_night_looks_at_what_is_new_only(store: Engram) -> None:
    memory = told(store, *OTHER)
    assert memory.consolidate(now=NOW).looked_at == 7
    assert memory.consolidate(now=NOW).looked_at == 0
    memory.add(Message("user", "I made green tea with lemon in the morning.", speaker="Ana", id="n0"), now=NOW)
    store.flush()
    plan = memory.consolidate(now=NOW)
    assert plan.looked_at == 1
    assert plan.vectors_saved == 1
    fact = merged(memory)
    assert len(fact.consolidated_from) == 6
    assert fact.version == 2
    assert "lemon" in fact.text
    assert "n0" in fact.origin.message_ids
    assert memory.recall("What did I make with lemon?", now=NOW).facts[0].message_ids[0] == "n0"
    memory.set_policy(cluster_size=4)
    assert memory.consolidate(dry_run=True, now=NOW).looked_at == 2, "another policy looks at everything again"


def test_a_restored_original_leaves_the_merged_fact_and_stays_out(store: Engram) -> None:
    memory = told(store, "Green tea ice cream is what I make on Sundays.")
    memory.consolidate(now=NOW)
    fact = merged(memory)
    gone = fact.consolidated_from[3]
    back = memory.restore(gone, now=NOW)
    assert back.status == "live"
    assert back.consolidated_into is None
    after = memory.get(fact.id)
    assert gone not in after.consolidated_from
    assert "pot" not in after.text
    assert "m3" not in after.origin.message_ids
    store.flush()
    recall = memory.recall("What happened to the tea pot?", now=NOW)
    assert recall.facts[0].fact.id == gone
    assert recall.text.count("pot broke") == 1
    memory.consolidate(now=NOW)
    assert memory.get(gone).status == "live"


def test_restoring_to_the_last_ends_the_merged_fact(store: Engram) -> None:
    memory = told(store)
    memory.consolidate(now=NOW)
    fact = merged(memory)
    for id_ in fact.consolidated_from[:4]:
        memory.restore(id_, now=NOW)
    assert {item.text for item in memory.list()} == set(TEA)
    assert memory.get(fact.id).status == "archived"


def test_a_split_brings_every_original_back(store: Engram) -> None:
    memory = told(store)
    before = {item.id: item.text for item in memory.list()}
    memory.consolidate(now=NOW)
    fact = merged(memory)
    back = memory.split(fact.id, reason="too much in one", now=NOW)
    assert {item.id: item.text for item in back} == before == {item.id: item.text for item in memory.list()}
    assert memory.history(fact.id)[-1].action == "archive"
    with pytest.raises(ChangeRefused, match="originals_gone"):
        memory.restore(fact.id)
    with pytest.raises(ChangeRefused, match="not_consolidated"):
        memory.split(fact.id)
    with pytest.raises(ChangeRefused, match="not_consolidated"):
        memory.split(back[0].id)
    assert memory.consolidate(now=NOW).clusters == ()


def test_a_forgotten_merged_fact_takes_its_originals_along_and_comes_back(store: Engram) -> None:
    memory = told(store)
    memory.consolidate(now=NOW)
    fact = merged(memory)
    memory.forget(fact.id)
    assert memory.recall("green tea", now=NOW).facts == ()
    memory.restore(fact.id)
    store.flush()
    assert memory.recall("green tea", now=NOW).facts[0].fact.id == fact.id


def test_the_text_of_a_merged_fact_is_not_for_editing(store: Engram) -> None:
    memory = told(store)
    memory.consolidate(now=NOW)
    fact = merged(memory)
    with pytest.raises(ChangeRefused, match="made_of_originals"):
        memory.update(fact.id, text="I drink coffee.")
    assert memory.update(fact.id, pinned=True).pinned


def test_explain_shows_the_tree(store: Engram) -> None:
    memory = told(store)
    memory.consolidate(now=NOW)
    fact = merged(memory)
    whole = memory.explain(fact.id)
    assert [item["text"] for item in whole.to_dict()["originals"]] == [f"Ana: {text}" for text in TEA]
    assert "merged of 5 originals" in str(whole)
    part = memory.explain(fact.consolidated_from[0])
    assert part.to_dict()["stands_in"]["id"] == fact.id
    assert f"{fact.id} (merged, live) stands for it" in str(part)


def test_a_night_beside_an_agent_loses_nobodys_words(store: Engram) -> None:
    """What changes between plan and deed is judged again as it is then."""
    memory = told(store)
    plan = consolidate.plan(store.context, memory.scope, NOW)
    edited = memory.update(memory.list()[0].id, text="I drink white tea at 7 every morning.")
    memory.add(said(("The cat is called Miso.",), "n"), now=NOW)
    done = consolidate.apply(store.context, plan, "user:owner", NOW)
    texts = "\n".join(fact.text for fact in memory.list())
    assert "white tea at 7" in texts
    assert "Miso" in texts
    assert done.archived in (0, 5)
    memory.forget(edited.id) if memory.get(edited.id).status == "live" else None
    plan = consolidate.plan(store.context, memory.scope, NOW)
    assert consolidate.apply(store.context, plan, "user:owner", NOW).refused == 0


def test_a_fact_forgotten_meanwhile_is_not_brought_back(store: Engram) -> None:
    memory = told(store)
    plan = consolidate.plan(store.context, memory.scope, NOW)
    memory.forget(memory.list()[0].id)
    done = consolidate.apply(store.context, plan, "user:owner", NOW, run_id="night-1")
    assert (done.fact_ids, done.moved) == ((), 1)
    assert len(memory.list()) == 4


def test_pruning_archives_duplicates_and_keeps_their_messages(store: Engram) -> None:
    memory = store.memory("acme/ana")
    memory.set_policy(compression_strategy="prune", protect_days=0)
    texts = (
        "Ana runs five kilometres in the park every morning.",
        "Ana runs five kilometres in the park in the morning.",
        "Ana runs six kilometres in the park every morning.",
        "Ana never runs five kilometres in the park in the morning.",
    )
    memory.add(said(texts), now=NOW)
    plan = memory.consolidate(now=NOW)
    assert plan.vectors_saved == 1
    live = {fact.text: fact for fact in memory.list()}
    assert len(live) == 3
    (kept,) = [fact for fact in live.values() if len(fact.origin.message_ids) == 2]
    assert set(kept.origin.message_ids) == {"m0", "m1"}
    (gone,) = memory.list(status="archived")
    assert gone.consolidated_into == kept.id
    assert memory.restore(gone.id).status == "live"
    assert memory.consolidate(now=NOW).clusters == ()


def test_young_facts_are_protected_from_losing_words_only(store: Engram) -> None:
    memory = store.memory("acme/ana")
    memory.set_policy(compression_strategy="prune")
    memory.add(
        said(("Ana runs in the green park every morning.", "Ana runs in the green park in the morning.")), now=NOW
    )
    plan = memory.consolidate(now=NOW)
    assert [cluster.refusal.rule for cluster in plan.clusters if cluster.refusal] == ["protected"]
    assert len(memory.list()) == 2
    later = consolidate.plan(store.context, memory.scope, NOW + timedelta(days=8))
    assert later.vectors_saved == 1


SUMMARY = (
    "Ana drank 2 cups of green tea (7 euros, best at 70 degrees), bought 3 kinds on 2 March 2026; a pot broke on 4 May."
)


NUMBERED = (
    "I drank 2 cups of green tea.",
    "Green tea costs 7 euros.",
    "I bought 3 kinds of green tea yesterday.",
    "My green tea pot broke on 4 May.",
    "I prefer green tea at 70 degrees.",
)


@pytest.mark.parametrize(("answer", "form"), [(SUMMARY, "summary"), ("Ana likes tea.", "merged"), (None, "merged")])
def test_a_summary_stands_only_if_every_number_name_and_date_survives(answer: str | None, form: str) -> None:
    def model(prompt: str) -> str:
        if "Extract the facts" in prompt:
            return "[]"
        return "no idea" if answer is None else json.dumps({"text": answer})

    with Engram.open(":memory:", model=model) as store:
        memory = store.memory("acme/ana")
        memory.set_policy(compression_strategy="summarize", protect_days=0)
        memory.add(said(NUMBERED), now=NOW)
        store.flush()
        memory.consolidate(now=NOW)
        fact = merged(memory)
        assert fact.form == form
        assert fact.is_consolidated
        if form == "summary":
            assert fact.text == SUMMARY
            assert SUMMARY in memory.recall("green tea", now=NOW).text
            memory.restore(fact.consolidated_from[0])
            assert {item.text for item in memory.list()} == set(NUMBERED), "a summary cannot say the rest: it ends"


def test_a_consolidated_fact_taken_in_hands_its_originals_on() -> None:
    """Links lead to the leaves, whatever was consolidated into what."""
    with Engram.open(":memory:") as store:
        memory = told(store)
        memory.consolidate(now=NOW)
        inner = merged(memory)
        texts = tuple(f"{text} Green tea, really." for text in TEA)
        memory.add(said(texts, "n"), now=NOW)
        others = [fact for fact in memory.list() if not fact.is_consolidated]
        change = Consolidate((inner.id, *(fact.id for fact in others)), "", "merged", Reason("related", "A test."))
        plan = Plan(store.context, memory.scope, "user:owner", NOW)
        outer = consolidate.consolidated(plan, change, [inner, *others], None, change.reason)
        store.context.ledger.commit(plan.seal(None)[0])
        assert set(outer.consolidated_from) == {*inner.consolidated_from, *(fact.id for fact in others)}
        assert [fact.id for fact in memory.list()] == [outer.id]
        assert memory.get(inner.consolidated_from[0]).consolidated_into == outer.id
        assert len(memory.split(outer.id)) == 10


def test_an_embedder_nobody_measured_is_calibrated_once(tmp_path: Path) -> None:
    from engram_core.testing.fakes import WordHashEmbedder

    with Engram.open(tmp_path / "store", embedder=WordHashEmbedder()) as store:
        memory = told(store)
        memory.consolidate(now=NOW)
        name = f"likeness/{store.context.embedder.name}"
        kept = store.context.ledger.setting(name)
        assert kept is not None
        assert 0.2 <= float(kept) <= 0.95


def test_a_full_merged_fact_takes_no_more() -> None:
    with Engram.open(":memory:") as store:
        memory = store.memory("acme/ana")
        long = tuple(f"Green tea note {n}: " + "green tea is what I drink and like, " * 50 for n in range(12))
        count = len(memory.add(said(long), now=NOW).facts)
        memory.consolidate(now=NOW)
        facts = memory.list()
        assert all(len(fact.text.encode()) <= 8 * 1024 for fact in facts)
        assert sum(max(len(fact.consolidated_from), 1) for fact in facts) == count
        assert any(fact.is_consolidated for fact in facts)


async def test_the_async_twins_do_the_same(store: Engram) -> None:
    memory = told(store)
    assert (await memory.aconsolidate(now=NOW)).vectors_saved == 4
    fact = merged(memory)
    assert (await memory.abrief(now=NOW)).facts
    assert len(await memory.asplit(fact.id)) == 5
