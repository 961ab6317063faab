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

    __slots__ = ("_data", "_is_mid_frame", "bytes", "progressed_at")

    def __init__(self, now: float) -> None:
        self._data: deque[bytes | memoryview] = deque()
        self._is_mid_frame = False
        self.bytes = 0
        self.progressed_at = now

    def add(self, data: bytes, sent: int = 0) -> None:
        """Append a frame, of which the kernel took `sent` bytes already; only the first one can have begun."""
        self._data.append(memoryview(data)[sent:] if sent else data)
        self.bytes += len(data) - sent
        self._is_mid_frame = self._is_mid_frame or sent > 0

    def send(self, sock: _socket.socket, now: float) -> None:
        """Send all of it. Raises BlockingIOError when the kernel takes no more, OSError when the peer has gone."""
        while self._data:
            sent = sock.sendmsg(list(islice(self._data, WRITE_BUFFERS)))
            self.progressed_at = now
            self.bytes -= sent
            while sent and sent >= len(self._data[0]):
                sent -= len(self._data.popleft())
                self._is_mid_frame = False
            if sent:
                self._data[0] = memoryview(self._data[0])[sent:]
                self._is_mid_frame = True

    def drop(self) -> None:
        """Forget all but the rest of a frame that has begun: without that the next would be read as its payload."""
        kept = [self._data[0]] if self._is_mid_frame else []
        self._data = deque(kept)
        self.bytes = sum(map(len, kept))
