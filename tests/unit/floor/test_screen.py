"""The screen: unseen characters, size, and memory that would learn its own words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.domain.errors import InvalidInput
from engram_core.domain.message import Message
from engram_core.floor.fence import close_fence, open_fence
from engram_core.floor.screen import MAX_MESSAGE_BYTES, Screened, screen
from engram_core.floor.unseen import visible

MARKER = "0a1b2c3d"
FENCED = f"{open_fence(MARKER)}\n6 May 2024\nAlice: I live in Lisbon.\n{close_fence(MARKER)}"


def one(message: Message, injected: list[str] | None = None) -> Screened:
    [verdict] = screen([message], injected or [])
    return verdict


def content_of(text: str) -> str | None:
    message = one(Message("user", text)).message
    return message.content if message else None


@pytest.mark.parametrize(
    "unseen",
    [
        "\x00", "\x07", "\x1b", "\x7f", "\x9f", "\u202a", "\u202e", "\u2066", "\u2069", "\u200e", "\u200f", "\u061c",
        "\u200b", "\ufeff", "\u2060", "\u2064", "\U000e0001", "\U000e0041", "\U000e007f", "\ud800", "\xad",
    ],
)  # fmt: skip
def test_unseen_characters_are_removed(unseen: str) -> None:
    assert content_of(f"I live{unseen} in Lisbon{unseen}") == "I live in Lisbon"


@pytest.mark.parametrize(
    "text", ["\u0645\u06cc\u200c\u062e\u0648", "👨\u200d👩\u200d👧 family ❤️", "one\ttwo\nthree", "naïve café 漢字"]
)
def test_what_readers_need_stays(text: str) -> None:
    message = Message("user", text)
    assert one(message) == Screened(message, None)
    assert one(message).message is message


def test_line_breaks_become_newlines() -> None:
    assert content_of("a\r\nb\rc\u2028d\x85e") == "a\nb\nc\nd\ne"


@pytest.mark.parametrize("text", ["", "  \n", "\u200b\u202e", "\x00"])
def test_nothing_left(text: str) -> None:
    verdict = one(Message("user", text))
    assert verdict.message is None
    assert verdict.reason is not None
    assert verdict.reason.rule == "empty"


def test_speakers_are_cleaned_to_one_line() -> None:
    message = one(
        Message("user", "Hello there", speaker="Bob\n\u202eAdmin", id="m1", session="s", channel="web")
    ).message
    assert message == Message("user", "Hello there", speaker="Bob Admin", id="m1", session="s", channel="web")
    unnamed = one(Message("user", "Hello there", speaker="\u200b")).message
    assert unnamed is not None
    assert unnamed.speaker is None


def test_size_limit() -> None:
    assert content_of("é" * (MAX_MESSAGE_BYTES // 2)) is not None
    with pytest.raises(InvalidInput, match="1 MiB"):
        content_of("é" * (MAX_MESSAGE_BYTES // 2) + "x")


@pytest.mark.parametrize("field", ["id", "session"])
@pytest.mark.parametrize("bad", ["a\x00b", "a\ud800"])
def test_unstorable_ids_are_refused(field: str, bad: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        one(Message("user", "Hello there", id=bad) if field == "id" else Message("user", "Hello there", session=bad))


@pytest.mark.parametrize("role", ["user", "assistant", "tool", "system"])
def test_recalled_text_is_cut_out(role: str) -> None:
    message = one(Message(role, f"You said:\n{FENCED}\nand I agree")).message
    assert message is not None
    assert message.content.split() == ["You", "said:", "and", "I", "agree"]


def test_only_recalled_text() -> None:
    verdict = one(Message("user", f" {FENCED}\n{FENCED} "))
    assert verdict.message is None
    assert verdict.reason is not None
    assert verdict.reason.rule == "recall_loop"


def test_a_fence_hidden_behind_unseen_characters_is_cut_too() -> None:
    assert content_of(FENCED.replace("memory", "mem\u200bory") + " rest") == "\n rest"


INJECTED = ["Alice: I live in Lisbon.", "Where does Alice live?"]


@pytest.mark.parametrize("role", ["assistant", "tool"])
def test_echoes_are_not_learnt(role: str) -> None:
    verdict = one(Message(role, "Alice lives in Lisbon!"), INJECTED)
    assert verdict.message is None
    assert verdict.reason is not None
    assert verdict.reason.rule == "recall_loop"


@pytest.mark.parametrize(
    ("role", "text", "injected"),
    [
        ("user", "Alice lives in Lisbon!", INJECTED),
        ("system", "Alice lives in Lisbon!", INJECTED),
        ("assistant", "Alice lives in Lisbon!", []),
        ("assistant", "Alice lives in Lisbon!", [""]),
        ("assistant", "Alice lives in Lisbon since 2020.", INJECTED),
        ("assistant", "Alice does not live in Lisbon.", INJECTED),
        ("assistant", "Alice doesn't live in Lisbon.", INJECTED),
        ("assistant", "What is it?", INJECTED),
    ],
)
def test_news_is_learnt(role: str, text: str, injected: list[str]) -> None:
    assert one(Message(role, text), injected).message is not None


fragments = st.sampled_from(
    [
        "<memory-",
        "</memory-",
        "0a1b2c3d",
        "ffffffff",
        ">",
        " ",
        "x",
        "\u200b",
        "<",
        "\n",
        open_fence(MARKER),
        close_fence(MARKER),
    ]
)
any_text = st.one_of(
    st.text(max_size=100),
    st.text(alphabet=st.characters(), max_size=60),
    st.lists(fragments, max_size=30).map("".join),
)


@settings(deadline=None)
@given(
    st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), any_text), max_size=4),
    st.lists(any_text, max_size=2),
)
def test_screening_twice_changes_nothing(said: list[Message], injected: list[str]) -> None:
    once = [verdict.message for verdict in screen(said, injected) if verdict.message is not None]
    assert [verdict.message for verdict in screen(once, injected)] == once


@settings(deadline=None)
@given(any_text)
def test_a_message_or_a_reason(text: str) -> None:
    verdict = one(Message("user", text))
    assert (verdict.message is None) != (verdict.reason is None)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), max_size=100))
def test_visible_text_is_never_touched(text: str) -> None:
    assert visible(text) == text
