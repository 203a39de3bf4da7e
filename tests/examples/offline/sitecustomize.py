"""For every Python with this folder on PYTHONPATH: no connection leaves the machine. It blocks and fakes nothing."""

from __future__ import annotations

import socket
from typing import Any

_OWN = ("127.", "::1", "localhost")
_connect = socket.socket.connect
_resolve = socket.getaddrinfo


def _checked(host: object) -> None:
    if isinstance(host, str) and not host.startswith(_OWN):
        raise ConnectionRefusedError(f"This test runs offline; something wanted to reach {host!r}.")


class _OfflineSocket(socket.socket):
    def connect(self, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            _checked(address[0])
        _connect(self, address)

    def connect_ex(self, address: Any) -> int:
        self.connect(address)
        return 0


def _offline_resolve(host: Any, *rest: Any, **options: Any) -> Any:
    _checked(host)
    return _resolve(host, *rest, **options)


socket.socket = _OfflineSocket  # type: ignore[misc]
socket.getaddrinfo = _offline_resolve
