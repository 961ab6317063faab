"""A TCP relay in front of a server, which changes what goes by, or holds it up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Change = Callable[[bytes], bytes]


def as_it_is(data: bytes) -> bytes:
    return data


class Relay:
    """Listens on `port`, and forwards to a port of 127.0.0.1.

    change: what the server sends becomes what it returns. delay_seconds: before that.
    """

    def __init__(self, target: int, change: Change = as_it_is, delay_seconds: float = 0.0) -> None:
        self._target = target
        self._change = change
        self._delay_seconds = delay_seconds
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # stopped
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            self._start(self._forward, client, server, as_it_is, 0.0)
            self._start(self._forward, server, client, self._change, self._delay_seconds)

    def _forward(self, source: socket.socket, target: socket.socket, change: Change, delay_seconds: float) -> None:
        try:
            while data := source.recv(65536):
                time.sleep(delay_seconds)
                target.sendall(change(data))
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has ended already
                pass
        for thread in self._threads:
            thread.join(10)
        for sock in (self._listener, *self._sockets):
            sock.close()


@contextmanager
def relay(target: int, change: Change = as_it_is, delay_seconds: float = 0.0) -> Iterator[str]:
    """Return the address of a relay, host and port."""
    made = Relay(target, change, delay_seconds)
    try:
        yield f"127.0.0.1:{made.port}"
    finally:
        made.stop()
