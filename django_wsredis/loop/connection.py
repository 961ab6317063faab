"""One socket's life in the loop, from its handshake to its end. Knows no channels and no Redis.

All methods run in the loop's thread; none blocks.
"""

from __future__ import annotations

import _socket
import logging
import socket
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from websockets.protocol import OPEN, SEND_EOF

from ..messages import UNCOMPRESSED
from ..peer import NOBODY, Peer
from .outbox import Source
from .reactor import READ, Reactor
from .writer import Writer

READ_BYTES = 64 * 1024  # at one readiness: then the other sockets have their turn
CLOSE_SECONDS = 2.0  # for the peer's answer to a close frame, and to read what was sent before it

logger = logging.getLogger("django_wsredis.connection")


class Owner(Protocol):
    """Who is told what happens to a connection."""

    def on_message(self, connection: Connection, payload: bytes, is_text: bool) -> None:
        """The peer sent a message."""

    def on_pong(self, connection: Connection) -> None:
        """The peer answered a ping."""

    def on_waiting(self, connection: Connection) -> None:
        """Something waits for the peer: `check()` is to be called from time to time, until it returns False."""

    def positions(self, connection: Connection) -> Mapping[bytes, bytes | None] | None:
        """Return where it stands in its channels; None while it is on its way in to one of them."""

    def on_leave(self, connection: Connection) -> None:
        """It may be sent no more messages: its closing handshake has begun."""

    def on_gone(self, connection: Connection) -> None:
        """It is over, and everything that it had is free."""


class Connection(Writer):
    """A websocket or an event stream whose handshake is accepted.

    It begins without its socket: what is written until `attach()` waits in the outbox.

    peer: who is at the other end. visitor: of its `Accepted`, what is needed to decide again what it may. groups: of
    its `Granted`; of a socket that speaks wsredis.v1 its dialogue knows those of each facility.
    max_message_bytes: if it is not the setting.
    """

    takes_frames = True  # whether what is published is written to it; else it wants the messages, by `send()`

    __slots__ = (
        "_abort_timer",
        "_has_left",
        "_is_gone",
        "_reader",
        "channels",
        "dialogue",
        "echo",
        "groups",
        "key",
        "last_received",
        "owner",
        "peer",
        "protocol",
        "publish_to",
        "received",
        "round_trip",
        "sent_apart",
        "slot",
        "visitor",
        "when_flushed",
    )

    def __init__(
        self,
        reactor: Reactor,
        owner: Owner,
        *,
        extensions: Any = (),
        framing: int = UNCOMPRESSED,
        echo: bool = False,
        publish_to: Any = None,
        peer: Peer = NOBODY,
        visitor: bytes = b"",
        groups: str | None = None,
        max_message_bytes: int | None = None,
    ) -> None:
        super().__init__(reactor, framing)
        self.owner = owner
        self.peer = peer
        self.visitor = visitor
        self.groups = groups
        self.echo = echo
        self.publish_to = publish_to
        self.key: bytes | None = None
        self.channels: tuple[bytes, ...] = ()
        self.slot = 0  # of the keepalive
        self.protocol = self.new_protocol(max_message_bytes or reactor.settings.max_message_bytes, extensions)
        self.last_received = reactor.now()
        self.received = 0  # messages
        self.sent_apart = 0  # messages that were not sent to all of a channel, less those that this one missed
        self.round_trip: float | None = None  # in seconds, of the last ping and its pong
        self.dialogue: Any = None  # of a socket that speaks wsredis.v1: what it says and is told beside messages
        self.when_flushed: Callable[[], None] | None = None  # called when nothing waits any more
        self._has_left = self._is_gone = False
        self._reader: Any = None
        self._abort_timer: Any = None

    # What differs between websockets and event streams

    @abstractmethod
    def new_protocol(self, max_message_bytes: int, extensions: Any) -> Any:
        """Return what says how to close."""

    @abstractmethod
    def frame_of(self, text: bytes) -> bytes:
        """Return a text as it is written, which is no message."""

    @abstractmethod
    def ping(self, heartbeat: bytes) -> None:
        """Make the peer show that it lives. heartbeat: the frame of HEARTBEAT, b"" without."""

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """The peer sent some bytes."""

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent: no close frame went either way, and the socket is there."""
        return self.protocol.state is OPEN and not self._is_gone

    # Life

    def attach(self, sock: _socket.socket) -> None:
        """Take the socket, whose 101 is already written: send what waits, and begin to read."""
        if self._is_gone:
            sock.close()
            return
        self.sock = sock
        self.last_received = self.reactor.now()
        self._reader = self.reactor.io(sock.fileno(), READ)
        self._reader.start(self._on_readable)
        self.flush()

    def close(self, code: int, reason: str = "") -> None:
        """Start the closing handshake (RFC 6455, 7.1.2); what is in the outbox goes first."""
        if self.is_open:
            self.protocol.send_close(code, reason)
            self.after_protocol()

    def close_slow(self) -> None:
        """Close a peer that does not keep up (1013): what waits for it, but the rest of a begun frame, is dropped."""
        if self.is_open:
            if self.outbox is not None:
                self.outbox.drop()
            logger.info("A socket is closed (1013): it is too slow.")
            self.close(1013, "too slow")

    def close_listener(self, reason: str) -> None:
        """Close a peer that publishes where it may not (1003), which is a mistake of its page: so the log says it."""
        if self.is_open:
            user, facility = self.peer.user or "an anonymous visitor", self.peer.facility
            logger.warning("The socket of %s on %r is closed (1003): %s", user, facility, reason)
            self.close(1003, reason)

    def fail(self, code: int, reason: str = "") -> None:
        """Fail the connection (RFC 6455, 7.1.7): say why, and hear nothing more of it."""
        self.protocol.fail(code, reason)
        self.after_protocol()

    def abort(self) -> None:
        """Free everything at once, without a word to the peer."""
        if self._is_gone:
            return
        self._leave()
        self._is_gone = True
        self.stop_waiting()
        for watcher in (self._reader, self._abort_timer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._reader = self._abort_timer = None
        if self.sock is not None:
            self.sock.close()
            self.sock = None
            self.reactor.closes[self.protocol.first_close_code] += 1
        self.outbox = self.when_flushed = self.dialogue = None
        self.owner.on_gone(self)

    def check(self, now: float) -> bool:
        """Look for a peer that takes its bytes too slowly; return whether to look again later."""
        if self.outbox is not None and now - self.outbox.progressed_at > self.reactor.settings.ping_timeout:
            self.close_slow()
        return not self._is_gone and self.outbox is not None

    def _leave(self) -> None:
        """Get no more messages. Called when the closing handshake begins, and for the last time by `abort()`."""
        if not self._has_left:
            self._has_left = True
            self.owner.on_leave(self)

    def on_joined(self) -> None:
        """All that the channels of a join held has been sent."""
        if self.dialogue is not None:
            self.dialogue.tell_joined()

    def on_blocked(self) -> None:
        self.owner.on_waiting(self)

    def on_flushed(self) -> None:
        if self.when_flushed is not None:
            self.when_flushed()

    def on_missed(self, count: int) -> None:
        super().on_missed(count)
        self.sent_apart -= count

    def missed(self, source: Source, count: int) -> bytes:
        return b"" if self.dialogue is None else self.dialogue.missed(source, count)

    def _on_readable(self) -> None:
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # reset: the peer has gone, or acknowledges nothing any more
            data = b""
        if data:
            self.receive(data)
        else:
            self.abort()

    # Closing

    def after_protocol(self) -> None:
        """Write what the protocol has to say, and end what it ended."""
        if self._is_gone:
            return
        for data in self.protocol.data_to_send():
            if data == SEND_EOF:
                self.when_flushed = self._end
            else:
                self.write(data)
        if self.is_open:
            return
        self._leave()
        if self._abort_timer is None:
            self._abort_timer = self.reactor.timer(CLOSE_SECONDS)
            self._abort_timer.start(self.abort)
        if self.when_flushed is not None and self.outbox is None:
            self.when_flushed()

    def _end(self) -> None:
        """Half-close; the peer's end of stream, or the timer, does the rest.

        To close at once would reset the connection if bytes of the peer are unread, and our last frame be lost.
        """
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.reactor.call_soon(self.abort)
