"""What access and audit cost: recalls with reads noted and not, and the share of an add that sealing takes.

    python -m benchmarks.audit [--facts 1000] [--recalls 300]

CPU time of this process, the same store and questions, the modes asked in turns; `off` is the baseline.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import cycle

from benchmarks.corpus import questions, statements
from engram_core import Engram
from engram_core.operations.recorder import MODES

SINGLE = 200


def recalls(url: str, facts: int, count: int) -> dict[str, float]:
    """Milliseconds of CPU time per recall by mode, flushing included."""
    stores = {mode: Engram.open(url, index="exact", audit=mode) for mode in MODES}
    spent = dict.fromkeys(MODES, 0.0)
    memories = {mode: store.memory("bench/audit") for mode, store in stores.items()}
    memories["off"].add(statements(facts))
    asked = cycle(questions(100))
    for memory in memories.values():
        memory.recall(next(asked))
    for _ in range(count):
        question = next(asked)
        for mode, memory in memories.items():
            started = time.process_time()
            memory.recall(question)
            spent[mode] += time.process_time() - started
    for mode, store in stores.items():
        started = time.process_time()
        store.close()
        spent[mode] += time.process_time() - started if mode == "batched" else 0.0
    return {mode: 1000 * seconds / count for mode, seconds in spent.items()}


def adds(url: str) -> tuple[float, float]:
    """Milliseconds of CPU time per add of one message, and of those in the audit."""
    inside = 0.0
    with Engram.open(url, index="exact") as store:
        book = store.context.ledger.audit
        note = book.note_batch  # type: ignore[attr-defined]  # of SqlAuditBook

        def timed(*args, **named) -> None:
            nonlocal inside
            started = time.process_time()
            note(*args, **named)
            inside += time.process_time() - started

        book.note_batch = timed  # type: ignore[attr-defined]
        memory = store.memory("bench/adds")
        memory.add("One to warm up.")
        inside, started = 0.0, time.process_time()
        for message in statements(SINGLE):
            memory.add(message)
        whole = time.process_time() - started
    return 1000 * whole / SINGLE, 1000 * inside / SINGLE


def checking(url: str) -> tuple[float, int]:
    """Seconds of CPU time that `verify` takes, and how many entries and rows it reads."""
    with Engram.open(url, index="exact") as store:
        started = time.process_time()
        found = store.verify()
        assert found.ok, found.problems
        return time.process_time() - started, found.entries + sum(found.rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=int, default=1_000)
    parser.add_argument("--recalls", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="engram-bench-") as url:
        spent = recalls(url, arguments.facts, arguments.recalls)
        for mode, each in spent.items():
            print(f"recall, audit {mode:8} {each:7.3f} ms CPU, {each / spent['off']:.3f} of off")
        whole, inside = adds(url)
        print(f"add of one message {whole:7.3f} ms CPU, of which the audit {inside:.3f} ms ({inside / whole:.0%})")
        seconds, rows = checking(url)
        print(f"verify {seconds:.2f} s CPU for {rows} entries and rows, {1e6 * seconds / rows:.0f} us each")


if __name__ == "__main__":
    main()
