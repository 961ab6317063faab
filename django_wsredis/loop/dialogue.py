"""wsredis.v1: what a socket that speaks it says and is told, beside the messages of its channels.

docs/protocol.rst has the wire's side. A further facility is granted by the same Django code as a handshake, in a native
thread, one after another for each socket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .. import subprotocol
from ..conf import Settings
from ..exceptions import ConnectionClosed
from ..messages import text_frame
from .connection import Connection
from .outbox import Source
from .outgoing import Target
from .topic import Join, Topic

if TYPE_CHECKING:
    from ..handshake import Granted

MAX_WISHES = 1000  # that wait


class Desk(Protocol):
    """Who serves a dialogue: the loop."""

    settings: Settings

    def publish(self, connection: Connection, target: Target, payload: bytes, is_text: bool) -> None:
        """Publish a browser's message."""

    def decide(self, visitor: bytes, facility: str, query: str, on_decided: Callable[[Granted | int], None]) -> None:
        """Decide in another thread; on_decided gets what is granted, or the status of a refusal, in the loop's."""

    def join(self, connection: Connection, granted: Granted) -> Join:
        """Subscribe a connection to what is granted."""

    def leave_channels(self, connection: Connection, names: Sequence[bytes]) -> None:
        """Let a connection listen no more to some channels."""

    def names(self, granted: Granted) -> Sequence[bytes]:
        """Return the names in Redis of the channels to listen to."""

    def target(self, granted: Granted) -> Target | None:
        """Return where a browser's messages go, None if it may not publish."""


class Facility(NamedTuple):
    """What a socket has of a facility: the channels that it listens to, and where its messages go."""

    names: Sequence[bytes]
    target: Target | None


class Dialogue:
    """Of one connection."""

    __slots__ = ("_connection", "_desk", "_facilities", "_is_deciding", "_own", "_wishes")

    def __init__(self, desk: Desk, connection: Connection, granted: Granted) -> None:
        self._desk = desk
        self._connection = connection
        self._own = granted.facility
        self._facilities = {granted.facility: self._facility(granted)}
        self._wishes: list[tuple[str, str | None]] = []  # a deque takes 600 bytes, and mostly there are none
        self._is_deciding = False

    @property
    def facilities(self) -> Sequence[str]:
        """The facilities that it has."""
        return tuple(self._facilities)

    # What it is told

    def tell_joined(self, join: Join) -> None:
        """Say that a facility is subscribed, and sent up to the positions that are named."""
        positions = {arrival.topic.channel: arrival.topic.position for arrival in join.arrivals}
        self._tell(subprotocol.ack(join.facility, positions))

    def tell_position(self, topic: Topic) -> None:
        """Say where a channel stands after a gap."""
        self._tell(subprotocol.ack(topic.facility, {topic.channel: topic.position}))

    def tell_gap(self, topic: Topic, since: bytes | None) -> None:
        """Say that messages of a channel are missing after a position."""
        self._tell(subprotocol.gap(topic.channel, since=since))

    def missed(self, source: Source, count: int) -> bytes:
        """Return the frame that says how many messages a slow socket missed."""
        return text_frame(subprotocol.gap(source.channel, missed=count))

    def _tell(self, text: bytes) -> None:
        if self._connection.is_open:
            self._connection.write(text_frame(text))

    # What it says

    def on_message(self, data: bytes, is_text: bool) -> None:
        """Do what the peer asks for. Raises ConnectionClosed."""
        header, payload = subprotocol.parse(data)
        verb = header.get("type")
        facility = header.get("facility", self._own)
        if verb == "publish":
            self._publish(facility, payload, is_text)
        elif verb == "ping":
            self._tell(subprotocol.PONG)
        elif verb == "subscribe":
            self._wish(facility, header.get("query", ""))
        elif verb == "unsubscribe":
            self._wish(facility, None)
        else:
            raise ConnectionClosed(1008, "a header of wsredis.v1 has no type that is known")

    def _publish(self, name: str, payload: bytes, is_text: bool) -> None:
        facility = self._facilities.get(name)
        if facility is None or facility.target is None:
            self._connection.close_listener("this socket may not publish there: no publish-... was granted")
        else:
            self._desk.publish(self._connection, facility.target, payload, is_text)

    def _wish(self, facility: str, query: str | None) -> None:
        """Subscribe, or without a query unsubscribe, when all wishes before it are done."""
        if len(self._wishes) >= MAX_WISHES:
            raise ConnectionClosed(1008, "too many subscriptions at once")
        self._wishes.append((facility, query))
        self._do_wishes()

    def _do_wishes(self) -> None:
        while self._wishes and not self._is_deciding and self._connection.is_open:
            facility, query = self._wishes.pop(0)
            if query is None:
                self._unsubscribe(facility)
            elif facility in self._facilities:
                self._refuse(facility, 409)
            elif len(self._facilities) >= self._desk.settings.max_facilities:
                self._refuse(facility, 429)
            else:
                self._is_deciding = True
                self._desk.decide(self._connection.visitor, facility, query, partial(self._on_decided, facility))

    def _unsubscribe(self, name: str) -> None:
        if facility := self._facilities.pop(name, None):
            others = {name for other in self._facilities.values() for name in other.names}
            self._desk.leave_channels(self._connection, [name for name in facility.names if name not in others])
        self._tell(subprotocol.unsubscribed(name))

    def _on_decided(self, facility: str, granted: Granted | int) -> None:
        self._is_deciding = False
        if not self._connection.is_open:
            return
        if isinstance(granted, int):
            self._refuse(facility, granted)
        else:
            self._join(facility, granted)
        self._do_wishes()

    def _join(self, facility: str, granted: Granted) -> None:
        self._facilities[facility] = self._facility(granted)
        join = self._desk.join(self._connection, granted)
        if join.done.done() and join.done.exception():
            del self._facilities[facility]
            self._refuse(facility, 503)

    def _facility(self, granted: Granted) -> Facility:
        return Facility(self._desk.names(granted), self._desk.target(granted))

    def _refuse(self, facility: str, status: int) -> None:
        self._tell(subprotocol.error(facility, status))
