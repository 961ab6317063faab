"""Who connects, and to which channels: ordinary blocking Django code, run where blocking is harmless.

Everything that cannot be decided is refused. What a client sees of a refusal is its status; the reason is logged.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import Error as DatabaseError
from django.db import close_old_connections
from django.http import HttpRequest

from . import subprotocol
from .authentication import authenticate, check_csrf, request_of
from .channels import Channel, Wish, facility_problem, parse_wish, read_last_event_id
from .conf import Settings
from .exceptions import HandshakeError, NotAuthorized, NotFound, Unavailable
from .messages import EVENT, UNNUMBERED, V1
from .origin import check_origin
from .packing import pack, unpack
from .peer import Peer, peer_of
from .project_code import call, import_setting
from .routes import is_view
from .upgrade import Upgrade, begin_stream, negotiate, wants_stream
from .visitor import groups_text, own_names

if TYPE_CHECKING:
    from .views.handler import Handler

logger = logging.getLogger("django_wsredis.handshake")


@dataclass(frozen=True, slots=True)
class Granted:
    """What a visitor gets of a facility: the channels to listen and to publish to, and from where it hears them.

    groups: those of the user, as one text, where the wish names that audience.
    """

    facility: str
    subscribe: tuple[Channel, ...]
    publish: tuple[Channel, ...]
    wish: Wish
    groups: str | None = None


class Standing(NamedTuple):
    """Who the visitor of an open socket is now: the user's name and the session's digest, "" for none.

    groups: of the user, as one text, if they were asked for.
    """

    user: str
    session: str
    groups: str | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A granted handshake: the upgrade's answer, and what was granted.

    visitor: what `decide_more()`, `decide_again()` and `standing_of()` need, where the socket has a user or a session,
    or may ask for more, as it speaks wsredis.v1. began_at: when it began to be decided, by the monotonic clock.
    view: what runs its view, if the path is that of one.
    """

    upgrade: Upgrade
    granted: Granted
    peer: Peer
    visitor: bytes = b""
    began_at: float = field(default_factory=time.monotonic)
    view: Handler | None = None

    @property
    def speaks_v1(self) -> bool:
        """Whether both sides agreed on wsredis.v1."""
        return self.upgrade.subprotocol == subprotocol.NAME

    @property
    def framing(self) -> int:
        """Which of a message's `Frames` the socket gets."""
        event = EVENT | (UNNUMBERED if len(self.granted.subscribe) > 1 else 0)
        return (event if self.upgrade.is_stream else self.upgrade.window_bits) | (V1 if self.speaks_v1 else 0)


class Subscriber:
    """Decides for one facility which channels a visitor gets: `WSREDIS["SUBSCRIBER"]` may name a subclass.

    Each method is a step that may be overridden; all may use the database, and raise PermissionDenied.
    """

    def subscribe_channels(self, request: HttpRequest, facility: str, audiences: Iterable[str]) -> Iterable[Channel]:
        """Return the channels to listen to, for the audiences that were asked for and granted."""
        return self.own_channels(request, facility, audiences)

    def publish_channels(self, request: HttpRequest, facility: str, audiences: Iterable[str]) -> Iterable[Channel]:
        """Return the channels that the browser's messages go to, for the audiences asked for and granted."""
        return self.own_channels(request, facility, audiences)

    def own_channels(self, request: HttpRequest, facility: str, audiences: Iterable[str]) -> list[Channel]:
        """Return the visitor's own channels: everybody's, its user's, its groups' and its session's."""
        return [Channel(a, name, facility) for a in audiences for name in own_names(request, a)]


def decide(environ: dict[str, Any], settings: Settings) -> Accepted:
    """Answer a handshake, of a websocket or an event stream. Blocks on the database; leaves no connection to it open.

    Raises HandshakeError or one of its kind, whose `status` is the answer.
    """
    began_at = time.monotonic()
    facility = facility_of(environ, settings.websocket_url)
    if wants_stream(environ):
        upgrade = begin_stream(environ.get("QUERY_STRING", ""))
    else:
        upgrade = negotiate(
            environ, subprotocols=(subprotocol.NAME, *settings.subprotocols), compress=settings.compression > 0
        )
    granted, peer = _grant(environ, facility, settings)
    if upgrade.is_stream and (since := read_last_event_id(environ.get("HTTP_LAST_EVENT_ID", ""))):
        granted = replace(granted, wish=granted.wish._replace(since=since))
    is_kept = upgrade.subprotocol == subprotocol.NAME or peer.user or peer.session
    return Accepted(upgrade, granted, peer, pack(environ) if is_kept else b"", began_at)


def decide_post(environ: dict[str, Any], settings: Settings) -> Granted:
    """Grant what a page's POST asks for, after Django's own CSRF check. Blocks, and raises, as `decide()`."""
    return _grant(environ, facility_of(environ, settings.websocket_url), settings, check=check_csrf)[0]


def decide_more(visitor: bytes, facility: str, query: str, settings: Settings) -> Granted:
    """Grant the visitor of an open socket a further facility, as a handshake of its own would. Blocks as `decide()`.

    visitor: of its `Accepted`. Raises HandshakeError.
    """
    if problem := facility_problem(facility):
        raise NotFound(f"{facility!r} is no facility: {problem}")
    try:  # PEP 3333: bytes in disguise
        path, query = (text.encode().decode("latin-1") for text in (settings.websocket_url + facility, query))
    except UnicodeEncodeError as error:
        raise HandshakeError("the query is not UTF-8") from error
    return _grant({**_environ(visitor), "PATH_INFO": path, "QUERY_STRING": query}, facility, settings)[0]


def decide_again(visitor: bytes, settings: Settings) -> Granted:
    """Decide again on the facility with which a socket began, as if its handshake came now. As `decide_more()`."""
    environ = _environ(visitor)
    return _grant(environ, facility_of(environ, settings.websocket_url), settings)[0]


def standing_of(visitor: bytes, *, with_groups: bool) -> Standing:
    """Tell who the visitor of an open socket is now, by Django's own sessions.

    Blocks on the database, and on what keeps the sessions; raises their errors. Connections are the caller's business.
    """
    request = request_of(_environ(visitor))
    authenticate(request, None)
    peer = peer_of(request, "")
    return Standing(peer.user, peer.session, groups_text(request) if with_groups else None)


def _environ(visitor: bytes) -> dict[str, Any]:
    return {**unpack(visitor), "wsgi.input": io.BytesIO()}


def _grant(
    environ: dict[str, Any],
    facility: str,
    settings: Settings,
    check: Callable[[HttpRequest], None] = lambda request: None,
) -> tuple[Granted, Peer]:
    if is_view(settings.websocket_url + facility):  # who guards the view guards its channels
        raise NotFound(
            f"{facility!r} is a view's path, and only the view hears it: /{facility.strip('/')}/, with a slash"
        )
    if settings.websocket_urlconf is not None and not environ.get("QUERY_STRING"):
        raise HandshakeError(
            "no view has this path (./manage.py check; WEBSOCKET_URLCONF), and no facility is asked for"
        )
    wish = parse_wish(environ.get("QUERY_STRING", ""))
    request = request_of(environ)
    check_origin(request, required=settings.require_origin)
    with database():
        authenticate(request, settings.process_request)
        check(request)
        granted = grant(request, wish, settings.allowed_channels)
        return _grant_channels(request, facility, granted, settings), peer_of(request, facility)


@contextmanager
def database() -> Iterator[None]:
    """Leave no connection to the database open, and say what it means that it failed."""
    close_old_connections()
    try:
        yield
    except DatabaseError as error:
        logger.exception("The database failed during a handshake.")
        raise Unavailable("the database failed") from error
    finally:
        close_old_connections()


def _grant_channels(request: HttpRequest, facility: str, wish: Wish, settings: Settings) -> Granted:
    # before the channels: a change in between is looked for once too often, and not missed
    groups = groups_text(request) if "group" in (*wish.subscribe, *wish.publish) else None
    subscriber = call("SUBSCRIBER", import_setting("SUBSCRIBER", settings.subscriber))
    subscribe = call("SUBSCRIBER", lambda: _channels(subscriber.subscribe_channels(request, facility, wish.subscribe)))
    publish = call("SUBSCRIBER", lambda: _channels(subscriber.publish_channels(request, facility, wish.publish)))
    if not (subscribe or publish):
        raise NotAuthorized(f"the visitor has no channel of {', '.join(wish.names)}; is it logged in?")
    return Granted(facility, subscribe, publish, wish, groups)


def facility_of(environ: dict[str, Any], websocket_url: str) -> str:
    """Return the facility: what follows `WEBSOCKET_URL` in the path. Raises NotFound or HandshakeError."""
    path = environ.get("PATH_INFO", "")
    if not path.startswith(websocket_url):
        raise NotFound(f"the path {path!r} is not below WEBSOCKET_URL {websocket_url!r}; does a proxy strip it?")
    try:
        facility: str = path.removeprefix(websocket_url).encode("latin-1").decode()  # PEP 3333: bytes in disguise
    except UnicodeError as error:
        raise HandshakeError("the path is not UTF-8") from error
    if problem := facility_problem(facility):
        raise NotFound(f"{facility!r} is no facility: {problem}")
    return facility


def grant(request: HttpRequest, wish: Wish, allowed_channels: Any) -> Wish:
    """Return what of a wish is granted: `ALLOWED_CHANNELS` decides; without it, to subscribe and not to publish.

    A refused right to publish refuses the handshake: what the browser sent would be lost in silence.
    """
    if allowed_channels is None:
        names: Any = [name for name in wish.names if name.startswith("subscribe-")]
    else:
        callback = import_setting("ALLOWED_CHANNELS", allowed_channels)
        names = call("ALLOWED_CHANNELS", lambda: _names(callback(request, wish.names)))
    if not all(isinstance(name, str) for name in names):
        raise NotAuthorized(f"ALLOWED_CHANNELS returned {names!r}, not a list of names")
    granted = wish.granted(names)
    if granted.publish != wish.publish or not granted.names:
        refused = ", ".join(name for name in wish.names if name not in granted.names)
        setting = "is not set" if allowed_channels is None else "does not grant it"
        raise NotAuthorized(f"{refused} is refused: WSREDIS['ALLOWED_CHANNELS'] {setting}")
    return granted


def _names(given: Any) -> list[Any]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise NotAuthorized(f"ALLOWED_CHANNELS returned {given!r}, not a list of names")
    return list(given)


def _channels(given: Any) -> tuple[Channel, ...]:
    channels = tuple(dict.fromkeys(given)) if isinstance(given, Iterable) else None
    if channels is None or not all(isinstance(channel, Channel) for channel in channels):
        raise NotAuthorized(f"WSREDIS['SUBSCRIBER'] returned {given!r}, not channels")
    return channels
