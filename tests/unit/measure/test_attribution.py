"""Attribution: what a response used, what it merely echoes, and what a refusal credits (nothing)."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.measure import content
from engram_core.measure.attribution import (
    BALANCED,
    LONGEST_RESPONSE,
    MOST_SENTENCES,
    STRICT,
    WEIGHTS,
    Shown,
    Verdict,
    attribute,
    is_refusal,
    sentences,
)

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
        "Hmm, let me think about Alice and the flat near the river for a moment.",
        "I'm not sure whether Alice rents a flat near the river in Lisbon.",
        "Could you tell me more about the flat in Lisbon?",
        "My notes do not say whether Alice rents a flat near the river.",
        "We never talked about Lisbon or the river.",
        "",
        "?!",
    ],
)
def test_a_refusal_credits_nothing(response: str) -> None:
    verdicts = judged(response)
    assert [verdict.band for verdict in verdicts] == ["none"] * len(FACTS)
    assert {verdict.probability for verdict in verdicts} == {0.0}
    assert sentences(response) == []


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
        ("I'm not sure, but it was Lisbon", False),
        ("It is hard to say", True),
        ("Let me check", True),
        ("Would you like to tell me?", True),
        ("That never came up", True),
        ("I know it was Lisbon", False),
        ("Alice was not sure about the flat", False),
        ("An unknown number called her", False),
        ("It was hard to say goodbye", False),
        ("She can't help smiling", False),
        ("The document was not signed", False),
        ("She has to check the oven", False),
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


def test_the_evidence_is_the_documented_sum() -> None:
    shown = [Shown("a", "red melon", speaker="Ann"), Shown("b", "red pear", speaker="Bob")]
    counts = {"red": 40, "melon": 3, "pear": 2, "sweet": 10, "fresh": 7, "buy": 5, "ann": 50}
    first, second = attribute("sweet fresh red melon", "What did Ann buy?", shown, 100, counts, {"a": 0.6, "b": 0.2})

    def weight(token: str, shown_with: int) -> float:
        rare = math.log(1 + (100 - counts[token] + 0.5) / (counts[token] + 0.5)) / math.log(101)
        return rare * math.log(1 + 2 / max(1, shown_with)) / math.log(3)

    red, melon = weight("red", 2), weight("melon", 1)
    total = max(red + melon + weight("sweet", 0) + weight("fresh", 0), 2.5)
    assert first.evidence == pytest.approx(
        {
            "base": WEIGHTS["base"],
            "clause": WEIGHTS["clause"] * (red + melon) / total,
            "lead": WEIGHTS["lead"],
            "topic": 0.0,
            "speaker": 0.0,
            "alone": WEIGHTS["alone"] * math.sqrt(melon),
            "meaning": WEIGHTS["meaning"] * 0.2 / (0.2 + 0.05),
        }
    )
    assert second.evidence["lead"] == pytest.approx(WEIGHTS["lead"] * red / (red + melon))
    assert second.evidence["speaker"] == -WEIGHTS["speaker"]
    assert first.probability == pytest.approx(1 / (1 + math.exp(-sum(first.evidence.values()))))


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
    assert not any(verdict.used for verdict in attribute("The budget report.", "What?", shown, 10, None))


def test_of_two_facts_with_the_answer_the_one_on_the_question_is_used() -> None:
    shown = [
        Shown(
            "won", "Nate: I won my first chess tournament last week!", datetime(2022, 1, 21, tzinfo=UTC), None, "Nate"
        ),
        Shown("saw", "Nate: The garden fair opened last week.", datetime(2022, 1, 20, tzinfo=UTC), None, "Nate"),
    ]
    won, saw = attribute("The week before 21 January 2022.", "When did Nate win a chess tournament?", shown, SCOPE, {})
    assert won.used
    assert won.evidence["topic"] == 0 > saw.evidence["topic"]
    assert won.probability > saw.probability


def test_a_fact_of_the_speaker_who_was_not_asked_about_needs_more() -> None:
    shown = [
        Shown("hers", "Ann: We saw a heron.", AT, None, "Ann"),
        Shown("his", "Bob: We saw a heron.", AT, None, "Bob"),
    ]
    hers, his = attribute("A heron.", "What did Ann see?", shown, SCOPE, {})
    assert (hers.evidence["speaker"], his.evidence["speaker"]) == (0.0, -WEIGHTS["speaker"])
    either, other = attribute("A heron.", "What did they see?", shown, SCOPE, {})
    assert either.evidence["speaker"] == other.evidence["speaker"] == 0.0


def test_a_list_uses_the_facts_behind_its_items() -> None:
    assert used("Violin in Porto, half marathon in Seville", "What do they do?") == ["f1", "f4"]


def test_numbers_tell_facts_apart() -> None:
    shown = [Shown("small", "The small room costs 85 euros."), Shown("large", "The large room costs 95 euros.")]
    assert [verdict.used for verdict in attribute("95 euros", "How much?", shown, SCOPE, {})] == [False, True]
    spelt = [Shown("small", "The small room has two beds."), Shown("large", "The large room has three beds.")]
    assert [verdict.used for verdict in attribute("3 beds", "How many?", spelt, SCOPE, {})] == [False, True]


def test_meaning_decides_between_facts_that_share_a_word() -> None:
    shown = [Shown("flat", "the harbour flat"), Shown("walk", "the harbour walk")]
    by_words = attribute("She rents at the harbour.", "Where?", shown, SCOPE, {})
    assert by_words[0].probability == by_words[1].probability
    flat, walk = attribute("She rents at the harbour.", "Where?", shown, SCOPE, {}, {"flat": 0.7, "walk": 0.2})
    assert flat.probability > by_words[0].probability > walk.probability


def test_a_fact_without_a_vector_is_judged_by_words() -> None:
    response, known = "A flat near the river in Lisbon.", {fact.fact_id: 0.1 for fact in SHOWN[1:]}
    verdicts = attribute(response, QUESTION, SHOWN, SCOPE, {}, known)
    assert verdicts[0].evidence["meaning"] == pytest.approx(judged(response)[0].evidence["meaning"])


def test_meaning_alone_uses_nothing() -> None:
    verdicts = attribute("She dwells by the Tagus.", QUESTION, SHOWN, SCOPE, {}, {"f0": 0.99, "f1": 0.0})
    assert verdicts[0].evidence == {}
    assert not any(verdict.used for verdict in verdicts)


def test_sentences_are_what_a_response_says() -> None:
    assert sentences("She lives in Lisbon [m1]. I don't know her street! Yes. \U0001f600") == ["She lives in Lisbon"]
    many = sentences(" ".join(f"Fact number{number} holds." for number in range(100)))
    assert len(many) <= MOST_SENTENCES
    assert "number99" in many[-1]


def test_order_of_the_facts_does_not_matter() -> None:
    response = "Alice has a flat in Lisbon near the river, where Pepper walks."
    forward = {verdict.fact_id: verdict for verdict in judged(response)}
    backward = {verdict.fact_id: verdict for verdict in judged(response, shown=SHOWN[::-1])}
    assert forward.keys() == backward.keys()
    for fact_id, verdict in forward.items():
        assert backward[fact_id].band == verdict.band
        assert backward[fact_id].terms == pytest.approx(verdict.terms)


def test_terms_hold_the_numbers_of_the_verdict() -> None:
    verdict = judged("A flat near the river in Lisbon since March.")[0]
    assert verdict.terms == {**verdict.evidence, "probability": verdict.probability, "weight": verdict.probability}
    assert set(verdict.evidence) == set(WEIGHTS)
    assert judged("Peanuts.")[0].terms == {"probability": 0.03, "weight": 0.0}


@pytest.mark.parametrize(
    ("response", "question"),
    [
        ("Lisbon is lovely these days, says everyone on the internet.", "Any travel news?"),
        ("A flat near the river in Lisbon.", QUESTION),
        ("They walked Pepper to Seville.", "Who walked?"),
    ],
)
def test_bands_follow_the_probability_and_only_strict_is_counted(response: str, question: str) -> None:
    for verdict in judged(response, question):
        likely = verdict.probability
        assert verdict.band == ("strict" if likely >= STRICT else "balanced" if likely >= BALANCED else "none")
        assert verdict.weight == (likely if verdict.band == "strict" else 0.0)
        assert verdict.used == (verdict.band != "none")


def test_a_judge_moves_a_verdict_to_the_edge_of_a_band() -> None:
    verdict = judged("Peanuts.")[0]
    yes, no = verdict.judged(used=True), judged("A flat near the river in Lisbon.")[0].judged(used=False)
    assert (yes.band, yes.used, yes.weight, yes.terms["judge"]) == ("strict", True, STRICT, 1.0)
    assert (no.band, no.used, no.weight, no.terms["judge"]) == ("none", False, 0.0, 0.0)
    assert "judge" not in verdict.terms


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
    assert 0 <= verdict.probability <= 1


def test_a_response_is_read_up_to_its_limit() -> None:
    answer = "Alice has a flat near the river in Lisbon."
    assert used("x" * (LONGEST_RESPONSE - len(answer) - 1) + "\n" + answer) == ["f0"]
    assert used("x" * LONGEST_RESPONSE + "\n" + answer) == []


@settings(deadline=None)
@given(st.text(max_size=300), st.text(max_size=60), st.lists(st.text(max_size=80), max_size=6), st.integers(0, 50))
def test_any_input_gives_one_bounded_verdict_per_fact(
    response: str, question: str, texts: list[str], scope: int
) -> None:
    shown = [Shown(str(number), text, AT) for number, text in enumerate(texts)]
    verdicts = attribute(response, question, shown, scope, None)
    assert [verdict.fact_id for verdict in verdicts] == [fact.fact_id for fact in shown]
    for verdict in verdicts:
        assert 0 <= verdict.probability <= 1
        assert 0 <= verdict.weight <= 1
        assert not verdict.used or verdict.evidence


ANSWERS = st.lists(
    st.sampled_from("Lisbon river violin Porto beagle 85 euros Seville peanuts yesterday 2023 certificate".split()),
    min_size=1,
    max_size=8,
).map(" ".join)


@settings(deadline=None)
@given(ANSWERS, st.permutations(SHOWN))
def test_any_order_of_the_facts_gives_the_same_verdicts(response: str, order: list[Shown]) -> None:
    forward = {verdict.fact_id: verdict for verdict in judged(response)}
    for verdict in judged(response, shown=order):
        assert verdict.terms == pytest.approx(forward[verdict.fact_id].terms)


@settings(deadline=None)
@given(ANSWERS, st.sampled_from(["Zebras quickly juggle.", "I don't know.", "Let me think about it."]))
def test_a_sentence_without_anything_in_common_raises_no_probability(response: str, unrelated: str) -> None:
    before = judged(f"{response}.")
    after = judged(f"{response}. {unrelated}")
    for one, other in zip(before, after, strict=True):
        assert other.probability <= one.probability + 1e-9


@settings(deadline=None)
@given(st.sampled_from(["I don't know", "There is no mention of that", "I can't say"]), ANSWERS)
def test_a_refusal_uses_nothing_whatever_it_names(refusal: str, named: str) -> None:
    assert not any(verdict.used or verdict.weight for verdict in judged(f"{refusal} about {named}."))


@pytest.mark.parametrize(
    "response",
    [
        "I do not " * 100_000,
        "no a-" * 200_000,
        "[m1," * 200_000,
        "x" * 5_000_000,
        ", a b" * 90_000,
        " ".join(f"{n}, w{n}" for n in range(9_000)),
        "2023 " * 20_000,
        "the week before 9 may 2023, " * 5_000,
        "my notes " * 100_000,
        "\U0001f600" * 1_000_000,
        "\ue0007\ue000 " * 10_000,
    ],
)
def test_hostile_responses_take_bounded_time(response: str) -> None:
    source = random.Random(1)
    shown = [Shown(str(n), " ".join("".join(source.choices("abcde", k=5)) for _ in range(40))) for n in range(50)]
    started = time.process_time()
    attribute(response, "?", shown, 1000, None)
    assert time.process_time() - started < 2
