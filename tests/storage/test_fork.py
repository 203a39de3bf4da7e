"""A process that forks with a store open: nobody hangs, the child answers exactly, and nothing it acknowledged is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engram_core import Engram
from engram_core.testing.fakes import WordHashEmbedder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def forked(url: str, index: str, how: str) -> dict[str, Any]:
    script = Path(__file__).with_name("fork_child.py")
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(script), url, index, how],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.mark.parametrize(("index", "how"), [("", "exit"), ("exact", "close"), ("exact", "busy")])
def test_a_forked_child_works_and_loses_nothing(tmp_path: Path, index: str, how: str) -> None:
    report = forked(str(tmp_path / "store"), index, how)
    assert report == {"status": 0, "same": True, "lost": [], "degraded": index == ""}
    with Engram.open(tmp_path / "store", embedder=WordHashEmbedder(), exact_limit=20) as engram:
        assert engram.flush()
        assert len(engram.memory("acme/support/alice").list(limit=1_000)) == 91 + 8 * (how == "busy")
        assert not engram.memory("acme/support/alice").recall("red cat house").degraded


def test_a_forked_child_works_on_postgres(tmp_path: Path, postgres_url: str) -> None:
    report = forked(postgres_url, str(tmp_path / "index"), "close")
    assert report == {"status": 0, "same": True, "lost": [], "degraded": True}


def test_the_shared_store_is_opened_anew_after_a_fork(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from engram_core.bootstrap import shared\n"
        "before = shared(sys.argv[1])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if shared(sys.argv[1]) is not before and shared(sys.argv[1]).owner == before.owner else 1)\n"
        "_, status = os.waitpid(child, 0)\n"
        "assert shared(sys.argv[1]) is before\n"
        "sys.exit(os.waitstatus_to_exitcode(status))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "store")], timeout=60, check=False)
    assert done.returncode == 0
