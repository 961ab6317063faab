"""The subprotocol wsredis.v1: each message begins with a line of JSON, its header; a payload follows after a newline.

docs/protocol.rst describes it for clients. A channel's name holds only characters that JSON needs no escape for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .exceptions import ConnectionClosed

NAME = "wsredis.v1"

MAX_HEADER_BYTES = 8 * 1024

PONG = b'{"type":"pong"}'


def message_header(channel: bytes, id: bytes | None) -> bytes:
    """Return the header of a message, with its newline."""
    if id is None:
        return b'{"channel":"%b"}\n' % channel
    return b'{"channel":"%b","id":"%b"}\n' % (channel, id)


def ack(facility: str, positions: Mapping[bytes, bytes | None]) -> bytes:
    """Say that a facility's channels are subscribed, and where in each the client stands."""
    channels = {name.decode(): None if id is None else id.decode() for name, id in positions.items()}
    return _encode({"type": "ack", "facility": facility, "channels": channels})


def gap(channel: bytes, *, since: bytes | None = None, missed: int | None = None) -> bytes:
    """Say that messages are missing here: those after a position, or so many."""
    found: dict[str, Any] = {"type": "gap", "channel": channel.decode()}
    if since is not None:
        found["since"] = since.decode()
    if missed is not None:
        found["missed"] = missed
    return _encode(found)


def error(facility: str, status: int) -> bytes:
    """Say that a subscription is refused, with the status that a handshake would have got."""
    return _encode({"type": "error", "status": status, "facility": facility})


def unsubscribed(facility: str) -> bytes:
    """Say that nothing more of a facility will come."""
    return _encode({"type": "unsubscribed", "facility": facility})


def parse(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the payload of what a client sent. Raises ConnectionClosed (1008)."""
    line, _, payload = data.partition(b"\n")
    try:
        header = json.loads(line) if len(line) <= MAX_HEADER_BYTES else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or not all(isinstance(value, str) for value in header.values()):
        raise ConnectionClosed(1008, "a message does not begin with a header of wsredis.v1")
    return header, payload


def _encode(found: dict[str, Any]) -> bytes:
    return json.dumps(found, separators=(",", ":")).encode()
