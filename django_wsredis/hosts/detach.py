"""The agreement between the WSGI application and a host: a function in the environ that detaches the socket.

The host promises that after the call it writes nothing more to the socket and does not shut it down.
"""

from __future__ import annotations

import _socket
from collections.abc import Callable
from typing import Any, TypeAlias

Detach: TypeAlias = Callable[[], _socket.socket]

ENVIRON_KEY = "django_wsredis.detach"


def find(environ: dict[str, Any]) -> Detach | None:
    """Return how the host of this request gives up its socket, None if it cannot."""
    return environ.get(ENVIRON_KEY)


def duplicate(fileno: int) -> _socket.socket:
    """Return a non-blocking socket for a duplicate of a descriptor: it stays open when the host closes its own.

    The C type, not socket.socket: half as large, and the loop needs no more.
    """
    duplicate = _socket.socket(fileno=_socket.dup(fileno))
    duplicate.setblocking(False)
    if duplicate.family != _socket.AF_UNIX:
        # a message is one small write: Nagle's algorithm would keep it back until the last one is acknowledged
        duplicate.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    return duplicate
