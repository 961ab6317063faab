"""The sending side of a socket: what the kernel takes goes at once, the rest waits. Knows frames as bytes alone.

A socket is written from one place, `write_all()`: first what its outbox holds, then the frame, so nothing interleaves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from ..messages import Message
from .outbox import Outbox, Source
from .reactor import WRITE, Reactor


class Writer(ABC):
    """Writes to one socket without ever blocking.

    It begins without its socket: what is written until `sock` is set and `flush()` called waits in the outbox.

    framing: of the frames that this socket gets; see `Frames`.
    """

    # A class of its own has these at the beginning of each object, in one line of the processor's cache. For fan-out
    # to a thousand sockets that matters: everything of a socket has left the cache when its turn comes again.
    __slots__ = ("_has_overflowed", "_watcher", "framing", "outbox", "reactor", "sock")

    def __init__(self, reactor: Reactor, framing: int) -> None:
        self.reactor = reactor
        self.framing = framing
        self.sock: Any = None  # a _socket.socket while there is one
        self.outbox: Outbox | None = Outbox(reactor.now())  # None: the kernel took all there was
        self._has_overflowed = False  # a frame found no room: none may follow it, and the peer is about to be closed
        self._watcher: Any = None

    # For whoever is derived

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether messages may be sent."""

    @abstractmethod
    def abort(self) -> None:
        """The peer has gone."""

    @abstractmethod
    def close_slow(self) -> None:
        """More waits for the peer than may."""

    @abstractmethod
    def on_blocked(self) -> None:
        """Something waits for the peer."""

    @abstractmethod
    def on_flushed(self) -> None:
        """Nothing waits any more."""

    @abstractmethod
    def missed(self, source: Source, count: int) -> bytes:
        """Return the frame that says how many messages were left out, b"" where the peer cannot be told."""

    # Writing

    def send(self, message: Message) -> None:
        """Write a message, compressed if this socket agreed on that and it is worth it."""
        write_all((self,), message.frames(self.reactor.settings.compression))

    def write(self, data: bytes) -> None:
        """Write a frame."""
        write_all((self,), {self.framing: data})

    def keep(self, data: bytes, sent: int, source: Source | None) -> None:
        """Keep what the kernel did not take of a frame, up to MAX_OUTBOX_BYTES."""
        if self.outbox is None:
            self.outbox = Outbox(self.reactor.now())
            self._wait_until_writable()
        elif self._has_overflowed and self.is_open:
            return
        replaced_bytes = 0 if source is None or source.slow != "latest" else self.outbox.replaced_bytes(source)
        if self.is_open and not self._has_room(len(data) - replaced_bytes, source):
            self._has_overflowed = True
            self.reactor.call_soon(self.close_slow)
        elif source is not None and replaced_bytes:
            self.outbox.replace(data, source)
            self.on_missed(1)
        else:
            self.outbox.add(data, sent, source)

    def _has_room(self, size: int, source: Source | None) -> bool:
        """Tell whether a frame may wait, too; for one of a source that is dropped, make room by its like."""
        assert self.outbox is not None
        limit = self.reactor.settings.max_outbox_bytes
        if source is not None and source.slow == "drop" and self.outbox.bytes + size > limit:
            # down to the half, so that not every frame needs a walk over all of them
            self.on_missed(self.outbox.drop_oldest(limit // 2, self.missed))
        return not self.outbox.bytes or self.outbox.bytes + size <= limit

    def on_missed(self, count: int) -> None:
        """So many messages were left out, as the socket is slow."""
        self.reactor.dropped += count

    def flush(self) -> None:
        """Send what the outbox holds, as much as the kernel takes."""
        if self.outbox is None:
            return
        try:
            self.outbox.send(self.sock, self.reactor.now())
        except BlockingIOError:
            self._wait_until_writable()
            return
        except OSError:
            self.abort()
            return
        if self._has_overflowed and self.is_open:
            self._has_overflowed = False
            self.close_slow()  # before the next message could be written
            self.flush()
            return
        self.outbox = None
        self.stop_waiting()
        self.on_flushed()

    def _wait_until_writable(self) -> None:
        if self._watcher is None:
            self._watcher = self.reactor.io(self.sock.fileno(), WRITE)
            self._watcher.start(self.flush)
            self.on_blocked()

    def stop_waiting(self) -> None:
        """Free the watcher, if there is one."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None


def write_all(
    writers: Iterable[Writer],
    frames: Mapping[int, bytes],
    *,
    but: Writer | None = None,
    source: Source | None = None,
) -> None:
    """Write to each its frame by its framing: the hot path, with no call but the kernel's.

    source: of frames that a slow socket may miss.

    Closes nothing at once, as the caller may be iterating over its sockets: that happens soon after.
    """
    for writer in writers:
        if writer is but:
            continue
        data = frames[writer.framing]
        sent = 0
        if writer.outbox is None:
            try:
                sent = writer.sock.send(data)
            except BlockingIOError:
                pass
            except OSError:  # reset: the peer has gone
                writer.reactor.call_soon(writer.abort)
                continue
            if sent == len(data):
                continue
        writer.keep(data, sent, source)
