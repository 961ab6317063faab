"""The HTTP side of a handshake: is the request a sound upgrade, and what is the answer (RFC 6455, 4.2)?

Knows a WSGI environ and nothing of Django, users or channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidUpgrade
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from . import events
from . import subprotocol as wsredis_v1
from .exceptions import HandshakeError, UpgradeRequired
from .messages import UNCOMPRESSED

HEADERS = ("Connection", "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version")
OPTIONAL_HEADERS = ("Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions")

STREAM_HEADERS = {
    "Content-Type": events.CONTENT_TYPE,
    "Cache-Control": "no-store, no-transform",  # a proxy that compresses would wait for more
    "X-Accel-Buffering": "no",  # and so would NGiNX
    "Connection": "close",
}


class Upgrade(NamedTuple):
    """An accepted upgrade: the bytes of the 101, and what both sides agreed on. Or the 200 of an event stream."""

    response: bytes
    subprotocol: str | None
    extensions: Sequence[Extension]
    is_stream: bool = False

    @property
    def window_bits(self) -> int:
        """The window of the frames that are compressed for this socket; UNCOMPRESSED without permessage-deflate."""
        for extension in self.extensions:
            if isinstance(extension, PerMessageDeflate):
                return extension.local_max_window_bits
        return UNCOMPRESSED


def negotiate(
    environ: Mapping[str, Any],
    *,
    subprotocols: Sequence[str] = (),
    compress: bool = False,
    headers: Sequence[tuple[str, str]] = (),
) -> Upgrade:
    """Check the upgrade in a WSGI environ and answer it.

    subprotocols: those we speak, best first; the first that the client offers is taken, else none.
    compress: whether to agree on permessage-deflate, then without context takeover (RFC 7692, 7.1.1).
    headers: further ones of the answer.

    Raises UpgradeRequired (426) if it is no websocket request or of another version, else HandshakeError (400).
    """
    asked = _headers(environ)
    _require_upgrade(asked)
    if environ.get("CONTENT_LENGTH") not in (None, "", "0") or "HTTP_TRANSFER_ENCODING" in environ:
        raise HandshakeError("the request has a body, which would be taken for frames")

    protocol = ServerProtocol(
        extensions=[ServerPerMessageDeflateFactory(True, True)] if compress else [],
        select_subprotocol=lambda _, offered: _first(subprotocols, offered),
    )
    try:
        accept, extensions, subprotocol = protocol.process_request(
            Request("/", asked, environ["REQUEST_METHOD"], environ.get("SERVER_PROTOCOL", "HTTP/1.1"))
        )
    except InvalidUpgrade as error:
        raise UpgradeRequired(str(error)) from error
    except (InvalidHandshake, ValueError) as error:
        raise HandshakeError(str(error)) from error
    agreed = protocol.extensions
    vars(protocol).clear()  # it refers to itself, and 2.5 KB of each handshake would wait for the garbage collector
    return Upgrade(_response(accept, extensions, subprotocol, headers), subprotocol, agreed)


def wants_stream(environ: Mapping[str, Any]) -> bool:
    """Tell whether a request is that of an EventSource (WHATWG HTML, 9.2.3)."""
    if environ["REQUEST_METHOD"] != "GET" or environ.get("HTTP_UPGRADE"):
        return False
    accepted = (part.partition(";")[0].strip().lower() for part in environ.get("HTTP_ACCEPT", "").split(","))
    return events.CONTENT_TYPE in accepted


def begin_stream(query: str) -> Upgrade:
    """Answer a request for an event stream; in its query it may ask for wsredis.v1.

    The stream ends with its connection, so it needs no chunks, which we would have to frame, nor HTTP/1.1.
    """
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    name = wsredis_v1.NAME if wsredis_v1.NAME in names else None
    return Upgrade(Response(200, "OK", Headers(STREAM_HEADERS)).serialize(), name, (), is_stream=True)


def _headers(environ: Mapping[str, Any]) -> Headers:
    headers = Headers()
    for name in HEADERS + OPTIONAL_HEADERS:
        value = environ.get("HTTP_" + name.upper().replace("-", "_"))
        if value is not None:
            try:
                headers[name] = value
            except InvalidHandshake as error:  # a line that is folded, as HTTP once allowed
                raise HandshakeError(str(error)) from error
    return headers


def _require_upgrade(headers: Headers) -> None:
    if "Upgrade" not in headers:
        raise UpgradeRequired("this is no websocket request: it has no Upgrade header; does a proxy remove it?")
    # 4.4: another version is told ours, before anything else of it is judged
    version = headers.get("Sec-WebSocket-Version")
    if version is not None and version != "13":
        raise UpgradeRequired(f"Sec-WebSocket-Version is {version!r}")


def _first(ours: Sequence[str], offered: Sequence[str]) -> Subprotocol | None:
    return next((Subprotocol(name) for name in ours if name in offered), None)


def _response(accept: str, extensions: str | None, subprotocol: str | None, more: Sequence[tuple[str, str]]) -> bytes:
    headers = Headers({"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept})
    if extensions is not None:
        headers["Sec-WebSocket-Extensions"] = extensions
    if subprotocol is not None:
        headers["Sec-WebSocket-Protocol"] = subprotocol
    for name, value in more:
        headers[name] = value
    return Response(101, "Switching Protocols", headers).serialize()
