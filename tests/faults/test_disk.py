"""A disk that is full or fails at any write or sync under the real ledger: a typed error, reads go on, nothing is lost."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    getattr(importlib.util.find_spec("_sqlite3"), "origin", None) in {None, "built-in"},
    reason="this Python has SQLite inside, where no VFS can be put before it",
)


def campaign(store: Path, trials: int, seed: int) -> dict[str, int]:
    """Trouble in a process of its own, which ends with an error if something does not hold; what it met."""
    script = Path(__file__).with_name("disk.py")
    command = [sys.executable, str(script), str(store), str(trials), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_a_disk_that_fails(tmp_path: Path) -> None:
    met = campaign(tmp_path / "store", 12, seed=1)
    assert met["hits"] > 5
    assert met["refused"] > 5


@pytest.mark.full
@pytest.mark.parametrize("seed", range(2, 6))
def test_a_disk_that_fails_a_hundred_times(tmp_path: Path, seed: int) -> None:
    met = campaign(tmp_path / "store", 100, seed)
    assert met["hits"] > 40
    assert met["refused"] > 40
