"""What a connection may do to channels once Django has granted it: join, leave, publish."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from .. import channels, commands
from ..channels import Channel, Wish
from ..messages import Message
from .connection import Connection
from .decisions import Decisions
from .hub import Hub
from .outgoing import Target
from .reactor import Reactor
from .subscriber import Subscriber
from .topic import Arrival, Join, Topic

if TYPE_CHECKING:
    from ..handshake import Granted


def new_key() -> bytes:
    """Return a key for a connection. A POST may name one, so nobody is to find another's by trying."""
    return secrets.token_hex(12).encode()


class Desk:
    """Serves the connections of a loop.

    decide: has Django decide in another thread; see `Decisions.decide()`.
    """

    def __init__(self, reactor: Reactor, hub: Hub, subscriber: Subscriber) -> None:
        self.reactor = reactor
        self.settings = reactor.settings
        self.decide = Decisions(reactor).decide
        self._hub = hub
        self._subscriber = subscriber

    def publish(self, connection: Connection, target: Target, payload: bytes, is_text: bool) -> None:
        """Publish a browser's message."""
        message = Message(payload, is_text, sender=None if connection.echo else connection.key)
        on_refused = partial(connection.close, 1011, "Redis refused a message")
        if not self._subscriber.outgoing.publish(target, message, on_refused):
            connection.close(1013, "too much waits for Redis")

    def join(self, connection: Connection, granted: Granted) -> Join:
        """Subscribe a connection to what is granted and new to it."""
        join = Join(connection)
        self.begin(join, granted)
        return join

    def begin(self, join: Join, granted: Granted) -> None:
        """Begin a join; its `done` tells when Redis has confirmed all."""
        connection = join.connection
        if granted.publish and connection.key is None:
            connection.key = new_key()
            self._hub.add_sender(connection)
        self.listen(join, granted.subscribe, granted.wish)

    def listen(self, join: Join, wanted: Sequence[Channel], wish: Wish) -> None:
        """Begin a join to channels; the wish says which of their messages come first."""
        places = {channels.redis_name(self.settings.prefix, channel): channel for channel in wanted}
        self._subscriber.join(
            join,
            [
                self._arrival(join, name, places[name], wish)
                for name in sorted(places)
                if name not in join.connection.channels  # another of its facilities may have brought it there
            ],
        )

    def leave_channels(self, connection: Connection, names: Sequence[bytes]) -> None:
        """Let a connection listen no more to some channels."""
        self._subscriber.leave_channels(connection, names)

    def names(self, granted: Granted) -> list[bytes]:
        """Return the names in Redis of the channels to listen to."""
        return [channels.redis_name(self.settings.prefix, channel) for channel in granted.subscribe]

    def positions(self, connection: Connection, names: Sequence[bytes]) -> dict[bytes, bytes | None] | None:
        """Return where a connection stands in channels; None while it is on its way in to one of them."""
        return self._hub.positions(connection, names)

    def target(self, granted: Granted) -> Target | None:
        """Return where a browser's messages go, None if it may not publish."""
        if not granted.publish:
            return None
        found = tuple(channels.redis_name(self.settings.prefix, channel) for channel in granted.publish)
        return Target(found, self.settings.keep_of(granted.facility))

    def _arrival(self, join: Join, name: bytes, channel: Channel, wish: Wish) -> Arrival:
        topic = self._hub.topics.get(name) or Topic(
            name,
            channel,
            history=self.settings.history_of(channel.facility),
            slow=self.settings.slow_policy(channel.facility),
        )
        since = wish.since.get(topic.channel.decode(), wish.since.get(""))
        return Arrival(join, topic, since, wish.history if since is None else commands.PAGE_MESSAGES)
