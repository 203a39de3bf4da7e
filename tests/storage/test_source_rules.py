"""Rules of the storage design that the source itself must keep."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import engram_core

ROOT = Path(engram_core.__file__).parent
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
SANDBOXED = ROOT / "designs" / "code" / "child.py"
"""Runs a design's code, in a process of its own that the kernel holds; the store never loads it."""
PEERS = ROOT / "lab" / "bench" / "peers"
"""Other memories, to measure Engram against: they are driven as their makers say."""
CHROMA_CALLS = {
    "query",
    "get",
    "get_collection",
    "create_collection",
    "get_or_create_collection",
    "add",
    "upsert",
    "update",
}


def sources() -> Iterator[tuple[Path, ast.AST]]:
    files = sorted(ROOT.rglob("*.py"))
    assert len(files) > 50
    for path in files:
        yield path, ast.parse(path.read_text(), str(path))


def calls() -> Iterator[tuple[Path, ast.Call]]:
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield path, node


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_nothing_stored_is_ever_run() -> None:
    for path, call in calls():
        is_builtin = isinstance(call.func, ast.Name) and path != SANDBOXED
        assert not (is_builtin and name_of(call) in FORBIDDEN_CALLS), f"{path}:{call.lineno}"


def test_nothing_is_pickled() -> None:
    for path, tree in sources():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & FORBIDDEN_MODULES, f"{path}:{node}"


def test_chroma_is_named_in_one_file_only() -> None:
    users = set()
    for path, tree in sources():
        if PEERS in path.parents:
            continue
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "chromadb" for name in names):
                users.add(path.relative_to(ROOT).as_posix())
    assert users == {"storage/chroma.py"}


def test_chroma_gets_no_filter_no_text_and_no_function() -> None:
    seen = set()
    for path, call in calls():
        if path != ROOT / "storage" / "chroma.py":
            continue
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        assert not given.keys() & {"where", "where_document", "documents", "metadatas", "uris", "images"}, call.lineno
        name = name_of(call)
        if name in {"create_collection", "get_collection"}:
            function = given["embedding_function"]
            assert isinstance(function, ast.Constant), call.lineno
            assert function.value is None, call.lineno
        if name == "query":
            assert ast.literal_eval(given["include"]) == ["distances"]
        if name == "modify":
            # Nothing that says what is found, no name and no metadata: how often it is written to disk, that is all.
            assert given.keys() == {"configuration"}
            assert "'hnsw'" in (said := ast.unparse(given["configuration"]))
            assert said.count(":") == 2
            assert "'sync_threshold'" in said
        seen.add(name)
    assert {"create_collection", "get_collection", "query"} <= seen
    assert not seen & {"get_or_create_collection", "upsert", "update"}


def test_no_filter_anywhere_else_either() -> None:
    for path, call in calls():
        for keyword in call.keywords:
            assert keyword.arg not in {"where", "where_document"}, f"{path}:{call.lineno}"


def test_the_memory_ledger_is_the_only_fake_in_use() -> None:
    """What ships for tests must not creep into what runs; the lab replays, with ids in order."""
    allowed = {
        ("bootstrap.py", "engram_core.testing.memory_ledger"),
        ("workshop.py", "engram_core.testing.fakes"),
    }
    for path, tree in sources():
        inside = path.relative_to(ROOT).as_posix()
        if inside.startswith("testing/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("engram_core.testing"):
                assert (inside, node.module) in allowed
