"""Fan-out: which connections listen to which channel, and the delivery of a message to them.

Knows no Redis: the subscriber tells it what was published, and what was stored when somebody joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..commands import Stored
from ..messages import JoinedFrames, Message, id_key
from .connection import Connection
from .topic import Arrival, Topic
from .writer import write_all

MAX_BATCH_BYTES = 64 * 1024  # that go to a socket together


class Hub:
    """Channel → connections, for one worker. Messages of `compress_from` bytes and more are compressed."""

    def __init__(self, compress_from: int = 0) -> None:
        self._compress_from = compress_from
        self._batch: list[Message] = []  # all of one topic, and from nobody who is left out
        self._batch_bytes = 0
        self._batch_topic: Topic | None = None
        self.topics: dict[bytes, Topic] = {}
        self.delivered = 0  # messages to sockets, one for each; what waits in an outbox counts, too
        self._senders: dict[bytes, Connection] = {}  # those that do not want their own messages back

    def add_sender(self, connection: Connection) -> None:
        """Leave out a connection where its own messages are delivered; it has a key."""
        if connection.key is not None and not connection.echo:
            self._senders[connection.key] = connection

    # Joining and leaving

    def begin(self, arrival: Arrival) -> None:
        """Let a connection hear a channel, whose messages are kept for it until `complete()`."""
        self.flush()
        topic = arrival.topic
        self.topics.setdefault(topic.name, topic)
        topic.joins[arrival] = None
        arrival.join.connection.channels += (topic.name,)

    def send_stored(self, arrival: Arrival, stored: Stored) -> None:
        """Send a connection a part of what was stored: more of it follows, before anything live."""
        self._send_gap(arrival, stored)
        for message in stored.messages:
            self._send_unless_own(arrival.join.connection, arrival.topic, message)
        arrival.forget_kept()

    def complete(self, arrival: Arrival, stored: Stored) -> None:
        """Send a connection what was stored and what came live meanwhile, each once; then it listens like all others.

        On one Redis connection whatever was published before the stream was read also arrives before its entries.
        So an entry that came live too is delivered in its place among the live ones, and all others are older.
        """
        self.flush()
        topic, connection = arrival.topic, arrival.join.connection
        self._send_gap(arrival, stored)
        # what it has seen may come late, if another worker was faster than this one
        for message in in_order(stored.messages, arrival.live, arrival.since):
            self._send_unless_own(connection, topic, message)
        topic.joins.pop(arrival)
        topic.add(connection)
        if stored.end is not None:
            topic.position = topic.caught_up_to = stored.end

    def positions(self, connection: Connection, names: Iterable[bytes]) -> dict[bytes, bytes | None] | None:
        """Return up to where a connection has been sent channels of its own, by the names that clients know.

        None while it is on its way in to one of them.
        """
        self.flush()  # a topic's position counts what waits to go out together
        topics = [self.topics[name] for name in names]
        if all(connection in topic.connections for topic in topics):
            return {topic.channel: topic.position for topic in topics}
        return None

    def remove(self, connection: Connection, names: Iterable[bytes]) -> list[Topic]:
        """Let a connection listen no more to some channels; returns the topics to which nobody listens any more."""
        self.flush()
        idle = []
        for name in names:
            topic = self.topics.get(name)
            if topic is None:
                continue
            connection.sent_apart += topic.count(connection)
            topic.remove(connection)
            topic.joins = {arrival: None for arrival in topic.joins if arrival.join.connection is not connection}
            if topic.is_idle:
                del self.topics[name]
                idle.append(topic)
        left = set(names)
        connection.channels = tuple(name for name in connection.channels if name not in left)
        return idle

    def forget(self, connection: Connection) -> list[Topic]:
        """Remove a connection from everything; returns the topics to which nobody listens any more."""
        if connection.key is not None:
            self._senders.pop(connection.key, None)
        return self.remove(connection, connection.channels)

    # Messages

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
        elif not _is_seen(message, topic.caught_up_to):
            self._put(topic, message)

    def _put(self, topic: Topic, message: Message) -> None:
        message.channel = topic.channel
        if message.id is not None:
            topic.position = message.id
        is_alone = message.sender in self._senders or topic.slow != "close"
        if topic is not self._batch_topic or self._batch_bytes > MAX_BATCH_BYTES or is_alone:
            self.flush()
        if topic.joins or is_alone:
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
        topic.delivered += len(batch)
        self.delivered += len(batch) * topic.listeners
        write_all(topic.connections, frames)
        for message in batch:
            _tell_ears(topic, message)

    def deliver(self, topic: Topic, message: Message) -> None:
        """Send a message to every connection of a topic, but not back to its sender. The hot path."""
        sender = self._senders.get(message.sender) if message.sender is not None else None
        source = None if topic.slow == "close" else topic
        topic.delivered += 1
        self.delivered += topic.listeners
        if sender in topic.connections:
            sender.sent_apart -= 1
            self.delivered -= 1
        write_all(topic.connections, message.frames(self._compress_from), but=sender, source=source)
        _tell_ears(topic, message)
        for arrival in topic.joins:
            arrival.hear(message)

    def publish_everywhere(self, message: Message) -> None:
        """Deliver a message to its addresses' audiences on every facility, once to each connection."""
        self.flush()
        for connection in self.sockets_of(message, b""):
            self._send(connection, message)

    # Who gets what

    def sockets_of(self, message: Message, name: bytes) -> set[Connection]:
        """Return the connections that a message on a channel, or to its addresses, goes to."""
        names = tuple(message.addresses)
        topics = [topic for other, topic in self.topics.items() if other.startswith(names)] if names else []
        if not names and (topic := self.topics.get(name)):
            topics = [topic]
        found = {connection for topic in topics for connection in (*topic.connections, *topic.ears)}
        found |= {arrival.join.connection for topic in topics for arrival in topic.joins}
        return found - {self._senders.get(message.sender or b"")}

    def sent_to(self, connection: Connection) -> int:
        """Return how many messages a connection was sent, or will be as soon as it takes them."""
        count = connection.sent_apart
        for name in connection.channels:
            topic = self.topics.get(name)
            if topic is not None:
                count += topic.count(connection)
        return count

    # When Redis was away

    def hold(self, topic: Topic) -> None:
        """Keep back what comes live, until the stream has been read again after a break."""
        self.flush()
        # of a first break, in whose catching up a second one came: what is kept will be read
        topic.held = [message for message in topic.held or () if message.id is None]

    def catch_up(self, topic: Topic, stored: Stored) -> None:
        """Deliver a part of what was missed of a topic: more of it follows, before anything live."""
        if topic.history and not stored.is_whole:
            for dialogue in _dialogues(topic):
                dialogue.tell_gap(topic, topic.position)
        for message in stored.messages:
            self._put(topic, message)
        self.flush()
        if topic.held is not None:  # what is kept will be read yet
            topic.held = [message for message in topic.held if message.id is None]

    def release(self, topic: Topic, stored: Stored) -> None:
        """Deliver what was missed of a topic, then what came live meanwhile."""
        held, topic.held = topic.held or [], None
        if stored.end is None:  # Redis may have lost its data, and begin anew with lower ids
            topic.position = None
        missed = stored.messages
        if not topic.history:  # the last kept message: it may have been seen before the break
            missed = [message for message in missed if message.id != topic.position]
        messages = in_order(missed, held, topic.position)
        self.catch_up(topic, stored._replace(messages=messages))
        seen = [message.id for message in messages if message.id is not None]
        topic.position = max([stored.end, *seen] if stored.end else seen, key=id_key, default=topic.position)
        topic.caught_up_to = stored.end
        if topic.history and not stored.is_whole:
            for dialogue in _dialogues(topic):
                dialogue.tell_position(topic)

    def _send_gap(self, arrival: Arrival, stored: Stored) -> None:
        dialogue = arrival.join.connection.dialogue
        if dialogue is not None and arrival.topic.history and not stored.is_whole:
            dialogue.tell_gap(arrival.topic, arrival.since)

    def _send_unless_own(self, connection: Connection, topic: Topic, message: Message) -> None:
        message.channel = topic.channel
        if message.sender is None or self._senders.get(message.sender) is not connection:
            self._send(connection, message)

    def _send(self, connection: Connection, message: Message) -> None:
        connection.send(message)
        connection.sent_apart += 1
        self.delivered += 1


def in_order(stored: Sequence[Message], live: Sequence[Message], since: bytes | None) -> list[Message]:
    """Return what was stored and what came live meanwhile: each once, and what is kept in the order of its ids.

    Mostly all that was not heard live is older than what was. But what an old shard had sent before its channel moved
    comes late: before the stream's newest, or out of all order, and then only what the stream still has of it counts.
    """
    heard, newest = [], since
    for message in live:
        if message.id is None:
            heard.append(message)
        elif not _is_seen(message, newest):
            heard.append(message)
            newest = message.id
    came_live = {message.id for message in heard}
    missed = [message for message in stored if message.id not in came_live]
    late = [message for message in heard if missed and _is_seen(message, missed[-1].id)]
    if not late:
        return missed + heard
    others = [message for message in heard if message not in late]
    return sorted(missed + late, key=lambda message: id_key(message.id or b"0")) + others


def _tell_ears(topic: Topic, message: Message) -> None:
    for connection in tuple(topic.ears):  # one may leave
        connection.send(message)


def _dialogues(topic: Topic) -> list[Any]:
    return [connection.dialogue for connection in topic.connections if connection.dialogue is not None]


def _is_seen(message: Message, since: bytes | None) -> bool:
    return message.id is not None and since is not None and id_key(message.id) <= id_key(since)
