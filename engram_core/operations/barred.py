"""Barred: what was erased and is told again does not come back. It asks the tombstones; it stores nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from engram_core.domain.change import Add, Change, Draft, Merge, Supersede
from engram_core.domain.reason import Reason
from engram_core.domain.scope import Scope
from engram_core.floor import tombstones
from engram_core.measure import sentences
from engram_core.operations.context import Context
from engram_core.operations.gate import Admitted, Entry, replace_content

ERASED = Reason("erased", "It was erased, and a tombstone keeps it from coming back; allow_erased=True stores it anew.")


@dataclass(frozen=True, slots=True)
class Barred:
    """The tombstones of a store as one add meets them; None without a key, when nothing was ever erased.

    Attributes:
        key: The store's key.
    """

    context: Context
    scope: Scope
    key: str

    @classmethod
    def of(cls, context: Context, scope: Scope) -> Barred | None:
        """The bar of a scope, or None where nothing was ever erased."""
        key = context.ledger.setting(tombstones.KEY_SETTING)
        return cls(context, scope, key) if key is not None else None

    def entry(self, entry: Entry) -> Entry:
        """What entered, without what was erased: an erased message as a whole, of others what says it again."""
        ids = [item.message.id for item in entry.messages if item.message.id is not None]
        by_id = {tombstones.of_message(self.key, self.scope, id_): id_ for id_ in ids}
        gone = {by_id[mark] for mark in self.context.ledger.erasures.tombstoned(list(by_id))}
        said = self.texts(piece for item in entry.messages for piece in _pieces(item.message.content))
        if not gone and not said:
            return entry
        return replace(Entry.of([_barred(item, gone, said) for item in entry.messages]), is_within=entry.is_within)

    def texts(self, texts: Iterable[str]) -> set[str]:
        """Those of the texts that say what was erased."""
        marks = {text: tombstones.of_text(self.key, self.scope, text) for text in texts}
        known = self.context.ledger.erasures.tombstoned([mark for mark in marks.values() if mark is not None])
        return {text for text, mark in marks.items() if mark in known}

    def statements(self, texts: Iterable[str]) -> set[str]:
        """Those of the texts that say what was erased, as a whole or in one of their sentences."""
        wanted = {text: _pieces(text) for text in texts}
        said = self.texts(piece for pieces in wanted.values() for piece in pieces)
        return {text for text, pieces in wanted.items() if not said.isdisjoint(pieces)}

    def facts(self, ids: Iterable[str]) -> set[str]:
        """Those of the fact ids that were erased."""
        marks = {tombstones.of_fact(self.key, id_): id_ for id_ in ids}
        return {marks[mark] for mark in self.context.ledger.erasures.tombstoned(list(marks))}


def drafted(change: Change) -> Draft | None:
    """The statement that a change would store."""
    match change:
        case Add() | Supersede():
            return change.draft
        case Merge():
            return change.twin
        case _:
            return None


def _barred(item: Admitted, gone: set[str], said: set[str]) -> Admitted:
    if item.refusal is not None:
        return item
    text = "" if item.message.id in gone else _without(item.message.content, said)
    if text == item.message.content:
        return item
    if text.strip():
        return replace(item, message=item.message.with_content(text))
    return replace(item, message=replace_content(item.message, ""), refusal=ERASED)


def _pieces(text: str) -> tuple[str, ...]:
    return (text, *sentences.sentences(text))


def _without(text: str, said: set[str]) -> str:
    """The text without the sentences that are in `said`, all of them where it is as a whole."""
    if text in said:
        return ""
    bounds = sentences.spans(text, 0, len(text))
    out = [(start, end) for start, end in bounds if text[start:end] in said]
    for start, end in reversed(out):
        text = text[:start].rstrip() + (" " if start and end < len(text) else "") + text[end:].lstrip()
    return text
