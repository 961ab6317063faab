"""TLS of our own server: its certificate, and its sockets as the loop wants them.

A TLS socket cannot be duplicated: its state is in this process. So gevent's own object is handed over.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gevent.ssl import SSLContext


def load_certificate(certfile: Path, keyfile: Path | None) -> SSLContext:
    """Return what speaks TLS with a certificate. Raises OSError, of which ssl.SSLError is one."""

    def refuse() -> str:
        raise ssl.SSLError("the key is encrypted, and nobody is there to type its password")

    context = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION  # else sending may have to wait for reading
    context.load_cert_chain(certfile, keyfile, password=refuse)
    return context


class TlsSocket:
    """The methods of a `_socket.socket` that the loop calls; none blocks. Owns gevent's SSLSocket."""

    __slots__ = ("_tls",)

    def __init__(self, tls: Any) -> None:
        tls.settimeout(0.0)
        if tls.family != socket.AF_UNIX:
            tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as detach.duplicate() does
        self._tls = tls

    def fileno(self) -> int:
        """Return the descriptor, for a watcher."""
        return int(self._tls.fileno())

    def recv(self, size: int) -> bytes:
        """Return what has come, b"" at the end. Raises BlockingIOError for nothing yet.

        It may be more than `size`: a watcher does not tell of bytes that are decrypted already.
        """
        try:
            data: bytes = self._tls.recv(size)
            # of the same record; the next one is still in the kernel, so its watcher tells
            while data and (rest := self._tls.pending()):
                data += self._tls.recv(rest)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        return data

    def send(self, data: bytes | memoryview) -> int:
        """Send what the kernel takes, and return how much. Raises BlockingIOError for nothing.

        OpenSSL wants the rest, unchanged, in the next call.
        """
        rest = memoryview(data)
        while rest and (sent := self._tls.send(rest)):  # gevent: 0 where it would block
            rest = rest[sent:]
        if len(rest) == len(data):
            raise BlockingIOError
        return len(data) - len(rest)

    def sendmsg(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Send the first buffer: TLS takes one at a time, and to join them would be to copy them."""
        return self.send(buffers[0])

    def setsockopt(self, level: int, name: int, value: int) -> None:
        """Set an option of the socket below."""
        self._tls.setsockopt(level, name, value)

    def shutdown(self, how: int) -> None:
        """Say goodbye (close_notify: RFC 8446, 6.1) and half-close; what is read from now on is to be thrown away."""
        try:
            self._tls.unwrap()
        except (OSError, ValueError):  # it has been said, but the peer has not answered yet
            pass
        self._tls.shutdown(how)

    def close(self) -> None:
        """Close it soon, from any thread: it belongs to gevent's hub."""
        self._tls.hub.loop.run_callback_threadsafe(self._tls.close)
