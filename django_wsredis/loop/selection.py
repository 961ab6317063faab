"""Which of a worker's sockets an operator means, and walks that take their time.

A walk goes step by step, between which the loop serves all sockets: 50,000 of them feel nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

from ..control import Filter, fits
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

        def visit_if_meant(connection: Connection) -> None:
            if connection not in self._connections:
                return
            if which.facility and not any(fits(name, which.facility) for name in facilities(connection)):
                return
            if which.channel and not any(fits(name, which.channel) for name in self.channels(connection)):
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
