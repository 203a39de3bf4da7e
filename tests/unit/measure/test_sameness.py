"""The duplicate key: what may differ between two ways to say the same, and what may not."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engram_core.measure.sameness import contradiction, key, normal_form

DAY = datetime(2024, 5, 6, 12, tzinfo=UTC)
VOCABULARY = """
    Anna Lisbon moved lives likes coffee red house with to from in on not never never? 3 5 May 2023 I'm don't the a
    dog's well-known C++ $5 10% 3.5 2-3 and she her went, bought. plan week? B 5' -4 @bob #tag v1.2 so well oh it's
"""
sentence = st.lists(st.sampled_from(VOCABULARY.split()), min_size=1, max_size=12).map(" ".join)
names = st.sampled_from(["Ben", "Clara", "Porto", "Zoe"])


def said(text: str, speaker: str | None = "Anna", at: datetime = DAY) -> str:
    return key(text, speaker, at)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I live in Lisbon.", "i live in lisbon"),
        ("I'm allergic to nuts", "I am allergic to nuts!"),
        ("I\u2019m allergic to nuts", "I'm allergic to nuts"),
        ("Well, I don't like it.", "I do not like it"),
        ("Oh so I moved to Rome", "I moved to Rome"),
        ("so it's", "so it's."),
        ("I have a dog", "I have the dog,"),
        ("It's a dog", "It is a dog."),
        ("I can't swim", "I cannot swim"),
        ('She said "no"', "She said no"),
        ("I like tea — a lot", "I like tea, a lot"),
        ("I like tea - a lot", "I like tea, a lot"),
        ("Thanks… I moved", "Thanks... I moved"),
        ("Is it true??", "is it true?!"),
        ("I  live\n in Rome", "I live in Rome"),
        ("I fly in  two\nweeks", "I fly in two weeks"),
        ("Café", "Cafe\u0301"),
    ],
)
def test_equal(one: str, other: str) -> None:
    assert said(one) == said(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I have 3 dogs", "I have 4 dogs"),
        ("I live in Rome", "I live near Rome"),
        ("Anna likes Ben", "Ben likes Anna"),
        ("I do like it", "I do not like it"),
        ("I can swim", "I can't swim"),
        ("I moved to Rome", "I moved from Rome"),
        ("You live in Rome", "You live in Rome?"),
        ("On 3 May I left", "On 4 May I left"),
        ("I take vitamin A", "I take vitamin"),
        ("I take vitamin A daily", "I take vitamin daily"),
        ("Plan A is ready", "Plan is ready"),
        ("I got an A in maths", "I got in maths"),
        ("It costs $5", "It costs 5"),
        ("It costs 5", "It costs 5%"),
        ("It is 3.5 long", "It is 35 long"),
        ("It is -5 outside", "It is 5 outside"),
        ("We won 3 - 2", "We won 3 2"),
        ("It is 5' long", 'It is 5" long'),
        ("I know C++", "I know C"),
        ("My grade is A-", "My grade is A"),
        ("We're here", "Were here"),
        ("It's here", "Its here"),
        ("He'd go", "He would go"),
        ("So many people came", "Many people came"),
        ("So well done", "Well done"),
        ("It's been fun", "It is been fun"),
        ("Hey Jude is sad", "Jude is sad"),
        ("Run `ls -A`", "Run `ls -a`"),
        ("See https://x.y/AbC", "See https://x.y/abc"),
        ("Great 👍", "Great 👎"),
        ("I met the US team", "I met U.S. team"),
        ("A: yes", "yes"),
        ("Maße", "Masse"),
    ],
)
def test_different(one: str, other: str) -> None:
    assert said(one) != said(other)


def test_speakers_differ() -> None:
    assert said("I like tea", "Anna") != said("I like tea", "Ben")
    assert said("I like tea", None) != said("I like tea", "Ben")
    assert said("I like tea", "Anna") == said("I like tea", "anna ")


@pytest.mark.parametrize(
    "text",
    ["I ran yesterday", "See you tomorrow", "I moved two weeks ago", "On Friday I fly", "The exam is in 3 days"],
)
def test_relative_times_are_tied_to_the_day(text: str) -> None:
    assert said(text) == said(text, at=DAY + timedelta(hours=3))
    assert said(text) != said(text, at=DAY + timedelta(days=1))


@pytest.mark.parametrize("text", ["I like tea", "I swim every Friday", "I work on Mondays", "I left on 3 May 2023"])
def test_other_times_are_not(text: str) -> None:
    assert said(text) == said(text, at=DAY + timedelta(days=400))


@pytest.mark.parametrize("text", ["", " ", "...", "!!", '"', "—"])
def test_no_words_no_key(text: str) -> None:
    assert said(text) == ""


@settings(deadline=None)
@given(sentence)
def test_case_spaces_and_final_stops_do_not_matter(text: str) -> None:
    assert said(text.upper()) == said(text) == said(f"  {text.replace(' ', '   ')} ")
    assert said(text.lower()) == said(text)
    assume(text.rpartition(" ")[2].lower() not in {"a", "an", "the"})
    assert said(f"{text}.") == said(text)
    assert said(f"Well, {text}") == said(text)


@settings(deadline=None)
@given(sentence, st.data())
def test_a_changed_word_is_another_statement(text: str, data: st.DataObject) -> None:
    words = text.split()
    place = data.draw(st.integers(0, len(words) - 1))
    new = data.draw(st.one_of(st.integers(10, 9_999).map(str), names))
    changed = " ".join([*words[:place], new, *words[place + 1 :]])
    assert said(changed) != said(text)


@settings(deadline=None)
@given(sentence, st.data(), st.sampled_from(["not", "never", "no", "7", "Clara", "without", "from", "June"]))
def test_an_added_word_is_another_statement(text: str, data: st.DataObject, extra: str) -> None:
    words = text.split()
    place = data.draw(st.integers(0, len(words)))
    assert said(" ".join([*words[:place], extra, *words[place:]])) != said(text)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["Anna", "likes", "Ben", "3", "Rome"]), min_size=2, max_size=5, unique=True))
def test_order_matters(words: list[str]) -> None:
    assert said(" ".join(words)) != said(" ".join(reversed(words)))


@settings(deadline=None)
@given(st.text(max_size=200), st.one_of(st.none(), st.text(max_size=5)))
def test_any_text_has_a_short_key(text: str, speaker: str | None) -> None:
    found = key(text, speaker, DAY)
    assert found == key(text, speaker, DAY.replace(tzinfo=None))
    assert found == "" or (len(found) == 32 and set(found) <= set(string.hexdigits))


@settings(deadline=None)
@given(st.text(alphabet=string.digits + string.ascii_letters + " .,'-$%+#/:?", max_size=60))
def test_digits_survive(text: str) -> None:
    """Whatever else is dropped, every digit is in the normal form, in order."""
    digits = [char for char in text if char.isdigit()]
    assert [char for char in normal_form(text) if char.isdigit()] == digits


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("It costs 5 euros.", "It costs 6 euros.", "numbers"),
        ("It costs 5 euros.", "It costs five euros.", None),
        ("I smoke.", "I do not smoke.", "negation"),
        ("I don't smoke.", "I do not smoke.", None),
        ("Ana loves cats.", "Ana hates cats.", "polarity"),
        ("The shop opens at nine.", "The shop closes at nine.", "polarity"),
        ("We met in Paris.", "We met in Rome.", "names"),
        ("Alice likes tea.", "Bob likes tea.", "names"),
        ("We met in Paris.", "We met in Paris, with Bob.", None),
        ("Ana is older than Ben.", "Ben is older than Ana.", "order"),
        ("Ana lent Ben the kayak.", "Ana lent Ben the red kayak in May.", None),
        ("Ana paints watercolours.", "Ana paints with watercolours.", None),
    ],
)
def test_what_makes_similar_statements_different(one: str, other: str, why: str | None) -> None:
    assert contradiction(one, other) == contradiction(other, one) == why


@given(sentence)
def test_nothing_contradicts_itself(text: str) -> None:
    assert contradiction(text, text) is None
