"""Redis to hub: topics are subscribed, restored, and caught up after a break; and what browsers send goes out."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

from hiredis import ReplyError

from .. import redis
from ..channels import everywhere_name
from ..exceptions import Unavailable
from ..messages import Message, decode
from .connection import Connection
from .hub import Hub, Join, Topic
from .link import Link
from .reactor import Reactor
from .redial import Redial

# What browsers published while Redis was away waits for it, up to this.
MAX_UNSENT_BYTES = 8 * 1024 * 1024

logger = logging.getLogger("django_wsredis.redis")


class Subscriber:
    """Keeps the hub's topics subscribed, and publishes what browsers send on the same connection."""

    def __init__(self, reactor: Reactor, hub: Hub) -> None:
        self._reactor = reactor
        self._hub = hub
        self._joining: set[Join] = set()
        self._unsent: deque[tuple[Sequence[bytes], Message]] = deque()
        self._unsent_bytes = 0
        self._redial = Redial(
            reactor,
            on_message=self._on_message,
            on_read=hub.flush,
            on_connected=self._on_connected,
            on_lost=self._on_lost,
        )
        self.has_tried = self._redial.has_tried  # to connect to Redis, once, with or without success
        self.is_ready = False  # connected, subscribed, and caught up

    def start(self) -> None:
        """Connect."""
        self._redial.start()

    def stop(self) -> None:
        """Disconnect for good."""
        self._redial.stop()
        self._fail_joins("the server stops")

    @property
    def _link(self) -> Link | None:
        return self._redial.link

    # Joining

    def join(self, join: Join) -> None:
        """Subscribe a connection to its channels and fetch what is stored there; `join.done` tells when that is done.

        It fails with Unavailable if Redis is away.
        """
        if self._link is None or not self.is_ready:
            join.done.set_exception(Unavailable("Redis is away"))
            return
        self._joining.add(join)
        names = sorted(join.missing)
        for topic in self._hub.begin(join, names):
            self._subscribe(topic)
        for name in names:
            self._link.call(*redis.stored_command(name), on_reply=partial(self._on_stored, join, name))
        if not names:
            self._complete(join)

    def leave(self, connection: Connection) -> None:
        """Forget a connection, and unsubscribe from what nobody listens to any more."""
        for join in [join for join in self._joining if join.connection is connection]:
            self._joining.discard(join)
            if not join.done.done():
                join.done.set_exception(Unavailable("the socket was closed before it was subscribed"))
        for topic in self._hub.remove(connection):
            if self._link is not None:
                self._link.call("UNSUBSCRIBE", topic.name, on_reply=_ignore)

    def _subscribe(self, topic: Topic) -> None:
        assert self._link is not None
        self._link.call("SUBSCRIBE", topic.name, on_reply=partial(self._on_subscribed, topic))

    def _on_subscribed(self, topic: Topic, reply: Any) -> None:
        if isinstance(reply, ReplyError):
            logger.error("Redis refuses SUBSCRIBE %s: %s. Does its ACL user have &%s?", topic.name, reply, topic.name)
            for join in list(topic.joins):
                self._fail(join, "Redis refuses to subscribe")
        else:
            topic.is_subscribed = True

    def _on_stored(self, join: Join, name: bytes, reply: Any) -> None:
        if join not in self._joining:
            return
        if isinstance(reply, ReplyError):
            logger.error("Redis refuses to read %s: %s. May its ACL user XREVRANGE it?", name, reply)
            self._fail(join, "Redis refuses to read what is stored")
            return
        join.stored[name] = _read_entries(name, reply)
        for message in join.stored[name]:
            self._hub.topics[name].saw(message)
        join.missing.discard(name)
        if not join.missing:
            self._complete(join)

    def _complete(self, join: Join) -> None:
        self._joining.discard(join)
        self._hub.complete(join)
        join.done.set_result(None)

    def _fail(self, join: Join, reason: str) -> None:
        self._joining.discard(join)
        if not join.done.done():
            join.done.set_exception(Unavailable(reason))
        self.leave(join.connection)

    def _fail_joins(self, reason: str) -> None:
        for join in list(self._joining):
            self._fail(join, reason)

    # Publishing what browsers send

    def publish(self, names: Sequence[bytes], message: Message) -> bool:
        """Publish a browser's message. While Redis is away it waits, and False says that there is no more room."""
        if self._link is not None and self.is_ready:
            self._send(self._link, names, message)
            return True
        size = len(message.payload)
        if self._unsent_bytes + size > MAX_UNSENT_BYTES:
            return False
        self._unsent.append((names, message))
        self._unsent_bytes += size
        return True

    def _send(self, link: Link, names: Sequence[bytes], message: Message) -> None:
        for name in names:
            command = redis.publish_command(name, message, self._reactor.settings.expire)
            link.call(*command, on_reply=_log_refusal)

    # When the link comes and goes

    def _on_connected(self, link: Link) -> None:
        self._hub.hold()
        link.call("SUBSCRIBE", everywhere_name(self._reactor.settings.prefix), on_reply=_log_refusal)
        topics = list(self._hub.topics.values())
        for topic in topics:
            self._subscribe(topic)
        for topic in topics:
            link.call(*redis.stored_command(topic.name), on_reply=partial(self._on_caught_up, topic))
        link.call("PING", on_reply=lambda reply: self._on_ready())

    def _on_caught_up(self, topic: Topic, reply: Any) -> None:
        self._hub.release(topic, _read_entries(topic.name, reply))

    def _on_ready(self) -> None:
        """Everything that was asked for on connecting is answered."""
        assert self._link is not None
        self.is_ready = True
        while self._unsent:
            self._send(self._link, *self._unsent.popleft())
        self._unsent_bytes = 0
        self._redial.succeeded()

    def _on_lost(self) -> None:
        self.is_ready = False
        self._fail_joins("Redis went away")
        for topic in self._hub.topics.values():
            topic.is_subscribed = False

    def _on_message(self, name: bytes, data: bytes) -> None:
        try:
            message = decode(data)
        except ValueError as error:
            logger.error("A message on %s cannot be read and is dropped: %s", name, error)
            return
        if message.addresses:
            self._hub.publish_everywhere(message)
        else:
            self._hub.publish(name, message)


def _read_entries(name: bytes, reply: Any) -> list[Message]:
    """Return the messages of an XREVRANGE's reply, oldest first."""
    if isinstance(reply, ReplyError):
        logger.error("Redis refuses to read %s: %s", name, reply)
        return []
    messages = []
    for id, fields in reversed(reply):
        try:
            messages.append(decode(fields[1], id))
        except ValueError as error:
            logger.error("What is stored on %s cannot be read and is left out: %s", name, error)
    return messages


def _ignore(reply: Any) -> None:
    pass


def _log_refusal(reply: Any) -> None:
    if isinstance(reply, ReplyError):
        logger.error("Redis refused a command: %s", reply)
