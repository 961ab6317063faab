"""What waits for one socket: bytes that the kernel would not take yet. Exists only while something waits."""

from __future__ import annotations

import _socket
from collections import deque
from itertools import islice

WRITE_BUFFERS = 64  # frames in one system call


class Outbox:
    """Frames in the order of writing; the first may have gone in part.

    progressed_at: when the kernel last took something, in the loop's time.
    """

    __slots__ = ("_data", "bytes", "progressed_at")

    def __init__(self, now: float) -> None:
        self._data: deque[bytes | memoryview] = deque()
        self.bytes = 0
        self.progressed_at = now

    def add(self, data: bytes, sent: int = 0) -> None:
        """Append a frame, of which the kernel took `sent` bytes already; only the first one can have begun."""
        self._data.append(memoryview(data)[sent:] if sent else data)
        self.bytes += len(data) - sent

    def send(self, sock: _socket.socket, now: float) -> None:
        """Send all of it. Raises BlockingIOError when the kernel takes no more, OSError when the peer has gone."""
        while self._data:
            sent = sock.sendmsg(list(islice(self._data, WRITE_BUFFERS)))
            self.progressed_at = now
            self.bytes -= sent
            while sent and sent >= len(self._data[0]):
                sent -= len(self._data.popleft())
            if sent:
                self._data[0] = memoryview(self._data[0])[sent:]

    def drop(self) -> None:
        """Forget all but the first frame: of that, some may have gone, and the next would be read as its payload.

        Whether some has gone is not known of TLS: OpenSSL may have begun a record of which it says that nothing went.
        """
        kept = list(islice(self._data, 1))
        self._data = deque(kept)
        self.bytes = sum(map(len, kept))
