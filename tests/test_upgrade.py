"""The HTTP side of the handshake: RFC 6455, section 4.2, and RFC 7692, section 7.1."""

from __future__ import annotations

import base64
import gc
import os
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.uri import parse_uri

from django_wsredis.exceptions import HandshakeError, UpgradeRequired
from django_wsredis.messages import UNCOMPRESSED
from django_wsredis.upgrade import Upgrade, negotiate

KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3


def environ(**changes: str | None) -> dict[str, str]:
    """Return a sound request's environ, with changes; None leaves a name out."""
    sound = {
        "REQUEST_METHOD": "GET",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "PATH_INFO": "/ws/news",
        "HTTP_HOST": "testserver",
        "HTTP_UPGRADE": "websocket",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_SEC_WEBSOCKET_KEY": KEY,
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        **changes,
    }
    return {name: value for name, value in sound.items() if value is not None}


def head(upgrade: Upgrade) -> tuple[str, dict[str, str]]:
    text, _, body = upgrade.response.partition(b"\r\n\r\n")
    assert body == b""
    status, *lines = text.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines), "no header comes twice"
    return status, headers


def test_the_answer_is_the_rfcs_own_example() -> None:
    upgrade = negotiate(environ())
    assert head(upgrade) == (
        "HTTP/1.1 101 Switching Protocols",
        {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": ACCEPT},
    )
    assert (upgrade.subprotocol, list(upgrade.extensions), upgrade.window_bits) == (None, [], UNCOMPRESSED)


@pytest.mark.parametrize(
    "changes",
    [
        {"HTTP_CONNECTION": "keep-alive, Upgrade"},
        {"HTTP_CONNECTION": "upgrade"},
        {"HTTP_UPGRADE": "WebSocket"},
        {"CONTENT_LENGTH": ""},
        {"CONTENT_LENGTH": "0"},
        {"HTTP_X_WHATEVER": "\x80\xff"},
        {"HTTP_SEC_WEBSOCKET_EXTENSIONS": "x-unknown; a=b, permessage-deflate"},
        {"HTTP_SEC_WEBSOCKET_PROTOCOL": "chat"},
    ],
)
def test_a_sound_request_is_answered(changes: dict[str, str]) -> None:
    assert head(negotiate(environ(**changes)))[1]["Sec-WebSocket-Accept"] == ACCEPT


@pytest.mark.parametrize(
    "changes",
    [
        {"HTTP_UPGRADE": None},
        {"HTTP_UPGRADE": "h2c"},
        {"HTTP_UPGRADE": "websocket, h2c"},
        {"HTTP_CONNECTION": None},
        {"HTTP_CONNECTION": "close"},
        {"HTTP_SEC_WEBSOCKET_VERSION": "8"},
        {"HTTP_SEC_WEBSOCKET_VERSION": "14"},
        {"HTTP_SEC_WEBSOCKET_VERSION": "13, 8"},
        {"HTTP_SEC_WEBSOCKET_VERSION": ""},
        {"HTTP_SEC_WEBSOCKET_VERSION": "8", "HTTP_SEC_WEBSOCKET_KEY": "broken"},
        {"HTTP_UPGRADE": None, "HTTP_CONNECTION": None, "HTTP_SEC_WEBSOCKET_KEY": None},
    ],
)
def test_no_websocket_request_or_another_version_needs_an_upgrade(changes: dict[str, Any]) -> None:
    with pytest.raises(UpgradeRequired) as raised:
        negotiate(environ(**changes))
    assert raised.value.status == 426
    assert dict(raised.value.headers) == {"Sec-WebSocket-Version": "13"}


@pytest.mark.parametrize(
    "changes",
    [
        {"HTTP_SEC_WEBSOCKET_KEY": None},
        {"HTTP_SEC_WEBSOCKET_KEY": ""},
        {"HTTP_SEC_WEBSOCKET_KEY": "short"},
        {"HTTP_SEC_WEBSOCKET_KEY": base64.b64encode(b"x" * 15).decode()},
        {"HTTP_SEC_WEBSOCKET_KEY": base64.b64encode(b"x" * 17).decode()},
        {"HTTP_SEC_WEBSOCKET_KEY": "é" * 24},
        {"HTTP_SEC_WEBSOCKET_KEY": f"{KEY}, {KEY}"},
        {"HTTP_SEC_WEBSOCKET_VERSION": None},
        {"REQUEST_METHOD": "POST"},
        {"REQUEST_METHOD": "get"},
        {"SERVER_PROTOCOL": "HTTP/1.0"},
        {"HTTP_SEC_WEBSOCKET_PROTOCOL": "a,\r\n b"},  # folded, as HTTP once allowed
        {"CONTENT_LENGTH": "5"},
        {"CONTENT_LENGTH": "x"},
        {"HTTP_TRANSFER_ENCODING": "chunked"},
        {"HTTP_CONNECTION": "Upgrade;;"},
        {"HTTP_SEC_WEBSOCKET_PROTOCOL": "a b"},
        {"HTTP_SEC_WEBSOCKET_EXTENSIONS": "permessage-deflate; =3"},
    ],
)
def test_a_malformed_request_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(HandshakeError) as raised:
        negotiate(environ(**changes), compress=True)
    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("ours", "offered", "chosen"),
    [
        ((), "chat", None),
        (("chat",), None, None),
        (("chat",), "chat", "chat"),
        (("chat",), "other, chat", "chat"),
        (("b", "a"), "a, b", "b"),
        (("chat",), "Chat", None),
        (("chat",), "chatter", None),
        (("a", "b"), "c", None),
    ],
)
def test_at_most_one_subprotocol_of_those_offered(
    ours: tuple[str, ...], offered: str | None, chosen: str | None
) -> None:
    upgrade = negotiate(environ(HTTP_SEC_WEBSOCKET_PROTOCOL=offered), subprotocols=ours)
    assert upgrade.subprotocol == chosen
    assert head(upgrade)[1].get("Sec-WebSocket-Protocol") == chosen


NO_CONTEXT = "server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offered", "answer", "window_bits"),
    [
        (None, None, UNCOMPRESSED),
        ("x-webkit-deflate-frame", None, UNCOMPRESSED),
        ("permessage-deflate", NO_CONTEXT, 15),
        ("permessage-deflate; client_max_window_bits", NO_CONTEXT, 15),  # Chromium and Firefox
        ("permessage-deflate; server_max_window_bits=10", f"{NO_CONTEXT}; server_max_window_bits=10", 10),
        ("permessage-deflate; server_max_window_bits=8", None, UNCOMPRESSED),  # zlib cannot
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", NO_CONTEXT, 15),
        ("permessage-deflate; client_max_window_bits=9", f"{NO_CONTEXT}; client_max_window_bits=9", 15),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", NO_CONTEXT, 15),
        ("permessage-deflate; nonsense", None, UNCOMPRESSED),
        ("permessage-deflate; server_max_window_bits=16", None, UNCOMPRESSED),
        ("permessage-deflate; server_max_window_bits", None, UNCOMPRESSED),
        ("permessage-deflate; server_max_window_bits=9; server_max_window_bits=10", None, UNCOMPRESSED),
        ("permessage-deflate, permessage-deflate; server_max_window_bits=10", NO_CONTEXT, 15),
    ],
)
def test_compression_is_agreed_on_without_context_takeover(
    offered: str | None, answer: str | None, window_bits: int
) -> None:
    upgrade = negotiate(environ(HTTP_SEC_WEBSOCKET_EXTENSIONS=offered), compress=True)
    assert head(upgrade)[1].get("Sec-WebSocket-Extensions") == (answer and f"permessage-deflate; {answer}")
    assert upgrade.window_bits == window_bits
    for extension in upgrade.extensions:
        assert isinstance(extension, PerMessageDeflate)
        assert extension.local_no_context_takeover
        assert extension.remote_no_context_takeover


def test_no_compression_is_agreed_on_where_it_is_off() -> None:
    upgrade = negotiate(environ(HTTP_SEC_WEBSOCKET_EXTENSIONS="permessage-deflate"), compress=False)
    assert "Sec-WebSocket-Extensions" not in head(upgrade)[1]
    assert upgrade.window_bits == UNCOMPRESSED


@pytest.mark.parametrize("compress", [True, False])
def test_a_client_of_the_websockets_package_agrees(compress: bool) -> None:
    client = ClientProtocol(
        parse_uri("ws://testserver/ws/news"),
        extensions=[ClientPerMessageDeflateFactory(client_max_window_bits=12, server_max_window_bits=11)],
        subprotocols=["chat"],
    )
    request = client.connect()
    headers = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in request.headers.raw_items()}
    upgrade = negotiate(environ(**headers), subprotocols=["chat"], compress=compress)
    client.send_request(request)
    client.receive_data(upgrade.response)
    client.events_received()
    assert client.handshake_exc is None
    assert client.subprotocol == "chat"
    assert [type(extension) for extension in client.extensions] == [PerMessageDeflate] * compress
    assert upgrade.window_bits == (11 if compress else UNCOMPRESSED)


# Whatever a client sends

header_text = st.text(st.characters(max_codepoint=255), max_size=40)
extensions_text = st.lists(
    st.sampled_from(
        [
            "permessage-deflate",
            "x",
            ";",
            ",",
            "=",
            " ",
            '"',
            "server_max_window_bits",
            "client_max_window_bits",
            "8",
            "9",
        ]
        + ["15", "16", "server_no_context_takeover", "client_no_context_takeover", "-1", "é"]
    ),
    max_size=12,
).map("".join)
values: dict[str, st.SearchStrategy[str]] = {
    "HTTP_UPGRADE": header_text | st.just("websocket"),
    "HTTP_CONNECTION": header_text | st.just("Upgrade"),
    "HTTP_SEC_WEBSOCKET_KEY": header_text
    | st.just(KEY)
    | st.binary(max_size=20).map(lambda b: base64.b64encode(b).decode()),
    "HTTP_SEC_WEBSOCKET_VERSION": header_text | st.just("13"),
    "HTTP_SEC_WEBSOCKET_PROTOCOL": header_text | st.sampled_from(["chat", "chat, x", ",,", '"chat"']),
    "HTTP_SEC_WEBSOCKET_EXTENSIONS": header_text | extensions_text,
    "CONTENT_LENGTH": header_text | st.just("0"),
    "HTTP_TRANSFER_ENCODING": header_text,
    "SERVER_PROTOCOL": header_text | st.sampled_from(["HTTP/1.1", "HTTP/1.0"]),
    "REQUEST_METHOD": header_text | st.just("GET"),
}


@settings(max_examples=400)
@given(st.fixed_dictionaries({}, optional=values))
@example({"HTTP_SEC_WEBSOCKET_EXTENSIONS": "permessage-deflate;" * 5000})
@example({"HTTP_SEC_WEBSOCKET_PROTOCOL": "\r\nSet-Cookie: x=1"})
def test_any_headers_are_answered_or_refused_as_a_handshake(junk: dict[str, str]) -> None:
    try:
        upgrade = negotiate(environ(**junk), subprotocols=["chat"], compress=True)
    except HandshakeError as error:
        assert error.status in (400, 426)
        return
    status, headers = head(upgrade)
    assert status == "HTTP/1.1 101 Switching Protocols"
    assert headers.keys() - {"Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"} == {
        "Upgrade",
        "Connection",
        "Sec-WebSocket-Accept",
    }


@settings(max_examples=400)
@given(extensions_text | st.lists(extensions_text.map("permessage-deflate; {}".format)).map(", ".join))
def test_at_most_one_permessage_deflate_is_accepted(offered: str) -> None:
    try:
        upgrade = negotiate(environ(HTTP_SEC_WEBSOCKET_EXTENSIONS=offered), compress=True)
    except HandshakeError:
        return
    assert len(upgrade.extensions) <= 1
    assert head(upgrade)[1].get("Sec-WebSocket-Extensions", "").count("permessage-deflate") == len(upgrade.extensions)
    assert upgrade.window_bits in (UNCOMPRESSED, *range(9, 16))


def test_each_key_has_its_own_answer() -> None:
    keys = {base64.b64encode(os.urandom(16)).decode() for _ in range(20)}
    answers = {head(negotiate(environ(HTTP_SEC_WEBSOCKET_KEY=key)))[1]["Sec-WebSocket-Accept"] for key in keys}
    assert len(answers) == len(keys)


def test_nothing_is_left_for_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        negotiate(environ(), subprotocols=["a"], compress=True)
        assert gc.collect() == 0
    finally:
        gc.enable()
