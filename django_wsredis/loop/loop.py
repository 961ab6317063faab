"""A worker's loop: connections, hub and subscriber on one gevent event loop, and the way into it from other threads."""

from __future__ import annotations

import _socket
import logging
import os
import resource
import threading
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event

from .. import channels as names
from ..conf import Settings
from ..exceptions import Unavailable
from ..messages import Message
from .connection import Connection
from .hub import Hub, Join
from .keepalive import Keepalive
from .subscriber import Subscriber

if TYPE_CHECKING:
    from ..handshake import Accepted

JOIN_SECONDS = 5.0  # for Redis to confirm a subscription, and for the loop to connect at its start
RESERVED_FILES = 64  # descriptors that are left for Redis, the database and what Django opens

logger = logging.getLogger("django_wsredis.loop")


class Loop:
    """Everything that lives in the event loop's thread. Only `serve`, `run` and `drain` may be called from others."""

    def __init__(self, hub: Any, settings: Settings) -> None:
        self._loop = hub.loop
        self._thread = threading.get_ident()
        self.settings = settings
        self.connections: set[Connection] = set()
        self.hub = Hub(settings.compression)
        self.has_tried = threading.Event()  # to connect to Redis, once, with or without success
        self.ended = gevent.event.Event()
        self._is_draining = False
        self._watched: set[Connection] = set()
        self._worker_key = os.urandom(8)
        self._last_key = 0
        self._max_sockets = settings.max_sockets or max_open_sockets()
        self.keepalive = Keepalive(
            interval=settings.ping_interval, timeout=settings.ping_timeout, heartbeat=settings.heartbeat
        )
        self._tick_timer = self.timer(self.keepalive.tick_seconds, self.keepalive.tick_seconds)
        self._tick_timer.start(self._tick)
        self.subscriber = Subscriber(self, self.hub)

    def start(self) -> None:
        """Connect to Redis."""
        self.subscriber.start()

    # For other threads

    def run(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in the loop's thread, soon."""
        self._loop.run_callback_threadsafe(function, *arguments)

    def serve(self, accepted: Accepted, detach: Callable[[], _socket.socket]) -> None:
        """Take over the socket of an accepted handshake.

        Waits until Redis has confirmed its subscriptions, so that nothing published after the 101 is missed; writes
        the 101; hands the socket to the loop. Raises Unavailable before anything is written, if Redis is away or
        the worker is full.
        """
        self.has_tried.wait(JOIN_SECONDS)  # only a worker that has just started waits here
        join = self._new_join(accepted)
        self.run(self._join, join)
        try:
            join.done.result(JOIN_SECONDS)
            sock = detach()
        except BaseException as error:
            self.run(join.connection.abort)
            if isinstance(error, FutureTimeoutError):
                raise Unavailable("Redis did not confirm the subscriptions in time") from None
            raise
        if _write(sock, accepted.upgrade.response):
            self.run(join.connection.attach, sock)
        else:
            sock.close()
            self.run(join.connection.abort)

    def drain(self, code: int, reason: str, *, seconds: float) -> None:
        """Close all sockets, wait up to `seconds` for their closing handshakes, and stop. Blocks; ends the loop."""
        self.run(self._close_all, code, reason)
        deadline = time.monotonic() + seconds
        sleep = gevent.sleep if threading.get_ident() == self._thread else time.sleep
        while time.monotonic() < deadline:
            sleep(0.01)
            if self._is_draining and not self.connections:
                break
        self.run(self._stop)
        sleep(0.01)

    # For the parts of the loop

    def now(self) -> float:
        """Return the time in seconds, of a monotonic clock."""
        return time.monotonic()

    def io(self, fileno: int, events: int) -> Any:
        """Return a watcher of a descriptor."""
        return self._loop.io(fileno, events)

    def timer(self, seconds: float, repeat: float = 0.0) -> Any:
        """Return a timer."""
        return self._loop.timer(seconds, repeat)

    def call_soon(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function when the present callback has ended."""
        self._loop.run_callback(function, *arguments)

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        """Call a function once, later."""
        timer = self.timer(seconds)

        def fire() -> None:
            timer.close()
            function()

        timer.start(fire)

    def watch(self, connection: Connection) -> None:
        """Look at a connection each tick, until its `check()` says that it is well."""
        self._watched.add(connection)

    def forget(self, connection: Connection) -> None:
        """A connection is over."""
        self.connections.discard(connection)
        self._watched.discard(connection)
        self.keepalive.discard(connection)

    # Inside

    def _new_join(self, accepted: Accepted) -> Join:
        prefix = self.settings.prefix
        connection = Connection(
            self,
            on_message=self._on_message,
            on_leave=self.subscriber.leave,
            extensions=accepted.upgrade.extensions,
            window_bits=accepted.upgrade.window_bits,
            echo=accepted.echo,
            publish_to=tuple(names.redis_name(prefix, channel) for channel in accepted.publish),
        )
        return Join(connection, [names.redis_name(prefix, channel) for channel in accepted.subscribe])

    def _join(self, join: Join) -> None:
        if self._is_draining:
            join.done.set_exception(Unavailable("the server stops"))
            return
        if len(self.connections) >= self._max_sockets:
            join.done.set_exception(Unavailable(f"the worker is full: it has {self._max_sockets} sockets"))
            return
        connection = join.connection
        if connection.publish_to:
            self._last_key += 1
            connection.key = self._worker_key + self._last_key.to_bytes(6, "big")
            self.hub.add_sender(connection)
        self.connections.add(connection)
        self.keepalive.add(connection)
        self.subscriber.join(join)

    def _on_message(self, connection: Connection, payload: bytes, is_text: bool) -> None:
        heartbeat = self.settings.heartbeat
        if heartbeat is not None and is_text and payload == heartbeat.encode():
            if connection.is_open:
                connection.write(self.keepalive.heartbeat)
            return
        if not connection.publish_to:
            connection.close(1003, "this socket only listens: it has no publish-… in its URL")
            return
        message = Message(payload, is_text, sender=None if connection.echo else connection.key)
        if not self.subscriber.publish(connection.publish_to, message):
            connection.close(1013, "Redis is away")

    def _tick(self) -> None:
        now = self.now()
        self.keepalive.tick(now)
        self._watched = {connection for connection in self._watched.copy() if connection.check(now)}

    def _close_all(self, code: int, reason: str) -> None:
        self._is_draining = True
        for connection in list(self.connections):
            connection.close(code, reason)

    def _stop(self) -> None:
        for connection in list(self.connections):
            connection.abort()
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
