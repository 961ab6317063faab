"""Messages as server-sent events (WHATWG HTML, 9.2.6), for browsers to which no websocket gets through.

docs/protocol.rst describes them for clients. A line of an event ends at LF, CR or both, so a text that has a CR would
not come as it was: clients of wsredis.v1 get it in base64, others get a LF in its place.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping

CONTENT_TYPE = "text/event-stream"

COMMENT = b":\n\n"  # which browsers do not show to pages: a ping


def message(payload: bytes, is_text: bool, *, header: bytes | None, channel: bytes, id: bytes | None) -> bytes:
    """Return the event of a message; where it is kept the event's id is a `since=` of that channel.

    header: of wsredis.v1, with its newline; then the very same payload can be had from the event.
    """
    number = b"" if id is None else b"id: %b=%b\n" % (channel, id)
    has_cr = is_text and b"\r" in payload
    if not is_text or (has_cr and header is not None):
        return number + _named("text" if is_text else "binary", b64encode((header or b"") + payload))
    if has_cr:
        payload = payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return number + text((header or b"") + payload)


def text(payload: bytes) -> bytes:
    """Return the event of a text without a CR."""
    return b"data: %b\n\n" % payload.replace(b"\n", b"\ndata: ")


def opening(retry_milliseconds: int, key: bytes) -> bytes:
    """Return what a stream begins with: after what time to come back, and the stream's key."""
    return b"retry: %d\n" % retry_milliseconds + _named("hello", b'{"stream":"%b"}' % key)


def standing(positions: Mapping[bytes, bytes | None]) -> bytes:
    """Return what no page sees: a new id, as a `since=` of all channels; b"" where none has a position."""
    found = b",".join(b"%b=%b" % (channel, id) for channel, id in positions.items() if id is not None)
    return b"id: %b\n\n" % found if found else b""


def closing(code: int, reason: str) -> bytes:
    """Return the last event of a stream, which says what a websocket's close frame would."""
    return _named("close", json.dumps({"code": code, "reason": reason}, separators=(",", ":")).encode())


def _named(name: str, data: bytes) -> bytes:
    return b"event: %b\n" % name.encode() + text(data)
