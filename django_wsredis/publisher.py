"""The public API for Django's side: publish a message, fetch the last one. Synchronous; knows no gevent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.db import connections

from . import channels as names
from . import recipients, redis
from .channels import AUDIENCES, Channel
from .conf import EXPIRE_TEXT, get_settings, is_expire
from .messages import Message, decode, to_payload
from .recipients import EVERYWHERE, Names, Special
from .visitor import own_names

if TYPE_CHECKING:
    from django.http import HttpRequest

logger = logging.getLogger("django_wsredis.publisher")


class Publisher:
    """Publishes to a fixed set of channels: every audience given, on one facility.

    facility: a path of up to 200 characters, the URL's tail; or EVERYWHERE.
    broadcast: everybody who subscribed to broadcast.
    groups, users, sessions: names (or Group and User objects, session keys), or SELF. As in ws4redis a single name
        and True, for SELF, work too. An empty list is nobody.
    request: whose user, groups and session SELF means.

    Raises TypeError for arguments of the wrong kind, or when no audience is named.
    """

    def __init__(
        self,
        *,
        facility: str | Special,
        broadcast: bool = False,
        groups: Names = (),
        users: Names = (),
        sessions: Names = (),
        request: HttpRequest | None = None,
    ) -> None:
        if facility is not EVERYWHERE and not (isinstance(facility, str) and names.is_facility(facility)):
            raise TypeError(f"facility is {facility!r}; it is a text of 1 to 200 characters, or EVERYWHERE")
        self.facility = facility
        if not broadcast and groups == users == sessions == ():
            raise TypeError("name an audience: broadcast=True, groups=…, users=… or sessions=…")
        audiences = [("broadcast", "")] if broadcast else []
        audiences += [("group", name) for name in recipients.read("groups", groups, request)]
        audiences += [("user", name) for name in recipients.read("users", users, request)]
        audiences += [("session", names.session_digest(key)) for key in recipients.read("sessions", sessions, request)]
        self.audiences: list[tuple[str, str]] = list(dict.fromkeys(audiences))

    def publish_message(self, message: Any, *, expire: int | None = None, on_commit: bool = True) -> int | None:
        """Publish one message: str as text, bytes as binary, anything else as JSON.

        expire: seconds for which it is kept for sockets that join; None means `WSREDIS["EXPIRE"]`, 0 not at all.
        on_commit: inside a transaction wait for its commit; after a rollback nothing is sent. An error is then
            logged, as there is nobody left to raise it to.

        Returns how many times a worker received it (a worker that serves several of the channels counts for each),
        None if it waits for a commit. Raises BrokerUnavailable within seconds if Redis is away, TypeError for a
        message that cannot be sent.
        """
        payload, is_text = to_payload(message)
        commands = self._commands(payload, is_text, _seconds(expire, self.facility))
        if on_commit and _in_transaction():
            _after_commit(lambda: _send_logged(commands))
            return None
        return _send(commands)

    def _commands(self, payload: bytes, is_text: bool, expire: int) -> list[tuple[Any, ...]]:
        prefix = get_settings().prefix
        if isinstance(self.facility, Special):
            addresses = [names.address(prefix, audience, name) for audience, name in self.audiences]
            message = Message(payload, is_text, addresses=addresses)
            return [redis.publish_command(names.everywhere_name(prefix), message, 0)] if addresses else []
        message = Message(payload, is_text)
        return [
            redis.publish_command(names.redis_name(prefix, Channel(audience, name, self.facility)), message, expire)
            for audience, name in self.audiences
        ]


def publish(
    message: Any,
    *,
    facility: str | Special,
    broadcast: bool = False,
    groups: Names = (),
    users: Names = (),
    sessions: Names = (),
    request: HttpRequest | None = None,
    expire: int | None = None,
    on_commit: bool = True,
) -> int | None:
    """Publish one message; `Publisher` and its `publish_message` say what each argument means."""
    publisher = Publisher(
        facility=facility, broadcast=broadcast, groups=groups, users=users, sessions=sessions, request=request
    )
    return publisher.publish_message(message, expire=expire, on_commit=on_commit)


def fetch_message(request: HttpRequest | None, facility: str, audience: str = "any") -> str | bytes | None:
    """Return the last kept message of a facility for the request's visitor, or None.

    audience: "broadcast", "user", "group", "session", or "any": the first that has one, of session, user, groups,
    broadcast. Raises BrokerUnavailable, or TypeError for another audience or facility.
    """
    if audience not in (*AUDIENCES, "any"):
        raise TypeError(f"audience is {audience!r}; it is one of {', '.join(AUDIENCES)}, or any")
    if not (isinstance(facility, str) and names.is_facility(facility)):
        raise TypeError(f"facility is {facility!r}; it is a text of 1 to 200 characters")
    prefix = get_settings().prefix
    wanted = [
        names.redis_name(prefix, Channel(kind, name, facility))
        for kind in ("session", "user", "group", "broadcast")
        if audience in (kind, "any")
        for name in own_names(request, kind)
    ]
    with redis.translated(), redis.get_client().pipeline(transaction=False) as pipeline:
        for name in wanted:
            pipeline.xrevrange(name, count=1)
        for entries in pipeline.execute():
            for id, fields in entries:
                return decode(fields[b"m"], id).data
    return None


def _seconds(expire: int | None, facility: str | Special) -> int:
    if expire is not None and not is_expire(expire):
        raise TypeError(f"expire is {expire!r}; it is {EXPIRE_TEXT}")
    if facility is EVERYWHERE:
        if expire:
            raise TypeError("a message for every facility is kept on none: leave out expire, or name a facility")
        return 0
    return get_settings().expire if expire is None else expire


def _send(commands: list[tuple[Any, ...]]) -> int:
    if not commands:  # SELF was nobody
        return 0
    with redis.translated(), redis.get_client().pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        return sum(pipeline.execute())


def _send_logged(commands: list[tuple[Any, ...]]) -> None:
    try:
        _send(commands)
    except Exception as error:  # the transaction is over: its owner must not see it fail now
        logger.error("A message was not sent after its transaction: %s", error)


def _in_transaction() -> bool:
    return any(connection.in_atomic_block for connection in connections.all(initialized_only=True))


def _after_commit(function: Callable[[], None]) -> None:
    """Call a function when no database of this thread is inside a transaction any more."""
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            connection.on_commit(lambda: _after_commit(function))
            return
    function()
