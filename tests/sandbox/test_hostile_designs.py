"""Hostile design code: none reads or writes files, opens a socket, starts a process, forges a score or takes us down."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engram_core import DesignFailed, InvalidDesign, SandboxUnavailable
from engram_core.designs.code import CodeDesign, Limits, Sandbox, checked
from engram_core.designs.code import sandbox as sandboxes

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="code designs run on Linux only"
)

ROOT = Path(__file__).resolve().parents[2]
QUICK = Limits(seconds=1.5, cpu_seconds=2, memory=512 << 20, answer=200_000)

# What a program does in `sleep`, found by whatever road Python leaves open: the modules it was given are proxies, so
# `sys` and `os` are reached through the frames and globals of real functions.
ROADS = """
def _sys():
    import re
    return re.compile.__globals__["enum"].sys
def _os():
    return _sys().modules["os"]
def _ctypes():
    return _sys().modules["ctypes"]
def update(episode, view): return []
def retrieve(query, view): return []
"""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that a design must not read, beside which it must not write."""
    place = tmp_path / "secret.txt"
    place.write_text("the secret is 4711")
    return tmp_path


def attempt(body: str, **named: Any) -> Any:
    """What `sleep` with this body answers; "refused: ..." if the kernel or Python refused it."""
    lines = "\n".join(f"        {line}" for line in body.format(**named).strip().splitlines())
    source = f"{ROADS}\ndef sleep(view):\n    try:\n{lines}\n    except OSError as error:\n        return 'refused: ' + str(error.errno)\n    except (ImportError, AttributeError, NameError, KeyError, ValueError) as error:\n        return 'refused: ' + type(error).__name__\n"
    box = Sandbox(source, QUICK)
    try:
        return box.call("sleep", [{}])
    finally:
        box.close()


REFUSED = {
    "read a file": "return open(r'{outside}/secret.txt').read()",
    "read a file through io": "return _sys().modules['io'].open(r'{outside}/secret.txt').read()",
    "read a file through os": "return str(_os().read(_os().open(r'{outside}/secret.txt', 0), 99))",
    "write a file": "_os().open(r'{outside}/made.txt', 65, 511)\nreturn 'made'",
    "list a directory": "return _os().listdir('/')",
    "read the environment of the parent": "return str(_os().open('/proc/%d/environ' % _os().getppid(), 0))",
    "fork": "return _os().fork()",
    "exec": "_os().execv('/bin/true', ['true'])",
    "spawn": "return _os().posix_spawn('/bin/true', ['true'], dict())",
    "kill the parent": "_os().kill({parent}, 9)\nreturn 'killed'",
    "kill everyone": "_os().kill(-1, 15)\nreturn 'killed'",
    "import socket": "import socket\nreturn 'imported'",
    "a socket": "return str(_sys().modules['socket'].socket())",
    "import subprocess": "import subprocess\nreturn 'imported'",
    "import threading": "import threading\nreturn 'imported'",
    "import ctypes": "import ctypes\nreturn 'imported'",
    "os through re.enum.sys": "import re\nreturn re.enum.sys.modules['os'].listdir('/')",
    "os through json.codecs.builtins": "import json\nreturn json.codecs.builtins.open('/etc/passwd').read()",
    "os through statistics.sys": "import statistics\nreturn statistics.sys.modules['os'].listdir('/')",
    "os through dataclasses.sys": "import dataclasses\nreturn dataclasses.sys.modules['os'].listdir('/')",
    "change the limits": "r = _sys().modules['resource']\nr.setrlimit(r.RLIMIT_CPU, (999, 999))\nreturn 'changed'",
    "a handler for signals": "s = _sys().modules['signal']\ns.signal(s.SIGXCPU, s.SIG_IGN)\nreturn 'set'",
    "chdir": "_os().chdir('/')\nreturn 'moved'",
    "a pipe": "return str(_os().pipe())",
    "become somebody": "_os().setuid(12345)\nreturn 'became'",
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_kernel_or_python_refuses(what: str, outside: Path) -> None:
    said = attempt(REFUSED[what], outside=outside, parent=os.getpid())
    assert isinstance(said, str)
    assert said.startswith("refused: "), said
    assert sorted(item.name for item in outside.iterdir()) == ["secret.txt"]


CALLS = {
    # number on x86_64, arguments: each returns -1 with EPERM
    "io_uring_setup": (425, "8, 0"),
    "ptrace": (101, "16, {parent}, 0, 0"),
    "process_vm_readv": (310, "{parent}, 0, 0, 0, 0, 0"),
    "prctl": (157, "1, 0, 0, 0, 0"),
    "mmap executable": (9, "0, 4096, 7, 34, -1, 0"),
    "mprotect executable": (10, "0, 4096, 7"),
    "clone": (56, "17, 0, 0, 0, 0"),
    "clone3": (435, "0, 0"),
    "socket": (41, "2, 1, 0"),
    "connect": (42, "1, 0, 0"),
    "openat": (257, "-100, 0, 0"),
    "memfd_create": (319, "0, 0"),
    "bpf": (321, "0, 0, 0"),
    "unshare": (272, "268435456"),
    "mount": (165, "0, 0, 0, 0, 0"),
    "execveat": (322, "0, 0, 0, 0, 0"),
    "tgkill of the parent": (234, "{parent}, {parent}, 9"),
    "write to another descriptor": (1, "2, 0, 0"),
    "pidfd_open": (434, "{parent}, 0"),
    "setrlimit": (160, "0, 0"),
    "kexec_load": (246, "0, 0, 0, 0"),
    "userfaultfd": (323, "0"),
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86_64")
@pytest.mark.parametrize("what", CALLS)
def test_ctypes_reaches_no_system_call_that_matters(what: str) -> None:
    """`ctypes` is found through `sys.modules`; the filter asks nobody how it was called."""
    number, arguments = CALLS[what]
    body = f"libc = _ctypes().CDLL(None, use_errno=True)\nr = libc.syscall({number}, {arguments})\nreturn [r, _ctypes().get_errno()]"
    assert attempt(body, parent=os.getpid()) == [-1, 1]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86_64")
def test_the_other_numbering_of_system_calls_kills() -> None:
    """x32 numbers would pass by a filter that compares plain ones."""
    with pytest.raises(DesignFailed, match="signal 31"):
        attempt("_ctypes().CDLL(None).syscall(0x40000000 + 2, 0)\nreturn 'lived'")


ENDED = {
    "one huge allocation": ("return len(bytearray(4 << 30))", "MemoryError"),
    "a growing list": ("x = [0]\nwhile True:\n    x = x + x", "MemoryError|no answer"),
    "endless recursion": ("f = lambda n: f(n + 1)\nreturn f(0)", "RecursionError"),
    "an endless loop": ("while True:\n    pass", "no answer|signal"),
    "a regex bomb": ("import re\nreturn bool(re.fullmatch('(a+)+b', 'a' * 40))", "no answer|signal"),
    "a huge power": ("return 10 ** 10 ** 9", "no answer|signal|MemoryError"),
    "an endless loop that catches everything": (
        "while True:\n    try:\n        [0] * (1 << 40)\n    except BaseException:\n        pass",
        "no answer|signal",
    ),
    "a hundred megabytes": ("return 'x' * 100_000_000", "bytes|no answer"),
    "leaving": ("_os()._exit(0)", "ended"),
    "a broken pipe": ("_os().close(1)\nreturn 1", "ended|OSError|no answer|asked|bytes|JSON|refused"),
    "no JSON": ("return {{1, 2}}", "TypeError"),
    "a cycle": ("x = []\nx.append(x)\nreturn x", "ValueError|RecursionError"),
    "a deep answer": ("x = []\nfor _ in range(100_000):\n    x = [x]\nreturn x", "RecursionError|signal|JSON"),
    "an error that cannot be told": (
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
        "cannot be told",
    ),
}


@pytest.mark.parametrize("what", ENDED)
def test_what_takes_too_much_ends_and_the_parent_goes_on(what: str) -> None:
    body, words = ENDED[what]
    started = time.monotonic()
    with pytest.raises(DesignFailed, match=words):
        said = attempt(body)
        raise DesignFailed(f"refused: {said}")
    assert time.monotonic() - started < 30
    assert attempt("return 'still here'") == "still here"


FORGED = {
    "an answer before the question": "_os().write(1, b'\\x00\\x00\\x00\\x0b{{\"ok\": 999}}')\nreturn 1",
    "flooding": "while True:\n    _os().write(1, b'x' * 65536)",
    "a slow drip": "_os().write(1, b'\\x00\\x00\\x10\\x00')\nwhile True:\n    _os().write(1, b' ')\n    for _ in range(3_000_000): pass",
    "an answer that lies about its length": "_os().write(1, b'\\xff\\xff\\xff\\xff')\nreturn 1",
    "an answer for another question": '_os().write(1, b\'\\x00\\x00\\x00\\x1c{{"nonce": "00", "ok": [9.9]}}\')\nreturn 1',
    "a pickle": "_os().write(1, b'\\x00\\x00\\x00\\x0a' + b'cos\\nsystem\\n')\nreturn 1",
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_answer_is_no_answer(what: str) -> None:
    with pytest.raises(DesignFailed):
        attempt(FORGED[what])


def test_what_is_there_to_see_is_worth_nothing() -> None:
    """Frames, subclasses and the environment can be read; nothing secret is in them."""
    frames = attempt("return len(_sys()._getframe(1).f_back.f_code.co_filename)")
    assert isinstance(frames, int)
    assert attempt("return len(object.__subclasses__()) > 50") is True
    seen = attempt("return sorted(_os().environ)")
    assert set(seen) <= {"LC_CTYPE"}
    assert attempt("return _sys().argv[0].endswith('child.py')") is True
    assert attempt("return [n for n in _sys().modules if n.startswith('engram')]") == []


def test_one_process_sees_one_scope() -> None:
    """State that a design keeps stays with the scope whose facts it saw."""
    from engram_core import Episode, Message, Scope
    from engram_core.testing import samples
    from engram_core.testing.memory_ledger import MemoryLedger
    from engram_core.testing.plain_view import PlainView

    source = "SEEN = []\ndef retrieve(q, v): return []\ndef sleep(v): return []\ndef update(e, v):\n    SEEN.append(e['messages'][0]['content'])\n    return [{'add': ' | '.join(SEEN), 'messages': [0]}]\n"
    design, ledger = CodeDesign(source), MemoryLedger()
    said = []
    try:
        for path, text in (("a", "one of a"), ("b", "one of b"), ("a", "two of a")):
            scope = Scope(path)
            message = Message("user", text, id=samples.new_id())
            episode = Episode(samples.new_id(), scope, (message,), samples.START, samples.PRINCIPAL)
            said += [change.draft.text for change in design.update(episode, PlainView(ledger, scope, samples.START))]  # type: ignore[union-attr]
    finally:
        design.close()
    assert said == ["one of a", "one of b", "one of a | two of a"]


LIES: dict[str, tuple[str, str]] = {
    "not a number": ("retrieve", "return [[v['candidates'][0]['id'], {'t': float('nan')}]]"),
    "infinity": ("retrieve", "return [[v['candidates'][0]['id'], {'t': float('inf')}]]"),
    "a fact of another scope": ("retrieve", "return [['00000000-0001-7000-8000-000000010001', {'t': 1.0}]]"),
    "a fact twice": ("retrieve", "return [[v['candidates'][0]['id'], {'t': 1.0}]] * 2"),
    "a thousand terms": ("retrieve", "return [[v['candidates'][0]['id'], {'t%d' % n: 1.0 for n in range(1000)}]]"),
    "a score that is text": ("retrieve", "return [[v['candidates'][0]['id'], {'t': '1'}]]"),
    "a truth for a score": ("retrieve", "return [[v['candidates'][0]['id'], {'t': True}]]"),
    "no list": ("retrieve", "return {'score': 1.0}"),
    "archiving a fact of another scope": ("sleep", "return [{'archive': 'x', 'reason': 'r'}]"),
    "archiving and reweighing": ("sleep", "return [{'archive': v['facts'][0]['id'], 'reweigh': v['facts'][0]['id']}]"),
    "too much importance": ("sleep", "return [{'reweigh': v['facts'][0]['id'], 'importance': 7}]"),
    "erasing": ("sleep", "return [{'erase': v['facts'][0]['id']}]"),
    "a message of nobody": ("update", "return [{'add': 'x', 'messages': [5]}]"),
    "a message before the first": ("update", "return [{'add': 'x', 'messages': [-1]}]"),
    "a text without end": ("update", "return [{'add': 'x' * 9000, 'messages': [0]}]"),
    "a fact from nothing": ("update", "return [{'add': 'x', 'messages': []}]"),
    "a kind with a scope in it": ("update", "return [{'add': 'x', 'messages': [0], 'kind': '../b'}]"),
    "ten thousand facts": ("update", "return [{'add': 'x', 'messages': [0]}] * 10_000"),
}


@pytest.mark.parametrize("what", LIES)
def test_every_part_of_an_answer_is_checked_outside(what: str) -> None:
    from engram_core import Episode, Message, Query, Scope
    from engram_core.testing import samples
    from engram_core.testing.fakes import WordHashEmbedder
    from engram_core.testing.memory_ledger import MemoryLedger
    from engram_core.testing.plain_view import PlainView

    function, body = LIES[what]
    source = "".join(
        f"def {name}(q, v=None):\n    {'v = v or q' if name == 'sleep' else 'pass'}\n    {body if name == function else 'return []'}\n"
        for name in ("update", "retrieve", "sleep")
    )
    design, ledger, scope = CodeDesign(source), MemoryLedger(), Scope("acme/alice")
    samples.add(ledger, scope, ["Kim has a parrot.", "Kim lives in Oslo."])
    samples.add(ledger, Scope("acme/bob"), ["Bob has a goat."])
    view = PlainView(ledger, scope, samples.START, embedder=WordHashEmbedder(samples.DIMENSION))
    episode = Episode(
        samples.new_id(), scope, (Message("user", "Hi", id=samples.new_id()),), samples.START, samples.PRINCIPAL
    )
    try:
        with pytest.raises(DesignFailed):
            {
                "update": lambda: design.update(episode, view),
                "retrieve": lambda: design.retrieve(Query("Kim?", 3, samples.START), view),
                "sleep": lambda: design.sleep(view),
            }[function]()
    finally:
        design.close()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def update(", "SyntaxError"),
        ("x = 1", "update is missing"),
        ("def update(e, v): return []\ndef retrieve(q, v): return []\n", "sleep is missing"),
        ("#" + "x" * 70_000 + "\ndef update(e, v): 1\ndef retrieve(q, v): 1\ndef sleep(v): 1\n", "bytes"),
        ("def update(e, v): '\ud800'", "Unicode"),
        ("a\x00b", "null"),
    ],
)
def test_what_can_be_no_design_is_refused_before_it_runs(source: str, words: str) -> None:
    with pytest.raises(InvalidDesign, match=words):
        checked(source)


def test_a_design_that_breaks_when_it_loads_says_so() -> None:
    with pytest.raises(DesignFailed, match="ZeroDivisionError"):
        CodeDesign(
            "1 / 0\ndef update(e, v): return []\ndef retrieve(q, v): return []\ndef sleep(v): return []\n"
        )._call(__import__("engram_core").Scope("a"), "sleep", [{}])


def test_no_process_and_no_directory_is_left_behind(tmp_path: Path) -> None:
    """Not after a good call, a killed one, nor many at once."""

    def children() -> set[str]:
        listed = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
        )
        return {line for line in listed.stdout.splitlines() if "child.py" in line}

    import tempfile

    folders = lambda: {p.name for p in Path(tempfile.gettempdir()).glob("engram-design-*")}  # noqa: E731
    before = folders()
    assert attempt("return 1") == 1
    with pytest.raises(DesignFailed):
        attempt("while True: pass")
    box = Sandbox(f"{ROADS}\ndef sleep(view): return view['n'] * 2", QUICK)
    said: list[int] = []
    threads = [threading.Thread(target=lambda n=n: said.append(box.call("sleep", [{"n": n}]))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    box.close()
    assert sorted(said) == [n * 2 for n in range(8)]
    assert children() == set()
    assert folders() <= before


def test_a_design_may_use_what_it_was_given_and_the_next_call_gets_a_new_process() -> None:
    body = "import re, json, math, collections, statistics, datetime\nreturn [re.sub('a', 'b', 'aa'), json.loads('[1]'), math.sqrt(4), collections.Counter('aab')['a'], statistics.mean([1, 3])]"
    assert attempt(body) == ["bb", [1], 2.0, 2, 2]
    box = Sandbox(f"{ROADS}\ndef sleep(view):\n    if view['n']: return _os()._exit(1)\n    return 'fine'", QUICK)
    try:
        assert box.call("sleep", [{"n": 0}]) == "fine"
        with pytest.raises(DesignFailed, match="exit 1"):
            box.call("sleep", [{"n": 1}])
        assert box.call("sleep", [{"n": 0}]) == "fine"
    finally:
        box.close()


def test_a_machine_that_cannot_isolate_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another operating system; nothing is started."""
    monkeypatch.setattr(sandboxes.platform, "machine", lambda: "riscv64")
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        Sandbox("x").call("sleep", [])


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv drops the rights here")
def test_it_holds_without_any_right_of_root() -> None:
    """The same refusals for a process without capabilities: what an ordinary user has."""
    acts = "(lambda: open('/etc/passwd'), lambda: _os().fork(), lambda: _sys().modules['socket'].socket())"
    source = f"{ROADS}\ndef sleep(view):\n    said = []\n    for act in {acts}:\n        try:\n            act()\n            said.append('done')\n        except (OSError, NameError):\n            said.append('refused')\n    return said\n"
    program = f"import json\nfrom engram_core.designs.code import Sandbox\nbox = Sandbox({source!r})\nprint(json.dumps(box.call('sleep', [{{}}])))\nbox.close()\n"
    dropped = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", program]
    done = subprocess.run(dropped, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.strip() == json.dumps(["refused"] * 3), done.stderr[-500:]
