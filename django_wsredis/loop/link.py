"""One connection to Redis, in the loop: commands go out, their replies and what is published come in, in one order.

redis-py connects it (address, TLS, login, RESP3) in a native thread; from then on the loop reads and writes the socket
by its own watchers. With RESP3 a connection that is subscribed may issue any command, so a process needs only one.
"""

from __future__ import annotations

import logging
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import hiredis

from ..wording import of_them
from .reactor import READ, WRITE, Reactor

READ_BYTES = 256 * 1024

Reply: TypeAlias = Callable[[Any], None]

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_NOTHING = object()

logger = logging.getLogger("django_wsredis.redis")


class Link:
    """A live connection to Redis.

    on_message(channel, data): something was published to a channel we subscribed to.
    on_read(): all that came together has been handed over.
    on_unsubscribed(channel): we are not subscribed any more, and did not ask for that: its slot has left this node.
    on_lost(reason): the connection is over; called once, unless `close()` ended it.
    """

    def __init__(
        self,
        reactor: Reactor,
        connection: Any,
        *,
        on_message: Callable[[bytes, bytes], None],
        on_read: Callable[[], None],
        on_lost: Callable[[str], None],
        on_unsubscribed: Callable[[bytes], None] | None = None,
    ) -> None:
        self._reactor = reactor
        self._connection = connection
        self._on_message = on_message
        self._on_read = on_read
        self._on_unsubscribed = on_unsubscribed
        self._on_lost: Callable[[str], None] | None = on_lost
        self._socket: Any = connection._sock
        self._socket.setblocking(False)
        self._parser = hiredis.Reader(notEnoughData=_NOTHING, replyError=hiredis.ReplyError)
        self._waiting: deque[Reply] = deque()
        self._unsent = bytearray()
        self._flush_is_due = False
        self.has_heard = True  # anything, since this was last set to False
        self._reader = reactor.io(self._socket.fileno(), READ)
        self._writer = reactor.io(self._socket.fileno(), WRITE)
        self._reader.start(self._on_readable)

    def call(self, *command: bytes | str | int, on_reply: Reply) -> None:
        """Send a command; all that are called in one turn of the loop go out together.

        on_reply gets the reply: a hiredis.ReplyError where Redis refused it. What confirms a SUBSCRIBE of one
        channel is pushed, but in the place of a reply, so it is given here too.
        """
        if command[0] == "SUNSUBSCRIBE":
            # What confirms it looks as what comes when nobody asked; or it is refused, as the slot has left already.
            # So an UNSUBSCRIBE follows: what comes before its reply belongs to the one before.
            name = command[1]
            assert isinstance(name, bytes)
            self._waiting.append(_Unsubscribing(name))
            self._unsent += hiredis.pack_command(command)  # type: ignore[arg-type]
            command = ("UNSUBSCRIBE", name)
        self._waiting.append(on_reply)
        self._unsent += hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one
        if not self._flush_is_due:
            self._flush_is_due = True
            self._reactor.call_soon(self._flush)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over: what was not answered never will be."""
        return self._on_lost is None

    def finish(self) -> None:
        """Send what was called just now, as much as goes at once, and close."""
        self._flush()
        self.close()

    def close(self) -> None:
        """End the connection; nothing is called back any more."""
        self._on_lost = None
        self._waiting.clear()
        for watcher in (self._reader, self._writer):
            watcher.stop()
            watcher.close()
        self._connection.disconnect()

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._on_lost is None:
            return
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except _WOULD_BLOCK:
            self._writer.start(self._flush)
            return
        except OSError as error:
            self._lost(str(error))
            return
        self._writer.stop()

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
            while pending := getattr(self._socket, "pending", int)():  # TLS: decrypted, so no watcher tells of it
                data += self._socket.recv(pending)
        except _WOULD_BLOCK:
            return
        except OSError as error:
            self._lost(str(error))
            return
        if not data:
            self._lost("Redis closed the connection")
            return
        self.has_heard = True
        self._parser.feed(data)
        try:
            while (reply := self._parser.gets(False)) is not _NOTHING:
                try:
                    self._dispatch(reply)
                except Exception:  # one message or reply must not end all others
                    logger.exception("What Redis sent could not be handled.")
                if self._on_lost is None:
                    return
        except hiredis.ProtocolError as error:
            self._lost(str(error))
        self._on_read()

    def _dispatch(self, reply: Any) -> None:
        if isinstance(reply, hiredis.PushNotification):
            kind = reply[0]
            if kind == b"message" or kind == b"smessage":
                self._on_message(reply[1], reply[2])
                return
            if kind == b"sunsubscribe":
                self._unsubscribed(reply[1])
                return
            if kind == b"unsubscribe" and isinstance(self._waiting[0], _Unsubscribing):
                self._waiting.popleft()
            elif kind not in (b"subscribe", b"ssubscribe", b"unsubscribe"):  # what else Redis may push concerns nobody
                return
        self._waiting.popleft()(reply)

    def _unsubscribed(self, name: bytes) -> None:
        first = self._waiting[0] if self._waiting else None
        was_asked = isinstance(first, _Unsubscribing) and first.name == name
        if not was_asked and self._on_unsubscribed is not None:
            self._on_unsubscribed(name)

    def _lost(self, reason: str) -> None:
        on_lost = self._on_lost
        if self._waiting:  # what browsers published just now may be among them: it is not sent twice
            count = len(self._waiting)
            reason += f" ({of_them(count, 'command was', 'commands were')} not answered)"
        self.close()
        if on_lost is not None:
            on_lost(reason)


class _Unsubscribing:
    """The place of a SUNSUBSCRIBE among those that wait for a reply; called with one, it was refused."""

    def __init__(self, name: bytes) -> None:
        self.name = name

    def __call__(self, reply: Any) -> None:
        pass
