"""Who is at the other end of a socket, as far as its handshake told."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from django.http import HttpRequest

from .visitor import own_names

MAX_ADDRESS = 64  # characters: an IPv6 address with its port has 47


@dataclass(frozen=True, slots=True)
class Peer:
    """user, session: the user's name and the session's digest, "" without. address: of the browser.

    facility: that of the URL. since: when the handshake was accepted, in seconds since 1970.
    """

    user: str = ""
    session: str = ""
    address: str = ""
    facility: str = ""
    since: int = field(default_factory=lambda: int(time.time()))


NOBODY = Peer()


def peer_of(request: HttpRequest, facility: str) -> Peer:
    """Return who sent a request. The texts are shared between all sockets that have the same."""
    user = getattr(request, "user", None)
    name = user.get_username() if user is not None and user.is_authenticated else ""
    (session,) = own_names(request, "session") or [""]
    return Peer(_shared(name), _shared(session), _shared(client_address(request)), _shared(facility))


def _shared(text: str) -> str:
    # only strings of Python's own class can be shared, and what a model or the project's code gives may be of another
    return sys.intern(str.__str__(text))


def client_address(request: HttpRequest) -> str:
    """Return the browser's address: behind a proxy on this machine the one that the proxy names."""
    address: str = request.META.get("REMOTE_ADDR") or ""
    if address in ("", "0.0.0.0", "127.0.0.1", "::1"):  # a unix socket has none; uWSGI says 0.0.0.0 of it
        named = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
        return named if 0 < len(named) <= MAX_ADDRESS and named.isprintable() else address
    return address
