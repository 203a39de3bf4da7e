"""Slots and kinds: what can be told from the words, and what must not be guessed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.designs.pipeline.kinds import is_explicit, kind_of
from engram_core.designs.pipeline.slots import slot_of
from engram_core.domain.fact import BUILT_IN_KINDS, Slot


@pytest.mark.parametrize(
    ("text", "subject", "attribute"),
    [
        ("I live in Lisbon.", "user", "location"),
        ("i live in lisbon", "user", "location"),
        ("Hi! I live in the UK now. How about you?", "user", "location"),
        ("Alice moved to Lisbon in May.", "alice", "location"),
        ("I\u2019ve just moved from Berlin to Porto", "user", "location"),
        ("The user lives in Oslo", "user", "location"),
        ("My dad lives in Malta", "user's father", "location"),
        ("Bob works at Google.", "bob", "employer"),
        ("I work at a hospital", "user", "employer"),
        ("I work as a nurse in Leeds.", "user", "job"),
        ("I'm a senior software engineer at Stripe", "user", "job"),
        ("I'm married to Bob", "user", "relationship"),
        ("I am single", "user", "relationship"),
        ("I am 34 years old", "user", "age"),
        ("I prefer tea for breakfast", "user", "preference for breakfast"),
        ("My name is Anna", "user", "name"),
        ("My favourite colour is blue.", "user", "favorite color"),
        ("My email address is a@b.co", "user", "email"),
        ("Anna's birthday is on 3 May", "anna", "birthday"),
        ("My wife's birthday is May 3", "user's wife", "birthday"),
        ("Our budget is 500 euros", "user", "budget"),
    ],
)
def test_slots(text: str, subject: str, attribute: str) -> None:
    assert slot_of(text, None) == Slot(subject, attribute)


def test_first_person_is_the_speaker() -> None:
    assert slot_of("I live in Lisbon", "Caroline") == Slot("caroline", "location")


@pytest.mark.parametrize(
    "text",
    [
        "I live in Lisbon. I have two dogs.",
        "Do you live in Lisbon?",
        "I don't live in Paris any more",
        "I used to live in Paris",
        "I wish I lived in Paris",
        "If I lived in Rome I would be happy",
        "I will move to Rome",
        "She lives in Rome",
        "Everyone lives in Rome",
        "We live in fear of outages",
        "I live in a small flat",
        "We moved to Postgres",
        "Alice moved to Marketing",
        "I moved to tears",
        "I work at night",
        "I work for myself",
        "I'm engaged in talks",
        "I'm single-minded",
        "I am a big fan of engineers",
        "My name is hard to pronounce",
        "My budget is tight",
        "My favorite part is the ending",
        "My email is down",
        "I prefer dark mode",
        "",
    ],
)
def test_no_slot(text: str) -> None:
    assert slot_of(text, None) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("I prefer dark mode in my editor.", "preference"),
        ("I can't stand cilantro", "preference"),
        ("My name is Anna and I have two kids.", "profile"),
        ("I'm originally from Sweden", "profile"),
        ("We decided to ship on SQLite.", "decision"),
        ("Always use tabs for indentation.", "instruction"),
        ("Please don't forget: remind me to call Bob tomorrow", "instruction"),
        ("Remind me to call Bob tomorrow", "task"),
        ("I need to renew my passport by next week", "task"),
        ("The build failed with exit code 2", "error"),
        ("It raises a ValueError on start", "error"),
        ("I realized that the cache was stale", "insight"),
        ("Yesterday I went to a support group.", "event"),
        ("We have a meeting on Friday", "event"),
        ("The sky is blue.", "observation"),
        ("Do you prefer tea?", "observation"),
        ("Never give up!", "observation"),
        ("I'm always here for you", "observation"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    assert kind_of(text) == kind


def test_a_slot_decides_the_kind() -> None:
    assert kind_of("x", Slot("user", "location")) == "profile"
    assert kind_of("x", Slot("user", "favorite color")) == "preference"


@pytest.mark.parametrize(
    ("text", "explicit"),
    [
        ("Remember that I am allergic to nuts", True),
        ("Hi. Always answer in French.", True),
        ("Please never push to main", True),
        ("From now on we meet at 9", True),
        ("I always loved you", False),
        ("Do you remember that day?", False),
        ("Never give up", False),
        ("I live in Rome", False),
    ],
)
def test_what_is_asked_to_be_remembered(text: str, explicit: bool) -> None:
    assert is_explicit(text) == explicit


@settings(deadline=None)
@given(st.text(max_size=200), st.one_of(st.none(), st.text(min_size=1, max_size=9)))
def test_any_text_is_understood(text: str, speaker: str | None) -> None:
    assert kind_of(text, slot_of(text, speaker)) in BUILT_IN_KINDS
