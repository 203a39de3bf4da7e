"""Broken: turns what a reader trips over into an error that says where. It reads nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engram_core.domain.errors import InvalidInput


@contextmanager
def part(name: str, where: str) -> Iterator[None]:
    """Raise InvalidInput naming file and place for whatever a malformed record makes the block raise."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"{name}, {where}: {error}") from error
    except KeyError as error:
        raise InvalidInput(f"{name}, {where}: the field {error} is missing.") from error
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise InvalidInput(f"{name}, {where}: {error}.") from error
