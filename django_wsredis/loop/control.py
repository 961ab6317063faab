"""What a worker tells operators, and does for them; `..control` has the requests as they travel."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from ..control import ANSWER_SECONDS, COME_BACK, MAX_ROWS, NOT_LOGGED_IN, Announcement, Request, decode_request
from ..messages import Message
from ..tally import handshakes
from .canary import Canary
from .changes import Changes
from .connection import Connection
from .gauges import Gauges, LastError, memory_bytes, uptime_seconds
from .hub import Hub
from .links import Links
from .reactor import Reactor
from .recheck import Recheck
from .registry import Registry
from .replies import ignore
from .selection import First, Selection, facilities, walk
from .topic import Topic

COOKIE_SECONDS = 0.5  # in which a browser gets the response that ends its session, or logs it in
RECEIPT_SECONDS = 5.0  # in which all messages of one publication come: each socket is counted once
MORE_CHANNELS = 10  # times as many as are asked for: of the others' few, too, the sum is to be right

logger = logging.getLogger("django_wsredis.loop")

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
    changes: Changes
    recheck: Recheck
    is_draining: bool

    def regroup(self, connection: Connection) -> None:
        """Decide again what a connection may."""

    def outbox_bytes(self) -> int:
        """Return how much waits for all sockets together."""


class Control:
    """Answers requests."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._reactor = worker.reactor
        self._selection = Selection(worker.reactor, worker.hub, worker.connections)
        self._receipts: dict[bytes, set[Connection]] = {}
        self._verbs: dict[str, Callable[[Request], None]] = {
            "report": self._report,
            "names": self._names,
            "sockets": self._sockets,
            "count": self._count,
            "close": self._close,
            "canary": lambda request: self._worker.canary.on_returned(request.reply),
            "end": self._end,
            "regroup": self._regroup,
            "recheck": self._recheck,
        }

    def on_request(self, payload: bytes) -> None:
        """Do what is asked for, if it concerns this worker."""
        try:
            request = decode_request(payload)
        except ValueError as error:
            logger.error("A request cannot be read and is ignored: %s", error)
            return
        if (verb := self._verbs.get(request.verb)) is None:
            logger.warning("A request for %r is ignored: a newer version must have sent it.", request.verb)
        elif self._worker.announcement.id.startswith(request.which.worker):
            if request.verb in ("close", "end", "regroup", "recheck"):
                self._worker.changes.note(request.which)
            verb(request)
        else:
            self._answer(request.reply, {"is_other": True})  # whoever asked counts answers

    def on_receipt(self, name: bytes, message: Message) -> None:
        """Tell to how many sockets a message goes that came on a channel, and whose they are."""
        assert message.reply is not None
        if message.reply not in self._receipts:
            self._receipts[message.reply] = set()
            self._reactor.call_later(RECEIPT_SECONDS, lambda: self._receipts.pop(message.reply, None))  # type: ignore[arg-type]
        fresh = self._worker.hub.sockets_of(message, name) - self._receipts[message.reply]
        self._receipts[message.reply] |= fresh
        users = {connection.peer.user for connection in fresh} - {""}
        self._answer(message.reply.decode(), {"sockets": len(fresh), "users": sorted(users)})

    # Verbs

    def _report(self, request: Request) -> None:
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
                lambda topic: count(topic, len(topic.connections) + len(topic.joins)),
                tell,
            )

    def _names(self, request: Request) -> None:
        """Tell the names in Redis of the channels that are meant: first those that most sockets hear."""
        first = First[Topic](request.limit, lambda topic: len(topic.connections))

        def see(topic: Topic) -> None:
            if request.which.fits(topic.facility, topic.channel.decode()):
                first.add(topic)

        def tell() -> None:
            names = [topic.name.decode() for topic in first.items()]
            self._answer(request.reply, {"names": names, "channels_meant": first.total})

        walk(self._reactor, list(self._worker.hub.topics.values()), see, tell)

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

    def _sockets(self, request: Request) -> None:
        """Tell of the first sockets that are meant, in an order, and how many there are."""
        first = First[Connection](request.limit, SORTS.get(request.sort) or self._worker.hub.sent_to)
        rows: list[dict[str, Any]] = []

        def tell() -> None:
            self._answer(request.reply, {"sockets": first.total, "rows": rows})

        def write_rows() -> None:
            walk(self._reactor, first.items(), lambda connection: rows.append(self._row(connection)), tell)

        self._selection.visit(request.which, first.add, write_rows)

    def _count(self, request: Request) -> None:
        """Tell how many sockets are meant, and whose they are."""
        found = Counter[str]()

        def see(connection: Connection) -> None:
            found[connection.peer.user] += 1

        def tell() -> None:
            self._answer(request.reply, {"sockets": found.total(), "users": sorted(filter(None, found))})

        self._selection.visit(request.which, see, tell)

    def _close(self, request: Request) -> None:
        """Close the sockets that are meant; tell how many."""
        closed = Counter[str]()

        def close(connection: Connection) -> None:
            if connection.is_open:
                closed[connection.peer.user] += 1
                connection.close(request.code, request.reason)

        def tell() -> None:
            self._answer(request.reply, {"sockets": closed.total(), "users": sorted(filter(None, closed))})

        self._selection.visit(request.which, close, tell)

    def _end(self, request: Request) -> None:
        """Close the sockets of sessions that have ended: for good (4401) where they are a user's.

        All others that are meant come back (1012), a moment later, when the browser has its new cookie: those that
        nobody was logged in on, and those of users whose session may be the one that has ended.
        """
        sessions, others = set(request.which.sessions), list[Connection]()

        def end(connection: Connection) -> None:
            if connection.peer.user and connection.peer.session in sessions:
                connection.close(NOT_LOGGED_IN, request.reason)
            else:
                others.append(connection)

        def come_back(connection: Connection) -> None:
            connection.close(COME_BACK, "the session has changed")

        def tell() -> None:
            if others:
                self._reactor.call_later(COOKIE_SECONDS, lambda: walk(self._reactor, others, come_back))

        self._selection.visit(request.which, end, tell)

    def _regroup(self, request: Request) -> None:
        """Decide again what the sockets that are meant may: their users' groups have changed."""
        self._selection.visit(request.which, self._worker.regroup, lambda: None)

    def _recheck(self, request: Request) -> None:
        """Look at the sessions of the sockets that are meant, now: their users may have another password."""
        sessions: dict[str, None] = {}

        def see(connection: Connection) -> None:
            if connection.peer.session:
                sessions[connection.peer.session] = None

        self._selection.visit(request.which, see, lambda: self._worker.recheck.hurry(sessions))

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

    def _answer(self, reply: str, answer: dict[str, Any]) -> None:
        link = self._worker.links.link(reply.encode()) if reply else None
        if link is not None:
            data = json.dumps({"worker": self._worker.announcement.id, **answer}, separators=(",", ":"))
            link.call("RPUSH", reply, data.encode(), on_reply=ignore)
            link.call("EXPIRE", reply, ANSWER_SECONDS, on_reply=ignore)
