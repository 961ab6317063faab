"""The handshake, as a browser does it: at the URL, and at the scratch facility."""

from __future__ import annotations

from typing import cast

from websockets.exceptions import InvalidHandshake
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from ..findings import Problem, Row
from . import refusals, target
from .way import STEP_SECONDS, Broken, Way


def shake_hands(way: Way) -> Row:
    """Open a socket of the URL; if that names no facility, of the scratch facility."""
    path = f"{way.path_of(way.facility or way.scratch)}?{target.query(way)}"
    try:
        way.line = _open(way, path)
    except (InvalidHandshake, OSError, EOFError, ValueError) as error:  # the last one: of a redirection
        found, problem = refusals.explain(way, path, error)
        raise Broken(Row(checked="handshake", found=found, problems=(problem,))) from None
    return Row(checked="handshake", found=_told(way.line))


def open_scratch(way: Way) -> Row:
    """Open a socket of the scratch facility, unless the URL's own is that."""
    if way.facility in ("", way.scratch):
        way.talk = way.line
        return Row(checked="scratch facility", found=f"{way.scratch}: the same socket")
    try:
        way.talk = _open(way, f"{way.path_of(way.scratch)}?{target.scratch_query(way)}")
    except (InvalidHandshake, OSError, EOFError, ValueError) as error:
        raise Broken(_without_messages(way, error)) from None
    return Row(checked="scratch facility", found=f"{way.scratch}: {_told(way.talk)}")


def _open(way: Way, path: str) -> ClientConnection:
    """Raises InvalidHandshake, OSError, EOFError; ValueError for a redirection."""
    # ping_interval: none, so that only the site keeps the socket alive. max_queue: none, so that real messages of the
    # facility, which nobody reads here, do not keep a pong waiting.
    opened = connect(
        f"{way.url.scheme}://{way.netloc}{path}",
        sock=way.connect(),
        ssl=way.context,
        server_hostname=way.host if way.is_secure else None,
        origin=cast(Origin, way.origin),
        additional_headers=way.headers,
        open_timeout=STEP_SECONDS,
        close_timeout=STEP_SECONDS,
        ping_interval=None,
        max_queue=None,
        max_size=None,
    )
    return way.stack.enter_context(opened)


def _told(websocket: ClientConnection) -> str:
    response = websocket.response
    server = response.headers.get("Server") if response else None
    return f"101 Switching Protocols, by {server}" if server else "101 Switching Protocols"


def _without_messages(way: Way, error: Exception) -> Row:
    """Return the row for a scratch facility that is refused, while the URL's is not: real visitors hear that one."""
    answer = f"{way.scratch}: {error}".rstrip(".")
    path = f"{way.settings.websocket_url}{target.SCRATCH}"
    problem = Problem(
        id="wsredis.W625",
        text=f"Permission: no message was tried: visitors may hear {way.facility}, and the site refuses {answer}.",
        hint=(
            f"Let WSREDIS['ALLOWED_CHANNELS'] grant it: if request.path.startswith({path!r}): return channels\n"
            f"and use --live {way.url.scheme}://{way.netloc}{way.base}\n"
            f"or name a facility that it grants, whose last part begins with {target.SCRATCH!r}: that is taken as is."
        ),
    )
    return Row(checked="scratch facility", found=f"refused: {answer}", problems=(problem,))
