"""An event stream's life in the loop (WHATWG HTML, 9.2): a connection on which only the server speaks.

What its browser has to say comes in requests of their own; see `..posting`.
"""

from __future__ import annotations

import math
import random
import socket
from collections.abc import Sequence
from typing import Any

from websockets.protocol import CLOSING, OPEN, SEND_EOF

from .. import events
from ..exceptions import ConnectionClosed
from ..messages import UNNUMBERED
from .connection import Connection
from .desk import new_key

# Milliseconds after which an EventSource comes back. Each stream has its own time, which it keeps when the server is
# gone without a word, too: so not all come back at once.
MIN_RETRY, MAX_RETRY = 1000, 5000


class StreamProtocol:
    """What a connection asks of a protocol, where nothing is received and the end is an event."""

    __slots__ = ("_waiting", "first_close_code", "state")

    def __init__(self) -> None:
        self.state = OPEN
        self.first_close_code = 1006  # nobody said why
        self._waiting: Sequence[bytes] = ()

    def send_close(self, code: int, reason: str) -> None:
        """End the stream."""
        if self.state is OPEN:
            self.state = CLOSING
            self.first_close_code = code
            self._waiting = (events.closing(code, reason), SEND_EOF)

    fail = send_close

    def data_to_send(self) -> Sequence[bytes]:
        """Return what is to be written."""
        waiting, self._waiting = self._waiting, ()
        return waiting


class EventStream(Connection):
    """An event stream whose request is accepted.

    Its key names it, to its browser alone: whoever knows it can have a message left out here, or say something for it.
    """

    __slots__ = ()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.key = key = new_key()
        self.write(events.opening(random.randint(MIN_RETRY, MAX_RETRY), key))

    def new_protocol(self, max_message_bytes: int, extensions: Any) -> Any:
        return StreamProtocol()

    def attach(self, sock: Any) -> None:
        super().attach(sock)
        self.last_received = math.inf  # it answers no pings: the kernel tells, which wants them acknowledged in time
        if self.sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = int(self.reactor.settings.ping_timeout * 1000)
            try:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)  # RFC 5482
            except OSError:  # a unix socket
                pass

    def on_joined(self) -> None:
        positions = self.owner.positions(self) if self.framing & UNNUMBERED and self.is_open else None
        if positions is not None:
            self.framing &= ~UNNUMBERED
            if standing := events.standing(positions):
                self.write(standing)
        super().on_joined()

    def ping(self, heartbeat: bytes) -> None:
        """Keep proxies from cutting the stream, and find out whether its browser is still there.

        A page does not see comments. One that speaks wsredis.v1 gets a pong, for it is to notice a dead network.
        """
        if self.dialogue is None:
            self.write(events.COMMENT)
        else:
            self.dialogue.tell_pong()

    def frame_of(self, text: bytes) -> bytes:
        return events.text(text)

    def hear(self, text: bytes) -> None:
        """Do what the browser asks for by wsredis.v1, in a request of its own."""
        if not (self.is_open and self.dialogue is not None):
            return
        self.received += 1
        try:
            self.dialogue.on_message(text, True)
        except ConnectionClosed as closed:
            self.fail(closed.code, closed.reason)

    def receive(self, data: bytes) -> None:
        """Ignore what comes after the request."""
