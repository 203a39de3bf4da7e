"""Small talk: what is left out, and above all what is not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.designs.pipeline.smalltalk import LONGEST, is_small_talk

LOCOMO = Path("/work/shared/data/locomo-dev.json")
SMALL = [
    "Hi!",
    "Thanks, bye!",
    "Wow, that's great!",
    "haha",
    "ok",
    "OK, got it. Thanks so much!",
    "Thanks, Anna!",
    "Good morning Bob",
    "You're welcome 😊",
    "👍",
    ";)",
    "<3",
    "...",
    "Hey Mel, how are you?",
    "Sure thing, Melanie. Talk to you later!",
    "Hahaha lol",
    "Thank you for your help!",
    "Thanks for the info",
    "Great job! Keep it up",
    "no problem",
    "Have a great day!",
]
TELLING = [
    "I live in Lisbon.",
    "Yes.",
    "No.",
    "No, thanks",
    "Not really",
    "Never!",
    "Me too",
    "3",
    "Thanks, see you at 5",
    "See you tomorrow!",
    "Hi, Anna here",
    "It's Mel",
    "Ben is great",
    "Great pizza",
    "I love Rome",
    "Thanks, I'm vegan",
    "Wow! What did you get?",
    "That's great! [shares a photo of a dog]",
    "Bye, I'm off to Porto",
    "Good morning, the build is broken",
    "Hello world",
    "C++ is cool",
    "blue",
    "我住在里斯本",
    "I'm Melanie",
]


@pytest.mark.parametrize("text", SMALL)
def test_small(text: str) -> None:
    assert is_small_talk(text, ["Melanie"])


@pytest.mark.parametrize("text", TELLING)
def test_telling(text: str) -> None:
    assert not is_small_talk(text, ["Melanie", "Nora"])


def test_an_addressed_name_is_no_content_but_ones_own_is() -> None:
    assert is_small_talk("Wow, Melanie, that's so cool", ["Melanie"])
    assert not is_small_talk("Wow, Melanie, that's so cool", [])
    assert not is_small_talk("No, that's so cool", ["Nora"])


@settings(deadline=None)
@given(
    st.sampled_from(SMALL),
    st.sampled_from(["Lisbon", "7", "not", "never", "vegan", "Friday", "tomorrow", "Ben", "if", "allergic"]),
    st.booleans(),
)
def test_one_word_of_content_keeps_a_message(text: str, word: str, is_first: bool) -> None:
    assert not is_small_talk(f"{word} {text}" if is_first else f"{text} {word}", ["Melanie"])


@settings(deadline=None)
@given(st.text(alphabet=st.characters(categories=["Nd"]), min_size=1, max_size=5), st.sampled_from(SMALL))
def test_digits_are_content(digits: str, text: str) -> None:
    assert not is_small_talk(f"{text} {digits}")


def test_long_messages_are_kept() -> None:
    assert not is_small_talk("thanks " * LONGEST)


def _turns() -> Iterator[tuple[str, list[str], bool]]:
    for talk in json.loads(LOCOMO.read_text()):
        ids = {found for question in talk["questions"] for found in re.findall(r"D\d+:\d+", str(question["evidence"]))}
        for session in talk["sessions"]:
            for turn in session["turns"]:
                caption = f" [shares {turn['picture_caption']}]" if turn.get("picture_caption") else ""
                others = [name for name in talk["speakers"] if name != turn["speaker"]]
                yield turn["text"] + caption, others, turn["id"] in ids


@pytest.mark.skipif(not LOCOMO.exists(), reason="LoCoMo dev conversations are not on this machine")
def test_it_costs_no_evidence_on_locomo() -> None:
    dropped = [is_evidence for text, others, is_evidence in _turns() if is_small_talk(text, others)]
    assert len(dropped) > 50
    assert sum(dropped) <= 1
