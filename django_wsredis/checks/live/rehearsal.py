"""What the site decides on a handshake, decided here: so that the reason of its refusal is known."""

from __future__ import annotations

import io
from urllib.parse import unquote
from wsgiref.util import setup_testing_defaults

from ... import handshake
from ...exceptions import HandshakeError
from .way import Way


def rehearse(way: Way, path: str, cookie: str) -> HandshakeError | None:
    """Decide here on the handshake, by the settings and the code here; return why it is refused, None if it is not."""
    bare, _, query = path.partition("?")
    environ = {
        "PATH_INFO": way.settings.websocket_url + unquote(bare.removeprefix(way.base), "latin-1"),
        "QUERY_STRING": query,
        "HTTP_HOST": way.netloc,
        "HTTP_ORIGIN": way.origin,
        "HTTP_COOKIE": cookie,
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_UPGRADE": "websocket",
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",  # of RFC 6455, 1.3
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "https" if way.is_secure else "http",
        "wsgi.input": io.BytesIO(),
    }
    setup_testing_defaults(environ)
    try:
        handshake.decide(environ, way.settings)
    except HandshakeError as error:
        return error
    except Exception as error:  # of whatever keeps sessions; at the site it is a 500
        return HandshakeError(f"it cannot be decided here: {type(error).__name__}")
    return None
