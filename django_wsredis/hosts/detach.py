"""The agreement between the WSGI application and a host: a function in the environ that detaches the socket.

The host promises that after the call nothing more is written to the socket, and that it is not shut down. In its place
there may be a text, which says why that cannot be.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable
from typing import Any, TypeAlias

from gevent import monkey

from ..exceptions import CannotDetach

Detach: TypeAlias = Callable[[], _socket.socket]
Offer: TypeAlias = Detach | str

ENVIRON_KEY = "django_wsredis.detach"


def find(environ: dict[str, Any]) -> Detach:
    """Return how the host of this request gives up its socket. Raises CannotDetach."""
    server = environ.get("SERVER_SOFTWARE", "this server")
    offer: Offer = environ.get(ENVIRON_KEY, f"{server} is not known to give up its sockets")
    if isinstance(offer, str):
        raise CannotDetach(f"websockets cannot be served here: {offer}; docs/deploy.rst has what works")
    return offer


def duplicate(fileno: int, hosts_loop: Any = None) -> _socket.socket:
    """Return a non-blocking socket for a duplicate of a descriptor: it stays open when the host closes its own.

    The C type, not socket.socket: half as large, and the loop needs no more.

    hosts_loop: the event loop of gevent that the host has watched the descriptor with, if it has.
    """
    if hosts_loop is not None:
        _forget(fileno, hosts_loop)
    duplicate = _socket.socket(fileno=_socket.dup(fileno))
    duplicate.setblocking(False)
    if duplicate.family != _socket.AF_UNIX:
        # a message is one small write: Nagle's algorithm would keep it back until the last one is acknowledged
        duplicate.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    return duplicate


def _forget(fileno: int, loop: Any) -> None:
    """Take a descriptor off the kernel's list for a gevent loop.

    libev leaves that to close(), which does not do it where there is a duplicate: the first data would make libev begin
    its list anew, with all sockets of the process.
    """
    if loop.backend == "epoll":
        epoll = monkey.get_original("select", "epoll")  # which gevent takes away where it patches
        with epoll.fromfd(os.dup(loop.fileno())) as kernels_list:
            try:
                kernels_list.unregister(fileno)
            except FileNotFoundError:  # it was never waited for
                pass
