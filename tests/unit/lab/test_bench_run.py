"""A run: baselines against plain formulas, every peer that can run here, one in another process, failures, forgetting."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_core import InvalidInput
from engram_core.cli.bench_subject import system as engram_system
from engram_core.lab.bench import report
from engram_core.lab.bench.baselines import BASELINES, Bm25, Newest, Oldest, Vectors
from engram_core.lab.bench.data import Dataset
from engram_core.lab.bench.peers import PEERS, Peer
from engram_core.lab.bench.readers import load
from engram_core.lab.bench.remote import PeerFailed, Remote, interpreter, versions
from engram_core.lab.bench.run import Measured, measure
from engram_core.lab.bench.subject import Item, SharedEmbedder, Subject, System
from engram_core.measure.words import stems
from engram_core.models.tokens import EstimatingCounter
from engram_core.models.wordllama import WordLlamaEmbedder

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples" / "bench"
HERE = [name for name, peer in PEERS.items() if peer.is_here]
WORDS = ["boat", "boats", "harbour", "repair", "repaired", "lemon", "tree", "the", "and"]


@pytest.fixture(scope="module")
def embedder() -> SharedEmbedder:
    return SharedEmbedder(WordLlamaEmbedder())


def said(*texts: str) -> list[Item]:
    return [
        Item(id=f"i{n}", text=text, words=text, role="user", speaker=None, at=None, session=None)
        for n, text in enumerate(texts)
    ]


def ids(found: Sequence[tuple[Sequence[str], str]]) -> list[str]:
    return [one for sources, _ in found for one in sources]


def hashed(texts: list[str]) -> list[list[float]]:
    """Vectors that differ by text, without a model."""
    rows = [np.random.default_rng(list(text.encode()) or [0]).normal(size=8) for text in texts]
    return [(row / np.linalg.norm(row)).tolist() for row in rows]


# --- baselines -------------------------------------------------------------------------------------------------------

texts_ = st.lists(st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join), min_size=1, max_size=12)
queries = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)


@settings(deadline=None)
@given(texts_, queries, st.integers(1, 12))
def test_bm25_is_the_formula_however_the_items_arrive(texts: list[str], query: str, cut: int) -> None:
    subject = Bm25(hashed, Path())
    items = said(*texts)
    subject.add(items[:cut])
    subject.add(items[cut:])
    words = [stems(text) for text in texts]
    average = max(sum(map(len, words)) / len(words), 1e-9)

    def score(own: list[str]) -> float:
        total = 0.0
        for word, asked in Counter(stems(query)).items():
            df = sum(word in other for other in words)
            idf = math.log(1 + (len(words) - df + 0.5) / (df + 0.5))
            tf = own.count(word)
            total += asked * idf * tf / (tf + 0.9 * (0.25 + 0.75 * len(own) / average))
        return total

    expected = sorted(range(len(texts)), key=lambda row: (-round(score(words[row]), 9), row))
    assert ids(subject.search(query, len(texts))) == [f"i{row}" for row in expected]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9), st.integers(1, 700), st.integers(1, 30))
def test_vectors_are_exact_cosine_search_however_the_items_arrive(seed: int, count: int, batch: int) -> None:
    texts = [f"{seed} {number}" for number in range(count)]
    subject, items = Vectors(hashed, Path()), said(*texts)
    for start in range(0, count, batch * 25):
        subject.add(items[start : start + batch * 25])
    scores = np.array(hashed(texts), dtype=np.float32) @ np.array(hashed(["?"])[0], dtype=np.float32)
    assert ids(subject.search("?", 10)) == [f"i{row}" for row in np.argsort(-scores, kind="stable")[:10]]


def test_full_context_comes_from_either_end() -> None:
    newest, oldest = Newest(hashed, Path()), Oldest(hashed, Path())
    for subject in (newest, oldest):
        assert subject.search("?", 3) == []
        subject.add(said("a", "b", "c"))
    assert ids(newest.search("?", 2)) == ["i2", "i1"]
    assert ids(oldest.search("?", 2)) == ["i0", "i1"]
    newest.forget(2)
    assert newest.kept() == {"i1", "i2"}
    newest.forget(0)
    assert newest.kept() == set()


def test_the_shared_embedder_embeds_a_text_once_and_counts_the_time(embedder: SharedEmbedder) -> None:
    asked: list[str] = []

    class Watched(WordLlamaEmbedder):
        def embed(self, texts: Sequence[str]) -> Any:
            asked.extend(texts)
            return super().embed(texts)

    shared = SharedEmbedder(Watched())
    first = shared.embed(["a boat", "a tree", "a boat"])
    assert asked == ["a boat", "a tree"]
    assert np.allclose(np.linalg.norm(first, axis=1), 1)
    assert np.allclose(shared.lists(["a tree"]), first[1:2])
    assert asked == ["a boat", "a tree"]
    assert shared.seconds > 0
    assert shared.embed([]).shape == (0, shared.dimension)


# --- peers -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", HERE)
def test_every_peer_finds_what_was_said_as_exact_search_does(
    name: str, embedder: SharedEmbedder, tmp_path: Path
) -> None:
    """All of them are nearest-neighbour search on the same vectors; the bench's contract for a memory."""
    from importlib import import_module

    peer = PEERS[name]
    subject: Subject = getattr(import_module(peer.module), peer.owner)(embedder.lists, tmp_path)
    check_finds_as_exact_search(subject, embedder)


def check_finds_as_exact_search(subject: Subject, embedder: SharedEmbedder) -> None:
    items = said("I moved to Lisbon.", "The lemon tree is in bloom.", "My sister repairs boats.", "I like tea.")
    exact = Vectors(embedder.lists, Path())
    try:
        for batch in (items[:1], items[1:]):
            subject.add(batch)
            exact.add(batch)
        for question in ("Who repairs boats?", "Where do I live?", "What blooms?"):
            found = subject.search(question, 3)
            assert ids(found) == ids(exact.search(question, 3))
            assert all(items[int(sources[0][1:])]["text"] in text for sources, text in found)
        assert len(subject.search("tea", 50)) == len(items), "asking for more than there is gives what there is"
    finally:
        subject.close()


def test_a_peer_in_another_process_is_the_same_peer(embedder: SharedEmbedder, tmp_path: Path) -> None:
    subject = Remote(PEERS["chroma"], Path(sys.executable), embedder.lists, tmp_path)
    check_finds_as_exact_search(subject, embedder)
    assert subject.seconds > 0
    assert "chromadb 1." in versions(PEERS["chroma"], Path(sys.executable))


PEER = """
import os, socket
class Odd:
    def __init__(self, embed, folder):
        print("words that must not stand on the wire")
        self.embed = embed
    def add(self, items):
        socket.create_connection(("192.0.2.1", 9), timeout=1)
    def search(self, question, k):
        if question == "die":
            os.write(2, b"out of memory")
            os._exit(3)
        return [(["a"], str(len(self.embed([question, question]))))]
    def close(self):
        pass
"""


def test_a_peer_may_print_ask_for_vectors_and_fail_but_not_talk_to_other_machines(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(PEER)
    peer = Peer("odd", str(tmp_path / "odd"), "Odd", "", (), ())
    subject = Remote(peer, Path(sys.executable), hashed, tmp_path)
    assert subject.search("?", 1) == [(("a",), "2")]
    with pytest.raises(PeerFailed, match="odd: PermissionError: the bench lets no memory connect to 192"):
        subject.add([])
    assert subject.search("?", 1) == [(("a",), "2")], "an error does not end the conversation"
    with pytest.raises(PeerFailed, match=r"its process ended. It said: (.|\n)*out of memory"):
        subject.search("die", 1)
    subject.close()
    with pytest.raises(PeerFailed, match="AttributeError"):
        Remote(replace(peer, owner="Missing"), Path(sys.executable), hashed, tmp_path)
    with pytest.raises(InvalidInput, match="setup-peer"):
        interpreter(tmp_path)


# --- runs ------------------------------------------------------------------------------------------------------------


def run(embedder: SharedEmbedder, systems: Sequence[System], *names: str) -> Measured:
    found = [load(ROOT / "engram_core" / "lab" / "bench" / name if name == "updates.jsonl" else EXAMPLES / name)
             for name in names]  # fmt: skip
    return measure(found, systems, embedder, EstimatingCounter())


def ours(embedder: SharedEmbedder) -> System:
    return engram_system(embedder, "pipeline", "engram", is_ours=True)


def test_a_run_scores_every_question_with_evidence_for_every_memory(embedder: SharedEmbedder) -> None:
    names = ("locomo.json", "locomo10.json", "longmemeval.json", "beam", "updates.jsonl")
    measured = run(embedder, BASELINES, *names)
    assert measured.failures == []
    scored = [
        (data.name, conversation.id, question.id)
        for data in measured.datasets
        for conversation in data.conversations
        for question in conversation.questions
        if question.evidence
    ]
    for system in measured.systems:
        assert [row.key for row in measured.rows if row.system == system.name] == scored
        assert len(measured.clocks[system.name].searches) == len(scored)
    # So few messages that ten hits hold everything, whoever ranks: no id is lost between data and hits.
    assert all(row.values["R@10"] == 1 for row in measured.rows if row.dataset != "beam")


def test_a_report_has_every_memory_category_and_metric(embedder: SharedEmbedder) -> None:
    measured = run(embedder, [ours(embedder), *BASELINES], "locomo.json", "updates.jsonl")
    found = report.view(measured, embedder="e", counter="c", adds="session", seed=0, with_times=True)
    talk, updates = found["datasets"]
    assert talk["means"]["engram"]["all"]["R@10"] == talk["means"]["engram"]["all"]["C@512t"] == 1
    assert talk["means"]["BM25"]["all"]["C@256t"] == talk["means"]["BM25"]["all"]["R@256t"]
    assert "adversarial" in talk["means"]["engram"]
    assert updates["means"]["engram"]["all"]["latest first"] == 1
    assert updates["means"]["vectors alone"]["all"]["stale@5"] == 1
    lines = report.markdown(found, {}).splitlines()
    for system in measured.systems:
        assert any(line.startswith(f"| {system.name} | ") for line in lines)
    assert any(line.startswith("| engram minus …, points | R@10 | R@256t | A@256t |") for line in lines)

    def view(seed: int) -> dict[str, Any]:
        return report.view(measured, embedder="e", counter="c", adds="session", seed=seed, with_times=False)

    assert view(0) == view(0)
    mine = [row for row in measured.rows if row.system == "engram" and row.category != "adversarial"]
    theirs = {row.key: row for row in measured.rows if row.system == "BM25"}
    mine = [row for row in mine if row.dataset == "locomo.json"]
    expected = np.mean([row.values["R@256t"] - theirs[row.key].values["R@256t"] for row in mine])
    assert view(0)["datasets"][0]["differences"]["BM25"]["all"]["R@256t"].mean == pytest.approx(expected)


def test_a_memory_that_raises_is_left_out_and_the_others_go_on(embedder: SharedEmbedder) -> None:
    class Falls(Newest):
        def search(self, question: str, k: int) -> Any:
            raise KeyError(question)

    measured = run(embedder, [System("falls", Falls), System("newest", Newest)], "longmemeval.json")
    assert [(one.system, one.conversation) for one in measured.failures] == [("falls", "q-train")]
    assert "KeyError" in measured.failures[0].error
    assert {row.system for row in measured.rows} == {"newest"}
    assert [system.name for system in measured.whole] == ["newest"]
    found = report.view(measured, embedder="e", counter="c", adds="one", seed=0, with_times=False)
    assert "falls, in q-train: KeyError" in report.markdown(found, {})


def test_forgetting_is_judged_by_labels(embedder: SharedEmbedder) -> None:
    measured = run(embedder, [ours(embedder), System("newest", Newest), System("vectors", Vectors)], "forgetting.jsonl")
    found = {(row["system"], row["way"]): row for row in report.forgetting(measured.forgets)}
    assert set(found) == {("engram", "own"), ("engram", "cap"), ("newest", "own"), ("newest", "cap")}
    assert found["newest", "own"]["forgotten"] == 0
    # The oldest four of eight: two of them should have stayed.
    assert (
        found["newest", "cap"]["precision"] == found["newest", "cap"]["recall"] == found["newest", "cap"]["kept"] == 0.5
    )
    assert found["engram", "cap"]["recall"] > 0.5
    assert found["engram", "cap"]["at random"] == 0.5


def test_messages_arrive_one_by_one_by_session_or_all_at_once(embedder: SharedEmbedder) -> None:
    sizes: list[int] = []

    class Counts(Newest):
        def add(self, items: Sequence[Item]) -> None:
            sizes.append(len(items))
            super().add(items)

    data: Dataset = load(EXAMPLES / "locomo.json")
    for adds in ("one", "session", "all"):
        measure([data], [System("counts", Counts)], embedder, EstimatingCounter(), adds=adds)
    assert sizes == [1] * 7 + [4, 3] + [7]


def test_progress_ends_at_its_total(embedder: SharedEmbedder) -> None:
    seen: list[tuple[str, int, int]] = []
    data = load(EXAMPLES / "longmemeval.json")
    systems = [System("newest", Newest), System("oldest", Oldest)]
    measure([data], systems, embedder, EstimatingCounter(), progress=lambda *said: seen.append(said))
    dones = [done for _, done, _ in seen]
    assert dones == sorted(dones)
    assert seen[-1] == ("oldest", 12, 12)
