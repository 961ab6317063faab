"""The public API for Django's side: read what is kept, and where a channel stands. Synchronous; knows no gevent.

Not called history.py: `django_wsredis.history` is the function, and a module of that name would take its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from django.core.exceptions import PermissionDenied

from . import recipients, redis
from .channels import AUDIENCES, Channel, channel_name, is_position, read_since, redis_name
from .commands import PAGE_MESSAGES, newest_command, read_command, read_entries, stored
from .conf import get_settings, resolve
from .exceptions import HandshakeError
from .messages import Message, id_key
from .recipients import Names
from .visitor import own_names

if TYPE_CHECKING:
    from django.http import HttpRequest

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class KeptMessage(NamedTuple):
    """A message that a channel keeps. `id` is its position, `data` a str for a text and bytes for binary data."""

    id: str
    data: str | bytes

    @property
    def time(self) -> datetime:
        """When Redis stored it, to the millisecond."""
        return _EPOCH + timedelta(milliseconds=id_key(self.id.encode())[0])


class Page(NamedTuple):
    """Messages of one channel, oldest first, and how to go on from them.

    is_whole: False if messages between `since` and the first of these are gone, or may be.
    since: what to give as `since=` for the messages that follow; None if these are the newest.
    before: what to give as `before=` for those in front of these; None if these are the oldest.
    cursor: what a socket is given as `since=` in its URL to go on after these; "" if there are none.
    """

    messages: list[KeptMessage]
    is_whole: bool
    since: str | None
    before: str | None
    cursor: str


def history(
    *,
    facility: str,
    broadcast: bool = False,
    groups: Names = (),
    users: Names = (),
    sessions: Names = (),
    request: HttpRequest | None = None,
    since: str | None = None,
    before: str | None = None,
    limit: int = 100,
) -> Page:
    """Return kept messages of one channel: the newest, or the first after `since`, or the last before `before`.

    facility, broadcast, groups, users, sessions, request: as of `publish()`, but together they name one channel.
    since, before: ids of messages, such as `"1700000000000-0"`; as since also a cursor that has the channel.
    limit: how many messages at most, 1 to 500; large ones after `since` may be fewer, and `Page.since` goes on.

    It changes nothing in Redis. Raises TypeError for arguments of the wrong kind, BrokerUnavailable if Redis is away.
    """
    recipients.require_facility(facility)
    audiences = recipients.read_audiences(
        broadcast=broadcast, groups=groups, users=users, sessions=sessions, request=request
    )
    if len(audiences) != 1:
        raise TypeError(f"these arguments name {len(audiences)} channels; a history is that of one")
    if since is not None and before is not None:
        raise TypeError("give since or before, not both")
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 < limit <= PAGE_MESSAGES:
        raise TypeError(f"limit is {limit!r}; it is a whole number from 1 to {PAGE_MESSAGES}")
    channel = Channel(*audiences[0], facility)
    if since is not None:
        return _page_after(channel, _since(channel, since), limit)
    return _page_up_to(channel, b"+" if before is None else b"(" + _before(before), limit)


def _since(channel: Channel, given: Any) -> bytes:
    name = channel_name(channel)
    try:
        positions = read_since(given) if isinstance(given, str) else {}
    except HandshakeError:
        positions = {}
    position = positions.get(name, positions.get(""))
    if position is None:
        raise TypeError(
            f"since is {given!r}; it is the id of a message, such as '1700000000000-0', or a cursor that has {name}"
        )
    return position


def _before(given: Any) -> bytes:
    if not (isinstance(given, str) and is_position(given)):
        raise TypeError(f"before is {given!r}; it is the id of a message, such as '1700000000000-0'")
    return given.encode()


def _page_after(channel: Channel, since: bytes, limit: int) -> Page:
    name = redis_name(get_settings().prefix, channel)
    # no `history`: that is for who waits for messages, and begins a stream
    reply, older = redis.execute(
        [read_command(name, None, since=since, count=limit), newest_command(name, 1, end=since)]
    )
    found = stored(name, reply)
    ids = [id for id, _ in reply[2]]
    has_newer = bool(ids) and ids[-1] != found.end
    return _page(channel, found.messages, ids, has_older=bool(older), has_newer=has_newer, is_whole=found.is_whole)


def _page_up_to(channel: Channel, end: bytes, limit: int) -> Page:
    name = redis_name(get_settings().prefix, channel)
    entries, newest = redis.execute([newest_command(name, limit + 1, end=end), newest_command(name, 1)])
    has_older = len(entries) > limit
    entries = entries[:limit][::-1]
    ids = [id for id, _ in entries]
    has_newer = bool(ids) and bool(newest) and newest[0][0] != ids[-1]
    return _page(channel, read_entries(name, entries), ids, has_older=has_older, has_newer=has_newer, is_whole=True)


def _page(
    channel: Channel,
    messages: list[Message],
    ids: Sequence[bytes],
    *,
    has_older: bool,
    has_newer: bool,
    is_whole: bool,
) -> Page:
    """Return a page of what was read. `ids` are those of what could not be decoded, too: paging must get past it."""
    return Page(
        messages=[KeptMessage(message.id.decode(), message.data) for message in messages if message.id],
        is_whole=is_whole,
        since=ids[-1].decode() if ids and has_newer else None,
        before=ids[0].decode() if ids and has_older else None,
        cursor=f"{channel_name(channel)}={ids[-1].decode()}" if ids else "",
    )


def cursor(request: HttpRequest, facility: str) -> str:
    """Return where all the visitor's channels on a facility stand now: `broadcast:chat=1700000000000-0,user:…=…`.

    A socket that is given it as `since=` in its URL, quoted, gets exactly what is published from now on. So take it
    before you read what the page shows. A channel that keeps nothing has no position and is left out.

    Raises TypeError for what is no facility, BrokerUnavailable if Redis is away.
    """
    recipients.require_facility(facility)
    settings = get_settings()
    subscriber = resolve(settings.subscriber)()
    try:
        channels = list(dict.fromkeys(subscriber.subscribe_channels(request, facility, AUDIENCES)))
    except PermissionDenied:  # the socket will be refused, too
        return ""
    found = [redis_name(settings.prefix, channel) for channel in channels]
    replies = redis.execute(
        [read_command(name, settings.history_of(c.facility), count=0) for name, c in zip(found, channels, strict=True)]
    )
    ends = [stored(name, reply).end for name, reply in zip(found, replies, strict=True)]
    return ",".join(f"{channel_name(c)}={end.decode()}" for c, end in zip(channels, ends, strict=True) if end)


def fetch_message(request: HttpRequest | None, facility: str, audience: str = "any") -> str | bytes | None:
    """Return the last kept message of a facility for the request's visitor, or None.

    audience: "broadcast", "user", "group", "session", or "any": the first that has one, of session, user, groups,
    broadcast. Raises BrokerUnavailable, or TypeError for another audience or facility.
    """
    if audience not in (*AUDIENCES, "any"):
        raise TypeError(f"audience is {audience!r}; it is one of {', '.join(AUDIENCES)}, or any")
    recipients.require_facility(facility)
    prefix = get_settings().prefix
    wanted = [
        redis_name(prefix, Channel(kind, name, facility))
        for kind in ("session", "user", "group", "broadcast")
        if audience in (kind, "any")
        for name in own_names(request, kind)
    ]
    for name, entries in zip(wanted, redis.execute([newest_command(name, 1) for name in wanted]), strict=True):
        for message in read_entries(name, entries):
            return message.data
    return None
