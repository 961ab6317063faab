"""A channel in this worker, and connections on their way in to it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from ..channels import Channel, channel_name
from ..commands import PAGE_BYTES
from ..conf import Keep
from ..messages import Message
from .connection import Connection


class Topic:
    """A channel that somebody in this worker listens to, or is about to.

    name: in Redis. channel: the name that clients know it by. history: what Redis keeps of it, if it is set to.
    slow: what is done for a socket that does not keep up, of `rules.SLOW_POLICIES`.
    """

    __slots__ = (
        "caught_up_to",
        "channel",
        "connections",
        "delivered",
        "ears",
        "era",
        "facility",
        "held",
        "history",
        "is_subscribed",
        "joins",
        "link",
        "name",
        "position",
        "reads",
        "slow",
    )

    def __init__(self, name: bytes, channel: Channel, *, history: Keep | None, slow: str) -> None:
        self.name = name
        self.channel = channel_name(channel).encode()
        self.facility = channel.facility
        self.history = history
        self.slow = slow
        # a dict has the order in which they came, and mostly stand in memory: caches like that better than a set's
        self.connections: dict[Connection, int] = {}  # what `delivered` was when each of them came
        self.ears: dict[Connection, int] = {}  # likewise, of views: they want messages, not frames
        self.delivered = 0  # messages, to all who listened
        self.joins: dict[Arrival, None] = {}
        self.link: Any = None  # the connection to Redis on which it is subscribed
        self.is_subscribed = False  # whether Redis has confirmed it
        self.era = 0  # counts from one subscription to the next: what was asked before is answered in vain
        self.position: bytes | None = None  # everything up to it has been seen
        # the end of the stream when it was last read again: what its old shard had sent before may come after that
        self.caught_up_to: bytes | None = None
        self.held: list[Message] | None = None  # what came live while the stream is being read again
        self.reads: dict[Any, list[Arrival]] = {}  # those under way, and who waits for them

    @property
    def is_idle(self) -> bool:
        """Whether nobody listens any more."""
        return not (self.connections or self.ears or self.joins)

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self.connections) + len(self.ears)

    def add(self, connection: Connection) -> None:
        """Let a connection listen from now on."""
        (self.connections if connection.takes_frames else self.ears)[connection] = self.delivered

    def count(self, connection: Connection) -> int:
        """Return how many messages a connection heard."""
        began_at = self.connections.get(connection, self.ears.get(connection))
        return 0 if began_at is None else self.delivered - began_at

    def remove(self, connection: Connection) -> None:
        """Let a connection listen no more, if it does."""
        self.connections.pop(connection, None)
        self.ears.pop(connection, None)


class Join:
    """A connection on its way in to the channels of a facility that it does not have by another one.

    done: when Redis has confirmed all, and what they hold has been read, or the first part of it where it is much.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.done: Future[None] = Future()
        self.arrivals: list[Arrival] = []
        self.unconfirmed: set[Arrival] = set()
        self.under_way: set[Arrival] = set()


class Arrival:
    """A connection on its way in to one channel: subscribed already, while its stored messages are fetched.

    since: the position after which it wants them, None for the newest `count`.
    before: an entry in front of which these are, as `Stored` said; None where it said nothing.
    max_bytes: of one read, so that those of all its channels together are no more than a page.
    """

    __slots__ = ("_live_bytes", "before", "count", "join", "live", "max_bytes", "since", "topic")

    def __init__(self, join: Join, topic: Topic, since: bytes | None, count: int) -> None:
        self.join = join
        self.topic = topic
        self.since = since
        self.before: bytes | None = None
        self.count = count
        self.max_bytes = PAGE_BYTES
        self.live: list[Message] = []  # what came meanwhile
        self._live_bytes = 0

    def hear(self, message: Message) -> None:
        """Remember what came live: for a peer that takes what was stored too slowly, no more than an outbox holds."""
        self.live.append(message)
        self._live_bytes += len(message.payload)
        connection = self.join.connection
        if self._live_bytes > connection.reactor.settings.max_outbox_bytes:
            connection.reactor.call_soon(connection.close_slow)

    def forget_kept(self) -> None:
        """Forget what came live and is kept: it will be read."""
        self.live = [message for message in self.live if message.id is None]
        self._live_bytes = sum(len(message.payload) for message in self.live)

    @property
    def is_over(self) -> bool:
        """Whether the connection has left, or arrived."""
        return self not in self.topic.joins
