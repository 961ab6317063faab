"""Which of a worker's sockets an operator means, and walks that take their time.

A walk goes step by step, between which the loop serves all sockets: 50,000 of them feel nothing of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from functools import cache
from itertools import islice
from typing import Generic, TypeVar

from ..control import MAX_ROWS, Filter, fits
from .connection import Connection
from .hub import Hub
from .reactor import Reactor
from .registry import Registry
from .topic import Topic

STEP = 500  # sockets, or channels, that are looked at in one turn of the loop

Item = TypeVar("Item")


class Selection:
    """The sockets of a worker, of which some are meant."""

    def __init__(self, reactor: Reactor, hub: Hub, connections: Registry) -> None:
        self._reactor = reactor
        self._hub = hub
        self._connections = connections

    def visit(self, which: Filter, visit: Callable[[Connection], object], done: Callable[[], None]) -> None:
        """Visit each socket that is meant and still there; then call `done`."""
        heard = {topic.name for topic in self._heard(which.hears)}

        @cache
        def fits_facility(facility: str) -> bool:
            return fits(facility, which.facility)

        @cache
        def fits_channel(name: bytes) -> bool:
            topic = self._hub.topics.get(name)
            return topic is not None and fits(topic.channel.decode(), which.channel)

        def visit_if_meant(connection: Connection) -> None:
            if connection not in self._connections:
                return
            if which.facility and not any(map(fits_facility, facilities(connection))):
                return
            if which.channel and not any(map(fits_channel, connection.channels)):
                return
            if which.hears and heard.isdisjoint(connection.channels):
                return
            visit(connection)

        walk(self._reactor, self._candidates(which), visit_if_meant, done)

    def channels(self, connection: Connection) -> list[str]:
        """Return the channels that a connection hears, by the names that clients know."""
        topics = self._hub.topics
        return [topics[name].channel.decode() for name in connection.channels if name in topics]

    def _candidates(self, which: Filter) -> list[Connection]:
        """Return the connections among which those are that are meant: few, where an index knows them."""
        if which.is_nobody:
            return []
        if which.users or which.sessions:
            return list(self._connections.of(which.users, which.sessions))
        if which.hears:
            found: dict[Connection, None] = {}
            for topic in self._heard(which.hears):
                found.update(dict.fromkeys(topic.connections))
                found.update(dict.fromkeys(arrival.join.connection for arrival in topic.joins))
            return list(found)
        return list(self._connections)

    def _heard(self, hears: Iterable[str]) -> Iterable[Topic]:
        topics = self._hub.topics
        names = [name.encode() for name in hears]
        if prefixes := tuple(name for name in names if name.endswith(b":")):
            yield from (topic for name, topic in topics.items() if name.startswith(prefixes))
        yield from (topics[name] for name in names if name in topics)


class First(Generic[Item]):
    """Those that come first, of many that are added one by one: so many of the greatest, by a key."""

    def __init__(self, limit: int, key: Callable[[Item], float]) -> None:
        self._limit = min(limit, MAX_ROWS)
        self._key = key
        self._found: list[tuple[float, int, Item]] = []  # a heap; of equal ones those that came first stay
        self.total = 0

    def add(self, item: Item) -> None:
        """Take part, if it is one of them."""
        self.total += 1
        entry = (self._key(item), -self.total, item)
        if len(self._found) < self._limit:
            heapq.heappush(self._found, entry)
        else:
            heapq.heappushpop(self._found, entry)

    def items(self) -> list[Item]:
        """Return them, the greatest first."""
        return [item for _, _, item in sorted(self._found, reverse=True)]


def facilities(connection: Connection) -> list[str]:
    """Return the facilities that a connection has: one, unless it speaks wsredis.v1."""
    return [connection.peer.facility] if connection.dialogue is None else list(connection.dialogue.facilities)


def walk(
    reactor: Reactor,
    items: Iterable[Item],
    visit: Callable[[Item], object],
    done: Callable[[], None] = lambda: None,
) -> None:
    """Visit all, some in each turn of the loop; then call `done`."""
    iterator = iter(items)

    def step() -> None:
        seen = 0
        for item in islice(iterator, STEP):
            visit(item)
            seen += 1
        if seen < STEP:
            done()
        else:
            reactor.call_later(0, step)

    step()
