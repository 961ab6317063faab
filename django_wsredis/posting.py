"""What a page posts beside its event stream, which only listens: messages to publish, and what it says by wsredis.v1.

Each request stands for itself: any worker, of any server, answers it. docs/protocol.rst describes them for clients.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs

from . import asking, redis
from .channels import redis_name
from .commands import publish_command
from .conf import Settings, get_settings
from .control import Request
from .exceptions import BrokerUnavailable, HandshakeError, NotAuthorized, Unavailable
from .messages import Message
from .subprotocol import MAX_HEADER_BYTES

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from .handshake import Granted

# Content-Types. Of what a form may have only text/plain: Django's CSRF check would look for the token in the others.
TEXT = ("text/plain", "application/json")
BINARY = "application/octet-stream"
V1 = "application/wsredis.v1"  # for the stream, and no message

MAX_DIGITS = 18  # of a length that is looked at

_KEY = re.compile("[0-9a-f]{1,64}")


class BadLength(HandshakeError):
    """Raised for a body without its length."""

    status = HTTPStatus.LENGTH_REQUIRED


class TooLarge(HandshakeError):
    """Raised for a body of more than MAX_MESSAGE_BYTES."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class BadType(HandshakeError):
    """Raised for a body that is neither text nor binary data."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class Post(NamedTuple):
    """What was posted: the body, its Content-Type, and the key of the page's event stream, "" without."""

    body: bytes
    type: str
    stream: str


def is_posted(environ: WSGIEnvironment) -> bool:
    """Tell whether a request is one of these."""
    return environ["REQUEST_METHOD"] == "POST" and not environ.get("HTTP_UPGRADE")


def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Publish the body, or hand it to an event stream; 204. Blocks. Raises HandshakeError."""
    from . import handshake  # has models: not before Django is set up

    settings = get_settings()
    post = read(environ, settings)
    granted = handshake.decide_post(environ, settings)
    try:
        if post.type == V1:
            say(post)
        else:
            publish(post, granted, settings)
    except BrokerUnavailable as error:
        raise Unavailable(str(error)) from error
    start_response("204 No Content", [("Cache-Control", "no-store")])
    return []


def read(environ: WSGIEnvironment, settings: Settings) -> Post:
    """Read the request, no more than a message may have. Raises HandshakeError."""
    kind = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if kind not in (*TEXT, BINARY, V1):
        raise BadType(f"a POST's Content-Type is {kind!r}; it is one of {', '.join((*TEXT, BINARY, V1))}")
    length = environ.get("CONTENT_LENGTH") or ""
    if not (length.isascii() and length.isdigit()):
        raise BadLength("a POST has no Content-Length")
    if len(length) > MAX_DIGITS or int(length) > settings.max_message_bytes:
        raise TooLarge(f"a POST has {length} bytes; WSREDIS['MAX_MESSAGE_BYTES'] is {settings.max_message_bytes}")
    stream = parse_qs(environ.get("QUERY_STRING", "")).get("stream", [""])[-1]
    if stream and not _KEY.fullmatch(stream):
        raise HandshakeError(f"stream={stream!r} is no stream's key")
    try:
        body = environ["wsgi.input"].read(int(length))
    except OSError as error:  # uWSGI's, where the browser has gone
        raise HandshakeError(f"a POST cannot be read: {error}") from error
    if len(body) != int(length):
        raise HandshakeError("a POST ended early")
    if kind != BINARY:
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise HandshakeError("a POST's text is not UTF-8") from error
    return Post(body, kind, stream)


def publish(post: Post, granted: Granted, settings: Settings) -> None:
    """Publish as a websocket's message is: not to the page's own stream, unless it asks for its echo.

    Raises NotAuthorized where the query asks for no publish-…, and BrokerUnavailable.
    """
    if not granted.publish:
        raise NotAuthorized("a POST may publish nothing: it has no publish-… in its query")
    sender = post.stream.encode() if post.stream and not granted.wish.echo else None
    message = Message(post.body, post.type != BINARY, sender=sender)
    keep = settings.keep_of(granted.facility)
    names = [redis_name(settings.prefix, channel) for channel in granted.publish]
    redis.execute([publish_command(name, message, keep, is_sharded=redis.is_cluster()) for name in names])


def say(post: Post) -> None:
    """Tell the worker that has the stream, whichever it is. Raises HandshakeError and BrokerUnavailable."""
    if not post.stream:
        raise HandshakeError("a POST of wsredis.v1 has no stream=… in its query")
    if len(post.body) > MAX_HEADER_BYTES:
        raise TooLarge(f"a header of wsredis.v1 has {MAX_HEADER_BYTES} bytes at most")
    asking.tell(Request(verb="say", stream=post.stream, text=post.body.decode()))
