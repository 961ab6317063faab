"""Payloads, envelopes, and frames as the `websockets` package's client reads them."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from typing import Any

import pytest
from django.utils.translation import gettext_lazy, override
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, Protocol

from django_wsredis.messages import (
    BINARY,
    HAS_ADDRESSES,
    HAS_ID,
    HAS_SENDER,
    MAGIC,
    UNCOMPRESSED,
    V1,
    JoinedFrames,
    Message,
    decode,
    encode,
    envelope,
    id_key,
    text_frame,
    to_payload,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
payloads = texts.map(lambda text: (text.encode(), True)) | st.binary().map(lambda data: (data, False))
stream_ids = st.builds(lambda a, b: b"%d-%d" % (a, b), st.integers(0, 2**63), st.integers(0, 2**63))
senders = st.binary(min_size=1, max_size=255)
addresses = st.lists(
    st.binary(min_size=1, max_size=60).filter(lambda name: b"\n" not in name), min_size=1, max_size=5
).map(tuple)


def parts(message: Message) -> tuple[Any, ...]:
    return message.payload, message.is_text, message.id, message.sender, tuple(message.addresses)


@given(payloads, st.none() | stream_ids, st.none() | senders, st.just(()) | addresses)
@example((b"", True), None, None, ())
@example((b"", False), None, None, ())
@example((MAGIC, False), None, None, ())
@example((b"x", True), b"1-1", b"s" * 255, (b"a" * 60_000,))
def test_a_message_survives_its_way_through_redis(
    payload: tuple[bytes, bool], id: bytes | None, sender: bytes | None, addresses: tuple[bytes, ...]
) -> None:
    message = Message(*payload, id=id, sender=sender, addresses=addresses)
    assert parts(decode(encode(message))) == parts(message)


@given(payloads, st.none() | senders, stream_ids)
def test_an_entry_of_a_stream_has_its_id_whatever_its_payload(
    payload: tuple[bytes, bool], sender: bytes | None, id: bytes
) -> None:
    kept = b"".join(envelope(Message(*payload, sender=sender)))
    assert parts(decode(kept, id)) == (*payload, id, sender, ())


@given(payloads, st.none() | senders, stream_ids)
def test_what_the_script_puts_together_is_the_envelope_with_the_id(
    payload: tuple[bytes, bool], sender: bytes | None, id: bytes
) -> None:
    head, tail = envelope(Message(*payload, sender=sender))
    published = head[:-1] + bytes([head[-1] | HAS_ID]) + bytes([len(id)]) + id + tail
    assert published == encode(Message(*payload, sender=sender, id=id))


@given(texts)
def test_a_text_that_is_all_travels_bare(text: str) -> None:
    assert encode(Message(text.encode(), True)) == text.encode()
    assert parts(decode(text.encode())) == (text.encode(), True, None, None, ())


@given(st.binary())
@example(b"hello")
def test_binary_data_always_travels_in_an_envelope(data: bytes) -> None:
    assert encode(Message(data, False)) == MAGIC + bytes([BINARY]) + data


def test_no_text_begins_like_an_envelope() -> None:
    with pytest.raises(UnicodeDecodeError):
        MAGIC.decode()


@given(st.binary(min_size=1).filter(lambda data: not data.startswith(MAGIC)))
def test_what_others_publish_is_text_if_it_is_utf8(data: bytes) -> None:
    message = decode(data)
    try:
        assert (message.data, message.is_text) == (data.decode(), True)
    except UnicodeDecodeError:
        assert (message.data, message.is_text) == (data, False)


@pytest.mark.parametrize(
    "data",
    [
        MAGIC,
        MAGIC + bytes([64]),
        MAGIC + bytes([255]) + b"abc",
        MAGIC + bytes([HAS_ID]),
        MAGIC + bytes([HAS_ID, 4]) + b"1-1",
        MAGIC + bytes([HAS_SENDER, 1]),
        MAGIC + bytes([HAS_ID | HAS_SENDER, 3]) + b"1-1",
        MAGIC + bytes([HAS_ADDRESSES, 0]),
        MAGIC + bytes([HAS_ADDRESSES, 0, 2]) + b"a",
    ],
)
def test_a_broken_envelope_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="envelope"):
        decode(data)


@given(st.binary(max_size=20))
def test_any_envelope_is_read_or_a_value_error(rest: bytes) -> None:
    try:
        message = decode(MAGIC + rest)
    except ValueError:
        return
    assert len(message.payload) < len(rest)


def test_an_envelope_loses_nothing_when_it_is_cut_and_read() -> None:
    data = encode(Message(b"p", True, id=b"12-3", sender=b"me", addresses=[b"a", b"b"]))
    for length in range(3, len(data) - 1):  # the last byte is the payload
        with pytest.raises(ValueError, match="envelope"):
            decode(data[:length])


def test_stream_ids_sort_as_numbers() -> None:
    ids = [b"9-0", b"9-2", b"9-10", b"10-0", b"1700000000000-1"]
    backwards = ids[::-1]
    assert sorted(backwards, key=id_key) == ids
    assert id_key(b"7") == (7, 0)


# Frames


def frame_of(message: Message, window_bits: int, compress_from: int = 0) -> bytes:
    return message.frames(compress_from)[window_bits]


def received(data: bytes, window_bits: int = UNCOMPRESSED) -> list[Frame]:
    """Return the frames that a client parses, which agreed on permessage-deflate without context takeover."""
    client = Protocol(CLIENT, max_size=None)
    if window_bits:
        client.extensions = [PerMessageDeflate(True, True, window_bits, 15)]
    client.receive_data(data)
    frames = client.events_received()
    assert client.parser_exc is None
    return frames


@pytest.mark.parametrize("window_bits", [UNCOMPRESSED, *range(9, 16)])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
@pytest.mark.parametrize("is_text", [True, False])
def test_a_client_reads_the_frame(window_bits: int, size: int, is_text: bool) -> None:
    payload = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    (frame,) = received(frame_of(Message(payload, is_text), window_bits), window_bits)
    assert (frame.opcode, frame.fin) == (Opcode.TEXT if is_text else Opcode.BINARY, True)
    assert bytes(frame.data) == payload


@given(payloads, st.sampled_from([UNCOMPRESSED, 9, 12, 15]), st.integers(0, 30))
def test_every_client_reads_every_payload(payload: tuple[bytes, bool], window_bits: int, compress_from: int) -> None:
    data, is_text = payload
    message = Message(data, is_text)
    frames = received(frame_of(message, window_bits, compress_from) * 2, window_bits)
    assert [bytes(frame.data) for frame in frames] == [data, data]


def test_one_compressed_frame_serves_all_who_keep_no_context() -> None:
    message = Message(b"abcabcabc" * 1000, True)
    other = Message(b"xyzxyz" * 1000, True)
    frame = frame_of(message, 15)
    assert frame is frame_of(message, 15)
    assert len(frame) < len(message.payload) / 10
    assert frame[0] & 0x40, "RSV1 says that it is compressed"
    # each client has read something else before
    for before in ([], [other], [message, other], [other, other]):
        frames = received(b"".join(frame_of(m, 15) for m in before) + frame, 15)
        assert bytes(frames[-1].data) == message.payload


@given(st.lists(payloads, max_size=5), st.sampled_from([UNCOMPRESSED, 9, 15]), st.integers(0, 20))
def test_frames_of_several_messages_can_be_joined(
    given: list[tuple[bytes, bool]], window_bits: int, compress_from: int
) -> None:
    joined = JoinedFrames([Message(*payload).frames(compress_from) for payload in given])[window_bits]
    frames = received(joined, window_bits)
    assert [(bytes(frame.data), frame.opcode is Opcode.TEXT) for frame in frames] == given


def test_a_smaller_window_makes_another_frame_that_its_clients_can_read() -> None:
    far_apart = bytes(range(256)) * 2 + b"\0" * 2000 + bytes(range(256)) * 2
    message = Message(far_apart, False)
    for window_bits in range(9, 16):
        (frame,) = received(frame_of(message, window_bits), window_bits)
        assert bytes(frame.data) == far_apart
    assert frame_of(message, 9) != frame_of(message, 15)


def test_what_is_too_small_is_not_compressed() -> None:
    plain = b"\x81\x64" + b"a" * 100
    small, large = Message(b"a" * 100, True), Message(b"a" * 100, True)
    assert frame_of(small, 15, 101) == frame_of(small, UNCOMPRESSED, 101) == plain
    assert frame_of(large, 15, 100) != frame_of(large, UNCOMPRESSED, 100) == plain


def test_servers_frames_are_not_masked() -> None:
    assert frame_of(Message(b"hi", True), UNCOMPRESSED) == b"\x81\x02hi"
    assert frame_of(Message(b"", False), UNCOMPRESSED) == b"\x82\x00"


def headed(message: Message, framing: int, compress_from: int = 0) -> tuple[dict[str, Any], bytes]:
    """Return what a client that speaks wsredis.v1 reads: the header and the payload."""
    (frame,) = received(frame_of(message, framing, compress_from), framing & ~V1)
    header, newline, payload = bytes(frame.data).partition(b"\n")
    assert newline
    assert (frame.opcode is Opcode.TEXT) == message.is_text
    return json.loads(header), payload


@given(payloads, st.none() | stream_ids, st.sampled_from([UNCOMPRESSED, 9, 15]), st.integers(0, 30))
@example((b"\n", True), b"1-0", UNCOMPRESSED, 0)
@example((b"", False), None, UNCOMPRESSED, 0)
def test_a_frame_of_v1_says_the_channel_and_where_it_is_kept_the_id(
    payload: tuple[bytes, bool], id: bytes | None, window_bits: int, compress_from: int
) -> None:
    message = Message(*payload, id=id)
    message.channel = b"group:staff:chat"
    where = {"channel": "group:staff:chat"} if id is None else {"channel": "group:staff:chat", "id": id.decode()}
    assert headed(message, window_bits | V1, compress_from) == (where, payload[0])
    (plain,) = received(frame_of(message, window_bits, compress_from), window_bits)
    assert bytes(plain.data) == payload[0]


def test_what_has_no_channel_of_its_own_is_everywhere() -> None:
    assert headed(Message(b"x", True), V1) == ({"channel": "everywhere"}, b"x")


def test_sockets_with_and_without_v1_share_no_frame_but_those_alike_do() -> None:
    message = Message(b"a" * 100, True, id=b"1-0")
    frames = message.frames(200)
    assert frames[V1] is frames[V1 | 15] is frames[V1 | 9]
    assert frames[UNCOMPRESSED] is frames[15]
    assert frames[V1] != frames[UNCOMPRESSED]


def test_frames_of_v1_can_be_joined() -> None:
    messages = [Message(b"one", True, id=b"1-0"), Message(b"two", False)]
    one, two = received(JoinedFrames([message.frames() for message in messages])[V1])
    assert bytes(one.data) == b'{"channel":"everywhere","id":"1-0"}\none'
    assert (bytes(two.data), two.opcode) == (b'{"channel":"everywhere"}\ntwo', Opcode.BINARY)


def test_a_text_frame_is_one() -> None:
    (frame,) = received(text_frame("{é}".encode()))
    assert (frame.opcode, bytes(frame.data).decode()) == (Opcode.TEXT, "{é}")


# Payloads


@pytest.mark.parametrize(
    ("given", "payload", "is_text"),
    [
        ("", b"", True),
        ("héllo \U0001f600", "héllo \U0001f600".encode(), True),
        (b"", b"", False),
        (b"hello", b"hello", False),
        (bytearray(b"\xff"), b"\xff", False),
        (memoryview(b"\0\1"), b"\0\1", False),
        (None, b"null", True),
        (True, b"true", True),
        (1.5, b"1.5", True),
        ({"é": [1, None]}, '{"é": [1, null]}'.encode(), True),
        (("a",), b'["a"]', True),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), b'"2026-01-02T03:04:05Z"', True),
        (datetime.date(2026, 1, 2), b'"2026-01-02"', True),
        (decimal.Decimal("1.10"), b'"1.10"', True),
        (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"', True),
        ({"due": datetime.timedelta(seconds=1)}, b'{"due": "P0DT00H00M01S"}', True),
    ],
)
def test_a_payload_is_text_or_binary_or_json(given: Any, payload: bytes, is_text: bool) -> None:
    assert to_payload(given) == (payload, is_text)


def test_a_lazy_translation_is_text_in_the_language_of_who_publishes() -> None:
    lazy = gettext_lazy("Yes")
    with override("de"):
        assert to_payload(lazy) == (b"Ja", True)
        assert to_payload({"answer": lazy}) == (b'{"answer": "Ja"}', True)
    with override("en"):
        assert to_payload(lazy) == (b"Yes", True)


def self_containing() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def deeply_nested() -> list[Any]:
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "wrong",
    [
        float("nan"),
        {"x": float("inf")},
        {1, 2},
        object(),
        {"x": {1}},
        {(1, 2): 3},
        [b"bytes"],
        self_containing(),
        "\ud800",
        ["\udfff"],
    ],
)
def test_what_cannot_be_sent_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"A message is str, bytes, or what JSON can hold|UTF-8 cannot hold this text"):
        to_payload(wrong)


def test_what_is_nested_too_deeply_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="what JSON can hold"):
        to_payload(deeply_nested())
