"""Chain: the hashes that tie audit entries together and seal the ledger's rows. Pure; it keeps no key and no book.

HMAC-SHA256 under the store's own key (FIPS 198-1): digests of short texts would give the texts away without one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from engram_core.domain.audit import AuditEntry
from engram_core.ports import Batch

MAX_ABOUT: Final = 500
SEAL_DIGITS: Final = 32
"""Hexadecimal digits of a row's digest: 128 bits."""
STORE: Final = "store"
"""Who acts, and by what right, where the store keeps its own books."""
_NO_TIME: Final = datetime.fromtimestamp(0, UTC)


def seal(key: bytes, values: Sequence[object]) -> str:
    """A keyed digest of one row's values, in the order of its columns."""
    return hmac.new(key, canonical(values), hashlib.sha256).hexdigest()[:SEAL_DIGITS]


def link(key: bytes, previous: str, values: Sequence[object]) -> str:
    """The hash of an entry with these values that comes after `previous`."""
    return hmac.new(key, canonical([previous, *values]), hashlib.sha256).hexdigest()


def canonical(values: Sequence[object]) -> bytes:
    """Bytes that are equal exactly if the values are: None, numbers, texts and bytes, and tuples of those.

    Python spells them in ASCII without loss, and alike in every version; letters of all alphabets are escaped.
    """
    return ascii(tuple(values)).encode("ascii")


def entry_values(number: int, row: Mapping[str, object]) -> list[object]:
    """The values of an audit row that its hash covers, in their order."""
    return [number, *(row[name] for name in HASHED)]


HASHED: Final = ("at", "principal", "verb", "operation", "scope", "decision", "granted", "fact_ids", "about", "sealed")


def plain(entry: AuditEntry, sealed: Mapping[str, Mapping[str, str | None]]) -> dict[str, object]:
    """An entry as the flat values that are stored and hashed."""
    return {
        "at": float(entry.at.timestamp()),
        "principal": entry.principal,
        "verb": entry.verb,
        "operation": entry.operation,
        "scope": entry.scope.path if entry.scope is not None else None,
        "decision": entry.decision,
        "granted": entry.by,
        "fact_ids": _json(list(entry.fact_ids)),
        "about": entry.about[:MAX_ABOUT],
        "sealed": _json({table: dict(rows) for table, rows in sealed.items() if rows}),
    }


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def entry_of(batch: Batch) -> AuditEntry | None:
    """What to note of a batch: its own entry, or one that tells what its decisions did; None if it changes nothing."""
    if batch.audit is not None or not (batch.writes or batch.contexts or batch.decisions or batch.episode):
        return batch.audit
    times = [decision.at for decision in batch.decisions]
    times += [batch.episode.at] if batch.episode is not None else []
    times += [write.fact.created_at for write in batch.writes]
    actions = sorted({decision.action for decision in batch.decisions}) or ["write"]
    return AuditEntry(
        at=times[0] if times else _NO_TIME,
        principal=batch.decisions[0].principal if batch.decisions else STORE,
        verb="write",
        operation="+".join(actions)[:40],
        scope=batch.scope,
        by=STORE,
        fact_ids=facts_of(batch),
    )


def facts_of(batch: Batch) -> tuple[str, ...]:
    """Ids of the facts a batch writes or decides about, in order."""
    written = [write.fact.id for write in batch.writes]
    decided = [decision.fact_id for decision in batch.decisions if decision.fact_id is not None]
    return tuple(dict.fromkeys([*written, *decided]))
