"""Context: which memory a call is about, from the constructor and LlamaIndex's tags. It opens and decides nothing."""

from __future__ import annotations

import threading
import uuid
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from llama_index_instrumentation.dispatcher import active_instrument_tags
from sqlalchemy import make_url

from engram_core import Engram, StoreClosed


def tags_now() -> dict[str, Any]:
    """What a callable scope or principal gets: the tags of the surrounding `with instrument_tags({...})`.

    LlamaIndex carries them into agent steps, tools and worker threads; a model can neither see nor set them.
    """
    return dict(active_instrument_tags.get())


class Handles:
    """Names for the open stores that users passed in, so that a restored memory finds the very same one again.

    A name means nothing outside this process; there, a memory goes by its url.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: WeakKeyDictionary[Engram, str] = WeakKeyDictionary()
        self._stores: WeakValueDictionary[str, Engram] = WeakValueDictionary()

    def name(self, engram: Engram) -> str:
        """The name of an open store; always the same one."""
        with self._lock:
            name = self._names.setdefault(engram, uuid.uuid4().hex)
            self._stores[name] = engram
            return name

    def store(self, name: str | None) -> Engram | None:
        """The store of that name, if this process still has it open."""
        with self._lock:
            store = self._stores.get(name) if name is not None else None
        return store if store is not None and not store.is_closed else None


HANDLES: Final = Handles()


def url_of(engram: Engram) -> str | None:
    """Where an open store is, for opening it elsewhere; a password in it is masked. None if it is closed already."""
    try:
        url = engram.context.ledger.url
        return make_url(url).render_as_string(hide_password=True) if "://" in url else url
    except StoreClosed:
        # Constructing a memory makes no connection, so it does not fail for lack of one either; the first use says it.
        return None
