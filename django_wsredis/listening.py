"""The socket that a server listens on: a TCP port, a path, or one that systemd made."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BACKLOG = 1024  # connections that wait to be accepted; the kernel caps it at net.core.somaxconn


def listen_tcp(host: str, port: int, *, backlog: int = BACKLOG) -> socket.socket:
    """Return a listening TCP socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=backlog)
    listener.setblocking(False)
    return listener


def listen_unix(path: Path, *, umask: int | None = None, backlog: int = BACKLOG) -> socket.socket:
    """Return a socket that listens on a path; one that a dead server left there is replaced. Raises OSError.

    umask: of the socket's file, which others must be able to write to; None: that of the process.
    """
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _is_served(path):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _umask(umask):
            listener.bind(os.fspath(path))
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket, *, is_tls: bool = False) -> str:
    """Return where a socket listens, for people: a URL, or "unix:" and the path."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if is_tls else 'http'}://{host}:{name[1]}/"


@contextmanager
def removed_at_the_end(path: Path | None) -> Iterator[None]:
    """Remove a socket's file after the `with`, unless another server has put its own there."""
    ours = path and path.stat()
    try:
        yield
    finally:
        if path and ours and path.exists() and os.path.samestat(path.stat(), ours):
            path.unlink()


@contextmanager
def _umask(mask: int | None) -> Iterator[None]:
    if mask is None:
        yield
        return
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False
    return True
