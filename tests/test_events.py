"""Messages as server-sent events, read back by the standard's own rules (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

import json
import re
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_wsredis import events
from django_wsredis.messages import EVENT, UNNUMBERED, V1, Message
from django_wsredis.subprotocol import message_header

HEADER = message_header(b"broadcast:chat", b"1-0")


def parse(stream: bytes) -> list[tuple[str, str, str]]:
    """Return (type, data, last event id) of each event that a browser dispatches."""
    found, last_id, kind, data = [], "", "", ""
    for line in re.split("\r\n|\r|\n", stream.decode())[:-1]:
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if not line:
            if data:
                found.append((kind or "message", data[:-1], last_id))
            kind = data = ""
        elif name == "data":
            data += value + "\n"
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            last_id = value
        else:
            assert name in ("", "retry")
    assert (kind, data) == ("", ""), "an event that has not ended"
    return found


def of(payload: str | bytes, framing: int = EVENT, *, id: bytes | None = None) -> list[tuple[str, str, str]]:
    is_text = isinstance(payload, str)
    message = Message(payload.encode() if isinstance(payload, str) else payload, is_text, id=id)
    message.channel = b"broadcast:chat"
    return parse(message.frames()[framing])


@given(st.text())
def test_a_text_arrives_with_newlines_for_all_ends_of_lines(text: str) -> None:
    assert of(text) == [("message", re.sub("\r\n|\r", "\n", text), "")]


@given(st.binary())
def test_binary_data_arrives_as_it_was(data: bytes) -> None:
    ((kind, encoded, _),) = of(data)
    assert (kind, b64decode(encoded, validate=True)) == ("binary", data)


@given(st.one_of(st.text(), st.binary(), st.text("\r\n: x")))
def test_with_a_header_every_payload_arrives_as_it_was(payload: str | bytes) -> None:
    ((kind, data, last_id),) = of(payload, EVENT | V1, id=b"1-0")
    raw = data.encode() if kind == "message" else b64decode(data, validate=True)
    expected = payload.encode() if isinstance(payload, str) else payload
    assert (raw, last_id) == (HEADER + expected, "broadcast:chat=1-0")
    assert kind == ("binary" if isinstance(payload, bytes) else "text" if "\r" in payload else "message")


def test_what_is_kept_has_an_id_unless_it_could_not_say_where_a_stream_is() -> None:
    assert of("x", id=b"5-1") == [("message", "x", "broadcast:chat=5-1")]
    assert of("x", EVENT | UNNUMBERED, id=b"5-1") == [("message", "x", "")]
    assert of("x", EVENT | UNNUMBERED | V1, id=b"5-1")[0][1].startswith('{"channel":"broadcast:chat","id":"5-1"}\n')


def test_a_message_is_encoded_once_for_all_streams() -> None:
    frames = Message(b"x", True).frames()
    assert frames[EVENT] is frames[EVENT]


def test_a_position_is_told_without_an_event() -> None:
    told = events.standing({b"broadcast:chat": b"5-0", b"user:a:chat": None, b"group:b:chat": b"7-1"})
    assert parse(told + events.text(b"x")) == [("message", "x", "broadcast:chat=5-0,group:b:chat=7-1")]
    assert events.standing({b"broadcast:chat": None}) == b""


@pytest.mark.parametrize("reason", ["", "why", 'ü"\n\r'])
def test_a_stream_begins_and_ends_with_a_word(reason: str) -> None:
    stream = events.opening(1234, b"k") + events.COMMENT + events.closing(1012, reason)
    hello, close = parse(stream)
    assert stream.startswith(b"retry: 1234\n")
    assert hello == ("hello", '{"stream":"k"}', "")
    assert (close[0], json.loads(close[1])) == ("close", {"code": 1012, "reason": reason})
