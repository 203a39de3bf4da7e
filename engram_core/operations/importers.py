"""Importers: dumps of other memories as a checked load: mem0, and LangGraph stores such as LangMem's. They only read.

Their ids become ours by a fixed rule, so that importing the same dump twice stores nothing twice.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from engram_core.domain.errors import InvalidExport, InvalidScope
from engram_core.domain.fact import MAX_METADATA_KEYS, MAX_TEXT_BYTES
from engram_core.domain.scope import Scope
from engram_core.floor import legality
from engram_core.operations import records as r
from engram_core.operations.importing import Load

Source = Literal["mem0", "langmem"]
SOURCES: Final = ("mem0", "langmem")
_NAMES: Final = uuid.UUID("5a1f5d8e-6f0a-5c0e-9a53-0d6c6c3c9b11")
"""Of our ids for others' ids; any constant."""
_TEXTS: Final = ("memory", "content", "text", "data")


def load(path: Path, source: str, scope: Scope, principal: str, now: datetime) -> Load:
    """Read a dump.

    Args:
        path: A JSON document or JSON Lines.
        source: `mem0`: what `get_all()` or an export job gives: a list of memories, or `{"results": [...]}`.
            `langmem`: items of a LangGraph store: `namespace`, `key`, `value`, `created_at`, `updated_at`.
        scope: Below it each user, agent and run (mem0) or each part of the namespace (LangGraph) becomes a level.
        principal: Who imports.
        now: For items without a time.

    Raises:
        InvalidExport: With the number of the line, or of the item.
    """
    if source not in SOURCES:
        raise InvalidExport(f"There is no importer for {source!r}; there are {', '.join(SOURCES)}.")
    read = _mem0 if source == "mem0" else _langmem
    found = Load()
    for number, item in enumerate(_items(path), 1):
        try:
            record = read(item, scope, principal, now)
            if record is None:
                continue
            if record.id in found.facts:
                raise InvalidExport("its id stands in the file twice.")
            refusal = legality.unfit_metadata(record.metadata)
            if refusal is not None:
                raise InvalidExport(refusal.line)
            found.facts[record.id] = record
        except (InvalidExport, InvalidScope, ValueError, KeyError, TypeError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise InvalidExport(f"Item {number}: {what}") from error
    return found


def _items(path: Path) -> Iterator[Any]:
    size = path.stat().st_size
    if size > r.MAX_FILE:
        raise InvalidExport(f"{path} has {size:,} bytes; at most {r.MAX_FILE:,} are read.")
    raw = path.read_bytes()
    head = raw.lstrip()[:1]
    if head == b"[" or (head == b"{" and _is_one(raw)):
        whole = _document(raw)
        found = whole if isinstance(whole, list) else whole.get("results", whole.get("memories", whole.get("items")))
        if not isinstance(found, list):
            raise InvalidExport('The file holds no list of items: expected [...] or {"results": [...]}.')
        yield from found
        return
    for number, line in enumerate(raw.splitlines(), 1):
        if line.strip():
            yield r.json_of(line, number)


def _is_one(raw: bytes) -> bool:
    """Whether the file is one JSON document rather than one object a line."""
    first = raw.lstrip().split(b"\n", 1)[0]
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return True
    return isinstance(value, dict) and any(name in value for name in ("results", "memories", "items"))


def _document(raw: bytes) -> Any:
    pieces = raw
    if len(pieces) <= r.MAX_LINE:
        return r.json_of(pieces, 1)
    try:
        whole = json.loads(pieces.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidExport(f"The file is no JSON: {error}") from error
    found = whole if isinstance(whole, list) else next((v for v in whole.values() if isinstance(v, list)), [])
    for number, item in enumerate(found, 1):
        r.json_of(json.dumps(item).encode(), number)
    return whole


def _mem0(item: Any, scope: Scope, principal: str, now: datetime) -> r.FactRecord | None:
    if not isinstance(item, Mapping):
        raise InvalidExport("a memory is an object with id and memory.")
    if item.get("event") == "DELETE" or item.get("is_deleted"):
        return None
    text = item.get("memory") or item.get("new_memory") or item.get("text")
    labels = [item[name] for name in ("app_id", "user_id", "agent_id", "run_id") if item.get(name)]
    extra = {"mem0_id": str(item["id"]), **dict(item.get("metadata") or {})}
    if item.get("categories"):
        extra["categories"] = item["categories"]
    user = item.get("user_id")
    return _record(
        scope, labels, str(item["id"]), text, extra, item, principal, now, subjects=(str(user),) if user else ()
    )


def _langmem(item: Any, scope: Scope, principal: str, now: datetime) -> r.FactRecord | None:
    if not isinstance(item, Mapping) or not isinstance(item.get("value"), Mapping):
        raise InvalidExport("an item is an object with namespace, key and value.")
    namespace = item["namespace"]
    labels = namespace.split(".") if isinstance(namespace, str) else list(namespace)
    value = item["value"]
    content = value.get("content", value)
    kind = value.get("kind") if isinstance(value.get("kind"), str) else None
    text = content if isinstance(content, str) else _told(content)
    extra = {"langgraph_key": str(item["key"])}
    if isinstance(content, Mapping):
        extra |= {"value": dict(content)}  # type: ignore[dict-item]  # metadata takes any JSON
    if kind:
        extra["langmem_kind"] = kind
    return _record(scope, labels, f"{'/'.join(map(str, labels))}/{item['key']}", text, extra, item, principal, now)


def _told(content: Any) -> str:
    """A structured memory as words: its text field, or its fields one by one."""
    if isinstance(content, Mapping):
        named = next((content[name] for name in _TEXTS if isinstance(content.get(name), str)), None)
        if named is not None:
            return str(named)
        return "; ".join(f"{key}: {_told(value)}" for key, value in content.items())
    if isinstance(content, list):
        return ", ".join(_told(value) for value in content)
    return str(content)


def _record(
    scope: Scope,
    labels: list[Any],
    source_id: str,
    text: Any,
    metadata: dict[str, Any],
    item: Mapping[str, Any],
    principal: str,
    now: datetime,
    subjects: tuple[str, ...] = (),
) -> r.FactRecord:
    if not isinstance(text, str) or not text.strip():
        raise InvalidExport("it has no text.")
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise InvalidExport(f"its text is longer than {MAX_TEXT_BYTES:,} bytes.")
    if len(metadata) > MAX_METADATA_KEYS:
        raise InvalidExport(f"it has more than {MAX_METADATA_KEYS} metadata keys.")
    where = scope
    for label in labels:
        where = where.child(label)
    at = _moment(item.get("created_at")) or now
    changed = _moment(item.get("updated_at")) or at
    return r.FactRecord(
        type="fact",
        id=str(uuid.uuid5(_NAMES, f"{where.path}\x1f{source_id}")),
        scope=where.path,
        text=text.strip(),
        kind="observation",
        importance=0.5,
        confidence=1.0,
        trust=0.6,
        pinned=False,
        status="live",
        version=1,
        created_at=at,
        said_at=max(at, changed),
        principal=principal,
        channel="import",
        message_ids=(source_id[:500],),
        metadata=metadata,
        subjects=tuple(dict.fromkeys((*subjects, where.labels[-1]))),
    )


def _moment(value: Any) -> datetime | None:
    if value is None or value == "":
        return None
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
    at = datetime.fromisoformat(str(value))
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
