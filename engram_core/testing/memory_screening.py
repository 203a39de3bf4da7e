"""Screening's book over the in-memory ledger, under the same contract as the real ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from engram_core.domain.fact import Fact, Status
from engram_core.domain.scope import Scope
from engram_core.ports import Waiting

_THERE = (Status.LIVE, Status.PENDING, Status.QUARANTINED)


class MemoryScreening:
    """See `engram_core.ports.ScreeningBook`.

    Args:
        kept: Gives every fact with its duplicate key, oldest first.
        cover: Cleans the texts beside the facts.
    """

    def __init__(
        self,
        kept: Callable[[], list[tuple[Fact, str]]],
        cover: Callable[[Sequence[Scope] | None, Callable[[str], str], bool], dict[str, int]],
    ) -> None:
        self._kept = kept
        self._cover = cover

    def same_words(self, scope: Scope, keys: Sequence[str]) -> dict[str, list[Fact]]:
        found: dict[str, list[Fact]] = {}
        for fact, key in self._kept():
            if fact.scope == scope and key and key in keys and fact.status in _THERE:
                found.setdefault(key, []).append(fact)
        return found

    def quarantined(
        self, scope: Scope | None, *, below: bool, limit: int = 100, after: str | None = None
    ) -> list[Fact]:
        facts = [fact for fact, _ in self._kept()]
        start = next((place + 1 for place, fact in enumerate(facts) if fact.id == after), len(facts) if after else 0)
        return [
            fact
            for fact in facts[start:]
            if fact.status is Status.QUARANTINED
            and (scope is None or fact.scope == scope or (below and scope.contains(fact.scope)))
        ][:limit]

    def stored(self, scope: Scope | None, *, limit: int, after: str | None = None) -> list[Fact]:
        facts = [fact for fact, _ in self._kept()]
        start = next((place + 1 for place, fact in enumerate(facts) if fact.id == after), len(facts) if after else 0)
        inside = [fact for fact in facts[start:] if scope is None or scope.contains(fact.scope)]
        return [fact for fact in inside if fact.status is not Status.ERASED][:limit]

    def cover(self, scopes: Sequence[Scope] | None, clean: Callable[[str], str], *, dry_run: bool) -> dict[str, int]:
        return self._cover(scopes, clean, dry_run)

    def waiting(self) -> list[Waiting]:
        counts = Counter(
            (fact.scope, fact.origin.principal, str(fact.origin.channel))
            for fact, _ in self._kept()
            if fact.status is Status.QUARANTINED
        )
        rows = [Waiting(*origin, count) for origin, count in counts.items()]
        return sorted(rows, key=lambda row: (-row.facts, row.scope.path, row.principal, row.channel))
