"""Fragments become messages (RFC 6455, 5.4), within bounds of bytes, of fragments and of time."""

from __future__ import annotations

import codecs

from websockets.frames import Frame, Opcode

from ..exceptions import ConnectionClosed

# A fragment costs at least this much of the bound, so that empty ones and ones of a byte cannot go on for ever.
# Autobahn's smallest (9.3.1, 9.4.1: 4 MiB in fragments of 64 bytes) pass, and so does any message of 4,096
# fragments, which is the cap of the websockets package.
FRAGMENT_BYTES = 64
FRAGMENTS_BYTES_AT_LEAST = 4096 * FRAGMENT_BYTES

# A message must arrive within a minute, and the time that its size takes at 16 KiB/s.
MESSAGE_SECONDS = 60
MESSAGE_BYTES_PER_SECOND = 16 * 1024


def seconds_allowed(max_bytes: int) -> float:
    """Return how long one message of up to `max_bytes` may take to arrive."""
    return MESSAGE_SECONDS + max_bytes / MESSAGE_BYTES_PER_SECOND


class Assembler:
    """The fragments of one message. Its bytes are bounded by the protocol, which inflates them."""

    __slots__ = ("charged", "charged_at_most", "decoder", "is_text", "payload")

    def __init__(self, first: Frame, max_bytes: int) -> None:
        self.is_text = first.opcode is Opcode.TEXT
        self.payload = bytearray()
        # so that a text is known to be none before its last fragment is here (8.1: as soon as possible)
        self.decoder = codecs.getincrementaldecoder("utf-8")() if self.is_text else None
        self.charged = 0
        self.charged_at_most = max(max_bytes, FRAGMENTS_BYTES_AT_LEAST)
        self.add(first)

    def add(self, frame: Frame) -> None:
        """Append a fragment. Raises UnicodeDecodeError, or ConnectionClosed (1009) for too many tiny ones."""
        self.charged += max(len(frame.data), FRAGMENT_BYTES)
        if self.charged > self.charged_at_most:
            raise ConnectionClosed(1009, "too many small fragments")
        if self.decoder:
            self.decoder.decode(frame.data, frame.fin)
        self.payload += frame.data


def text_or_binary(frame: Frame) -> tuple[bytes, bool]:
    """Return the payload of an unfragmented message and whether it is text. Raises UnicodeDecodeError."""
    is_text = frame.opcode is Opcode.TEXT
    data = bytes(frame.data)
    if is_text:
        data.decode()
    return data, is_text
