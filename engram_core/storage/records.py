"""Rows of the books into the ports' records. It converts; it reads and writes nothing."""

from __future__ import annotations

import json
from typing import Any

from engram_core.domain.message import Episode
from engram_core.domain.scope import Scope
from engram_core.ports import RecallRow, UsageRow
from engram_core.storage.codec import messages_of, moment


def episode_of(row: Any, kept: tuple[str, ...]) -> Episode:
    """An episode from a row of `episodes` with its scope's path."""
    at = moment(row["at"])
    assert at is not None
    return Episode(row["id"], Scope(row["path"]), messages_of(row["messages"]), at, row["principal"], kept)


def recall_of(row: Any) -> RecallRow:
    """A recall from a row of `recalls` with its scope's path."""
    at = moment(row["at"])
    assert at is not None
    return RecallRow(
        id=row["id"],
        scope=Scope(row["path"]),
        principal=row["principal"],
        session=row["session"],
        at=at,
        query=row["query"],
        text_tokens=row["text_tokens"],
        token_counter=row["token_counter"],
        degraded=bool(row["degraded"]),
        policy_version=row["policy_version"],
        facts=json.loads(row["facts"]),
        dropped=json.loads(row["dropped"]),
        stages=json.loads(row["stages"]),
    )


def usage_of(row: Any) -> UsageRow:
    """A verdict from a row of `usage` with its scope's path."""
    at = moment(row["at"])
    assert at is not None
    return UsageRow(row["recall_id"], Scope(row["path"]), at, row["response"], json.loads(row["verdicts"]))
