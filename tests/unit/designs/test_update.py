"""The offline pass: one change per statement, provenance kept, nothing written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.design import Alike, Likeness, View
from engram_core.designs.pipeline.importance import EXPLICIT, NEUTRAL, importance_of
from engram_core.designs.pipeline.update import update
from engram_core.domain.change import Add, Change, Ignore, Merge
from engram_core.domain.fact import Fact, Origin, Slot, Status
from engram_core.domain.message import Channel, Episode, Message
from engram_core.domain.scope import Scope
from engram_core.measure import words
from engram_core.measure.sameness import key

NOW = datetime(2024, 5, 6, 12, tzinfo=UTC)
SCOPE = Scope("acme/alice")


@dataclass
class FakeView:
    """The parts of a View that the offline pass reads."""

    known: list[Fact] = field(default_factory=list)
    names: frozenset[str] = frozenset()

    def speakers(self) -> frozenset[str]:
        return self.names

    def twins(self, keys: Sequence[str]) -> dict[str, Fact]:
        assert all(keys)
        found = {key(fact.text, fact.speaker, fact.said_at): fact for fact in self.known}
        return {name: found[name] for name in keys if name in found}

    def known_words(self, stems: Collection[str]) -> frozenset[str]:
        return frozenset(stems) & {stem for fact in self.known for stem in words.stems(fact.text)}

    def last_said(self, session: str) -> str | None:
        said = [fact.text for fact in self.known if fact.origin.session == session]
        return said[-1] if said else None

    def holders(self, slots: Sequence[Slot]) -> list[Fact]:
        return [fact for fact in self.known if fact.slot in slots]

    def alike(self, texts: Sequence[str], n: int, also: Sequence[str] = ()) -> Likeness:
        facts = [Alike(fact, 0.6) for fact in self.known][:n]
        vectors = np.ones((len(texts) + len(also), 4), dtype=np.float32) / 2
        return Likeness([facts for _ in texts], vectors, len(self.known), {})

    @property
    def embedder_name(self) -> str:
        return "wordllama"


def run(*messages: Message, view: FakeView | None = None, principal: str = "user:alice") -> list[Change]:
    return update(Episode("e1", SCOPE, messages, NOW, principal), cast("View", view or FakeView()))


def fact(
    text: str,
    *,
    speaker: str | None = None,
    principal: str = "user:alice",
    channel: Channel = "user",
    status: Status = Status.LIVE,
) -> Fact:
    return Fact("f1", SCOPE, text, Origin(principal, channel), NOW, NOW, speaker=speaker, status=status)


def test_statements_are_kept_verbatim() -> None:
    message = Message("user", "  I live in Lisbon.  Really! ", speaker="Caroline", id="m1")
    [change] = run(message)
    assert isinstance(change, Add)
    assert change.draft.text == "I live in Lisbon.  Really!"
    assert change.draft.messages == (message,)
    assert change.draft.speaker == "Caroline"
    assert change.draft.importance == importance_of(change.draft.text)
    assert change.reason.rule == "verbatim"


def test_kind_slot_and_importance_are_told() -> None:
    [home] = run(Message("user", "I live in Lisbon.", speaker="Caroline"))
    [order] = run(Message("user", "Always answer in French."))
    assert isinstance(home, Add)
    assert isinstance(order, Add)
    assert (home.draft.kind, home.draft.slot) == ("profile", Slot("caroline", "location"))
    assert (order.draft.kind, order.draft.importance) == ("instruction", EXPLICIT)


def test_importance_is_told_from_the_past_only() -> None:
    known = fact("We keep bees and a cat")
    first, second = run(
        Message("user", "The bees are well", session="s1"),
        Message("user", "We saw bees in May, did you?", session="s1"),
        view=FakeView(known=[known]),
    )
    assert isinstance(first, Add)
    assert isinstance(second, Add)
    heard = set(words.stems(known.text))
    assert first.draft.importance == importance_of("The bees are well", seen=heard)
    heard |= set(words.stems("The bees are well"))
    expected = importance_of("We saw bees in May, did you?", seen=heard, previous="The bees are well")
    assert second.draft.importance == expected


def test_a_tools_output_is_neutral() -> None:
    [change] = run(Message("tool", "Rows: 12, 13, 14. Everything here is new and long and has Names."))
    assert isinstance(change, Add)
    assert change.draft.importance == NEUTRAL


def test_the_speakers_name_is_not_part_of_the_text() -> None:
    [change] = run(Message("user", "Caroline: I like tea", speaker="Caroline"))
    assert isinstance(change, Add)
    assert change.draft.text == "I like tea"


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (Message("system", "You are a helpful assistant."), "system_message"),
        (Message("user", "Hi Melanie!"), "small_talk"),
        (Message("assistant", "You're welcome!"), "small_talk"),
        (Message("user", " \n"), "empty"),
        (Message("tool", "[]"), "empty"),
        (Message("tool", '{"null"}'), "empty"),
    ],
)
def test_ignored(message: Message, rule: str) -> None:
    [change] = run(message)
    assert change == Ignore(message, change.reason)
    assert change.reason.rule == rule


def test_small_talk_may_name_the_addressee_but_not_oneself() -> None:
    view = FakeView(names=frozenset({"Melanie", "Caroline"}))
    [addressed] = run(Message("user", "Wow Mel, so cool", speaker="Caroline"), view=view)
    [own] = run(Message("user", "Wow Mel, so cool", speaker="Melanie"), view=view)
    assert isinstance(addressed, Ignore)
    assert isinstance(own, Add)


def test_tools_and_assistants_tell_nothing_about_the_user() -> None:
    tool, answer = run(Message("tool", "I live in Rome. Error 500"), Message("assistant", "I prefer tea for breakfast"))
    assert isinstance(tool, Add)
    assert isinstance(answer, Add)
    assert (tool.draft.kind, tool.draft.slot) == ("observation", None)
    assert (answer.draft.kind, answer.draft.slot) == ("observation", None)


def test_long_messages_are_split() -> None:
    message = Message("tool", " ".join(f"Row {n} says something else." for n in range(60)))
    changes = run(message)
    assert len(changes) == 3
    for change in changes:
        assert isinstance(change, Add)
        assert change.draft.messages == (message,)
        assert change.reason.rule == "split"
    assert changes[0].reason.terms == {"part": 1, "parts": 3}


def test_known_statements_are_merged() -> None:
    message = Message("user", "i'm  allergic to nuts", id="m2")
    [change] = run(message, view=FakeView([fact("I'm allergic to nuts")]))
    assert isinstance(change, Merge)
    assert change.fact_id == "f1"
    assert change.twin.messages == (message,)
    assert change.reason.rule == "duplicate"


@pytest.mark.parametrize(
    ("known", "principal"),
    [
        (fact("I like tea", channel="web"), "user:alice"),
        (fact("I like tea", principal="user:bob"), "user:alice"),
        (fact("I like tea", status=Status.ARCHIVED), "user:alice"),
        (fact("I like tea", speaker="Ben"), "user:alice"),
        (fact("I like 3 teas"), "user:alice"),
    ],
)
def test_other_voices_and_other_words_are_added(known: Fact, principal: str) -> None:
    [change] = run(Message("user", "I like tea"), view=FakeView([known]), principal=principal)
    assert isinstance(change, Add)


def test_the_default_speaker_is_not_a_person() -> None:
    known = FakeView([fact("I like tea", speaker="User", principal="user:bob")])
    [change] = run(Message("user", "I like tea", speaker="User"), view=known)
    assert isinstance(change, Add)


def test_a_named_speaker_is_the_same_person_for_every_principal() -> None:
    known = FakeView([fact("I like tea", speaker="Ben", principal="agent:x")])
    [change] = run(Message("user", "I like tea", speaker="Ben"), view=known)
    assert isinstance(change, Merge)


def test_repeats_within_an_episode_become_one_statement_with_all_messages() -> None:
    first, other, again = (
        Message("user", "I like tea", id="m1"),
        Message("user", "I like coffee", id="m2"),
        Message("user", "I like  tea", id="m3"),
    )
    changes = run(first, other, again)
    assert [isinstance(change, Add) and change.draft.messages for change in changes] == [(first, again), (other,)]
    [merged] = run(first, again, view=FakeView([fact("I like tea")]))
    assert isinstance(merged, Merge)
    assert merged.twin.messages == (first, again)


def test_roles_do_not_share_statements() -> None:
    changes = run(Message("user", "I like tea"), Message("assistant", "I like tea"))
    assert len(changes) == 2


texts = st.one_of(
    st.sampled_from(["Hi!", "I like tea", "I like tea.", "", "I ran yesterday", "haha", "Row 3. " * 200]),
    st.text(max_size=50),
)
messages = st.builds(
    Message, st.sampled_from(["user", "assistant", "system", "tool"]), texts, speaker=st.sampled_from([None, "Ben"])
)


@settings(deadline=None)
@given(st.lists(messages, max_size=8), st.booleans())
def test_every_message_is_accounted_for(said: list[Message], is_known: bool) -> None:
    """Each message is ignored or stands in a draft, never both, and no draft is empty or unbacked."""
    numbered = [Message(one.role, one.content, speaker=one.speaker, id=f"m{place}") for place, one in enumerate(said)]
    changes = run(*numbered, view=FakeView([fact("I like tea")] if is_known else []))
    ignored = {change.message.id for change in changes if isinstance(change, Ignore)}
    drafts = [change.draft for change in changes if isinstance(change, Add)]
    drafts += [change.twin for change in changes if isinstance(change, Merge)]
    backed = {message.id for draft in drafts for message in draft.messages}
    assert ignored | backed == {message.id for message in numbered}
    assert not ignored & backed
    assert all(draft.text.strip() and draft.messages for draft in drafts)
