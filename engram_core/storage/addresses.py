"""Addresses of Chroma servers, completed from URL, arguments and environment. It opens nothing."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit

from engram_core.domain.errors import InvalidInput
from engram_core.domain.server import DEFAULT_DATABASE, DEFAULT_TENANT, ChromaServer, Quotas

CLOUD_HOST = "api.trychroma.com"
KEY_VARIABLE = "CHROMA_API_KEY"
TENANT_VARIABLE = "CHROMA_TENANT"
DATABASE_VARIABLE = "CHROMA_DATABASE"
KEY_HEADER = "X-Chroma-Token"
_SECRETS = re.compile(r"(?i)key|token|secret|password")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go, complete.

    Attributes:
        is_secure: HTTPS.
        shown: The address for people and the ledger: no key, no header.
    """

    host: str
    port: int
    is_secure: bool
    tenant: str
    database: str
    headers: dict[str, str]
    quotas: Quotas | None
    search_timeout: float
    timeout: float

    @property
    def base(self) -> str:
        """Scheme, host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_secure else 'http'}://{host}:{self.port}"

    @property
    def shown(self) -> str:
        """The address for people and the ledger: no key, no header."""
        is_default = (self.tenant, self.database) == (DEFAULT_TENANT, DEFAULT_DATABASE)
        return self.base if is_default else f"{self.base}?tenant={self.tenant}&database={self.database}"

    def hidden(self, message: str) -> str:
        """A message without the values of the headers, should a server repeat them."""
        for value in self.headers.values():
            if len(value) >= 4:
                message = message.replace(value, "***")
        return message


def is_remote(place: object) -> bool:
    """Whether an index place is a server rather than a directory."""
    return isinstance(place, ChromaServer) or (isinstance(place, str) and "://" in place)


def is_outage(error: BaseException) -> bool:
    """Whether a call failed on the way to the server or waited too long, rather than in the server's data."""
    cause = error.__cause__
    return isinstance(cause, TimeoutError) or type(cause).__module__.startswith(("httpx", "httpcore"))


def endpoint(place: str | ChromaServer) -> Endpoint:
    """Complete an address from its URL, its arguments and the environment.

    Raises:
        InvalidInput: It makes no sense, or Chroma Cloud lacks its tenant, its database or its key.
    """
    server = place if isinstance(place, ChromaServer) else ChromaServer(place)
    parts = urlsplit(server.url)
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("An index address holds no credentials: use ChromaServer(url, api_key=…, headers=…).")
    if parts.scheme == "chroma-cloud":
        return _cloud(replace(server, url=f"https://{CLOUD_HOST}"), parts.netloc, parts.path.strip("/"))
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidInput(
            f"The index address {_bare(server.url)!r} must look like http://127.0.0.1:8000 or "
            "chroma-cloud://tenant/database."
        )
    wishes = parse_qs(parts.query)
    unknown = sorted(set(wishes) - {"tenant", "database"})
    if unknown:
        is_secret = any(map(_SECRETS.search, unknown))
        hint = " A key belongs into ChromaServer(url, api_key=…) or CHROMA_API_KEY." if is_secret else ""
        raise InvalidInput(f"The index address knows tenant= and database=, not {', '.join(unknown)}=.{hint}")
    tenant, database = wishes.get("tenant", [""])[0], wishes.get("database", [""])[0]
    if parts.hostname == CLOUD_HOST:
        return _cloud(server, tenant, database)
    return _made(
        server,
        server.tenant or tenant or DEFAULT_TENANT,
        server.database or database or DEFAULT_DATABASE,
        server.api_key,
    )


def _cloud(server: ChromaServer, tenant: str, database: str) -> Endpoint:
    tenant = server.tenant or tenant or os.environ.get(TENANT_VARIABLE, "")
    database = server.database or database or os.environ.get(DATABASE_VARIABLE, "")
    key = server.api_key or os.environ.get(KEY_VARIABLE)
    if not tenant or not database:
        raise InvalidInput(
            "Chroma Cloud needs a tenant and a database: index='chroma-cloud://tenant/database', or the environment "
            f"variables {TENANT_VARIABLE} and {DATABASE_VARIABLE}."
        )
    if not key:
        raise InvalidInput(f"Chroma Cloud needs a key: set {KEY_VARIABLE}, or use ChromaServer(url, api_key=…).")
    return _made(replace(server, quotas=server.quotas or Quotas()), tenant, database, key)


def _made(server: ChromaServer, tenant: str, database: str, key: str | None) -> Endpoint:
    parts = urlsplit(server.url)
    is_secure = parts.scheme == "https"
    try:
        port = parts.port or (443 if is_secure else 8000)
    except ValueError as error:
        raise InvalidInput(f"The index address {_bare(server.url)!r} has no such port.") from error
    headers = dict(server.headers)
    if key is not None:
        headers[KEY_HEADER] = key
    return Endpoint(
        host=parts.hostname or "",
        port=port,
        is_secure=is_secure,
        tenant=tenant,
        database=database,
        headers=headers,
        quotas=server.quotas,
        search_timeout=server.search_timeout,
        timeout=server.timeout,
    )


def _bare(url: str) -> str:
    return url.partition("?")[0]
