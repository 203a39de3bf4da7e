"""Plugin: finds what `module:Name` names, a memory's class or an embedder. It loads only code that a person named."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from engram_core.domain.errors import InvalidInput


def named(spec: str, what: str) -> Any:
    """The object `spec` names, such as `my_module:MyMemory`; modules in the working directory are found, too.

    Args:
        spec: Module, colon, name.
        what: What it is, for errors.

    Raises:
        InvalidInput: It is written otherwise, or there is no such module or name.
    """
    module, colon, name = spec.partition(":")
    if not (module and colon and name):
        raise InvalidInput(f"{what} is written module:Name, such as my_module:MyMemory; got {spec!r}.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"{what} {spec!r}: there is no module {error.name!r}; run from the folder it is in."
        ) from error
    except AttributeError as error:
        raise InvalidInput(f"{what} {spec!r}: the module {module!r} has no {name!r}.") from error
