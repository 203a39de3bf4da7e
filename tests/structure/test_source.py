"""The source as text: layers, what is banned, what every file says first, and what a wheel holds."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("engram_core", "engram_langchain", "engram_llamaindex")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MIGRATIONS = sorted((ROOT / "engram_core" / "storage" / "migrations").rglob("*.py"))

BANNED_MODULES = {
    "pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle",  # data that runs code
    "posthog", "sentry_sdk", "analytics", "mixpanel", "statsd", "datadog", "scarf",  # telemetry
    "requests", "urllib", "urllib3", "http", "httpx", "aiohttp", "ftplib", "smtplib", "telnetlib",  # our own requests
}  # fmt: skip
# urllib.parse reads the address of a Chroma server; httpx asks whether that server, which the user named, is there, and
# carries what chromadb sends to it within deadlines and quotas.
ALLOWED = {
    ("engram_core/storage/addresses.py", "urllib"),
    ("engram_core/storage/chroma.py", "httpx"),
    ("engram_core/storage/remote.py", "httpx"),
}
BANNED_CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}
# The program of the sandbox: it runs a design's text after the kernel has locked it in, in a process of its own.
LOCKED_IN = "engram_core/designs/code/child.py"


def label(path: Path) -> str:
    """A path as the tests name it."""
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module a file imports, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_no_pickle_no_eval_no_telemetry_no_requests(path: Path) -> None:
    """Nothing stored is ever run, and nothing is sent anywhere that the user did not name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for module in imported(tree):
        top = module.partition(".")[0]
        assert top not in BANNED_MODULES or (label(path), top) in ALLOWED, module
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in BANNED_CALLS or label(path) == LOCKED_IN, f"line {node.lineno}"
        if isinstance(node, ast.keyword) and node.arg == "shell":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False


def test_chroma_is_told_to_send_nothing_and_never_gets_an_embedding_function() -> None:
    """Every mention of either in the source says no."""
    keywords = [
        (label(path), node.arg, ast.literal_eval(node.value))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg in {"anonymized_telemetry", "embedding_function"}
    ]
    assert {(arg, value) for _, arg, value in keywords} == {
        ("anonymized_telemetry", False),
        ("embedding_function", None),
    }
    clients = [
        node
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "").endswith("Client") and node.keywords
    ]
    assert clients, "the scan finds the clients"
    for client in clients:
        assert "settings" in {keyword.arg for keyword in client.keywords}, f"line {client.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_every_file_says_first_what_it_is_for(path: Path) -> None:
    """The first line is a docstring with a sentence in it."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, path
    assert len(docstring.splitlines()[0].split()) >= 3


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_no_vague_names(path: Path) -> None:
    """No class, function or file is a Manager, Helper, Util or Service."""
    vague = ("manager", "helper", "util", "utils", "service")
    assert not path.stem.endswith(vague)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            assert not node.name.lower().endswith(vague), f"line {node.lineno}: {node.name}"


def test_layers_hold() -> None:
    """The import-linter contracts of pyproject.toml, run by import-linter itself."""
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command is not None, "import-linter belongs to the dev extra"
    done = subprocess.run([command, "--no-cache"], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "0 broken" in done.stdout


def tracked() -> list[Path]:
    """The files that belong to the repository; those on disk where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    git = shutil.which("git")
    if git is not None and (ROOT / ".git").exists():
        listed = subprocess.run([git, *command[1:]], capture_output=True, text=True, check=True, cwd=ROOT)
        return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    folders = [*PACKAGES, "tests", "docs", "examples", "benchmarks", ".ci"]
    return [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is the installer's business: a host in the repository would break other people's."""
    # Spelled in halves, or this file would name them.
    hosts = ["pypi." + "org", "pythonhosted." + "org", "registry.npmjs." + "org", "anaconda." + "org", "index" + "-url"]
    files = tracked()
    assert len(files) > 100
    for path in files:
        text = path.read_text(encoding="utf-8", errors="replace").lower()
        assert [host for host in hosts if host in text] == [], label(path)


def test_the_extras_and_scripts_are_what_the_documentation_says() -> None:
    """The names that error messages and pages tell people to install and run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "engram-agent-memory"
    assert {"langchain", "llamaindex", "postgres", "all", "dev"} <= set(project["optional-dependencies"])
    assert set(project["scripts"]) == {"engram"}
    assert set(project["entry-points"]["engram.designs"]) == {"pipeline", "null", "similarity", "recency"}


def test_a_wheel_holds_types_and_migrations(tmp_path: Path) -> None:
    """Built as an installer would; what is not Python must not be forgotten."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed here, and a test does not download it")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    done = subprocess.run([*build, str(tmp_path), str(ROOT)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert MIGRATIONS
    assert {label(path) for path in MIGRATIONS} <= names
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
