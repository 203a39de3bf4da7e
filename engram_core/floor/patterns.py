"""Patterns: named expressions on RE2, whose time is linear in the text whatever the text is. Pure; it knows no rule.

One pass over a text tells which expressions occur; only those are searched for their places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final

_MEMORY_BYTES: Final = 64 * 1024 * 1024
"""For all states of one pass; RE2 takes what it needs of it, and starts over when it is full."""


class Patterns:
    """Named expressions in RE2's syntax, compiled at first use: importing them costs nothing.

    Args:
        expressions: Name to expression.
    """

    def __init__(self, expressions: Mapping[str, str]) -> None:
        self._expressions = dict(expressions)
        self._names = list(expressions)

    @property
    def names(self) -> tuple[str, ...]:
        """The expressions' names, in order."""
        return tuple(self._names)

    @cached_property
    def _options(self) -> Any:
        import re2  # noqa: PLC0415 - most programs that import the core store nothing

        options = re2.Options()
        options.max_mem = _MEMORY_BYTES
        options.log_errors = False
        return options

    @cached_property
    def _set(self) -> Any:
        import re2  # noqa: PLC0415

        whole = re2.Set.SearchSet(self._options)
        for expression in self._expressions.values():
            whole.Add(expression)
        whole.Compile()
        return whole

    @cached_property
    def _compiled(self) -> Mapping[str, Any]:
        import re2  # noqa: PLC0415

        return {name: re2.compile(expression, self._options) for name, expression in self._expressions.items()}

    def hits(self, text: str) -> list[str]:
        """Names of the expressions that occur in `text` (without lone surrogates), in their order."""
        return [self._names[place] for place in sorted(self._set.Match(text) or ())]

    def matches(self, name: str, text: str) -> Iterator[Any]:
        """RE2's match objects of one expression, left to right."""
        found: Iterator[Any] = self._compiled[name].finditer(text)
        return found


def span(match: Any, group: str) -> tuple[int, int]:
    """Where a named group of RE2's match object stands; (-1, -1) if it took no part. RE2 counts groups."""
    place: tuple[int, int] = match.span(match.re.groupindex[group])
    return place
