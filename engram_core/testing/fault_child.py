"""The other process of `fault_contract`: forks a writer for every line it reads, which writes until it is killed.

`python -m engram_core.testing.fault_child '{"module": …, "name": …, "arguments": […]}'`; every acknowledged write is a
line of JSON on standard output. It imports a function by the name its caller gives: for tests, never for stored text.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

from engram_core.domain.scope import Scope
from engram_core.ports import Ledger
from engram_core.testing import samples
from engram_core.testing.fakes import SequentialIds

SCOPE = "fault/contract"
_IDS_OF_A_WRITER = 1 << 20


def _say(**message: Any) -> None:
    # One write call per line: a killed writer leaves no half of one.
    os.write(1, (json.dumps(message) + "\n").encode())


def _write(open_: Callable[[], Ledger], seed: int) -> None:
    """Add batches and archive facts for ever; say what was acknowledged, after it was."""
    chance = random.Random(seed)
    new_id = SequentialIds((seed + 1) * _IDS_OF_A_WRITER)
    ledger = open_()
    number = 0
    while True:
        number += 1
        size = chance.choice((1, 1, 3, 9))
        texts = [f"writer {seed} batch {number} part {part} of {size}" for part in range(size)]
        facts = [samples.fact(Scope(SCOPE), text, id=new_id()) for text in texts]
        ledger.commit(samples.batch(*facts))
        _say(added={said.id: said.text for said in facts})
        if chance.random() < 0.4:
            _, batch = samples.archived(facts[0])
            ledger.commit(batch)
            _say(archived=[facts[0].id])


def main() -> None:
    """Fork a writer per line (its seed); say its process id, then how it ended."""
    request = json.loads(sys.argv[1])
    module: Any = importlib.import_module(request["module"])
    function: Callable[..., Ledger] = reduce(getattr, request["name"].split("."), module)
    open_ = partial(function, *request["arguments"])
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            signal.alarm(120)
            try:
                _say(pid=os.getpid())
                _write(open_, int(line))
            except Exception:  # noqa: BLE001 - a fork that returned would run its parent's code
                traceback.print_exc()
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        _say(ended=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
