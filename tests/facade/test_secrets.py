"""Secrets reach no file: what is said, asked, answered, corrected or noted is stored without them; a scan finds old ones."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support_stores import PLACES_FULL, place

from engram_core import Engram, Message

TOKEN = "ghp_Q7w2e9R4t1Y8u3I6o5P0a7S2d9F4g1H8j3K6"
PASSWORD = "Gr33nT3a-Kettle"


@pytest.fixture(params=PLACES_FULL)
def store(request, tmp_path) -> Iterator[Engram]:
    with Engram.open(**place(request, tmp_path)) as engram:
        yield engram


def bytes_of(directory: Path) -> bytes:
    """Every file under a directory."""
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def forms(secret: str) -> list[bytes]:
    """A secret as files may hold it."""
    return [secret.encode(), secret.encode("utf-16-le"), base64.b64encode(secret.encode()), secret.lower().encode()]


def test_a_secret_reaches_no_file_by_any_door(tmp_path: Path) -> None:
    with Engram.open(tmp_path / "store") as engram:
        memory = engram.memory("acme/ana")
        added = memory.add(
            [
                Message("user", f"My password is {PASSWORD}, and the token {TOKEN[:9]}\u200b{TOKEN[9:]}.", session="s"),
                Message("user", "The train leaves at nine.", speaker=f"Ana {TOKEN}", session="s"),
            ],
            metadata={"note": f"pw {PASSWORD}", "deep": [{"x": TOKEN}]},
        )
        recall = memory.recall(f"Is my password {PASSWORD} or {TOKEN}?")
        memory.observe(recall.id, f"Your password is {PASSWORD}.")
        memory.update(added.facts[0].id, text=f"My new password: {PASSWORD}!")
        memory.forget(added.facts[1].id, reason=f"it said {TOKEN}")
        engram.note_failure("acme/ana", "add", ValueError(f"cannot store {TOKEN}"))
        engram.flush()
        decisions = engram.context.ledger.decisions(memory.scope)
        [mark] = [d for d in decisions if d.action == "redact" and "password" in d.reason.line]
        assert sorted(item["kind"] for item in mark.after["redacted"]) == ["github token", "password"]
        assert all(len(item["fingerprint"]) == 16 for item in mark.after["redacted"])
    found = bytes_of(tmp_path)
    assert b"[redacted: github token]" in found
    assert not [form for secret in (TOKEN, PASSWORD) for form in forms(secret) if form in found]


def test_short_values_leave_no_fingerprint_that_could_be_tried_out(store: Engram) -> None:
    memory = store.memory("acme/ana")
    memory.add("The door code is 4471.")
    [mark] = [d for d in store.context.ledger.decisions(memory.scope) if d.action == "redact"]
    assert mark.after["redacted"] == [{"kind": "code"}]
    assert memory.list()[0].text == "The door code is [redacted: code]."


def test_the_same_secret_has_the_same_print_in_one_store_and_another_elsewhere() -> None:
    prints = []
    for _ in range(2):
        with Engram.open(":memory:") as engram:
            memory = engram.memory("acme/ana")
            memory.add([f"token: {TOKEN}", f"again {TOKEN} here"])
            marks = [
                d.after["redacted"][0] for d in engram.context.ledger.decisions(memory.scope) if d.action == "redact"
            ]
            prints.append({mark["fingerprint"] for mark in marks})
    assert [len(found) for found in prints] == [1, 1]
    assert prints[0] != prints[1]


def test_a_policy_may_reject_or_keep(store: Engram) -> None:
    memory = store.memory("acme/ana")
    memory.set_policy(secrets="reject")
    added = memory.add([f"My password is {PASSWORD}.", "I like tea.", "Mail me at ana@example.org."])
    assert next((o.action, o.reason.rule) for o in added.outcomes) == ("ignored", "secret")
    assert [fact.text for fact in memory.list()] == ["I like tea.", "Mail me at ana@example.org."]
    assert PASSWORD not in json.dumps(str(store.context.ledger.episode(added.episode_id)))
    memory.set_policy(secrets="keep", personal_data="redact")
    memory.add([f"My other password is {PASSWORD}.", "Call me: +49 170 1234567, ana@example.org, 192.168.0.17."])
    texts = [fact.text for fact in memory.list()]
    assert f"My other password is {PASSWORD}." in texts
    assert "Call me: [redacted: phone], [redacted: e-mail], [redacted: ip address]." in texts


def test_a_scan_finds_and_covers_what_was_stored_before(tmp_path: Path) -> None:
    with Engram.open(tmp_path / "store") as engram:
        memory = engram.memory("acme/ana")
        memory.set_policy(secrets="keep")
        secret = f"My password is {PASSWORD} and the server needs {TOKEN}."
        added = memory.add([Message("user", text, session="s") for text in ("I sail on Sundays.", secret, "It rains.")])
        engram.memory("acme-corp/bob").add("I like rain.")
        recall = memory.recall(f"Is it {PASSWORD}, my password?")
        memory.observe(recall.id, f"It is {TOKEN}.")
        dry = engram.scan("acme")
        assert dry.facts == {added.facts[1].id: ("github token", "password")}
        assert set(dry.records) >= {"episodes", "decisions", "recalls", "usage"}
        assert not dry.fixed
        assert memory.get(added.facts[1].id).text == secret
        assert engram.scan("acme-corp").is_clean
        assert PASSWORD not in json.dumps(dry.to_dict())
        fixed = engram.scan("acme", fix=True)
        assert (fixed.facts, fixed.records) == (dry.facts, dry.records)
        fact = memory.get(added.facts[1].id)
        assert fact.text == "My password is [redacted: password] and the server needs [redacted: github token]."
        assert (fact.version, fact.status) == (2, "live")
        assert [scored.fact.id for scored in memory.recall("What does the server need?", k=1).facts] == [fact.id]
        assert engram.scan().is_clean
        engram.flush()
    found = bytes_of(tmp_path)
    assert not [form for secret in (TOKEN, PASSWORD) for form in forms(secret) if form in found]
    assert b"kettl" not in found


def test_a_scan_works_on_the_ledger_in_memory_too() -> None:
    with Engram.open(":memory:") as engram:
        memory = engram.memory("acme/ana")
        memory.set_policy(secrets="keep")
        memory.add(f"My password is {PASSWORD}.")
        recall = memory.recall(f"password {PASSWORD}?")
        memory.observe(recall.id, f"It is {PASSWORD}.")
        report = engram.scan(fix=True)
        assert set(report.records) >= {"episodes", "decisions"}
        assert engram.scan().is_clean
