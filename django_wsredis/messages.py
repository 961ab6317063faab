"""A message: its payload, how it travels through Redis, and its frame, encoded once for all sockets.

In Redis a text is just itself, so `redis-cli PUBLISH` and publishers in any language work. Where there is
more to say it travels in an envelope, whose first byte can begin no UTF-8 text:

    0xFF 'W' flags [length id] [length sender] [length addresses] [length reply] payload

Lengths are one byte, of addresses four (big-endian): they may be those of many users. The payload of a request is for
the workers themselves; see control.py.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.utils.functional import Promise
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from . import events
from .subprotocol import message_header

MAGIC = b"\xffW"
BINARY, HAS_ID, HAS_SENDER, HAS_ADDRESSES, IS_REQUEST, HAS_REPLY = 1, 2, 4, 8, 16, 32

# How a socket's frames are made, as one number: the LZ77 window of those that are compressed, or UNCOMPRESSED; and V1
# for sockets that speak wsredis.v1, whose messages have a header. EVENT is for event streams, which have no frames;
# UNNUMBERED for those that have not got all yet that several channels hold: no id could say where they are.
UNCOMPRESSED = 0
V1 = 16
EVENT = 32
UNNUMBERED = 64

EVERYWHERE_CHANNEL = b"everywhere"  # the name for clients of what is published to every facility


class Message:
    """What is delivered to sockets.

    `id` is the message's id in its stream (b"1700000000000-0"), None if it is not kept. `sender` is the key of
    the connection that it came from, None if that wants it back or it came from Django. `reply` names the list in
    Redis where each worker says how many sockets got it, None if nobody asks. `channel` is the name that clients know
    its channel by; the hub sets it.
    """

    __slots__ = ("_frames", "addresses", "channel", "id", "is_request", "is_text", "payload", "reply", "sender")

    def __init__(
        self,
        payload: bytes,
        is_text: bool,
        *,
        id: bytes | None = None,
        sender: bytes | None = None,
        addresses: Sequence[bytes] = (),
        reply: bytes | None = None,
        is_request: bool = False,
    ) -> None:
        self.payload = payload
        self.is_text = is_text
        self.id = id
        self.sender = sender
        self.addresses = addresses
        self.reply = reply
        self.is_request = is_request
        self.channel = EVERYWHERE_CHANNEL
        self._frames: Frames | None = None

    @property
    def data(self) -> str | bytes:
        """The payload as Python sees it: str for a text, bytes for binary data."""
        return self.payload.decode() if self.is_text else self.payload

    def frames(self, compress_from: int = 0) -> Frames:
        """Return the message's frames by framing; messages of less than `compress_from` bytes stay uncompressed."""
        if self._frames is None:
            # not of the message itself: a cycle would keep it until the garbage collector comes
            self._frames = Frames(self.payload, self.is_text, self.channel, self.id, len(self.payload) >= compress_from)
        return self._frames


class Frames(dict[int, bytes]):
    """A message as a server's frame (RFC 6455, 5.2) for each framing, encoded when it is first looked up.

    With permessage-deflate (RFC 7692, 7.1.2) there is no context takeover, so one compressed frame serves all sockets
    that agreed on its window, 9 to 15. For event streams there are events in their place.
    """

    def __init__(
        self, payload: bytes, is_text: bool, channel: bytes, id: bytes | None, is_worth_compressing: bool
    ) -> None:
        self._payload = payload
        self._is_text = is_text
        self._channel = channel
        self._id = id
        self._is_worth_compressing = is_worth_compressing

    def __missing__(self, framing: int) -> bytes:
        window_bits = framing & ~V1
        if framing & EVENT:
            frame = self._event(framing & V1, None if framing & UNNUMBERED else self._id)
        elif window_bits and not self._is_worth_compressing:
            frame = self[framing & V1]
        else:
            frame = self._encode(framing & V1, [deflate(window_bits)] if window_bits else [])
        self[framing] = frame
        return frame

    def _encode(self, v1: int, extensions: Sequence[PerMessageDeflate]) -> bytes:
        data = message_header(self._channel, self._id) + self._payload if v1 else self._payload
        opcode = Opcode.TEXT if self._is_text else Opcode.BINARY
        return Frame(opcode, data).serialize(mask=False, extensions=extensions)

    def _event(self, v1: int, id: bytes | None) -> bytes:
        header = message_header(self._channel, self._id) if v1 else None
        return events.message(self._payload, self._is_text, header=header, channel=self._channel, id=id)


class JoinedFrames(dict[int, bytes]):
    """The frames of several messages as one piece of data, by framing as in `Frames`."""

    def __init__(self, messages: Sequence[Frames]) -> None:
        self._messages = messages

    def __missing__(self, framing: int) -> bytes:
        joined = self[framing] = b"".join(frames[framing] for frames in self._messages)
        return joined


def text_frame(payload: bytes) -> bytes:
    """Return the frame of a short text, which is not compressed."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


def deflate(window_bits: int) -> PerMessageDeflate:
    """Return permessage-deflate without context takeover in either direction, so that no socket keeps any state."""
    return PerMessageDeflate(
        remote_no_context_takeover=True,
        local_no_context_takeover=True,
        remote_max_window_bits=15,
        local_max_window_bits=window_bits,
        # one message is compressed once for all its sockets, so a small memory level would save nothing
        compress_settings={"level": zlib.Z_DEFAULT_COMPRESSION},
    )


def to_payload(message: Any) -> tuple[bytes, bool]:
    """Return the payload and whether it is text: str as it is, bytes as binary data, all else as JSON.

    Raises TypeError for what JSON cannot hold, and for a text that UTF-8 cannot.
    """
    if isinstance(message, (bytes, bytearray, memoryview)):
        return bytes(message), False
    if isinstance(message, Promise):  # a lazy translation
        message = str(message)
    if not isinstance(message, str):
        try:
            message = json.dumps(message, cls=DjangoJSONEncoder, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"A message is str, bytes, or what JSON can hold: {error}") from None
    try:
        return message.encode(), True
    except UnicodeEncodeError as error:
        raise TypeError(f"UTF-8 cannot hold this text: {error}") from None


def encode(message: Message) -> bytes:
    """Return what is published to Redis: the bare text where that is all, else an envelope."""
    head, tail = envelope(message)
    if message.id is None and head[-1] == 0:
        return message.payload
    if message.id is None:
        return head + tail
    return MAGIC + bytes([head[-1] | HAS_ID, len(message.id)]) + message.id + tail


def envelope(message: Message) -> tuple[bytes, bytes]:
    """Return the envelope's first three bytes and what follows the id, for one whose id Redis will give."""
    flags, tail = 0, b""
    if not message.is_text:
        flags |= BINARY
    if message.sender is not None:
        flags |= HAS_SENDER
        tail += bytes([len(message.sender)]) + message.sender
    if message.addresses:
        flags |= HAS_ADDRESSES
        addresses = b"\n".join(message.addresses)
        tail += len(addresses).to_bytes(4, "big") + addresses
    if message.reply is not None:
        flags |= HAS_REPLY
        tail += bytes([len(message.reply)]) + message.reply
    if message.is_request:
        flags |= IS_REQUEST
    return MAGIC + bytes([flags]), tail + message.payload


def decode(data: bytes, id: bytes | None = None) -> Message:
    """Read what came from Redis; `id` is given for an entry of a stream. Raises ValueError for a broken envelope."""
    if not data.startswith(MAGIC):
        return Message(data, _is_utf8(data), id=id)
    flags, position = data[2] if len(data) > 2 else 255, 3
    if flags > 63:
        raise ValueError("an envelope of an unknown kind")
    sender = reply = None
    addresses: Sequence[bytes] = ()
    if flags & HAS_ID:
        id, position = _read(data, position, 1)
    if flags & HAS_SENDER:
        sender, position = _read(data, position, 1)
    if flags & HAS_ADDRESSES:
        joined, position = _read(data, position, 4)
        addresses = joined.split(b"\n")
    if flags & HAS_REPLY:
        reply, position = _read(data, position, 1)
    return Message(
        data[position:],
        not flags & BINARY,
        id=id,
        sender=sender,
        addresses=addresses,
        reply=reply,
        is_request=bool(flags & IS_REQUEST),
    )


def _read(data: bytes, position: int, length_bytes: int) -> tuple[bytes, int]:
    start = position + length_bytes
    end = start + int.from_bytes(data[position:start], "big")
    if len(data) < end or len(data) < start:
        raise ValueError("an envelope that ends too early")
    return data[start:end], end


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def id_key(id: bytes) -> tuple[int, int]:
    """Return a stream id as numbers, in the order of which messages were stored."""
    milliseconds, _, sequence = id.partition(b"-")
    return int(milliseconds), int(sequence or 0)
