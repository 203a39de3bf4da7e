"""Slots and values: what replaces what, and above all what does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.measure.slots import Keyed, alone, is_new_value, keyed


def both(old: str, new: str) -> tuple[Keyed, Keyed]:
    before, after = keyed(old, None), keyed(new, None)
    assert before is not None, old
    assert after is not None, new
    return before, after


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("I live in Lisbon.", "I just moved from Lisbon to Porto."),
        ("I'm based in Ghent", "Good news, I recently moved to Lyon."),
        ("I work at Google.", "I just started working at Meta."),
        ("I work as a nurse.", "I'm now a teacher."),
        ("I'm single", "I'm engaged to Bob"),
        ("I am 33 years old", "I just turned 34"),
        ("My budget is $500.", "I've increased my budget from $500 to $650."),
        ("My deadline is May 28", "my deadline moved to June 3"),
        ("My deadline is May 28", "I've extended my deadline to June 3, can you adjust the plan?"),
        ("The project deadline is May 28.", "The project deadline has been moved to June 3."),
        ("The team meeting is scheduled for Friday.", "The team meeting was moved to Monday at 3pm."),
        ("The API rate limit is 1,000 calls per day.", "The API rate limit is now 1,200 calls per day."),
        ("I prefer tea for breakfast", "I now prefer coffee for breakfast"),
        ("I use vim for coding", "I now use Zed for coding"),
        ("I love sushi", "I no longer like sushi"),
        ("I'm allergic to nuts", "I'm no longer allergic to nuts"),
        ("I'm a vegetarian", "I'm not a vegetarian any more"),
        ("I weigh 80 kg", "I weigh 75 kg"),
        ("Please call me Sam", "Call me Samuel"),
        ("My dog's name is Rex", "My dog's name is Max"),
        ("My flight is on June 3", "My flight is now on June 5"),
        ("The meeting is at 3 pm", "The meeting is at 4 pm"),
        ("Always answer in English", "Always answer in French"),
        ("The CEO of Oakline is Alice", "Bob is now the CEO of Oakline"),
        ("The position played by Ana Moser is goalkeeper", "The position played by Ana Moser is striker"),
        ("Always use tabs", "Never use tabs"),
        ("Always start function names with 'x_'.", "From now on, always begin function names with 'y_'."),
        ("Function names should start with 'x_'.", "always start function names with 'y_'"),
        ("Indent with 4 spaces", "Always indent with 2 spaces"),
        ("Ana Moser is married to Ivo Haas", "Ana Moser is married to Tom Lindt"),
        ("Ana Moser is a citizen of Peru", "Ana Moser is a citizen of Malta"),
        ("The capital of Peru is Lima", "The capital of Peru is Cusco"),
        ("Ana Moser works in the city of Oslo", "Ana Moser works in the city of Bergen"),
        ("Ana Moser plays the position of goalkeeper", "Ana Moser plays the position of striker"),
        ("The chief executive officer of Oakline is Ana", "The chief executive officer of Oakline is Tom"),
        ("The author of A Map of Salt is Ana Moser", "The author of A Map of Salt is Tom Lindt"),
        ("Oakline was founded by Ana Moser", "Oakline was founded by Tom Lindt"),
        ("The company that produced Glim is Oakline", "The company that produced Glim is Tessera"),
        ("The type of music that Ana plays is jazz", "The type of music that Ana plays is grunge"),
    ],
)
def test_a_new_value(old: str, new: str) -> None:
    before, after = both(old, new)
    assert before.slot == after.slot
    assert is_new_value(before, after)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("I live in Lisbon", "I moved to Lisbon in May"),
        ("I live in Lisbon", "I live in Lisbon, Portugal"),
        ("I live in Lisbon", "I live in Portugal"),
        ("I work as a nurse", "I work as a nurse in Leeds"),
        ("My name is Anna", "My name is Anna Smith"),
        ("Bob lives in Oslo", "Alice lives in Lisbon"),
        ("The capital of Peru is Lima", "The population of Peru is 33 million"),
        ("Tom was born in May", "Tom was born in Boston"),
        ("I love sushi", "I love olives"),
        ("I love sushi", "I love sushi"),
        ("Never end names with 'a_'", "Never end names with 'b_'"),
        ("Always start names with 'a_'", "Never start names with 'b_'"),
        ("Always start function names with 'x_'", "Always start class names with 'y_'"),
    ],
)
def test_no_new_value(old: str, new: str) -> None:
    before, after = both(old, new)
    assert not is_new_value(before, after)


@pytest.mark.parametrize(
    "text",
    [
        "Do you live in Lisbon?",
        "Where is my budget gone, can you tell?",
        "I used to live in Paris",
        "I might move to Rome one day",
        "If I lived in Rome I would be happy",
        "He is married to Ana",
        "Call me tomorrow",
        "Call me Monday",
        "She is the CEO of Oakline",
        "The best day of my life is Friday",
        "It was founded by Ana Moser",
        "Sounds like a plan!",
        "Unconditional love is so important",
        "The weather in Prague is 7 degrees today",
        "The best part of the trip is Rome",
        "The painting of Ghent is beautiful",
        "Always include the header 'X-Trace'",
        "Don't be afraid, I'm 100% behind you",
        "My budget is tight",
        "We moved to Postgres",
        "I finished the kitchen in 12 days",
        "",
    ],
)
def test_nothing_is_told(text: str) -> None:
    assert keyed(text, None) is None


def test_a_sentence_that_says_more_is_not_alone() -> None:
    clean, more = both("I live in Lisbon", "I live in Lisbon and my sister works in Faro")
    assert clean.is_alone
    assert not more.is_alone


def test_first_person_belongs_to_the_speaker() -> None:
    found = keyed("I live in Lisbon", "Ana")
    assert found is not None
    assert found.slot.subject == "ana"


def test_alone_wants_one_sentence() -> None:
    assert alone("I live in Lisbon.", None) is not None
    assert alone("I live in Lisbon. I have two dogs.", None) is None


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    found = keyed(text, "Ana")
    assert found is None or not is_new_value(found, found)
