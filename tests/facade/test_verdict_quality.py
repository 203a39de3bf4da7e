"""Attribution on a real conversation, if the development data is there: generous bounds that a broken scorer misses."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import attribution as bench
from benchmarks.locomo import DEFAULT, load
from engram_core import Engram

DATA = Path(os.environ.get("ENGRAM_DEV_DATA", DEFAULT))


@pytest.mark.skipif(not DATA.exists(), reason=f"no development data at {DATA}")
def test_answers_of_one_conversation_are_attributed_to_their_evidence():
    conversation = load(DATA)[1]
    with Engram.open(":memory:") as store:
        scope = bench.Scope(store, store.memory("quality"), conversation.id, "turns")
        bench.turns(scope, conversation, conversation, [])
        scope.judge()
    for form in ("bare", "sentence"):
        cases = [case for case in scope.cases if case.form == form]
        _, _, f1 = bench.scored(bench.counted(cases, "engram"))
        precision, _, _ = bench.scored(bench.counted(cases, "engram", 2))
        _, _, before = bench.scored(bench.counted(cases, "reference"))
        assert f1 > max(0.7, before)
        assert precision > 0.85
    for form in ("refusal", "nothing", "thinking"):
        cases = [case for case in scope.cases if case.form == form]
        assert np.mean([case.scores["engram"].any() for case in cases]) < 0.02
