"""Redis to hub: topics are subscribed, restored, and caught up after a break; and what browsers send goes out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hiredis import ReplyError

from .. import commands, redis
from ..channels import everywhere_name
from ..exceptions import Unavailable
from ..messages import Message, decode
from .connection import Connection
from .hub import Hub
from .link import Link
from .links import Links, make_links
from .outgoing import Outgoing
from .reactor import Reactor
from .refusals import Refusals
from .topic import Arrival, Join, Topic

logger = logging.getLogger("django_wsredis.redis")


class Subscriber:
    """Keeps the hub's topics subscribed, each on the link that serves it, and publishes what browsers send.

    on_request(payload): an operator asks for something.
    on_receipt(channel, message): who published a message asks how many sockets it goes to; it has not gone out yet.
    on_listening(): requests are heard from now on.
    """

    def __init__(
        self,
        reactor: Reactor,
        hub: Hub,
        *,
        on_request: Callable[[bytes], None],
        on_receipt: Callable[[bytes, Message], None],
        on_listening: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._on_request = on_request
        self._on_receipt = on_receipt
        self._on_listening = on_listening
        self._joining: set[Join] = set()
        self._everywhere = everywhere_name(reactor.settings.prefix)
        self._everywhere_link: Link | None = None
        self._missing = {self._everywhere}  # channels that are to be subscribed and caught up before we are ready
        self._refusals = Refusals(reactor, self._on_changed)
        self.links: Links = make_links(
            reactor,
            on_message=self._on_message,
            on_read=hub.flush,
            on_changed=self._on_changed,
            on_unsubscribed=self._on_unsubscribed,
        )
        self._subscribe_word = "SSUBSCRIBE" if self.links.is_sharded else "SUBSCRIBE"
        self._unsubscribe_word = "SUNSUBSCRIBE" if self.links.is_sharded else "UNSUBSCRIBE"
        self.outgoing = Outgoing(reactor, self.links)
        self.has_tried = self.links.has_tried  # to connect to Redis, once, with or without success

    def start(self) -> None:
        """Connect."""
        self.links.start()

    def stop(self) -> None:
        """Disconnect for good."""
        self.outgoing.stop()
        self.links.stop()
        self._refusals.stop()
        for join in list(self._joining):
            self._fail(join, "the server stops")

    @property
    def is_ready(self) -> bool:
        """Whether Redis is connected, and all topics are subscribed and caught up."""
        return self.links.all_up and not self._missing

    # Joining

    def join(self, join: Join, arrivals: Sequence[Arrival]) -> None:
        """Subscribe a connection to its channels and fetch what is stored there; `join.done` tells when that is done.

        It fails with Unavailable if Redis is away.
        """
        for arrival in arrivals:
            topic = arrival.topic
            if self.links.link(topic.name) is None or topic.held is not None:
                join.done.set_exception(Unavailable("Redis is away"))
                return
        if not arrivals and not self.links.all_up:  # it will only publish
            join.done.set_exception(Unavailable("Redis is away"))
            return
        self._joining.add(join)
        join.arrivals = list(arrivals)
        join.unconfirmed, join.under_way = set(arrivals), set(arrivals)
        for arrival in arrivals:
            arrival.max_bytes = commands.PAGE_BYTES // len(arrivals)
            is_new = arrival.topic.name not in self._hub.topics
            self._hub.begin(arrival)
            if is_new:
                arrival.topic.link = self.links.link(arrival.topic.name)
                self._subscribe(arrival.topic)
            self._read(arrival)
        if not arrivals:
            self._arrived(join)

    def leave(self, connection: Connection) -> None:
        """Forget a connection, and unsubscribe from what nobody listens to any more."""
        for join in [join for join in self._joining if join.connection is connection]:
            self._end_join(join, "the socket was closed before it was subscribed")
        self._forget(self._hub.forget(connection))

    def leave_channels(self, connection: Connection, names: Sequence[bytes]) -> None:
        """Let a connection listen no more to some of its channels."""
        self._forget(self._hub.remove(connection, names))
        for join in [join for join in self._joining if join.connection is connection]:
            join.unconfirmed = {arrival for arrival in join.unconfirmed if not arrival.is_over}
            join.under_way = {arrival for arrival in join.under_way if not arrival.is_over}
            if not join.under_way:
                self._joining.discard(join)

    def _forget(self, idle: Sequence[Topic]) -> None:
        for topic in idle:
            self._found(topic.name)
            self._unsubscribe(topic)

    def _unsubscribe(self, topic: Topic) -> None:
        if topic.link is not None:
            topic.link.call(self._unsubscribe_word, topic.name, on_reply=_ignore)

    def _subscribe(self, topic: Topic) -> None:
        topic.link.call(self._subscribe_word, topic.name, on_reply=partial(self._on_subscribed, topic, topic.era))

    def _on_subscribed(self, topic: Topic, era: int, reply: Any) -> None:
        if topic.era != era:
            return
        if not isinstance(reply, ReplyError):
            topic.is_subscribed = True
        elif redis.is_elsewhere(reply):
            self._lose(topic)
        elif topic.name in self._missing:
            self._recover(topic, None)  # as if Redis were away: its sockets get later what they miss
            self._refusals.add(self._subscribe_refusal(topic.name, reply))
        else:
            logger.error(self._subscribe_refusal(topic.name, reply))
            self._fail_arrivals(topic, "Redis refuses to subscribe")

    def _subscribe_refusal(self, name: bytes, reply: ReplyError) -> str:
        channel = name.decode()
        return f"Redis refuses {self._subscribe_word} {channel}: {reply}. Does its ACL user have &{channel}?"

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
            if redis.is_elsewhere(reply):
                self._lose(topic)
                return
            logger.error(_read_refusal(topic.name, reply))
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
            self._joining.discard(join)
            if join.connection.dialogue is not None:
                join.connection.dialogue.tell_joined()

    def _fail_arrivals(self, topic: Topic, reason: str) -> None:
        for arrival in list(topic.joins):
            self._fail(arrival.join, reason)

    def _fail(self, join: Join, reason: str) -> None:
        """End a join. A socket that is in use already is closed: it comes back, and says where it stood."""
        is_in_use = join.connection.sock is not None or join.done.done()  # in the latter case it is about to be
        self._end_join(join, reason)
        if is_in_use:
            join.connection.close(1013, reason)
        self.leave(join.connection)

    def _end_join(self, join: Join, reason: str) -> None:
        self._joining.discard(join)
        if not join.done.done():
            join.done.set_exception(Unavailable(reason))

    # When a link comes and goes, or a slot moves

    def _on_changed(self) -> None:
        """Compare where each topic is subscribed with where it belongs."""
        link = self.links.link(self._everywhere)
        if link is not self._everywhere_link:
            self._everywhere_link = link
            self._missing.add(self._everywhere)
            if link is not None:
                link.call(self._subscribe_word, self._everywhere, on_reply=partial(self._on_everywhere, link))
        for topic in list(self._hub.topics.values()):
            link = self.links.link(topic.name)
            if topic.link is not link:
                self._recover(topic, link)
        self.outgoing.on_changed()

    def _recover(self, topic: Topic, link: Link | None) -> None:
        """Subscribe a topic anew, and read what was missed."""
        topic.link = link
        topic.era += 1
        topic.is_subscribed = False
        topic.reads.clear()
        self._fail_arrivals(topic, "Redis went away")
        if topic.is_idle:
            return
        self._hub.hold(topic)
        self._missing.add(topic.name)
        if link is not None:
            self._subscribe(topic)
            self._read_missed(topic)

    def _read_missed(self, topic: Topic) -> None:
        since = topic.position if topic.history else None
        command = commands.read_command(topic.name, topic.history, since=since)
        topic.link.call(*command, on_reply=partial(self._on_missed, topic, topic.era))

    def _on_missed(self, topic: Topic, era: int, reply: Any) -> None:
        if topic.era != era or topic.is_idle:
            return
        if isinstance(reply, ReplyError):
            if redis.is_elsewhere(reply):
                self._lose(topic)
            else:
                self._unsubscribe(topic)
                self._recover(topic, None)
                self._refusals.add(_read_refusal(topic.name, reply))
            return
        stored = commands.stored(topic.name, reply)
        if stored.has_more and topic.history:  # else it is the last kept message, whatever its stream says of its end
            self._hub.catch_up(topic, stored)
            self._read_missed(topic)
        else:
            self._hub.release(topic, stored)
            self._found(topic.name)

    def _found(self, name: bytes) -> None:
        self._missing.discard(name)
        if not self._missing:
            self._refusals.clear()

    def _lose(self, topic: Topic) -> None:
        """Redis says that a topic is not, or not now, where we think: look for it."""
        link, topic.link = topic.link, None
        self._recover(topic, None)
        self.links.moved(link)

    def _on_unsubscribed(self, name: bytes) -> None:
        """The slot of a channel has left the shard on which we were subscribed."""
        if name == self._everywhere:
            link, self._everywhere_link = self._everywhere_link, None
            self._missing.add(name)
            self.links.moved(link)
        elif topic := self._hub.topics.get(name):
            self._lose(topic)

    def _on_everywhere(self, link: Link, reply: Any) -> None:
        if self._everywhere_link is not link:
            return
        if not isinstance(reply, ReplyError):
            self._found(self._everywhere)
            self._on_listening()
        elif redis.is_elsewhere(reply):
            self._on_unsubscribed(self._everywhere)
        else:
            self._everywhere_link = None
            self._refusals.add(self._subscribe_refusal(self._everywhere, reply))

    def _on_message(self, name: bytes, data: bytes) -> None:
        try:
            message = decode(data)
        except ValueError as error:
            logger.error("A message on %s cannot be read and is dropped: %s", name.decode(), error)
            return
        if message.is_request:
            self._on_request(message.payload)
            return
        if message.reply is not None:
            self._on_receipt(name, message)
        if message.addresses:
            self._hub.publish_everywhere(message)
        else:
            self._hub.publish(name, message)


def _read_refusal(name: bytes, reply: ReplyError) -> str:
    return f"Redis refuses to read {name.decode()}: {reply}. docs/protocol.rst lists the rights."


def _ignore(reply: Any) -> None:
    pass
