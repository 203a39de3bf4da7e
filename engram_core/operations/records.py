"""Records: the lines of an export: what each may hold, and reading a file of them that nobody vouches for.

Every line is checked before the first is used: length, encoding, nesting, numbers, and the shape of its record.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from engram_core.domain.errors import EngramError, InvalidExport
from engram_core.domain.message import Channel, Role
from engram_core.domain.scope import Scope

VERSION: Final = 1
MAX_LINE: Final = 8 << 20
MAX_FILE: Final = 1 << 30
_DEEPEST: Final = 64
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Id = Annotated[str, Field(min_length=1, max_length=36)]
Path_ = Annotated[str, Field(min_length=1, max_length=520)]
Name = Annotated[str, Field(max_length=500)]


class Record(BaseModel):
    """A line of an export."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    @field_validator("scope", mode="after", check_fields=False)
    @classmethod
    def _is_scope(cls, path: str | None) -> str | None:
        if path is not None:
            Scope(path)
        return path


class Header(Record):
    """The first line."""

    type: Literal["engram"]
    version: int
    at: datetime
    scope: Path_ | None = None
    subject: Name | None = None
    below: bool = True


class PolicyRecord(Record):
    """A version of a scope's policy."""

    type: Literal["policy"]
    scope: Path_
    policy: dict[str, Any]
    principal: Name
    at: datetime


class EpisodeRecord(Record):
    """The messages of one add; they follow it."""

    type: Literal["episode"]
    id: Id
    scope: Path_
    at: datetime
    principal: Name


class MessageRecord(Record):
    """One message of an episode."""

    type: Literal["message"]
    episode: Id
    role: Role
    content: str
    channel: Channel
    speaker: Name | None = None
    at: datetime | None = None
    session: Name | None = None
    id: Name | None = None


class FactRecord(Record):
    """One fact."""

    type: Literal["fact"]
    id: Id
    scope: Path_
    text: str
    speaker: Annotated[str, Field(max_length=200)] | None = None
    kind: str
    slot: tuple[str, str] | None = None
    importance: Share
    confidence: Share
    trust: Share
    pinned: bool
    status: Literal["live", "pending", "quarantined", "archived"]
    version: Annotated[int, Field(ge=0)]
    created_at: datetime
    said_at: datetime
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    archived_at: datetime | None = None
    archived_reason: str | None = None
    restored_at: datetime | None = None
    principal: Name
    channel: Channel
    episode: Id | None = None
    session: Name | None = None
    message_ids: tuple[Name, ...] = ()
    form: Literal["statement", "merged", "summary", "apart"] = "statement"
    is_consolidated: bool = False
    consolidated_from: tuple[Id, ...] = ()
    consolidated_into: Id | None = None
    superseded_by: Id | None = None
    sources: tuple[Id, ...] = ()
    forget_score: Share | None = None
    forget_terms: dict[str, float] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    subjects: tuple[Name, ...] = ()
    previous: Id | None = None
    following: Id | None = None


class LinkRecord(Record):
    """One fact may be newer than another."""

    type: Literal["link"]
    scope: Path_
    newer: Id
    older: Id
    verdict: Literal["update", "same", "both"]
    probability: Share
    rule: Annotated[str, Field(max_length=60)]
    line: str
    terms: dict[str, float]
    at: datetime


class DecisionRecord(Record):
    """One row of history."""

    type: Literal["decision"]
    scope: Path_
    action: Annotated[str, Field(max_length=20)]
    principal: Name
    at: datetime
    rule: Annotated[str, Field(max_length=60)]
    line: str
    terms: dict[str, float]
    fact: Id | None = None
    episode: Id | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    refused: bool = False


class RecallRecord(Record):
    """One recall: who was told what."""

    type: Literal["recall"]
    id: Id
    scope: Path_
    principal: Name
    session: Name | None = None
    at: datetime
    query: str
    tokens: Annotated[int, Field(ge=0)]
    token_counter: Annotated[str, Field(max_length=100)]
    degraded: bool
    policy_version: Annotated[int, Field(ge=0)]
    facts: list[dict[str, Any]]
    dropped: list[dict[str, Any]]


class UsageRecord(Record):
    """A verdict on a recall."""

    type: Literal["usage"]
    recall: Id
    scope: Path_
    at: datetime
    response: str
    verdicts: list[dict[str, Any]]


class End(Record):
    """The last line: how many lines stand before it, and their digest."""

    type: Literal["end"]
    records: Annotated[int, Field(ge=0)]
    digest: Annotated[str, Field(min_length=64, max_length=64)]


AnyRecord = (
    Header
    | PolicyRecord
    | EpisodeRecord
    | MessageRecord
    | FactRecord
    | LinkRecord
    | DecisionRecord
    | RecallRecord
    | UsageRecord
    | End
)
_ADAPTER: Final[TypeAdapter[Any]] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="type")])


def line_of(record: Record) -> str:
    """A record as its line, without the line break; what is not set is left out."""
    text = json.dumps(
        record.model_dump(mode="json", exclude_defaults=False, exclude_none=True),
        ensure_ascii=False,
        separators=(",", ":"),
        sort_keys=True,
    )
    return _SURROGATE.sub("\ufffd", text)


class Digest:
    """A sum over lines that does not depend on their order: equal for two exports that say the same."""

    def __init__(self) -> None:
        self._total = 0
        self.records = 0

    def add(self, line: str) -> None:
        """Count a line in."""
        self._total += int.from_bytes(hashlib.sha256(line.encode()).digest(), "big")
        self.records += 1

    @property
    def hex(self) -> str:
        """64 hexadecimal digits."""
        return f"{self._total % (1 << 256):064x}"


def read(path: Path) -> Iterator[tuple[int, Any]]:
    """Line numbers and records of an export, checked one by one; the last one proves that the file is whole.

    Raises:
        InvalidExport: With the number of the line.
    """
    size = path.stat().st_size
    if size > MAX_FILE:
        raise InvalidExport(f"{path} has {size:,} bytes; at most {MAX_FILE:,} are read. Export scope by scope.")
    digest, last = Digest(), None
    number = 0
    with path.open("rb") as file:
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            record = parsed(raw, number)
            if isinstance(last, End):
                raise InvalidExport(f"Line {number}: something stands after the end of the export.")
            if (number == 1) != isinstance(record, Header):
                raise InvalidExport(f"Line {number}: an export begins with its header, and has one only.")
            if isinstance(record, Header) and record.version != VERSION:
                raise InvalidExport(f"Line 1: this export has version {record.version}; this Engram reads {VERSION}.")
            if isinstance(record, End):
                if (record.records, record.digest) != (digest.records, digest.hex):
                    raise InvalidExport(f"Line {number}: lines are missing or were changed. Export again.")
            elif number > 1:
                digest.add(raw.decode().rstrip("\r\n"))
            last = record
            yield number, record
    if not isinstance(last, End):
        raise InvalidExport(f"Line {number + 1}: the file ends before its last record. Export again, or copy it whole.")


def parsed(raw: bytes, number: int) -> Any:
    """One line as its record. Raises InvalidExport."""
    value = json_of(raw, number)
    try:
        return _ADAPTER.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))
        raise InvalidExport(f"Line {number}: {where or 'the record'}: {first['msg']}.") from error
    except EngramError as error:
        raise InvalidExport(f"Line {number}: {error}") from error


def json_of(raw: bytes, number: int) -> Any:
    """A line's JSON, with nothing in it that JSON does not allow or that nothing can store. Raises InvalidExport."""
    if len(raw) > MAX_LINE:
        raise InvalidExport(f"Line {number} is longer than {MAX_LINE:,} bytes.")
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidExport(f"Line {number} is no JSON: {why}.") from error
    fault = _fault(value, 0)
    if fault is not None:
        raise InvalidExport(f"Line {number}: {fault}.")
    return value


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _fault(value: Any, depth: int) -> str | None:
    if depth > _DEEPEST:
        return "it is nested too deeply"
    match value:
        case str():
            return "a text holds a NUL character or a lone surrogate" if _is_unstorable(value) else None
        case float():
            return None if abs(value) < float("inf") else "a number is too large"
        case dict():
            return _first(_fault(item, depth + 1) for pair in value.items() for item in pair)
        case list():
            return _first(_fault(item, depth + 1) for item in value)
        case _:
            return None


def _is_unstorable(text: str) -> bool:
    return "\x00" in text or _SURROGATE.search(text) is not None


def _first(faults: Iterable[str | None]) -> str | None:
    return next((fault for fault in faults if fault is not None), None)
