"""The rules that find secrets: what they find, what they leave, and that no text makes them slow or wrong."""

from __future__ import annotations

import itertools
import json
import string
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core.floor.secrets import VENDOR_KINDS, findings, redacted

DATA = Path(__file__).resolve().parents[3] / "benchmarks" / "data" / "secrets.jsonl"
CONVERSATIONS = Path(__file__).resolve().parents[4] / "shared" / "data" / "locomo-dev.json"
ROWS = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]


def covered(text: str, **how: bool) -> str:
    return redacted(text, findings(text, **how))


@pytest.mark.parametrize(
    ("name", "least"), [("chat", 0.9), ("chat, second", 0.85), ("chat, third", 0.75), ("configuration", 0.95)]
)
def test_secrets_of_our_sets_are_found(name: str, least: float) -> None:
    texts = [row["text"] for row in ROWS if row["set"] == name]
    assert sum(bool(findings(text)) for text in texts) / len(texts) >= least


def test_look_alikes_are_left_alone() -> None:
    assert [row["text"] for row in ROWS if row["set"] == "look-alike" and findings(row["text"])] == []


@pytest.mark.skipif(not CONVERSATIONS.exists(), reason="no labelled conversations beside the repository")
def test_conversations_hold_next_to_no_false_alarms() -> None:
    turns = [
        turn["text"] for talk in json.loads(CONVERSATIONS.read_text()) for s in talk["sessions"] for turn in s["turns"]
    ]
    assert sum(bool(findings(turn)) for turn in turns) <= len(turns) / 1000


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("card 4111 1111 1111 1111 please", "card number"),
        ("card 4111 1111 1111 1112 please", None),
        ("IBAN DE89 3704 0044 0532 0130 00 is mine", "iban"),
        ("IBAN DE88370400440532013000 is mine", None),
        ("host 10.0.0.256 or 1.2.3", None),
        ("host 10.0.0.25.", "ip address"),
        ("SSN 078-05-1120", "social security number"),
        ("SSN 000-05-1120", None),
        ("mail bob.b@mail.example.org now", "e-mail"),
        ("version 1.2.3.4-beta", None),
    ],
)
def test_validators_decide(text: str, kind: str | None) -> None:
    assert [item.kind for item in findings(text, personal=True)] == ([kind] if kind else [])


def test_personal_data_is_looked_for_on_request_only() -> None:
    text = "Mail bob@example.org or call +1 202 555 0123."
    assert covered(text) == text
    assert covered(text, personal=True) == "Mail [redacted: e-mail] or call [redacted: phone]."
    assert covered("my pin is 4471 says bob@example.org", secrets=False, personal=True).startswith("my pin is 4471")


WORDS = st.sampled_from(
    ["password", "is", ":", "=", "code", "4471", "pin", "hunter2!", "the", "door", "for", '"', "'", "/", "admin", "token",
     "AKIAIOSFODNN7EXAMPLE", "https://a:b@c.d", "-----BEGIN PRIVATE KEY-----", "\n", " ", ".", "é", "密码", "🙂", "[redacted: code]"]
)  # fmt: skip


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(WORDS, max_size=30).map(" ".join) | st.text(max_size=200).filter(lambda t: t.isprintable()))
def test_findings_are_places_in_order_and_covering_twice_is_covering_once(text: str) -> None:
    found = findings(text, personal=True)
    assert all(0 <= item.start < item.end <= len(text) for item in found)
    assert all(one.end <= two.start for one, two in itertools.pairwise(found))
    once = covered(text, personal=True)
    twice = covered(once, personal=True)
    # What stood behind a covered secret may be announced by the same words now; a third time changes nothing.
    assert covered(twice, personal=True) == twice


@pytest.mark.parametrize(
    "piece", ["password is ", "4471 ", "eyJa.", "a:b@", "code ", "-----BEGIN PRIVATE KEY-----", "pin 1"]
)
def test_time_grows_with_the_text_and_no_faster(piece: str) -> None:
    """Ratios of CPU time: four times the text may take up to eight times as long."""

    def spent(size: int) -> float:
        text = (piece * size)[:size]
        started = time.process_time()
        findings(text, personal=True)
        return time.process_time() - started

    spent(1_000)
    short = max(min(spent(30_000) for _ in range(3)), 0.002)
    assert min(spent(120_000) for _ in range(2)) <= 8 * short


def test_every_kind_is_a_plain_word_for_the_placeholder() -> None:
    assert len(VENDOR_KINDS) > 100
    allowed = set(string.ascii_lowercase + string.digits + " .")
    assert all(set(kind) <= allowed for kind in VENDOR_KINDS)
