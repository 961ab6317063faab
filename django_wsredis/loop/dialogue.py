"""wsredis.v1: what a socket that speaks it says and is told, beside the messages of its channels.

docs/protocol.rst has the wire's side. A further facility is granted by the same Django code as a handshake, in a native
thread, one after another for each socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .. import subprotocol
from ..exceptions import ConnectionClosed
from . import regrouping
from .connection import Connection
from .outbox import Source
from .outgoing import Target
from .topic import Topic

if TYPE_CHECKING:
    from ..handshake import Granted
    from .desk import Desk

MAX_WISHES = 1000  # that wait


class Facility(NamedTuple):
    """What a socket has of a facility: the channels that it listens to, and where its messages go.

    query: with which it was asked for; None for the one of the URL. groups: of its `Granted`.
    """

    names: Sequence[bytes]
    target: Target | None
    query: str | None
    groups: str | None


class Wish(NamedTuple):
    """What is to be done about a facility, when all before it is done; to regroup "" is to regroup all of them."""

    verb: str
    facility: str
    query: str = ""


class Dialogue:
    """Of one connection."""

    __slots__ = ("_connection", "_desk", "_facilities", "_is_deciding", "_own", "_unacked", "_wishes")

    def __init__(self, desk: Desk, connection: Connection, granted: Granted) -> None:
        self._desk = desk
        self._connection = connection
        self._own = granted.facility
        self._facilities: dict[str, Facility] = {}
        self._unacked: tuple[str, ...] = ()  # facilities whose channels have not all arrived
        self._add(granted, None)
        self._wishes: list[Wish] = []  # a deque takes 600 bytes, and mostly there are none
        self._is_deciding = False

    @property
    def facilities(self) -> Sequence[str]:
        """The facilities that it has."""
        return tuple(self._facilities)

    @property
    def groups(self) -> set[str | None]:
        """What the user's groups were when its facilities were granted."""
        return {facility.groups for facility in self._facilities.values()}

    def regroup(self) -> None:
        """The user's groups have changed: decide again on all facilities, when all wishes so far are done."""
        if Wish("regroup", "") not in self._wishes:
            self._wishes.append(Wish("regroup", ""))
            self._do_wishes()

    # What it is told

    def tell_joined(self) -> None:
        """Say which facilities are subscribed now, and up to which positions all of them has been sent.

        Facilities may share channels. So each join of this connection may be the one that others wait for.
        """
        for name in self._unacked:
            positions = self._desk.positions(self._connection, self._facilities[name].names)
            if positions is not None:
                self._unacked = tuple(other for other in self._unacked if other != name)
                self._tell(subprotocol.ack(name, positions))

    def tell_position(self, topic: Topic) -> None:
        """Say where a channel stands after a gap, unless the ack of its facility is about to do so."""
        for name, facility in self._facilities.items():
            if topic.name in facility.names and name not in self._unacked:
                self._tell(subprotocol.ack(name, {topic.channel: topic.position}))
                return

    def tell_gap(self, topic: Topic, since: bytes | None) -> None:
        """Say that messages of a channel are missing after a position."""
        self._tell(subprotocol.gap(topic.channel, since=since))

    def missed(self, source: Source, count: int) -> bytes:
        """Return the frame that says how many messages a slow socket missed."""
        return self._connection.frame_of(subprotocol.gap(source.channel, missed=count))

    def tell_pong(self) -> None:
        """Answer a ping; or show, where the peer cannot see the server's pings, that it lives."""
        self._tell(subprotocol.PONG)

    def _tell(self, text: bytes) -> None:
        if self._connection.is_open:
            self._connection.write(self._connection.frame_of(text))

    # What it says

    def on_message(self, data: bytes, is_text: bool) -> None:
        """Do what the peer asks for. Raises ConnectionClosed."""
        header, payload = subprotocol.parse(data)
        verb = header.get("type")
        facility = header.get("facility", self._own)
        if verb == "publish":
            self._publish(facility, payload, is_text)
        elif verb == "ping":
            self.tell_pong()
        elif verb in ("subscribe", "unsubscribe"):
            self._wish(Wish(verb, facility, header.get("query", "")))
        else:
            raise ConnectionClosed(1008, "a header of wsredis.v1 has no type that is known")

    def _publish(self, name: str, payload: bytes, is_text: bool) -> None:
        facility = self._facilities.get(name)
        if facility is None or facility.target is None:
            self._connection.close_listener("this socket may not publish there: no publish-... was granted")
        else:
            self._desk.publish(self._connection, facility.target, payload, is_text)

    def _wish(self, wish: Wish) -> None:
        if len(self._wishes) >= MAX_WISHES:
            raise ConnectionClosed(1008, "too many subscriptions at once")
        self._wishes.append(wish)
        self._do_wishes()

    def _do_wishes(self) -> None:
        while self._wishes and not self._is_deciding and self._connection.is_open:
            wish = self._wishes.pop(0)
            if wish.verb == "unsubscribe":
                self._unsubscribe(wish.facility)
            elif wish.verb == "subscribe":
                self._subscribe(wish.facility, wish.query)
            elif wish.facility in self._facilities:
                self._regroup(wish.facility)
            elif not wish.facility:
                self._wishes[:0] = [Wish("regroup", facility) for facility in self._facilities]

    def _subscribe(self, facility: str, query: str) -> None:
        if facility in self._facilities:
            self._refuse(facility, 409)
        elif len(self._facilities) >= self._desk.settings.max_facilities:
            self._refuse(facility, 429)
        else:
            self._is_deciding = True
            self._desk.decide(self._connection.visitor, facility, query, partial(self._on_decided, facility, query))

    def _unsubscribe(self, name: str) -> None:
        self._leave(name)
        self._tell(subprotocol.unsubscribed(name))
        self.tell_joined()  # others do not wait for it any more

    def _leave(self, name: str) -> None:
        if facility := self._remove(name):
            self._desk.leave_channels(self._connection, self._not_of_others(facility.names))

    def _on_decided(self, facility: str, query: str, granted: Granted | int) -> None:
        self._is_deciding = False
        if not self._connection.is_open:
            return
        if isinstance(granted, int):
            self._refuse(facility, granted)
        else:
            self._join(facility, query, granted)
        self._do_wishes()

    def _join(self, facility: str, query: str, granted: Granted) -> None:
        self._add(granted, query)
        join = self._desk.join(self._connection, granted)
        if join.done.done() and join.done.exception():
            self._remove(facility)
            self._refuse(facility, 503)

    def _regroup(self, name: str) -> None:
        query = self._facilities[name].query
        self._is_deciding = True
        decided = partial(self._on_regrouped, name)
        self._desk.decide(self._connection.visitor, name, query, decided, is_urgent=False)

    def _on_regrouped(self, name: str, granted: Granted | int) -> None:
        self._is_deciding = False
        if not self._connection.is_open:
            return
        if not isinstance(granted, int):
            self._exchange(name, granted)
        elif granted == regrouping.UNAVAILABLE or len(self._facilities) == 1:
            self._connection.close(*regrouping.close_code(granted))
        else:
            self._leave(name)
            self._refuse(name, granted)
        if self._connection.is_open:
            self.tell_joined()  # none waits any more for what was left
        self._do_wishes()

    def _exchange(self, name: str, granted: Granted) -> None:
        former = self._facilities[name]
        now = self._facilities[name] = self._facility(granted, former.query)
        if set(now.names) != set(former.names) and name not in self._unacked:
            self._unacked += (name,)
        regrouping.exchange(self._desk, self._connection, granted, self._not_of_others(former.names))

    def _add(self, granted: Granted, query: str | None) -> None:
        self._facilities[granted.facility] = self._facility(granted, query)
        self._unacked += (granted.facility,)

    def _facility(self, granted: Granted, query: str | None) -> Facility:
        return Facility(self._desk.names(granted), self._desk.target(granted), query, granted.groups)

    def _remove(self, name: str) -> Facility | None:
        self._unacked = tuple(other for other in self._unacked if other != name)
        return self._facilities.pop(name, None)

    def _not_of_others(self, names: Sequence[bytes]) -> list[bytes]:
        """Return those of a facility's channels that it has no more, and that no other one has."""
        kept = {name for facility in self._facilities.values() for name in facility.names}
        return [name for name in names if name not in kept]

    def _refuse(self, facility: str, status: int) -> None:
        self._tell(subprotocol.error(facility, status))
