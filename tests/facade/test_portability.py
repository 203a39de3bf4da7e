"""Export and import: an exact round trip, hearsay that raises nothing, hostile files, and other memories' dumps."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engram_core import AccessDenied, Engram, InvalidExport, InvalidInput, Message, Scope
from engram_core.operations import records

ALICE = "acme/support/alice"
START = datetime(2026, 3, 1, 9, tzinfo=UTC)
TEA = ("I drink green tea every morning.", "I prefer green tea to coffee.", "My green tea is from Japan.")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Callable[..., Engram]]:
    """Opens a store by name."""
    opened: list[Engram] = []

    def open_store(name: str = "one", **options: Any) -> Engram:
        opened.append(Engram.open(tmp_path / name, **options))
        return opened[-1]

    yield open_store
    for engram in opened:
        engram.close()


def lived(engram: Engram) -> list[str]:
    """A scope with everything in it; the ids of its facts."""
    memory = engram.memory(ALICE)
    memory.set_policy(cluster_size=2, protect_days=0, cluster_similarity=0.3)
    memory.add(
        [Message("user", text, speaker="Ana", session="s1", id=f"m{n}") for n, text in enumerate(TEA)], now=START
    )
    (home,) = memory.add("I live in Lisbon.", now=START, subjects=["ana"], metadata={"k": [1, {"ä": None}]}).facts
    memory.add("I live in Porto now.", supersedes=home.id, now=START)
    memory.add("ok", now=START)
    (dog,) = memory.add("The dog barks \u2028 at 'night' <b>\n\"always\".", now=START).facts
    memory.update(dog.id, text="The dog barks at dawn.", pinned=True, now=START)
    recall = memory.recall("what tea do I drink?", session="s2", now=START)
    memory.observe(recall.id, "You drink green tea every morning.", now=START)
    engram.sleep(now=START + timedelta(days=30))
    memory.forget(dog.id, reason="enough", now=START)
    engram.memory(f"{ALICE}/notes").add("A note below.", now=START)
    return [fact.id for fact in memory.list(status="all")]


def test_a_round_trip_into_an_empty_store_is_exact(store: Callable[..., Engram], tmp_path: Path) -> None:
    with store() as one, store("two") as two:
        ids = lived(one)
        file = tmp_path / "all.jsonl"
        out = one.export(file, scope="acme")
        assert out.counts["fact"] == len(ids) + 1
        plan = two.import_(file, trusted=True, dry_run=True)
        assert (len(plan.facts), two.scopes()) == (len(ids) + 1, [])
        done = two.import_(file, trusted=True)
        assert set(done.facts) == set(plan.facts)
        again = two.export(tmp_path / "again.jsonl", scope="acme")
        assert again.digest == out.digest
        assert again.counts == out.counts
        first, second = one.memory(ALICE), two.memory(ALICE)
        assert {fact.id: fact for fact in second.list(status="all")} == {f.id: f for f in first.list(status="all")}
        assert second.policy == first.policy
        for id_ in ids:
            assert [d.action for d in second.history(id_)] == [d.action for d in first.history(id_)]
        repeated = two.import_(file, trusted=True)
        assert (repeated.facts, repeated.known) == ((), len(ids) + 1)
        assert two.export(tmp_path / "third.jsonl", scope="acme").digest == out.digest, "nothing came twice"
        for question in ("what tea do I drink?", "where do I live?"):
            told = [[item.fact.id for item in m.recall(question, now=START).facts] for m in (first, second)]
            assert told[0] == told[1], question


def test_a_file_is_hearsay_unless_somebody_vouches_for_it(store: Callable[..., Engram], tmp_path: Path) -> None:
    with store() as one, store("two") as two:
        lived(one)
        file = tmp_path / "all.jsonl"
        one.export(file, scope=ALICE, below=False)
        two.memory(ALICE).set_policy(quarantine_channels=("web",))
        with pytest.raises(AccessDenied):
            two.import_(file, principal="agent:helper")
        two.grant("agent:helper", "write", ALICE)
        with pytest.raises(AccessDenied):
            two.import_(file, principal="agent:helper", trusted=True)
        two.import_(file, principal="agent:helper")
        facts = two.memory(ALICE).list(status="all")
        assert facts
        assert all(fact.trust <= 0.6 and not fact.pinned and fact.origin.channel == "import" for fact in facts)
        assert {fact.origin.principal for fact in facts} == {"agent:helper"}
        assert all([d.action for d in two.memory(ALICE).history(fact.id)] == ["import"] for fact in facts)
        assert two.memory(ALICE).policy.quarantine_channels == ("web",), "no policy comes with it"


def test_what_was_erased_stays_out(store: Callable[..., Engram], tmp_path: Path) -> None:
    with store() as one:
        ids = lived(one)
        memory = one.memory(ALICE)
        file = tmp_path / "all.jsonl"
        one.export(file, scope=ALICE)
        (gone,) = [fact.id for fact in memory.list(status="all") if fact.text == "I live in Porto now."]
        memory.erase(gone)
        merged = [fact.id for fact in memory.list() if fact.is_consolidated]
        one.erase(subject="Ana")
        kept = {fact.id for fact in memory.list(status="all")}
        for trusted in (True, False):
            done = one.import_(file, trusted=trusted)
            assert {fact.id for fact in memory.list(status="all")} == kept
            assert done.erased >= 2
        assert merged
        assert "green tea" not in (tmp_path / "one" / "engram.db").read_bytes().decode("latin-1").lower()
        assert gone in ids


def test_an_export_about_a_subject_and_for_people(store: Callable[..., Engram], tmp_path: Path) -> None:
    with store() as one:
        lived(one)
        out = one.export(tmp_path / "ana.jsonl", subject="ana")
        text = (tmp_path / "ana.jsonl").read_text()
        assert "Lisbon" in text
        assert "The dog" not in text
        assert out.counts["fact"] == 1
        one.memory(ALICE).export(tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text()
        assert "I live in Lisbon." in page
        assert "<b>" not in page
        assert "told user:owner" in page
        with pytest.raises(InvalidInput):
            one.export(tmp_path / "no" / "where.jsonl")


def _fact(**changes: Any) -> dict[str, Any]:
    at = START.isoformat()
    fact = {
        "type": "fact", "id": "f1", "scope": ALICE, "text": "I like tea.", "kind": "preference", "importance": 0.5,
        "confidence": 1.0, "trust": 1.0, "pinned": False, "status": "live", "version": 1, "created_at": at, "said_at": at,
        "principal": "user:ana", "channel": "user",
    }  # fmt: skip
    return fact | changes


def _file(path: Path, *lines: Any, header: Any = None, end: bool = True) -> Path:
    head = header or {"type": "engram", "version": 1, "at": START.isoformat()}
    digest = records.Digest()
    spelled = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    for line in spelled:
        digest.add(line)
    last = [json.dumps({"type": "end", "records": digest.records, "digest": digest.hex})] if end else []
    path.write_text("\n".join([json.dumps(head), *spelled, *last]) + "\n", encoding="utf-8", errors="surrogatepass")
    return path


HOSTILE: list[tuple[str, Any]] = [
    ("unknown field", _fact(admin=True)),
    ("unknown type", {"type": "grant", "scope": ALICE}),
    ("no type", {"a": 1}),
    ("a list", [1, 2]),
    ("raised trust", _fact(trust=1.5)),
    ("erased", _fact(status="erased")),
    ("bad scope", _fact(scope="../etc")),
    ("other scope", _fact(scope="acme/sales/bob")),
    ("bad kind", _fact(kind="DROP TABLE")),
    ("huge text", _fact(text="x" * 9000)),
    ("empty", _fact(text=" ")),
    ("NaN", json.dumps(_fact()).replace("0.5", "NaN")),
    ("infinity", json.dumps(_fact()).replace("0.5", "1e999")),
    ("lone surrogate", json.dumps(_fact(text="a")).replace('"a"', '"\\ud800"')),
    ("NUL", _fact(text="a\x00b")),
    ("nested", json.dumps(_fact(metadata={})).replace("{}", "[" * 5000 + "]" * 5000)),
    ("nested a bit", _fact(metadata={"k": json.loads("[" * 80 + "]" * 80)})),
    ("reserved key", _fact(metadata={"scope": "x"})),
    ("long line", _fact(metadata={"k": "x" * (10 << 20)})),
    ("itself", _fact(superseded_by="f1")),
    ("no JSON", "{'id': 1}"),
    ("orphan message", {"type": "message", "episode": "e", "role": "user", "content": "x", "channel": "user"}),
    (
        "bad policy",
        {"type": "policy", "scope": ALICE, "policy": {"evil": 1}, "principal": "x", "at": START.isoformat()},
    ),
    ("number as time", _fact(said_at="yesterday")),
]


@pytest.mark.parametrize(("name", "line"), HOSTILE, ids=[name for name, _ in HOSTILE])
def test_a_hostile_line_is_named_and_nothing_is_stored(
    name: str, line: Any, store: Callable[..., Engram], tmp_path: Path
) -> None:
    engram = store("hostile", index="exact")
    file = _file(tmp_path / "x.jsonl", _fact(id="good", text="This one is fine."), line)
    for trusted in (True, False):
        with pytest.raises(InvalidExport, match="Line 3"):
            engram.import_(file, scope="acme/support", trusted=trusted)
    assert engram.scopes() == []


def test_a_file_that_is_not_whole_is_refused(store: Callable[..., Engram], tmp_path: Path) -> None:
    engram = store(index="exact")
    good = _file(tmp_path / "good.jsonl", _fact(), _fact(id="f2", text="I like cake."))
    lines = good.read_text().splitlines(keepends=True)
    broken = {
        "cut": lines[:-1],
        "missing": [lines[0], lines[1], lines[3]],
        "changed": [lines[0], lines[1].replace("tea", "gin"), *lines[2:]],
        "twice": [lines[0], lines[1], lines[1], lines[3]],
        "no header": lines[1:],
        "two headers": [lines[0], lines[0], *lines[1:]],
        "beyond": [*lines, lines[1]],
        "newer": [lines[0].replace('"version": 1', '"version": 2'), *lines[1:]],
        "empty": [],
    }
    for name, found in broken.items():
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(found))
        with pytest.raises(InvalidExport):
            engram.import_(file)
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidExport):
        engram.import_(tmp_path / "bytes.jsonl")
    with pytest.raises(InvalidInput):
        engram.import_(tmp_path / "nowhere.jsonl")
    assert engram.scopes() == []
    assert len(engram.import_(good).facts) == 2
    strange = _file(tmp_path / "strange.jsonl", _fact(scope="acme/sales"))
    with pytest.raises(InvalidExport, match="another scope"):
        engram.import_(strange, trusted=True)


def test_fuzzed_exports_raise_one_error_and_store_nothing(store: Callable[..., Engram], tmp_path: Path) -> None:
    rng = random.Random(7)
    engram = store("fuzz", index="exact")
    good = _file(
        tmp_path / "good.jsonl",
        _fact(),
        {"type": "episode", "id": "e1", "scope": ALICE, "at": START.isoformat(), "principal": "x"},
    ).read_bytes()
    for _ in range(150):
        raw = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(raw))
            raw[place : place + rng.randint(0, 3)] = bytes(rng.randrange(256) for _ in range(rng.randint(0, 3)))
        if bytes(raw) == good:
            continue
        (tmp_path / "fuzz.jsonl").write_bytes(raw)
        with pytest.raises(InvalidExport):
            engram.import_(tmp_path / "fuzz.jsonl", trusted=rng.random() < 0.5)
    assert engram.scopes() == []


def test_mem0_and_langgraph_dumps_come_in_as_imports(store: Callable[..., Engram], tmp_path: Path) -> None:
    engram = store(index="exact")
    mem0 = {
        "results": [
            {
                "id": "892db2ae-06d9-49e5-8b3e-585ef9b85b8e", "memory": "Likes to play cricket on weekends", "hash": "a1",
                "metadata": {"category": "hobbies"}, "created_at": "2024-07-26T08:23:31.000-07:00", "updated_at": None,
                "user_id": "Alex Q.",
            },
            {"id": "x2", "memory": "Books flights early", "user_id": "Alex Q.", "agent_id": "travel", "created_at": None},
        ]
    }  # fmt: skip
    (tmp_path / "mem0.json").write_text(json.dumps(mem0))
    plan = engram.import_(tmp_path / "mem0.json", source="mem0", scope="acme", dry_run=True)
    done = engram.import_(tmp_path / "mem0.json", source="mem0", scope="acme")
    assert plan.facts == done.facts
    user = Scope("acme").child("Alex Q.")
    assert done.scopes == (user.path, user.child("travel").path)
    (first,) = engram.memory(done.scopes[0]).list()
    assert (first.text, first.trust, first.origin.channel) == ("Likes to play cricket on weekends", 0.6, "import")
    assert first.created_at == datetime(2024, 7, 26, 15, 23, 31, tzinfo=UTC)
    assert first.metadata == {"mem0_id": "892db2ae-06d9-49e5-8b3e-585ef9b85b8e", "category": "hobbies"}
    assert engram.erase(subject="Alex Q.", dry_run=True).count == 2
    assert engram.import_(tmp_path / "mem0.json", source="mem0", scope="acme").known == 2, "twice is once"

    items = [
        {"namespace": ["memories", "u-1"], "key": "k1", "value": {"kind": "Memory", "content": {"content": "Prefers tea"}},
         "created_at": "2025-01-02T03:04:05+00:00", "updated_at": "2025-02-02T03:04:05+00:00", "score": None},
        {"namespace": ["memories", "u-1"], "key": "k2", "value": {"content": "Lives in Porto"},
         "created_at": "2025-01-02T03:04:05+00:00", "updated_at": "2025-01-02T03:04:05+00:00"},
        {"namespace": ["memories", "u-1"], "key": "k3", "value": {"food": "pizza", "likes": ["a", "b"]}},
    ]  # fmt: skip
    (tmp_path / "lg.jsonl").write_text("\n".join(map(json.dumps, items)))
    done = engram.import_(tmp_path / "lg.jsonl", source="langmem", scope="lg")
    facts = engram.memory("lg/memories/u-1").list()
    assert [fact.text for fact in facts] == ["Prefers tea", "Lives in Porto", "food: pizza; likes: a, b"]
    assert facts[0].said_at == datetime(2025, 2, 2, 3, 4, 5, tzinfo=UTC)
    assert engram.memory("lg/memories/u-1").recall("where does he live?").facts[0].fact.text == "Lives in Porto"
    for bad in ('{"results": 1}', '[{"id": "x"}]', '[{"namespace": "a", "key": "k"}]', "{", "[1]"):
        (tmp_path / "bad.json").write_text(bad)
        for source in ("mem0", "langmem"):
            with pytest.raises(InvalidExport):
                engram.import_(tmp_path / "bad.json", source=source, scope="acme")
    with pytest.raises(InvalidInput):
        engram.import_(tmp_path / "mem0.json", source="mem0")
