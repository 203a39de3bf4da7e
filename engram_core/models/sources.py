"""Sources: files, session logs and retrievers as places where reflection may look. It bridges; it judges nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from engram_core.domain.errors import InvalidInput
from engram_core.domain.scope import Scope
from engram_core.measure import content
from engram_core.ports import Passage, Source

MAX_FILE_BYTES: Final = 32 * 1024 * 1024
"""Larger files are passed over, with an error that says so."""
MAX_FILES: Final = 2_000
TEXT_SUFFIXES: Final = frozenset({".txt", ".md", ".rst", ".log", ".jsonl", ".csv", ".json", ".org", ".adoc"})


@dataclass(frozen=True, slots=True)
class Files:
    """Text files, searched line by line for the words of a question. They are read anew at every search."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def search(self, question: str, n: int) -> Sequence[Passage]:
        """The lines that share most content words with the question. Raises OSError, InvalidInput."""
        wanted = content.token_set(question)
        found: list[tuple[int, Passage]] = []
        for file in self._files():
            at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
            for number, line in _lines(file):
                shared = len(wanted & content.token_set(line))
                if shared:
                    found.append((shared, Passage(line, f"{file.name}:{number}", at)))
            found = sorted(found, key=lambda item: -item[0])[:n]
        return [passage for _, passage in found]

    def _files(self) -> Iterator[Path]:
        if self.path.is_file():
            yield self.path
            return
        if not self.path.is_dir():
            raise InvalidInput(f"The source {self.path} is neither a file nor a directory.")
        readable = (file for file in sorted(self.path.rglob("*")) if file.suffix.lower() in TEXT_SUFFIXES)
        for number, file in enumerate(file for file in readable if file.is_file()):
            if number >= MAX_FILES:
                return
            yield file


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise InvalidInput(f"The source file {file} is larger than {MAX_FILE_BYTES // 2**20} MiB; split it.")
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if text:
                yield number, text[:8_000]


@dataclass(frozen=True, slots=True)
class Retriever:
    """A LangChain or LlamaIndex retriever, or a function from a question to texts."""

    name: str
    ask: Callable[[str], Any]

    def search(self, question: str, n: int) -> Sequence[Passage]:
        """What it finds, as it ranks it. Raises whatever it raises."""
        return [_passage(item, place) for place, item in enumerate(list(self.ask(question))[:n], 1)]


def _passage(item: Any, place: int) -> Passage:
    """A string, a Passage, a LangChain document (`page_content`) or a LlamaIndex node (`get_content()`)."""
    if isinstance(item, Passage):
        return item
    if isinstance(item, str):
        return Passage(item, f"result {place}")
    text = getattr(item, "page_content", None)
    if text is None and hasattr(item, "get_content"):
        text = item.get_content()
    if not isinstance(text, str):
        raise InvalidInput(f"A source gave a {type(item).__name__}; it must give strings, documents or nodes.")
    about = getattr(item, "metadata", None)
    known = about if isinstance(about, Mapping) else {}
    reference = known.get("source") or known.get("file_name") or getattr(item, "id", None) or f"result {place}"
    return Passage(text, str(reference))


def as_source(given: Any) -> Source:
    """A source of a path, a retriever of either framework, a function, or what has `name` and `search` already.

    Raises:
        InvalidInput: It is none of these.
    """
    if isinstance(given, str | os.PathLike):
        return Files(Path(os.fspath(given)))
    name = str(getattr(given, "name", None) or getattr(given, "__name__", None) or type(given).__name__)
    if hasattr(given, "search") and hasattr(given, "name"):
        source: Source = given
        return source
    for method in ("invoke", "retrieve"):
        if callable(getattr(given, method, None)):
            return Retriever(name, getattr(given, method))
    if callable(given):
        return Retriever(name, given)
    raise InvalidInput(
        f"A source is a path, a retriever with invoke() or retrieve(), or a function from a question to texts, "
        f"not a {type(given).__name__}."
    )


def as_sources(given: Any) -> list[tuple[Scope | None, Source]]:
    """Sources by scope: a list serves every scope, a mapping from scope to one or several serves that and below.

    Raises:
        InvalidInput, InvalidScope: Something is malformed.
    """
    if given is None:
        return []
    if isinstance(given, Mapping):
        return [
            (Scope.coerce(place), as_source(item))
            for place, items in given.items()
            for item in (items if isinstance(items, list | tuple) else [items])
        ]
    if not isinstance(given, list | tuple):
        raise InvalidInput("sources takes a list of sources, or a mapping from scope to sources.")
    return [(None, as_source(item)) for item in given]
