"""The handshake, as a browser does it: at the URL, and at the scratch facility."""

from __future__ import annotations

from http import HTTPStatus
from typing import cast

from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Origin

from ..findings import Problem, Row
from . import refusals, target
from .way import STEP_SECONDS, Broken, Way, seen
from .websocket import Websocket

FAILURES = (WebSocketException, OSError, EOFError, ValueError)  # the last one is of a redirection


def shake_hands(way: Way) -> Row:
    """Open a socket of the URL; if that names no facility, of the scratch facility."""
    path = target.url_path(way)
    try:
        way.line = _open(way, path)
    except FAILURES as error:
        found, problem = refusals.explain(way, path, error)
        raise Broken(seen(found, problem)) from None
    return seen(_told(way.line))


def open_scratch(way: Way) -> Row:
    """Open a socket of the scratch facility, unless the URL's own is that."""
    if way.is_all_scratch:
        way.talk = way.line
        return seen(f"{way.scratch}: the same socket")
    path = target.scratch_path(way)
    try:
        way.talk = _open(way, path)
    except FAILURES as error:
        found, problem = refusals.explain(way, path, error)
        # what is granted at the URL, and refused here, is so by its name
        if isinstance(error, InvalidStatus) and error.response.status_code == HTTPStatus.FORBIDDEN:
            problem = _without_messages(way, found)
        raise Broken(seen(f"{way.scratch}: {found}", problem)) from None
    return seen(f"{way.scratch}: {_told(way.talk)}")


def _open(way: Way, path: str) -> Websocket:
    """Raises FAILURES."""
    # ping_interval: none, so that only the site keeps the socket alive. max_queue: none, so that real messages of the
    # facility, which nobody reads here, do not keep a pong waiting.
    opened = Websocket(
        way.runner,
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
    way.stack.callback(opened.close)
    return opened


def _told(websocket: Websocket) -> str:
    return "101 Switching Protocols" + (f", by {websocket.server}" if websocket.server else "")


def _without_messages(way: Way, found: str) -> Problem:
    """Return the problem that a scratch facility is refused, and the URL's is not: real visitors hear that one."""
    path = f"{way.settings.websocket_url}{target.SCRATCH}"
    return Problem(
        id="wsredis.W625",
        text=f"Permission: no message was tried: visitors hear {way.facility}, and {way.scratch} is refused: {found}.",
        hint=(
            f"Let WSREDIS['ALLOWED_CHANNELS'] grant it: if request.path.startswith({path!r}): return channels\n"
            f"and use --live {way.url.scheme}://{way.netloc}{way.base}\n"
            f"or name a facility that it grants, whose last part begins with {target.SCRATCH!r}: that is taken as is."
        ),
    )
