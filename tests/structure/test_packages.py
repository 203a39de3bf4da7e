"""The packages as such: names, lazy imports, missing extras, sync and async in step, nothing opened at construction."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import engram_core
import engram_langchain
import engram_llamaindex
from engram_core import Engram, EngramError, Memory
from engram_core.domain import errors

PACKAGES = (engram_core, engram_langchain, engram_llamaindex)
ROOT = Path(engram_core.__file__ or "").parent.parent
FRAMEWORKS = ("langchain", "langchain_core", "langchain_classic", "langgraph", "langsmith", "llama_index")
HEAVY = (*FRAMEWORKS, "chromadb", "tiktoken", "sqlalchemy", "alembic", "wordllama", "typer", "rich")


def python(code: str, *, cwd: Path = ROOT) -> str:
    """What code prints in a fresh interpreter."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_public_names_are_sorted_and_load(package: ModuleType) -> None:
    """`__all__` in order, without repeats, and every name there."""
    assert sorted(set(package.__all__)) == list(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_public_names_are_complete(package: ModuleType) -> None:
    """What type checkers see is what `__all__` says."""
    tree = ast.parse(Path(package.__file__ or "").read_text(encoding="utf-8"))
    checking = [
        node for node in tree.body if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    imported = [node for block in checking for node in ast.walk(block) if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname or alias.name for node in imported for alias in node.names}
    assert seen == set(package.__all__)


def test_every_error_a_caller_can_meet_is_public() -> None:
    """All but Conflict, which operations catch."""
    raised = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, EngramError)}
    assert raised - {"Conflict"} <= set(engram_core.__all__)


def test_an_unknown_name_says_so() -> None:
    """A lazy module must still raise AttributeError, or hasattr() breaks."""
    for package in PACKAGES:
        assert not hasattr(package, "EngramEngine")


# --- imports ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["import engram_core", "from engram_core import Engram, Memory, Scope, Binding"])
def test_importing_the_core_loads_no_framework_and_nothing_heavy(statement: str) -> None:
    """Frameworks, Chroma, tiktoken and the database load with the first store, not with the name."""
    loaded = json.loads(python(f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"))
    assert [name for name in loaded if name.partition(".")[0] in HEAVY] == []


@pytest.mark.parametrize("package", ["engram_langchain", "engram_llamaindex"])
def test_importing_an_adapter_loads_no_framework(package: str) -> None:
    """A name loads its framework when it is used."""
    loaded = json.loads(python(f"import json, sys, {package}\nprint(json.dumps(sorted(sys.modules)))"))
    assert [name for name in loaded if name.partition(".")[0] in FRAMEWORKS] == []


def test_importing_the_core_takes_less_than_four_tenths_of_a_second() -> None:
    """Over an interpreter that does nothing; median of three each."""

    def seconds(code: str) -> float:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            python(code)
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    assert seconds("import engram_core") - seconds("pass") < 0.4


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
import {package}
from engram_core import MissingExtra
missing = []
for name in {package}.__all__:
    try:
        getattr({package}, name)
    except MissingExtra as error:
        missing.append((name, str(error), isinstance(error, ImportError)))
import json
print(json.dumps([{package}.__all__, missing]))
"""


@pytest.mark.parametrize(("package", "extra"), [("engram_langchain", "langchain"), ("engram_llamaindex", "llamaindex")])
def test_without_its_framework_every_name_of_an_adapter_names_the_extra(package: str, extra: str) -> None:
    """One kind of error, with the command to run."""
    names, missing = json.loads(python(BLOCKED.format(names=FRAMEWORKS, package=package)))
    assert [name for name, _, _ in missing] == names
    for _, message, is_import_error in missing:
        assert f'pip install "engram-agent-memory[{extra}]"' in message
        assert is_import_error


def test_without_psycopg_postgresql_names_the_extra() -> None:
    """The same for the database driver."""
    code = (
        "import sys\nsys.modules['psycopg'] = None\nfrom engram_core import Engram, MissingExtra\n"
        "try:\n    Engram.open('postgresql://nobody@127.0.0.1:1/none')\n"
        "except MissingExtra as error:\n    print(error)\n"
    )
    assert 'pip install "engram-agent-memory[postgres]"' in python(code)


# --- sync and async --------------------------------------------------------------------------------------------------

# Cheap, or called by adapters from a thread that may block.
WITHOUT_TWIN = {(Engram, name) for name in ("memory", "count_tokens", "note_failure", "wake", "schedule_sleep")}


def verbs(owner: type) -> list[str]:
    """Public methods that are not properties, special or async themselves."""
    found = [name for name, value in vars(owner).items() if not name.startswith("_") and callable(getattr(owner, name))]
    return [
        name for name in found if not isinstance(vars(owner)[name], property) and not _is_async(getattr(owner, name))
    ]


def _is_async(method: Any) -> bool:
    return inspect.iscoroutinefunction(method)


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner in (Engram, Memory) for name in verbs(owner)])
def test_every_verb_has_an_async_twin_with_the_same_parameters(owner: type, name: str) -> None:
    """`add` and `aadd` take and return the same."""
    if (owner, name) in WITHOUT_TWIN:
        assert not hasattr(owner, f"a{name}")
        return
    twin = getattr(owner, f"a{name}")
    assert _is_async(twin)
    if (owner, name) == (Engram, "open"):
        kinds = [parameter.kind for parameter in inspect.signature(twin).parameters.values()]
        assert inspect.Parameter.VAR_KEYWORD in kinds, "aopen hands every option on"
        return
    plain, bridged = inspect.signature(getattr(owner, name)), inspect.signature(twin)
    assert bridged.parameters == plain.parameters
    assert bridged.return_annotation == plain.return_annotation


def test_every_async_method_is_the_twin_of_a_verb() -> None:
    """No async method without its synchronous original."""
    for owner in (Engram, Memory):
        for name, value in vars(owner).items():
            if _is_async(value) and not name.startswith("_"):
                assert name.startswith("a")
                assert name[1:] in vars(owner), f"{owner.__name__}.{name}"


# --- construction and running ----------------------------------------------------------------------------------------

WATCHED = """
import json, sys
from {package} import EngramMemory
EngramMemory(scope="warm/up")
seen = []
def watch(event, args):
    if event in ("open", "socket.__new__", "socket.connect", "socket.bind", "sqlite3.connect", "subprocess.Popen"):
        seen.append([event, str(args[0])])
sys.addaudithook(watch)
memory = EngramMemory(scope="acme/support/alice")
repr(memory)
print(json.dumps(seen))
"""


@pytest.mark.parametrize("package", ["engram_langchain", "engram_llamaindex"])
def test_constructing_a_memory_opens_no_file_and_no_socket(package: str, tmp_path: Path) -> None:
    """The store opens at the first turn. (The first construction of a process may still load source files.)"""
    assert json.loads(python(WATCHED.format(package=package), cwd=tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


OFFLINE = """
import json, sys
seen = []
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        seen.append([event, str(args)])
sys.addaudithook(watch)
from engram_core import Engram
with Engram.open("./store", exact_limit=0) as engram:
    memory = engram.memory("acme/alice")
    memory.add(["We moved to Lisbon in May.", "The cat is called Momo."])
    engram.flush()
    recall = memory.recall("Where do we live?")
    memory.observe(recall.id, "In Lisbon, since May.")
    memory.explain(recall.id)
    assert engram.doctor()["index"]["state"] == "ready" and not recall.degraded
print(json.dumps(seen))
"""


def test_remembering_and_recalling_never_asks_the_network(tmp_path: Path) -> None:
    """With every default: embedder, token counter, ledger and embedded index. No name is even looked up."""
    assert json.loads(python(OFFLINE, cwd=tmp_path)) == []


def test_every_package_ships_its_types() -> None:
    """PEP 561: each importable package has its marker."""
    for package in PACKAGES:
        assert (Path(package.__file__ or "").parent / "py.typed").is_file()


def test_the_adapters_share_a_name_and_not_a_class() -> None:
    """`EngramMemory` in both packages, told apart by the import path."""
    classes = [importlib.import_module(name).EngramMemory for name in ("engram_langchain", "engram_llamaindex")]
    assert classes[0] is not classes[1]
