"""Whether a statement answers a question, and where a conversation shows a lapse: by words alone."""

from __future__ import annotations

import pytest

from engram_core.measure import answers, lapses


def _answer(question: str, statement: str, *, speaker: str | None = None, asker: str | None = None) -> str | None:
    names = frozenset({"Ana", "Tom"})
    found = answers.answer(
        answers.wanted(question, names), statement, speaker=speaker, asker=asker, weight=lambda _: 1.0
    )
    return found.text if found is not None else None


@pytest.mark.parametrize(
    ("question", "statement"),
    [
        ("Where do I live?", "I moved to Lisbon in May."),
        ("What city am I based in?", "I live in Lisbon."),
        ("Where does my sister live?", "My sister lives in Porto now."),
        ("What does my brother do for a living?", "My brother is a nurse."),
        ("Where do I work?", "I started a new job at Acme."),
        ("What\u2019s my dog\u2019s name?", "My dog Biscuit loves the beach."),
        ("What is my wife's name?", "My wife is called Ana."),
        ("Who is my boss?", "My boss is Dana Wright."),
        ("What's my locker code?", "By the way, my locker code is 4417."),
        ("When is my dentist appointment?", "I have a dentist appointment on Friday at 3pm."),
        ("How many cats do I have?", "I have three cats."),
        ("What allergies do I have?", "I'm allergic to peanuts."),
        ("What's my favorite color?", "My favorite color is teal."),
        ("Why did I change banks?", "I had to change banks because the fees went up."),
    ],
)
def test_a_plain_answer_is_one(question: str, statement: str) -> None:
    assert _answer(question, statement) == statement


@pytest.mark.parametrize(
    ("question", "statement"),
    [
        ("Where do I live?", "I love Lisbon."),
        ("What's my locker code?", "The office code was changed."),
        ("What's my locker code?", "I forgot my locker code again!"),
        ("What's my locker code?", "Do you know my locker code?"),
        ("When is my dentist appointment?", "I have to make a dentist appointment."),
        ("How many cats do I have?", "I have the cats with me."),
        ("Where did I camp?", "I went camping with my family."),
        ("What's my dog's name?", "My dog loves the beach."),
        ("Why did I change banks?", "I had to change banks."),
        ("What is my blood type?", "I gave blood on Monday."),
        ("", "I live in Lisbon."),
        ("?", "I live in Lisbon."),
    ],
)
def test_words_in_common_are_no_answer(question: str, statement: str) -> None:
    assert _answer(question, statement) is None


def test_the_answer_is_the_sentence_that_gives_it() -> None:
    said = "Long day. My locker code is 4417. Are you still there?"
    assert _answer("What's my locker code?", said) == "My locker code is 4417."


def test_it_must_be_about_the_one_who_is_meant() -> None:
    question = "When did Ana sell her bike?"
    assert _answer(question, "I sold my bike yesterday.", speaker="Ana") is None  # sell and sold are two words here
    assert _answer("When did Ana buy the bike?", "I did buy the bike yesterday.", speaker="Ana") is not None
    assert _answer("When did Ana buy the bike?", "I did buy the bike yesterday.", speaker="Tom") is None
    assert _answer("When did Ana buy the bike?", "Hey Ana, I did buy the bike yesterday.", speaker="Tom") is None
    assert _answer("When did Ana buy the bike?", "Ana did buy the bike yesterday.", speaker="Tom") is not None
    assert _answer("Where do I live?", "I live in Lisbon.", speaker="Tom", asker="Ana") is None


@pytest.mark.parametrize(
    "said",
    [
        "I don't know where you live.",
        "I'm sorry, I don't have that information. Could you say it again?",
        "I\u2019m not sure, you haven\u2019t told me yet.",
        "Unfortunately I do not remember.",
        "That hasn't come up yet.",
        "I have no record of your locker code.",
        "Hmm. I can't recall that.",
    ],
)
def test_not_knowing_is_heard(said: str) -> None:
    assert lapses.refusal(said) is not None


@pytest.mark.parametrize(
    "said",
    [
        "You live in Lisbon.",
        "I can't open files.",
        "I don't know if you would like it, but Lisbon has a museum of tiles.",
        "You told me that you live in Lisbon, and that you moved there in May with two cats and a piano; I don't know "
        "the street. Your sister lives in Porto, your brother in Faro, and your dog Biscuit stays with him on Sundays.",
        "",
    ],
)
def test_knowing_is_no_lapse(said: str) -> None:
    assert lapses.refusal(said) is None


@pytest.mark.parametrize(
    "said",
    [
        "No, it's Lisbon.",
        "No, I moved to Porto last month.",
        "I already told you: Biscuit.",
        "That's wrong, my code is 4417.",
        "I told you last week that I'm vegan.",
        "You forgot that I'm vegan.",
        "As I said, it is blue.",
    ],
)
def test_a_correction_is_heard(said: str) -> None:
    assert lapses.correction(said) is not None


@pytest.mark.parametrize(
    "said",
    [
        "No thanks.",
        "No, that's all.",
        "No problem!",
        "Not really, I like it.",
        "Yes, it's Lisbon.",
        "I prefer tea.",
        "",
    ],
)
def test_a_no_is_not_always_a_correction(said: str) -> None:
    assert lapses.correction(said) is None


def test_an_offer_asks_for_nothing_it_was_told() -> None:
    said = "Sure! What's your dog's name again? Would you like me to book it? Could you remind me?"
    assert lapses.asks_back(said) == ["What's your dog's name again?"]


@pytest.mark.parametrize("hostile", ["no, " * 5_000, "I don't " * 5_000, "what is my " * 5_000 + "?", "\ud800?" * 99])
def test_hostile_text_costs_no_time(hostile: str) -> None:
    lapses.refusal(hostile)
    lapses.correction(hostile)
    lapses.asks_back(hostile)
    _answer(hostile, hostile)
