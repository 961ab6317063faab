"""What this process is: the server that it is a worker of, and the project. Whoever runs it says so, before its loop
starts.
"""

from __future__ import annotations

import os
import socket
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import salted_hmac

PROJECT_DIGITS = 8  # enough to tell projects apart, and too few to guess a SECRET_KEY by


class Introduction(NamedTuple):
    """server: its name and version. address: where it listens. master: the process id that all its workers share."""

    server: str
    address: str
    master: int


_given: dict[int, Introduction] = {}  # by process id: a fork is another worker


def introduce(server: str, address: Any = "", *, master: int = 0) -> None:
    """Say what this process is; `address` is what a socket's `getsockname()` returns."""
    _given[os.getpid()] = Introduction(server, shown(address), master or os.getpid())


def introduced() -> Introduction:
    """Return what this process is."""
    return _given.get(os.getpid()) or Introduction("a server that is not known", "", os.getpid())


def shown(address: Any) -> str:
    """Return a socket's address for people: `127.0.0.1:8000`, or the path of a unix socket."""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return os.fsdecode(address)


def hostname() -> str:
    """Return this machine's name, without its domain."""
    return socket.gethostname().partition(".")[0]


def project(secret_key: str | bytes | None = None) -> str:
    """Return some digits by which this project is told from others, keyed with SECRET_KEY; "" if it has none.

    secret_key: another one, as of SECRET_KEY_FALLBACKS.
    """
    try:
        keyed = salted_hmac("django_wsredis.project", "", secret=secret_key, algorithm="sha256")
    except ImproperlyConfigured:
        return ""
    return keyed.hexdigest()[:PROJECT_DIGITS]
