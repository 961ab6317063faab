"""Connections on their way in: what is stored is read, page by page, until the live flow takes over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hiredis import ReplyError

from .. import commands
from ..exceptions import Unavailable
from .connection import Connection
from .hub import Hub
from .links import Links
from .replies import is_elsewhere
from .topic import Arrival, Join, Topic

logger = logging.getLogger("django_wsredis.redis")


class Joins:
    """The joins that are under way.

    subscribe(topic): it is the first on a channel. lose(topic): Redis says that a channel is elsewhere now.
    leave(connection): it is to be forgotten.
    """

    def __init__(
        self,
        hub: Hub,
        links: Links,
        *,
        subscribe: Callable[[Topic], None],
        lose: Callable[[Topic], None],
        leave: Callable[[Connection], None],
    ) -> None:
        self._hub = hub
        self._links = links
        self._subscribe = subscribe
        self._lose = lose
        self._leave = leave
        self._under_way: set[Join] = set()

    def begin(self, join: Join, arrivals: Sequence[Arrival]) -> None:
        """Begin what `Subscriber.join()` promises."""
        for arrival in arrivals:
            topic = arrival.topic
            if self._links.link(topic.name) is None or topic.held is not None:
                join.done.set_exception(Unavailable("Redis is away"))
                return
        if not arrivals and not self._links.all_up:  # it will only publish
            join.done.set_exception(Unavailable("Redis is away"))
            return
        self._under_way.add(join)
        join.arrivals = list(arrivals)
        join.unconfirmed, join.under_way = set(arrivals), set(arrivals)
        for arrival in arrivals:
            arrival.max_bytes = commands.PAGE_BYTES // len(arrivals)
            is_new = arrival.topic.name not in self._hub.topics
            self._hub.begin(arrival)
            if is_new:
                arrival.topic.link = self._links.link(arrival.topic.name)
                self._subscribe(arrival.topic)
            self._read(arrival)
        if not arrivals:
            self._arrived(join)

    def end_of(self, connection: Connection) -> None:
        """End the joins of a connection that is closed."""
        for join in self._of(connection):
            self._end(join, "the socket was closed before it was subscribed")

    def forget_left(self, connection: Connection) -> None:
        """Wait no more for channels that a connection has left."""
        for join in self._of(connection):
            join.unconfirmed = {arrival for arrival in join.unconfirmed if not arrival.is_over}
            join.under_way = {arrival for arrival in join.under_way if not arrival.is_over}
            if not join.under_way:
                self._under_way.discard(join)

    def fail(self, topic: Topic, reason: str) -> None:
        """End all joins that a topic takes part in."""
        for arrival in list(topic.joins):
            self._fail(arrival.join, reason)

    def stop(self) -> None:
        """End all."""
        for join in list(self._under_way):
            self._fail(join, "the server stops")

    def _of(self, connection: Connection) -> list[Join]:
        return [join for join in self._under_way if join.connection is connection]

    def _read(self, arrival: Arrival) -> None:
        """Read a page for an arrival, or take part in the same read that is under way for others.

        That is sound: what they heard before this one came is older than the read, so it is in its reply.
        """
        topic, key = arrival.topic, (arrival.since, arrival.before, arrival.count, arrival.max_bytes)
        if key in topic.reads:
            topic.reads[key].append(arrival)
            return
        topic.reads[key] = [arrival]
        since, before, count, max_bytes = key
        command = commands.read_command(
            topic.name, topic.history, since=since, before=before, count=count, max_bytes=max_bytes
        )
        topic.link.call(*command, on_reply=partial(self._on_stored, topic, topic.era, key))

    def _on_stored(self, topic: Topic, era: int, key: Any, reply: Any) -> None:
        if topic.era != era:
            return
        arrivals = [arrival for arrival in topic.reads.pop(key) if not arrival.is_over]
        if isinstance(reply, ReplyError):
            if is_elsewhere(reply):
                self._lose(topic)
                return
            logger.error(read_refusal(topic.name, reply))
            for arrival in arrivals:
                self._fail(arrival.join, "Redis refuses to read what is stored")
            return
        stored = commands.stored(topic.name, reply)
        for arrival in arrivals:
            if stored.before is not None:
                arrival.before, arrival.count = stored.before, stored.rest
                self._read(arrival)
                continue
            if stored.has_more:
                self._hub.send_stored(arrival, stored)
                arrival.since, arrival.count = stored.messages[-1].id, commands.PAGE_MESSAGES
                self._read_when_flushed(arrival)
            else:
                self._hub.complete(arrival, stored)
                arrival.join.under_way.discard(arrival)
            arrival.join.unconfirmed.discard(arrival)
            if not arrival.join.unconfirmed:
                self._arrived(arrival.join)

    def _read_when_flushed(self, arrival: Arrival) -> None:
        """Read the next page as soon as the peer has taken this one."""
        connection = arrival.join.connection
        flushed = connection.when_flushed

        def go_on() -> None:
            connection.when_flushed = flushed
            if flushed is not None:
                flushed()
            if not arrival.is_over:
                self._read(arrival)

        if connection.outbox is None:
            go_on()
        else:
            connection.when_flushed = go_on

    def _arrived(self, join: Join) -> None:
        if not join.done.done():
            join.done.set_result(None)
        if not join.under_way:
            self._under_way.discard(join)
            join.connection.on_joined()

    def _fail(self, join: Join, reason: str) -> None:
        """End a join. A socket that is in use already is closed: it comes back, and says where it stood."""
        is_in_use = join.connection.sock is not None or join.done.done()  # in the latter case it is about to be
        self._end(join, reason)
        if is_in_use:
            join.connection.close(1013, reason)
        self._leave(join.connection)

    def _end(self, join: Join, reason: str) -> None:
        self._under_way.discard(join)
        if not join.done.done():
            join.done.set_exception(Unavailable(reason))


def read_refusal(name: bytes, reply: ReplyError) -> str:
    """Return in words that Redis lets nobody read a channel, and what to do."""
    return f"Redis refuses to read {name.decode()}: {reply}. docs/protocol.rst lists the rights."
