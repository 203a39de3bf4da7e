"""Names of foreign models, read from their attributes. Stable across processes; never an address or a key."""

from __future__ import annotations

import inspect
from functools import partial

_MODEL_ATTRIBUTES = ("model_name", "model", "model_id", "deployment_name", "repo_id")


def model_name(source: object) -> str:
    """`Class` or `Class:model` of a framework's model object."""
    label = type(source).__qualname__
    for attribute in _MODEL_ATTRIBUTES:
        value = getattr(source, attribute, None)
        if isinstance(value, str) and value:
            return f"{label}:{value[:200]}"
    return label


def callable_name(source: object) -> str:
    """A callable's own `name` if that is a string, else its qualified name, else its class's."""
    if isinstance(source, partial):
        return callable_name(source.func)
    for attribute in ("name", "__qualname__"):
        value = getattr(source, attribute, None)
        if isinstance(value, str) and value:
            return value[:200]
    return type(source).__qualname__


def is_async(source: object) -> bool:
    """Whether calling `source` gives a coroutine, as far as can be told without calling it."""
    call = getattr(type(source), "__call__", None)  # noqa: B004 - looked up, not tested for
    return inspect.iscoroutinefunction(source) or inspect.iscoroutinefunction(call)
