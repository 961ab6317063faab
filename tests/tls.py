"""TLS for clients that read in one thread and write in another, as `websockets.sync` does.

A connection of OpenSSL must not be used so (openssl/openssl#20446): over TLS 1.3, whose tickets arrive after the
handshake, a request sometimes was never sent (python/cpython#77271).
"""

from __future__ import annotations

import select
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class SharedSocket(ssl.SSLSocket):
    """Reads and writes take turns, and wait between them."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        self._turn = threading.Lock()
        self._seconds = self.gettimeout()
        super().settimeout(0)

    def settimeout(self, value: float | None) -> None:
        if hasattr(self, "_turn"):
            self._seconds = value
        else:
            super().settimeout(value)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        return self._take(super().recv, buflen, flags)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        return self._take(super().recv_into, buffer, nbytes, flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        left = memoryview(data).cast("B")
        while left:
            left = left[self._take(super().send, left, flags) :]

    def _take(self, step: Callable[..., Any], *arguments: Any) -> Any:
        deadline = None if self._seconds is None else time.monotonic() + self._seconds
        while True:
            with self._turn:
                try:
                    return step(*arguments)
                except ssl.SSLWantReadError:
                    events = select.POLLIN
                except ssl.SSLWantWriteError:
                    events = select.POLLOUT
            self._wait(events, deadline)

    def _wait(self, events: int, deadline: float | None) -> None:
        poll = select.poll()  # which knows any number of a descriptor
        poll.register(self, events)
        if not poll.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError("The read or write operation timed out")


def trust(certificate: Path) -> ssl.SSLContext:
    """Return a client's context that trusts one certificate, or authority."""
    context = ssl.create_default_context(cafile=certificate)
    context.sslsocket_class = SharedSocket
    return context
