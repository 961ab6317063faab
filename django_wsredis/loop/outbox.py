"""What waits for one socket: bytes that the kernel would not take yet. Exists only while something waits."""

from __future__ import annotations

import _socket
from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Protocol

WRITE_BUFFERS = 64  # frames in one system call


class Source(Protocol):
    """Where a frame comes from whose socket may miss some of its kind; see `WSREDIS["SLOW"]`."""

    channel: bytes
    slow: str


class Outbox:
    """Frames in the order of writing; the first may have gone in part.

    progressed_at: when the kernel last took something, in the loop's time.
    """

    __slots__ = ("_data", "_latest", "_sent", "_sources", "bytes", "progressed_at")

    def __init__(self, now: float) -> None:
        self._data: deque[bytes | memoryview] = deque()
        self._sources: deque[Source | None] = deque()  # of each; None of what must not be left out
        self._latest: dict[Source, int] = {}  # the number of each source's latest frame, counted from the first ever
        self._sent = 0  # frames
        self.bytes = 0
        self.progressed_at = now

    def add(self, data: bytes | memoryview, sent: int = 0, source: Source | None = None) -> None:
        """Append a frame, of which the kernel took `sent` bytes already; only the first one can have begun."""
        if source is not None:
            self._latest[source] = self._sent + len(self._data)
        self._data.append(memoryview(data)[sent:] if sent else data)
        self._sources.append(source)
        self.bytes += len(data) - sent

    def send(self, sock: _socket.socket, now: float) -> None:
        """Send all of it. Raises BlockingIOError when the kernel takes no more, OSError when the peer has gone."""
        while self._data:
            sent = sock.sendmsg(list(islice(self._data, WRITE_BUFFERS)))
            self.progressed_at = now
            self.bytes -= sent
            while sent and sent >= len(self._data[0]):
                sent -= len(self._data.popleft())
                self._sources.popleft()
                self._sent += 1
            if sent:
                self._data[0] = memoryview(self._data[0])[sent:]

    def drop(self) -> None:
        """Forget all but the first frame: of that, some may have gone, and the next would be read as its payload.

        Whether some has gone is not known of TLS: OpenSSL may have begun a record of which it says that nothing went.
        """
        self._set([*zip(self._data, self._sources, strict=True)][:1])

    def replaced_bytes(self, source: Source) -> int:
        """Return how large the frame is that `replace()` would take away; 0 if none of the source waits.

        The first frame stays, as in `drop()`.
        """
        index = self._latest.get(source, 0) - self._sent
        return len(self._data[index]) if index > 0 else 0

    def replace(self, data: bytes, source: Source) -> None:
        """Put a frame into the place of the latest one of the same source, which waits."""
        self.bytes += len(data) - self.replaced_bytes(source)
        self._data[self._latest[source] - self._sent] = data

    def drop_oldest(self, bytes_left: int, notice: Callable[[Source, int], bytes]) -> int:
        """Leave out the oldest frames that may be missed, until no more than so many bytes are left.

        notice: makes a frame that says how many of a source are left out; it stands where the first of them stood.

        Returns how many frames are left out.
        """
        kept: list[tuple[bytes | memoryview, Source | None]] = []
        places: dict[Source, int] = {}
        missed: Counter[Source] = Counter()
        for index, (data, source) in enumerate(zip(self._data, self._sources, strict=True)):
            if index == 0 or source is None or source.slow != "drop" or self.bytes <= bytes_left:
                kept.append((data, source))
                continue
            if source not in missed:
                places[source] = len(kept)
                kept.append((b"", None))
            missed[source] += 1
            self.bytes -= len(data)
        for source, place in places.items():
            kept[place] = (notice(source, missed[source]), None)
        self._set([(data, source) for data, source in kept if data])
        return missed.total()

    def _set(self, frames: Iterable[tuple[bytes | memoryview, Source | None]]) -> None:
        self._data.clear()
        self._sources.clear()
        self._latest.clear()
        self._sent = self.bytes = 0
        for data, source in frames:
            self.add(data, source=source)
