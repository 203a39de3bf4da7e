"""Words for a Chroma server: where it is, what it allows, how long to wait for it. Plain values; they open nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from engram_core.domain.errors import InvalidInput

DEFAULT_TENANT = "default_tenant"
DEFAULT_DATABASE = "default_database"


@dataclass(frozen=True, slots=True)
class Quotas:
    """What a hosted Chroma allows; the defaults are Chroma Cloud's (docs.trychroma.com, "Quotas & Limits").

    Attributes:
        records: Records of one write, and ids of one read.
        results: Results of one search.
        id_bytes: Bytes of an id.
        reads, writes: Requests at the same time for one collection, from this process.
        collection_records: Records of one collection; a scope with more facts is searched exactly.
    """

    records: int = 300
    results: int = 300
    id_bytes: int = 128
    reads: int = 10
    writes: int = 10
    collection_records: int = 5_000_000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidInput(f"{name} of Quotas must be a whole number of at least 1, not {value!r}.")


@dataclass(frozen=True, slots=True)
class ChromaServer:
    """A Chroma server or Chroma Cloud, as `index=` of `Engram.open`. Its key is never shown, logged or stored.

    Attributes:
        url: `http://host:port`, `https://host`, or `chroma-cloud://tenant/database`.
        api_key: Sent as `X-Chroma-Token`. None: for Chroma Cloud the environment variable `CHROMA_API_KEY`.
        headers: Sent with every request, such as those a proxy before the server asks for.
        tenant, database: Where the collections live; None: those of the URL, else the server's defaults.
        quotas: What the server allows; None: `Quotas()` for Chroma Cloud, no limits for a server of your own.
        search_timeout: Seconds a recall waits for the server before it searches exactly, 0.01 to 60.
        timeout: Seconds everything else waits for one answer, 0.01 to 600.

    Raises:
        InvalidInput: A number is out of range.
    """

    url: str
    api_key: str | None = field(default=None, repr=False, kw_only=True)
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False, kw_only=True)
    tenant: str | None = field(default=None, kw_only=True)
    database: str | None = field(default=None, kw_only=True)
    quotas: Quotas | None = field(default=None, kw_only=True)
    search_timeout: float = field(default=1.0, kw_only=True)
    timeout: float = field(default=5.0, kw_only=True)

    def __post_init__(self) -> None:
        for name, most in (("search_timeout", 60.0), ("timeout", 600.0)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0.01 <= value <= most:
                raise InvalidInput(f"{name} must be a number of seconds from 0.01 to {most:g}, not {value!r}.")
