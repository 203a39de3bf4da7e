"""Gathering: a merge drops nothing, a summary that loses a number, name or date is caught, a digest covers most."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.domain.fact import MAX_TEXT_BYTES
from engram_core.measure import content, gathering, sameness, words
from engram_core.measure.gathering import Said

DAY = datetime(2024, 5, 9, 12, tzinfo=UTC)
WORDS = st.sampled_from(
    "Ana Bob Paris tea 7 1,200 3.5 not yesterday May red runs; says. likes the I don't café".split()
)
TEXTS = st.lists(WORDS, min_size=1, max_size=9).map(" ".join) | st.text(min_size=1, max_size=40)
SAID = st.builds(Said, TEXTS, st.just(DAY), st.sampled_from([None, "Ana", "Bob"]))


@settings(max_examples=300, deadline=None)
@given(st.lists(SAID, min_size=1, max_size=8))
def test_a_merge_drops_no_word_number_or_name(statements: list[Said]) -> None:
    text = gathering.merged(statements)
    assert gathering.dropped(statements, text) == []
    held = frozenset(words.tokens(text)) | frozenset(content.tokens(text))
    for item in statements:
        assert frozenset(words.tokens(item.text)) <= held
        assert sameness.numbers(item.text) <= held
    assert gathering.lost([Said(item.text, DAY) for item in statements], text) == []


@settings(max_examples=150, deadline=None)
@given(st.lists(SAID, min_size=1, max_size=30), st.integers(100, 400))
def test_runs_fit_and_hold_everything_in_order(statements: list[Said], limit: int) -> None:
    runs = gathering.runs(statements, limit)
    assert [place for run in runs for place in run] == list(range(len(statements)))
    for run in runs:
        size = len(gathering.merged([statements[place] for place in run]).encode("utf-8", "replace"))
        assert size <= limit or len(run) == 1


def test_a_repeated_subject_and_speaker_are_said_once() -> None:
    said = [Said("Alice likes tea.", DAY), Said("Alice works at Acme.", DAY), Said("Bob met Alice.", DAY)]
    assert gathering.merged(said) == "Alice likes tea; works at Acme; Bob met Alice"
    spoken = [Said("I like tea.", DAY, "Ana"), Said("I run.", DAY, "Ana"), Said("Me too!", DAY, "Bob")]
    assert gathering.merged(spoken) == "Ana: I like tea; I run; Bob: Me too!"
    assert gathering.merged([Said("I run.", DAY, "Ana"), Said("I run.", DAY, "Ana")]) == "I run"


def test_a_fact_of_full_size_is_a_run_of_its_own() -> None:
    full = Said("x" * MAX_TEXT_BYTES, DAY)
    assert gathering.runs([full, full, Said("small", DAY)]) in ([[0], [1], [2]], [[0], [1, 2]])


def test_what_a_summary_loses_is_named() -> None:
    said = [
        Said("Bob paid 1,200 euros in Lisbon on Monday.", DAY),
        Said("We met yesterday, twice.", DAY),
        Said("The kettle is red.", DAY),
    ]
    assert gathering.lost(said, "Bob paid 1200 euros in Lisbon on Monday. We met yesterday, 2 times.") == []
    assert gathering.lost(said, "Bob paid 1200 euros in Lisbon on Monday. We met on 8 May 2024, two times.") == []
    assert gathering.lost(said, "Somebody paid in Lisbon on Monday, we met yesterday") == ["1200", "2", "bob"]
    assert "yesterday" in gathering.lost(said, "Bob paid 1,200 euros in Lisbon on Monday; we met twice.")
    assert "monday" in gathering.lost(said, "Bob paid 1,200 euros in Lisbon; we met yesterday, twice.")


def test_a_summary_is_shorter_and_says_only_what_was_said() -> None:
    said = [Said(f"the garden needs water. the {thing} is broken.", DAY) for thing in ("tap", "hose", "pump", "can")]
    text = gathering.summary(said)
    assert 0 < len(text) <= len(gathering.merged(said)) / 2
    assert frozenset(words.tokens(text)) <= frozenset(word for item in said for word in words.tokens(item.text))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.frozensets(st.sampled_from("abcdefgh"), max_size=4), max_size=9), st.integers(0, 12))
def test_a_digest_stays_within_its_budget_and_never_repeats(tokens: list[frozenset[str]], budget: int) -> None:
    costs = [1.0 + len(found) for found in tokens]
    weight = gathering.weights(tokens)
    chosen = gathering.digest(tokens, costs, weight, budget)
    assert sum(costs[place] for place in chosen) <= budget
    covered: set[str] = set()
    for place in chosen:
        assert tokens[place] - covered
        covered |= tokens[place]


def test_a_digest_takes_the_best_rate_at_every_step() -> None:
    tokens = [frozenset("ab"), frozenset("abc"), frozenset("d"), frozenset("c")]
    weight = dict.fromkeys("abcd", 1.0)
    assert gathering.digest(tokens, [1, 2, 1, 1], weight, 3) == [0, 2, 3]
    assert gathering.digest(tokens, [1, 2, 1, 1], weight, 2, worth=[1, 9, 1, 1]) == [1]
