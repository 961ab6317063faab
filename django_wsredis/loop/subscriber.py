"""Redis to hub: topics are subscribed, restored, and caught up after a break; and what browsers send goes out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hiredis import ReplyError

from .. import commands
from ..channels import everywhere_name
from ..messages import Message, decode
from .connection import Connection
from .hub import Hub
from .joins import Joins, read_refusal
from .link import Link
from .links import Links, make_links
from .outgoing import Outgoing
from .reactor import Reactor
from .refusals import Refusals
from .replies import ignore, is_elsewhere
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
        self._joins = Joins(hub, self.links, subscribe=self._subscribe, lose=self._lose, leave=self.leave)
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
        self._joins.stop()

    @property
    def is_ready(self) -> bool:
        """Whether Redis is connected, and all topics are subscribed and caught up."""
        return self.links.all_up and not self._missing

    # Joining

    def join(self, join: Join, arrivals: Sequence[Arrival]) -> None:
        """Subscribe a connection to its channels and fetch what is stored there; `join.done` tells when that is done.

        It fails with Unavailable if Redis is away.
        """
        self._joins.begin(join, arrivals)

    def leave(self, connection: Connection) -> None:
        """Forget a connection, and unsubscribe from what nobody listens to any more."""
        self._joins.end_of(connection)
        self._forget(self._hub.forget(connection))

    def leave_channels(self, connection: Connection, names: Sequence[bytes]) -> None:
        """Let a connection listen no more to some of its channels."""
        self._forget(self._hub.remove(connection, names))
        self._joins.forget_left(connection)

    def _forget(self, idle: Sequence[Topic]) -> None:
        for topic in idle:
            self._found(topic.name)
            self._unsubscribe(topic)

    def _unsubscribe(self, topic: Topic) -> None:
        if topic.link is not None:
            topic.link.call(self._unsubscribe_word, topic.name, on_reply=ignore)

    def _subscribe(self, topic: Topic) -> None:
        topic.link.call(self._subscribe_word, topic.name, on_reply=partial(self._on_subscribed, topic, topic.era))

    def _on_subscribed(self, topic: Topic, era: int, reply: Any) -> None:
        if topic.era != era:
            return
        if not isinstance(reply, ReplyError):
            topic.is_subscribed = True
        elif is_elsewhere(reply):
            self._lose(topic)
        elif topic.name in self._missing:
            self._recover(topic, None)  # as if Redis were away: its sockets get later what they miss
            self._refusals.add(self._subscribe_refusal(topic.name, reply))
        else:
            logger.error(self._subscribe_refusal(topic.name, reply))
            self._joins.fail(topic, "Redis refuses to subscribe")

    def _subscribe_refusal(self, name: bytes, reply: ReplyError) -> str:
        channel = name.decode()
        return f"Redis refuses {self._subscribe_word} {channel}: {reply}. Does its ACL user have &{channel}?"

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
        self._joins.fail(topic, "Redis went away")
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
            if is_elsewhere(reply):
                self._lose(topic)
            else:
                self._unsubscribe(topic)
                self._recover(topic, None)
                self._refusals.add(read_refusal(topic.name, reply))
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
        elif is_elsewhere(reply):
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
