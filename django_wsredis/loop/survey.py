"""What a worker tells operators: how it does, its channels, its sockets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from ..control import MAX_ROWS, Announcement, Request
from ..tally import handshakes
from .canary import Canary
from .connection import Connection
from .gauges import Gauges, LastError, memory_bytes, uptime_seconds
from .hub import Hub
from .links import Links
from .reactor import Reactor
from .registry import Registry
from .selection import First, Selection, facilities, walk
from .topic import Topic

MORE_CHANNELS = 10  # times as many as are asked for: of the others' few, too, the sum is to be right

# By what the sockets come first that are told of; see `_row()`.
SORTS: dict[str, Callable[[Connection], float]] = {
    "age": lambda connection: -connection.peer.since,
    "outbox": lambda connection: 0 if connection.outbox is None else connection.outbox.bytes,
    "rtt": lambda connection: connection.round_trip or 0.0,
    "received": lambda connection: connection.received,
}


class Worker(Protocol):
    """What there is of a worker: its loop."""

    reactor: Reactor
    connections: Registry
    hub: Hub
    links: Links
    gauges: Gauges
    last_error: LastError
    announcement: Announcement
    canary: Canary
    is_draining: bool

    def outbox_bytes(self) -> int:
        """Return how much waits for all sockets together."""


class Survey:
    """Answers questions, and changes nothing. answer(reply, answer): sends one, to the name that a request has."""

    def __init__(self, worker: Worker, selection: Selection, answer: Callable[[str, dict[str, Any]], None]) -> None:
        self._worker = worker
        self._reactor = worker.reactor
        self._selection = selection
        self._answer = answer

    def statistics(self) -> dict[str, Any]:
        """Return how this worker does; the keys are those of `workers.WorkerState`, and what metrics tell besides."""
        worker, rates, error = self._worker, self._worker.gauges.rates(), self._worker.last_error
        return {
            "sockets": len(worker.connections),
            "channels": len(worker.hub.topics),
            "received": worker.gauges.received,
            "delivered": worker.hub.delivered,
            "dropped": self._reactor.dropped,
            "received_per_second": round(rates.received, 1),
            "delivered_per_second": round(rates.delivered, 1),
            "outbox_bytes": worker.outbox_bytes(),
            "lag_p99_ms": round(worker.gauges.lag() * 1000, 2),
            "memory_bytes": memory_bytes(),
            "uptime_seconds": round(uptime_seconds(worker.announcement.started_at), 1),
            "is_draining": worker.is_draining,
            "closes": dict(self._reactor.closes),
            "last_error": None if error.at is None else error.text,
            "last_error_age_seconds": None if error.at is None else round(uptime_seconds(error.at), 1),
            "is_connected": worker.links.all_up,
            "handshakes": handshakes(),
            "canary_seconds": worker.canary.seconds,
            "canaries": dict(worker.canary.outcomes),
        }

    def report(self, request: Request) -> None:
        """Tell how this worker does, how many sockets are meant, and the busiest of the channels that they hear."""
        which, topics, channels, sockets = request.which, self._worker.hub.topics, Counter[str](), 0

        def count(topic: Topic, number: int) -> None:
            # the sessions' channels have one name for clients, and so are told of together
            if which.fits(topic.facility, topic.channel.decode()):
                channels[topic.channel.decode()] += number

        def see(connection: Connection) -> None:
            nonlocal sockets
            sockets += 1
            for name in connection.channels:
                if topic := topics.get(name):
                    count(topic, 1)

        def tell() -> None:
            busiest = dict(channels.most_common(min(request.limit, MAX_ROWS) * MORE_CHANNELS))
            busiest |= {name: channels[name] for name in request.also if channels[name]}
            answer = {
                "sockets_meant": sockets if which.is_narrow else len(self._worker.connections),
                "busiest": list(busiest.items()),
                "channels_meant": len(channels),
            }
            self._answer(request.reply, {**self.statistics(), **answer})

        if which.is_narrow:
            self._selection.visit(which, see, tell)
        else:  # there are fewer channels than sockets
            everything = topics.values() if request.limit else ()
            walk(
                self._reactor,
                list(everything),
                lambda topic: count(topic, topic.listeners + len(topic.joins)),
                tell,
            )

    def names(self, request: Request) -> None:
        """Tell the names in Redis of the channels that are meant: first those that most sockets hear."""
        first = First[Topic](request.limit, lambda topic: topic.listeners)

        def see(topic: Topic) -> None:
            if request.which.fits(topic.facility, topic.channel.decode()):
                first.add(topic)

        def tell() -> None:
            names = [topic.name.decode() for topic in first.items()]
            self._answer(request.reply, {"names": names, "channels_meant": first.total})

        walk(self._reactor, list(self._worker.hub.topics.values()), see, tell)

    def sockets(self, request: Request) -> None:
        """Tell of the first sockets that are meant, in an order, and how many there are."""
        first = First[Connection](request.limit, SORTS.get(request.sort) or self._worker.hub.sent_to)
        rows: list[dict[str, Any]] = []

        def tell() -> None:
            self._answer(request.reply, {"sockets": first.total, "rows": rows})

        def write_rows() -> None:
            walk(self._reactor, first.items(), lambda connection: rows.append(self._row(connection)), tell)

        self._selection.visit(request.which, first.add, write_rows)

    def count(self, request: Request) -> None:
        """Tell how many sockets are meant, and whose they are."""
        found = Counter[str]()

        def see(connection: Connection) -> None:
            found[connection.peer.user] += 1

        def tell() -> None:
            self._answer(request.reply, {"sockets": found.total(), "users": sorted(filter(None, found))})

        self._selection.visit(request.which, see, tell)

    def _row(self, connection: Connection) -> dict[str, Any]:
        round_trip = connection.round_trip
        return {
            "user": connection.peer.user,
            "address": connection.peer.address,
            "facilities": facilities(connection),
            "channels": self._selection.channels(connection),
            "age_seconds": round(uptime_seconds(connection.peer.since)),
            "round_trip_ms": None if round_trip is None else round(round_trip * 1000, 2),
            "outbox_bytes": 0 if connection.outbox is None else connection.outbox.bytes,
            "received": connection.received,
            "sent": self._worker.hub.sent_to(connection),
        }
