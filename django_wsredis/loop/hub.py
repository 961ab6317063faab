"""Fan-out: which connections listen to which channel, and the delivery of a message to them.

Knows no Redis: the subscriber tells it what was published, and what was stored when somebody joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future

from ..messages import JoinedFrames, Message, id_key
from .connection import Connection
from .writer import write_all

NO_ID = (0, 0)

MAX_BATCH_BYTES = 64 * 1024  # that go to a socket together


class Topic:
    """A channel that somebody in this worker listens to, or is about to."""

    __slots__ = ("connections", "held", "is_subscribed", "joins", "last_id", "name")

    def __init__(self, name: bytes) -> None:
        self.name = name
        # a dict has the order in which they came, and mostly stand in memory: caches like that better than a set's
        self.connections: dict[Connection, None] = {}
        self.joins: set[Join] = set()
        self.is_subscribed = False  # whether Redis has confirmed it
        self.last_id = NO_ID  # of the last kept message that was seen
        self.held: list[Message] | None = None  # what came live while the stream is being read again

    @property
    def is_idle(self) -> bool:
        """Whether nobody listens any more."""
        return not self.connections and not self.joins

    def saw(self, message: Message) -> None:
        """Remember the newest kept message."""
        if message.id is not None:
            self.last_id = max(self.last_id, id_key(message.id))


class Join:
    """A connection on its way in: subscribed already, while the stored messages of its channels are fetched."""

    def __init__(self, connection: Connection, names: Sequence[bytes]) -> None:
        self.connection = connection
        self.done: Future[None] = Future()
        self.stored: dict[bytes, list[Message]] = {}
        self.live: list[tuple[bytes, Message]] = []
        self.missing = set(names)

    def messages(self) -> Iterable[Message]:
        """Return what the connection gets first: the stored messages, then what came live meanwhile, each once.

        On one Redis connection whatever was published before the stream was read also arrives before its entries.
        So an entry that came live too is delivered in its place among the live ones, and all others are older.
        """
        came_live = {(name, message.id) for name, message in self.live}
        for name, stored in self.stored.items():
            yield from (message for message in stored if (name, message.id) not in came_live)
        yield from (message for _, message in self.live)


class Hub:
    """Channel → connections, for one worker. Messages of `compress_from` bytes and more are compressed."""

    def __init__(self, compress_from: int = 0) -> None:
        self._compress_from = compress_from
        self._batch: list[Message] = []  # all of one topic, and from nobody who is left out
        self._batch_bytes = 0
        self._batch_topic: Topic | None = None
        self.topics: dict[bytes, Topic] = {}
        self._senders: dict[bytes, Connection] = {}  # those that do not want their own messages back

    def add_sender(self, connection: Connection) -> None:
        """Leave out a connection where its own messages are delivered; it has a key."""
        if connection.key is not None and not connection.echo:
            self._senders[connection.key] = connection

    def begin(self, join: Join, names: Sequence[bytes]) -> list[Topic]:
        """Let a connection hear its channels; returns the topics that are new, to be subscribed to."""
        self.flush()
        join.connection.channels = tuple(names)
        new = []
        for name in names:
            topic = self.topics.get(name)
            if topic is None:
                topic = self.topics[name] = Topic(name)
                new.append(topic)
            topic.joins.add(join)
        return new

    def complete(self, join: Join) -> None:
        """Send a connection what came first, and let it listen like all others."""
        self.flush()
        for message in join.messages():
            self._send_unless_own(join.connection, message)
        for name in join.connection.channels:
            topic = self.topics[name]
            topic.joins.discard(join)
            topic.connections[join.connection] = None

    def remove(self, connection: Connection) -> list[Topic]:
        """Forget a connection; returns the topics to which nobody listens any more."""
        self.flush()
        if connection.key is not None:
            self._senders.pop(connection.key, None)
        idle = []
        for name in connection.channels:
            topic = self.topics.get(name)
            if topic is None:
                continue
            topic.connections.pop(connection, None)
            topic.joins = {join for join in topic.joins if join.connection is not connection}
            if topic.is_idle:
                del self.topics[name]
                idle.append(topic)
        connection.channels = ()
        return idle

    def publish(self, name: bytes, message: Message) -> None:
        """Deliver a message that came live from Redis to everybody on its channel, at the latest in `flush()`.

        Messages of one channel that came together go out together: under load, when that is what costs time, they
        come in larger batches, and each socket needs one system call for a batch.
        """
        topic = self.topics.get(name)
        if topic is None or not topic.is_subscribed:  # an echo of an earlier subscription
            return
        if topic.held is not None:
            topic.held.append(message)
            return
        topic.saw(message)
        if topic is not self._batch_topic or self._batch_bytes > MAX_BATCH_BYTES or message.sender in self._senders:
            self.flush()
        if topic.joins or message.sender in self._senders:
            self.deliver(topic, message)
            return
        self._batch.append(message)
        self._batch_bytes += len(message.payload)
        self._batch_topic = topic

    def flush(self) -> None:
        """Deliver what waits to go out together."""
        batch, topic = self._batch, self._batch_topic
        if topic is None:
            return
        self._batch, self._batch_bytes, self._batch_topic = [], 0, None
        if len(batch) == 1:
            self.deliver(topic, batch[0])
            return
        frames = JoinedFrames([message.frames(self._compress_from) for message in batch])
        write_all(topic.connections, frames)

    def deliver(self, topic: Topic, message: Message) -> None:
        """Send a message to every connection of a topic, but not back to its sender. The hot path."""
        sender = self._senders.get(message.sender) if message.sender is not None else None
        write_all(topic.connections, message.frames(self._compress_from), but=sender)
        for join in topic.joins:
            join.live.append((topic.name, message))

    def publish_everywhere(self, message: Message) -> None:
        """Deliver a message to its addresses' audiences on every facility, once to each connection."""
        self.flush()
        addresses = tuple(message.addresses)
        topics = [t for name, t in self.topics.items() if t.is_subscribed and name.startswith(addresses)]
        for connection in {connection for topic in topics for connection in topic.connections}:
            connection.send(message)
        for join in {join for topic in topics for join in topic.joins}:
            join.live.append((b"", message))

    def hold(self) -> None:
        """Keep back what comes live, until the streams have been read again after a break."""
        self.flush()
        for topic in self.topics.values():
            held, topic.held = topic.held or [], []
            for message in held:  # of a first break, in whose catching up a second one came: rather now than never
                topic.saw(message)
                self.deliver(topic, message)

    def release(self, topic: Topic, stored: Iterable[Message]) -> None:
        """Deliver what was missed of a topic, then what came live meanwhile."""
        held, topic.held = topic.held or [], None
        came_live = {message.id for message in held if message.id is not None}
        for message in [m for m in stored if m.id not in came_live and _key(m) > topic.last_id] + held:
            self.publish(topic.name, message)

    def _send_unless_own(self, connection: Connection, message: Message) -> None:
        if message.sender is None or self._senders.get(message.sender) is not connection:
            connection.send(message)


def _key(message: Message) -> tuple[int, int]:
    return NO_ID if message.id is None else id_key(message.id)
