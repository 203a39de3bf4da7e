"""Between rows and domain values, both ways. It converts; it reads and writes nothing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_core.domain.fact import Fact, Origin, Slot, Status
from engram_core.domain.message import Message
from engram_core.domain.scope import Scope
from engram_core.ports import Features

MAX_STEM = 200
"""Characters of a stem that are kept; hashes and most encoded blobs fit, and so does the column."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LATEST = datetime.max.replace(tzinfo=UTC)


def dumps(value: object) -> str:
    """Compact JSON with sorted keys, so that equal values give equal text."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    # A lone surrogate has no UTF-8; JSON can spell it.
    return text if text.isascii() else _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def storable(text: str) -> str:
    """`text` with what no database can hold, NUL and lone surrogates, replaced: trouble must not cost the record."""
    return text if text.isascii() and "\x00" not in text else _UNSTORABLE.sub("\ufffd", text)


def _storable(text: str | None) -> str | None:
    return None if text is None else storable(text)


def epoch(moment: datetime | None) -> float | None:
    """Epoch seconds of an aware datetime."""
    return None if moment is None else moment.timestamp()


def moment(seconds: float | None) -> datetime | None:
    """Aware UTC datetime of epoch seconds."""
    return None if seconds is None else _at(seconds)


def _at(seconds: float) -> datetime:
    # A float near the end of year 9999 rounds up into year 10000: "for ever" must stay readable.
    return _LATEST if seconds >= _LATEST.timestamp() else datetime.fromtimestamp(seconds, UTC)


def fact_row(fact: Fact) -> dict[str, Any]:
    """A fact's own columns; `scope_id`, `seq` and `pk` are the ledger's to add."""
    return {
        "id": fact.id,
        "version": fact.version,
        "status": fact.status.value,
        "text": storable(fact.text),
        "speaker": _storable(fact.speaker),
        "kind": fact.kind,
        "slot_subject": storable(fact.slot.subject) if fact.slot else None,
        "slot_attribute": storable(fact.slot.attribute) if fact.slot else None,
        "importance": fact.importance,
        "confidence": fact.confidence,
        "trust": fact.trust,
        "pinned": fact.pinned,
        "created_at": epoch(fact.created_at),
        "said_at": epoch(fact.said_at),
        "valid_from": epoch(fact.valid_from),
        "valid_until": epoch(fact.valid_until),
        "archived_at": epoch(fact.archived_at),
        "archived_reason": _storable(fact.archived_reason),
        "restored_at": epoch(fact.restored_at),
        "principal": storable(fact.origin.principal),
        "channel": fact.origin.channel,
        "episode_id": fact.origin.episode_id,
        "session": _storable(fact.origin.session),
        "message_ids": dumps(fact.origin.message_ids),
        "sources": dumps(fact.sources),
        "consolidated_from": dumps(fact.consolidated_from),
        "is_consolidated": fact.is_consolidated,
        "superseded_by": fact.superseded_by,
        "forget_score": fact.forget_score,
        "forget_terms": dumps(dict(fact.forget_terms)),
        "metadata": dumps(dict(fact.metadata)),
        "form": fact.form,
        "consolidated_into": fact.consolidated_into,
        "subjects": dumps(fact.subjects),
    }


FACT_COLUMNS = (
    "id", "version", "status", "text", "speaker", "kind", "slot_subject", "slot_attribute", "importance", "confidence",
    "trust", "pinned", "created_at", "said_at", "valid_from", "valid_until", "archived_at", "archived_reason",
    "principal", "channel", "episode_id", "session", "message_ids", "sources", "consolidated_from", "is_consolidated",
    "superseded_by", "forget_score", "forget_terms", "restored_at", "metadata", "form", "consolidated_into",
    "subjects",
)  # fmt: skip


def fact_of(row: Mapping[str, Any], scope: Scope) -> Fact:
    """The fact in a row of `FACT_COLUMNS`."""
    return Fact(
        id=row["id"],
        scope=scope,
        text=row["text"],
        origin=Origin(
            principal=row["principal"],
            channel=row["channel"],
            episode_id=row["episode_id"],
            session=row["session"],
            message_ids=tuple(json.loads(row["message_ids"])),
        ),
        created_at=_at(row["created_at"]),
        said_at=_at(row["said_at"]),
        version=row["version"],
        speaker=row["speaker"],
        kind=row["kind"],
        slot=Slot(row["slot_subject"], row["slot_attribute"]) if row["slot_subject"] is not None else None,
        importance=row["importance"],
        confidence=row["confidence"],
        trust=row["trust"],
        valid_from=moment(row["valid_from"]),
        valid_until=moment(row["valid_until"]),
        pinned=bool(row["pinned"]),
        status=Status(row["status"]),
        forget_score=row["forget_score"],
        forget_terms=_json(row["forget_terms"], {}),
        superseded_by=row["superseded_by"],
        consolidated_from=tuple(_json(row["consolidated_from"], [])),
        is_consolidated=bool(row["is_consolidated"]),
        sources=tuple(_json(row["sources"], [])),
        archived_at=moment(row["archived_at"]),
        archived_reason=row["archived_reason"],
        restored_at=moment(row["restored_at"]),
        metadata=_json(row["metadata"], {}),
        form=row["form"],
        consolidated_into=row["consolidated_into"],
        subjects=tuple(_json(row["subjects"], [])),
    )


def _json(text: str, empty: Any) -> Any:
    return empty if len(text) == 2 else json.loads(text)


def features_row(features: Features) -> dict[str, Any]:
    """The columns recall reads."""
    return {
        "duplicate_key": short_key(features.key),
        "previous": features.previous,
        "following": features.following,
        "body_stems": spaced(features.body_stems),
        "context_stems": spaced(features.context_stems),
        "body_length": len(features.body_stems),
        "context_length": len(features.context_stems),
        "time_words": features.time_words,
        "asks": int(features.asks),
        "content": blob(features.content),
        "context": blob(features.context),
    }


def short_key(key: str) -> str:
    """A duplicate key as stored: 64 characters of SHA-256; empty stays empty."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest() if key else ""


def spaced(stems: Sequence[str]) -> str:
    """` cat  sat `: each stem between single spaces, so that counting one is a substring count."""
    return "".join(f" {stem[:MAX_STEM]} " for stem in stems)


def unspaced(text: str) -> list[str]:
    """The stems of `spaced`'s text."""
    return text.split()


def vector_of(stored: bytes | None) -> NDArray[np.float16] | None:
    """The vector in a blob."""
    return None if stored is None else np.frombuffer(stored, dtype="<f2")


def blob(vector: NDArray[np.float16] | None) -> bytes | None:
    """A vector's float16 bytes, little-endian."""
    return None if vector is None else np.asarray(vector, dtype="<f2").tobytes()


def messages_json(messages: Sequence[Message]) -> str:
    """Messages as stored with an episode."""
    return dumps(
        [
            {
                "role": message.role,
                "content": message.content,
                "speaker": message.speaker,
                "at": epoch(message.at),
                "session": message.session,
                "id": message.id,
                "channel": message.channel,
            }
            for message in messages
        ]
    )


def messages_of(text: str) -> tuple[Message, ...]:
    """The messages of `messages_json`."""
    return tuple(
        Message(
            item["role"],
            item["content"],
            speaker=item["speaker"],
            at=moment(item["at"]),
            session=item["session"],
            id=item["id"],
            channel=item["channel"],
        )
        for item in json.loads(text)
    )
