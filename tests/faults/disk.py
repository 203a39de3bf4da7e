"""Run by test_disk.py: a store on a disk that fails at the n-th write or sync, again and again. Prints what it saw."""

from __future__ import annotations

import json
import random
import sys

from power import Recorder

FULL, WRITE, SYNC, CUT = 13, 778, 1034, 1546  # SQLITE_FULL, SQLITE_IOERR_WRITE, _FSYNC, _TRUNCATE
KINDS = (("write", FULL), ("write", WRITE), ("sync", SYNC), ("cut", CUT))


class Failing:
    """Trouble at the n-th thing of a kind, once or from then on."""

    def __init__(self, chance: random.Random) -> None:
        self.kind, self.code = chance.choice(KINDS)
        self.left = chance.randrange(40)
        self.is_lasting = self.code == FULL or chance.random() < 0.5
        self.hits = 0

    def __call__(self, kind: str, file: str) -> int:
        """See `power.Trouble`."""
        if kind != self.kind:
            return 0
        self.left -= 1
        if self.left >= 0 or (self.hits and not self.is_lasting):
            return 0
        self.hits += 1
        return self.code


def main(store: str, trials: str, seed: str) -> None:
    """Trouble, then none, over and over; at the end everything acknowledged is there, and nothing half."""
    recorder = Recorder()
    recorder.install()
    from engram_core import Engram
    from engram_core.domain.errors import StoreUnavailable
    from engram_core.storage import engines
    from engram_core.testing.fakes import WordHashEmbedder

    engines.CHECKPOINT_PAGES = 60  # so that checkpoints meet the trouble too
    chance = random.Random(int(seed))
    seen = {"hits": 0, "refused": 0, "kinds": {}}
    added: dict[str, str] = {}
    archived: set[str] = set()
    tried: list[list[str]] = []
    with Engram.open(store, index="exact", embedder=WordHashEmbedder()) as engram:
        memory = engram.memory("acme/alice")
        added |= {fact.id: fact.text for fact in memory.add("the first red cat").facts}
        for trial in range(int(trials)):
            failing = recorder.trouble = Failing(chance)
            for step in range(6):
                filler = "long " * chance.choice((1, 40))
                texts = [f"{filler}red cat {trial} {step} {part}" for part in range(4)]
                tried.append(texts)
                try:
                    added |= {fact.id: fact.text for fact in memory.add(texts).facts}
                    if step == 3:
                        gone = chance.choice(sorted(added.keys() - archived))
                        memory.forget(gone)
                        archived.add(gone)
                except StoreUnavailable:
                    seen["refused"] += 1
                assert {fact.id for fact in memory.list(status="all", limit=10_000)} >= added.keys(), "reads go on"
                assert memory.recall("red cat").facts, "and recall, too, recorded or not"
            seen["hits"] += bool(failing.hits)
            if failing.hits:
                seen["kinds"][str(failing.code)] = seen["kinds"].get(str(failing.code), 0) + 1
            recorder.trouble = lambda kind, file: 0
            added |= {fact.id: fact.text for fact in memory.add(f"red cat {trial} after the trouble").facts}
            assert memory.recall("red cat").facts
            recorder.steps.clear()
        assert engram.verify().ok
    with Engram.open(store, index="exact", embedder=WordHashEmbedder()) as engram:
        facts = {fact.id: fact for fact in engram.memory("acme/alice").list(status="all", limit=10_000)}
        assert {id_: facts[id_].text for id_ in added} == added
        assert all(facts[id_].status == "archived" for id_ in archived)
        stored = {fact.text for fact in facts.values()}
        assert {sum(text in stored for text in texts) for texts in tried} <= {0, 4}, "no call is half stored"
        assert stored <= {*added.values(), *(text for texts in tried for text in texts)}
        assert engram.doctor()["problems"] == []
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
