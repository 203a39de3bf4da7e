"""Attribution: what a response used, what it merely echoes, and what a refusal credits (nothing)."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_core.measure import content
from engram_core.measure.attribution import LONGEST_RESPONSE, Shown, Verdict, attribute, is_refusal, probability

AT = datetime(2023, 5, 8, tzinfo=UTC)
FACTS = [
    "Alice: I moved to Lisbon in March and rent a flat near the river.",
    "Alice: My sister Clara teaches violin in Porto.",
    "Bob: We adopted a beagle called Pepper yesterday.",
    "Alice: The dentist appointment costs 85 euros.",
    "Bob: Last week I ran a half marathon in Seville.",
    "Alice: I am allergic to peanuts.",
    "Bob: The deploy broke because the certificate expired.",
    "Alice: Pepper likes the river too, we walked there together.",
]
SHOWN = [Shown(f"f{number}", text, AT) for number, text in enumerate(FACTS)]
SCOPE = 500
QUESTION = "Where does Alice live now?"


def judged(response: str, question: str = QUESTION, shown: list[Shown] = SHOWN) -> list[Verdict]:
    return attribute(response, question, shown, SCOPE, {})


def used(response: str, question: str = QUESTION) -> list[str]:
    return [verdict.fact_id for verdict in judged(response, question) if verdict.used]


def test_the_fact_an_answer_rests_on_is_used_and_no_other() -> None:
    assert used("Alice lives in Lisbon, in a flat near the river.") == ["f0"]
    assert used("Pepper, a beagle.", "What dog did Bob adopt?") == ["f2"]


def test_two_facts_in_two_clauses_are_both_used() -> None:
    verdicts = judged("Clara teaches violin in Porto, and Bob ran a half marathon in Seville.", "What is new?")
    assert {verdict.fact_id: verdict.band for verdict in verdicts if verdict.used} == {"f1": "strict", "f4": "strict"}


def test_a_relative_date_is_matched_by_the_date_written_out() -> None:
    assert used("On 7 May 2023.", "When did Bob adopt the dog?") == ["f2"]
    undated = [Shown(fact.fact_id, fact.text) for fact in SHOWN]
    assert not any(verdict.used for verdict in judged("On 7 May 2023.", "When?", undated))


@pytest.mark.parametrize(
    "response",
    [
        "I don't know where Alice lives now.",
        "I do not have any information about Alice's flat near the river in Lisbon.",
        "I'm sorry, but there is no mention of Alice, Lisbon, a flat or the river.",
        "It is not specified whether Alice moved to Lisbon in March.",
        "I am unable to say whether Alice moved to Lisbon in March and rents a flat near the river.",
        "You haven\u2019t told me that you moved to Lisbon in March.",
        "Nothing comes to mind about Alice, Lisbon, the flat or the river.",
        "",
        "?!",
    ],
)
def test_a_refusal_credits_nothing(response: str) -> None:
    verdicts = judged(response)
    assert [verdict.band for verdict in verdicts] == ["none"] * len(FACTS)
    assert {verdict.s_whole for verdict in verdicts} == {0.0}


def test_only_the_refusing_sentence_is_dropped() -> None:
    assert used("I don't know her street. She has a flat near the river in Lisbon.") == ["f0"]


@pytest.mark.parametrize(
    ("sentence", "refusal"),
    [
        ("I can't seem to find it", True),
        ("We cannot answer that", True),
        ("There's no record of that", True),
        ("That was never mentioned", True),
        ("Details are not available", True),
        ("There aren't any", True),
        ("I know it was Lisbon", False),
        ("You told me about Lisbon", False),
        ("The flat is available", False),
        ("Nothing beats the river", False),
    ],
)
def test_what_is_a_refusal(sentence: str, refusal: bool) -> None:
    assert is_refusal(sentence) is refusal


def test_an_echo_of_the_question_is_never_strict() -> None:
    question = "What did Alice say about the flat near the river in Lisbon that she rents since she moved in March?"
    echo = judged(
        "Let me think about what Alice said about the flat near the river in Lisbon, rented in March.", question
    )
    assert not any(verdict.weight for verdict in echo)
    assert judged("A flat near the river in Lisbon, rented since March.", "Tell me.")[0].band == "strict"


def test_short_boilerplate_does_not_score() -> None:
    assert used("Sure! Happy to help.") == []
    assert used("Yes.") == []


def test_the_score_is_the_reference_formula() -> None:
    shown = [Shown("a", "red melon"), Shown("b", "red pear")]
    frequencies = {"red": 40, "melon": 3, "pear": 2, "sweet": 10, "fresh": 7}
    verdicts = attribute("sweet fresh red melon", "Which melon?", shown, 100, frequencies)

    def weight(token: str, shown_with: int, discount: float = 1.0) -> float:
        rare = math.log(1 + (100 - frequencies[token] + 0.5) / (frequencies[token] + 0.5)) / math.log(101)
        return rare * math.log(1 + 2 / max(1, shown_with)) / math.log(3) * discount

    red, melon = weight("red", 2), weight("melon", 1, 0.2)
    total = max(red + melon + weight("sweet", 0) + weight("fresh", 0), 2.5)
    assert verdicts[0].s_whole == pytest.approx((red + melon) / total)
    assert verdicts[1].s_whole == pytest.approx(red / total)


@pytest.mark.parametrize("source", ["mapping", "function", "nothing"])
def test_document_frequencies_come_from_a_mapping_a_function_or_the_shown_facts(source: str) -> None:
    counts = Counter(token for text in FACTS for token in content.token_set(text, AT))
    frequency: dict[str, dict[str, int] | Callable[[str], int] | None] = {
        "mapping": dict(counts),
        "function": lambda token: counts[token],
        "nothing": None,
    }
    verdicts = attribute("A flat near the river in Lisbon.", QUESTION, SHOWN, SCOPE, frequency[source])
    assert verdicts == attribute("A flat near the river in Lisbon.", QUESTION, SHOWN, SCOPE, {})
    assert verdicts[0].band == "strict"


def test_a_word_that_every_fact_has_says_little() -> None:
    shown = [Shown(str(number), f"budget report number{number}") for number in range(10)]
    common = attribute("The budget report.", "What?", shown, 10, None)
    assert max(verdict.s_whole for verdict in common) < 0.05


def test_order_of_the_facts_does_not_matter() -> None:
    response = "Alice has a flat in Lisbon near the river, where Pepper walks."
    forward = {verdict.fact_id: verdict for verdict in judged(response)}
    backward = {verdict.fact_id: verdict for verdict in judged(response, shown=SHOWN[::-1])}
    assert forward.keys() == backward.keys()
    for fact_id, verdict in forward.items():
        assert backward[fact_id].band == verdict.band
        assert backward[fact_id].terms == pytest.approx(verdict.terms)


@pytest.mark.parametrize(
    ("score", "likely"),
    [(0.0, 0.02), (0.02, 0.06), (0.07, 0.12), (0.10, 0.20), (0.1999, 0.42), (0.2, 0.60), (0.3, 0.91), (1.0, 0.91)],
)
def test_probability_steps(score: float, likely: float) -> None:
    assert probability(score) == likely


def test_terms_hold_the_numbers_of_the_verdict() -> None:
    verdict = judged("A flat near the river in Lisbon since March.")[0]
    assert verdict.terms == {
        "s_whole": verdict.s_whole,
        "s_clause": verdict.s_clause,
        "probability": 0.91,
        "weight": 0.91,
    }
    assert judged("Peanuts.")[0].terms["weight"] == 0


def test_balanced_is_reported_but_not_counted() -> None:
    verdict = judged("Lisbon is lovely these days, says everyone on the internet.", "Any travel news?")[0]
    assert (verdict.band, verdict.used, verdict.weight) == ("none", False, 0.0)
    verdict = judged("Lovely Lisbon weather stays.", "Any travel news?")[0]
    assert (verdict.band, verdict.used, verdict.weight) == ("balanced", True, 0.0)


def test_citation_markers() -> None:
    shown = [Shown("a", FACTS[0], AT, "m1"), Shown("b", FACTS[1], AT, "m2"), Shown("c", FACTS[5], AT, "m3")]
    verdicts = attribute("She moved somewhere in March [M1, m3].", QUESTION, shown, SCOPE, {})
    assert [verdict.band for verdict in verdicts] == ["cited", "none", "claimed"]
    assert [verdict.used for verdict in verdicts] == [True, False, True]
    assert verdicts[0].weight >= 0.74
    assert verdicts[2].weight == 0.5


@pytest.mark.parametrize(
    "refusal",
    ["I don't know where she lives [m1].", "I don't know where she lives. [m1]", "There is no record [m1, m2]."],
)
def test_a_marker_on_a_refusal_credits_nothing(refusal: str) -> None:
    """Models tag what they looked at; not knowing is still not using."""
    shown = [Shown("a", FACTS[0], AT, "m1"), Shown("b", FACTS[1], AT, "m2")]
    assert not any(verdict.used for verdict in attribute(refusal, QUESTION, shown, SCOPE, {}))
    told = f"{refusal} But yes [m2]."
    assert [verdict.used for verdict in attribute(told, QUESTION, shown, SCOPE, {})] == [False, True]


def test_a_marker_nobody_was_shown_counts_for_nothing() -> None:
    assert [verdict.band for verdict in judged("See [m1] and [m99].")] == ["none"] * len(FACTS)


def test_nothing_shown_gives_no_verdicts() -> None:
    assert attribute("Lisbon", QUESTION, [], SCOPE, {}) == []


def test_one_fact_in_an_empty_scope() -> None:
    [verdict] = attribute("She lives in Lisbon by the river.", QUESTION, [SHOWN[0]], 0, None)
    assert 0 <= verdict.s_whole <= 1


def test_a_response_is_read_up_to_its_limit() -> None:
    answer = "Alice has a flat near the river in Lisbon."
    assert used("x" * (LONGEST_RESPONSE - len(answer) - 1) + "\n" + answer) == ["f0"]
    assert used("x" * LONGEST_RESPONSE + "\n" + answer) == []


@given(st.text(max_size=300), st.text(max_size=60), st.lists(st.text(max_size=80), max_size=6), st.integers(0, 50))
def test_any_input_gives_one_bounded_verdict_per_fact(
    response: str, question: str, texts: list[str], scope: int
) -> None:
    shown = [Shown(str(number), text, AT) for number, text in enumerate(texts)]
    verdicts = attribute(response, question, shown, scope, None)
    assert [verdict.fact_id for verdict in verdicts] == [fact.fact_id for fact in shown]
    for verdict in verdicts:
        assert 0 <= verdict.s_whole <= 1 + 1e-9
        assert 0 <= verdict.s_clause <= 1 + 1e-9
        assert 0 <= verdict.weight <= 1


@pytest.mark.parametrize(
    "response", ["I do not " * 100_000, "no a-" * 200_000, "[m1," * 200_000, "x" * 5_000_000, ", a b" * 90_000]
)
def test_hostile_responses_take_bounded_time(response: str) -> None:
    source = random.Random(1)
    shown = [Shown(str(n), " ".join("".join(source.choices("abcde", k=5)) for _ in range(40))) for n in range(50)]
    started = time.perf_counter()
    attribute(response, "?", shown, 1000, None)
    assert time.perf_counter() - started < 2
