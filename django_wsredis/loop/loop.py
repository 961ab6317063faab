"""A worker's loop: connections, hub and subscriber on one gevent event loop, and the way into it from other threads."""

from __future__ import annotations

import _socket
import resource
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event

from ..conf import Settings
from ..exceptions import DecisionOutdated, Unavailable
from .announcer import Announcer
from .canary import Canary
from .changes import Changes
from .connection import Connection
from .control import Control
from .desk import Desk
from .dialogue import Dialogue
from .drain import drain
from .event_stream import EventStream
from .gauges import Gauges, last_error
from .hub import Hub
from .keepalive import Keepalive
from .pool import Pool
from .reactor import Reactor
from .recheck import Recheck
from .registry import Registry
from .regrouping import Regrouping
from .subscriber import Subscriber
from .topic import Join
from .view_connection import ViewConnection
from .websocket import WebSocketConnection

if TYPE_CHECKING:
    from ..handshake import Accepted

JOIN_SECONDS = 5.0  # for Redis to confirm a subscription, and for the loop to connect at its start
TURN_SECONDS = 3.0  # for the loop to answer; a canary takes less, or is lost
RESERVED_FILES = 64  # descriptors that are left for Redis, the database and what Django opens


class Loop:
    """Everything that lives in the event loop's thread. From others only what stands below may be called."""

    def __init__(self, hub: Any, settings: Settings) -> None:
        self.reactor = Reactor(hub, settings)
        self.settings = settings
        self._thread = threading.get_ident()
        self.connections = Registry()
        self.streams: dict[bytes | None, EventStream] = {}  # those among the connections, by their keys
        self.hub = Hub(settings.compression)
        self.ended = gevent.event.Event()
        self.is_draining = False
        self._waiting: set[Connection] = set()
        self._heartbeat = None if settings.heartbeat is None else settings.heartbeat.encode()
        self._max_sockets = settings.max_sockets or max_open_sockets()
        self.keepalive = Keepalive(
            interval=settings.ping_interval, timeout=settings.ping_timeout, heartbeat=settings.heartbeat
        )
        self._tick_timer = self.reactor.timer(self.keepalive.tick_seconds, self.keepalive.tick_seconds)
        self._tick_timer.start(self._tick)
        self.changes = Changes(self.reactor.now)
        self.gauges = Gauges(self.reactor, self.hub)
        self.last_error = last_error()
        self.subscriber = Subscriber(
            self.reactor,
            self.hub,
            on_request=lambda payload: self._control.on_request(payload),
            on_receipt=lambda name, message: self._control.on_receipt(name, message),
            on_listening=lambda: self._announcer.begin(),
        )
        self.pool = Pool(self.reactor, settings.view_threads)
        self.desk = Desk(self.reactor, self.hub, self.subscriber)
        self.regroup = Regrouping(self.desk).regroup
        self.recheck = Recheck(self.reactor, self.connections, self.regroup)
        self.links = self.subscriber.links
        self._announcer = Announcer(self.reactor, self.links)
        self.announcement = self._announcer.announcement
        self.canary = Canary(self.reactor, self.links, self.announcement.id)
        self._control = Control(self)

    def start(self) -> None:
        """Connect to Redis."""
        self.subscriber.start()

    # For other threads

    def serve(self, accepted: Accepted, detach: Callable[[], _socket.socket]) -> None:
        """Take over the socket of an accepted handshake.

        Waits until Redis has confirmed its subscriptions, so that nothing published after the 101 is missed; writes
        the 101, or the 200 of an event stream; hands the socket to the loop. Raises Unavailable before anything is
        written, if Redis is away or the worker is full; DecisionOutdated if what was decided may be wrong by now.
        """
        self.subscriber.has_tried.wait(JOIN_SECONDS)  # only a worker that has just started waits here
        join = Join(self._new_connection(accepted))
        self.reactor.run(self._begin, join, accepted)
        try:
            join.done.result(JOIN_SECONDS)
            sock = detach()
        except BaseException as error:
            self.reactor.run(join.connection.abort)
            if isinstance(error, FutureTimeoutError):
                raise Unavailable("Redis did not confirm the subscriptions in time") from None
            raise
        if _write(sock, accepted.upgrade.response):
            self.reactor.run(join.connection.attach, sock)
        else:
            sock.close()
            self.reactor.run(join.connection.abort)

    def is_ready(self) -> bool:
        """Tell whether messages arrive: Redis is connected, all channels are subscribed and caught up, a canary comes.

        Not of a loop that ends. Waits for the first try to connect, and for the canary.
        """
        self.subscriber.has_tried.wait(JOIN_SECONDS)
        try:
            return bool(self._call(self._tell_readiness))
        except Unavailable:
            return False

    def turns(self) -> bool:
        """Tell whether the loop does what it is told, within TURN_SECONDS. One that has ended has nothing to do."""
        try:
            return bool(self._call(lambda tell: tell(True)))
        except Unavailable:
            return self.ended.is_set()

    def statistics(self) -> dict[str, Any]:
        """Return how this worker does, as `Control` tells it. Raises Unavailable."""
        return dict(self._call(lambda tell: tell(self._control.survey.statistics())))

    def _call(self, ask: Callable[[Callable[[Any], None]], object]) -> Any:
        """Return what a function tells that is called in the loop's thread. Raises Unavailable."""
        if self.ended.is_set():
            raise Unavailable("the server stops")
        answer: Future[Any] = Future()
        self.reactor.run(ask, answer.set_result)
        try:
            return answer.result(TURN_SECONDS)
        except FutureTimeoutError:
            raise Unavailable("the loop does not answer in time") from None

    def drain(self, code: int, reason: str, *, wait_seconds: float) -> None:
        """Close all sockets, spread over DRAIN_SECONDS, and stop. Blocks; ends the loop.

        Called again it waits for the end that the first call began.

        wait_seconds: for the last closing handshakes, and for Redis to take what browsers sent.
        """
        if self.ended.is_set():
            return
        self.reactor.run(self._begin_drain, code, reason)
        self._wait_until(
            lambda: self.ended.is_set() or self._has_drained(),
            self.settings.drain_seconds + wait_seconds,
        )
        if not self.ended.is_set():
            self.reactor.run(self._stop)
            self._wait_until(self.ended.is_set, wait_seconds)

    def _has_drained(self) -> bool:
        return self.is_draining and not self.connections and self.pool.is_idle and self.subscriber.outgoing.is_empty

    def _wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        sleep = gevent.sleep if threading.get_ident() == self._thread else time.sleep
        while not condition() and time.monotonic() < deadline:
            sleep(0.01)

    # For its connections

    def on_message(self, connection: Connection, payload: bytes, is_text: bool) -> None:
        """Publish what a browser sent; answer its heartbeat."""
        connection.received += 1
        self.gauges.received += 1
        if connection.dialogue is not None:
            connection.dialogue.on_message(payload, is_text)
        elif is_text and payload == self._heartbeat:
            if connection.is_open:
                connection.write(self.keepalive.heartbeat)
        elif connection.publish_to is None:
            connection.close_listener("this socket only listens: it has no publish-… in its URL")
        else:
            self.desk.publish(connection, connection.publish_to, payload, is_text)

    def on_pong(self, connection: Connection) -> None:
        """Take the time that the ping took."""
        connection.round_trip = self.keepalive.round_trip(connection, self.reactor.now())

    def positions(self, connection: Connection) -> dict[bytes, bytes | None] | None:
        """Return where a connection stands in its channels; None while it is on its way in to one of them."""
        return self.hub.positions(connection, connection.channels)

    def on_leave(self, connection: Connection) -> None:
        """Deliver nothing more to a connection."""
        self.subscriber.leave(connection)

    def on_waiting(self, connection: Connection) -> None:
        """Look at a connection each tick, until its `check()` says that nothing waits any more."""
        self._waiting.add(connection)

    def on_gone(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        self.streams.pop(connection.key, None)
        self._waiting.discard(connection)
        self.keepalive.discard(connection)

    # For operators

    def outbox_bytes(self) -> int:
        """Return how much waits for all sockets together."""
        return sum(connection.outbox.bytes for connection in self._waiting if connection.outbox is not None)

    # Inside

    def _tell_readiness(self, tell: Callable[[bool], None]) -> None:
        def tell_all(is_well: bool) -> None:
            tell(is_well and self.subscriber.is_ready and not self.is_draining)

        if self.subscriber.is_ready and not self.is_draining:
            self.canary.ask(tell_all)
        else:
            tell(False)

    def _new_connection(self, accepted: Accepted) -> Connection:
        if accepted.view is not None:
            return ViewConnection(
                self.reactor,
                self,
                desk=self.desk,
                pool=self.pool,
                handler=accepted.view,
                extensions=accepted.upgrade.extensions,
                framing=accepted.upgrade.window_bits,
                peer=accepted.peer,
                visitor=accepted.visitor,
            )
        kind = EventStream if accepted.upgrade.is_stream else WebSocketConnection
        connection = kind(
            self.reactor,
            self,
            extensions=accepted.upgrade.extensions,
            framing=accepted.framing,
            echo=accepted.granted.wish.echo,
            publish_to=self.desk.target(accepted.granted),
            peer=accepted.peer,
            visitor=accepted.visitor,
            groups=accepted.granted.groups,
        )
        if accepted.speaks_v1:
            connection.dialogue = Dialogue(self.desk, connection, accepted.granted)
        return connection

    def _begin(self, join: Join, accepted: Accepted) -> None:
        if self.is_draining:
            join.done.set_exception(Unavailable("the server stops"))
        elif self.changes.concern(accepted.peer, accepted.began_at):
            join.done.set_exception(DecisionOutdated("the visitor's login or groups changed meanwhile"))
        elif len(self.connections) >= self._max_sockets:
            join.done.set_exception(Unavailable(f"the worker is full: it has {self._max_sockets} sockets"))
        elif isinstance(join.connection, ViewConnection) and not join.connection.wire.reserve():
            threads = self.settings.view_threads
            join.done.set_exception(Unavailable(f"WSREDIS['VIEW_THREADS'] is {threads}, and all of them have views"))
        else:
            self.connections.add(join.connection)
            self.keepalive.add(join.connection)
            if isinstance(join.connection, EventStream):
                self.streams[join.connection.key] = join.connection
                self.hub.add_sender(join.connection)
            self.desk.begin(join, accepted.granted)

    def _tick(self) -> None:
        now = self.reactor.now()
        self.keepalive.tick(now)
        self._waiting = {connection for connection in self._waiting.copy() if connection.check(now)}

    def _begin_drain(self, code: int, reason: str) -> None:
        if not self.is_draining:
            self.is_draining = True
            drain(self.reactor, self.connections, code, reason, seconds=self.settings.drain_seconds)

    def _stop(self) -> None:
        for connection in list(self.connections):
            connection.abort()
        self._announcer.stop()
        self.canary.stop()
        self.gauges.stop()
        self.recheck.stop()
        self.subscriber.stop()
        self._tick_timer.stop()
        self.ended.set()


def _write(sock: _socket.socket, head: bytes) -> bool:
    """Write the 101: a fresh socket takes these few bytes at once, unless its peer has gone."""
    try:
        return sock.send(head) == len(head)
    except OSError:
        return False


def max_open_sockets() -> int:
    """Return how many sockets the process may open, by its limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - RESERVED_FILES)
