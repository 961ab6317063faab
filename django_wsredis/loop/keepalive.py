"""Pings (RFC 6455, 5.5.2): every open socket is pinged each PING_INTERVAL, and a silent one is aborted.

Any byte that a peer sends counts as life. One timer serves all sockets: they stand in the slots of a wheel, and at
each tick one slot is pinged, so that the work is spread evenly and a socket costs an entry in a set.
"""

from __future__ import annotations

import logging
import math
from collections import deque

from ..messages import UNCOMPRESSED, Message
from .connection import Connection

MAX_TICK_SECONDS = 1.0
MIN_SLOTS = 4

logger = logging.getLogger("django_wsredis.connection")


class Keepalive:
    """The wheel. `tick(now)` is to be called every `tick_seconds`."""

    def __init__(self, *, interval: float, timeout: float, heartbeat: str | None) -> None:
        self.timeout = timeout
        self.heartbeat = Message(heartbeat.encode(), True).frames()[UNCOMPRESSED] if heartbeat else b""
        slots = max(MIN_SLOTS, math.ceil(interval / MAX_TICK_SECONDS))
        self.tick_seconds = interval / slots
        self._slots: list[set[Connection]] = [set() for _ in range(slots)]
        self._next_to_fill = self._next_to_ping = 0
        self._pinged_at = [0.0] * slots
        self._pinged: deque[tuple[float, int]] = deque()  # when, and which slot

    def add(self, connection: Connection) -> None:
        """Ping a connection from now on."""
        connection.slot = self._next_to_fill
        self._slots[connection.slot].add(connection)
        self._next_to_fill = (self._next_to_fill + 1) % len(self._slots)

    def discard(self, connection: Connection) -> None:
        """Forget a connection."""
        self._slots[connection.slot].discard(connection)

    def round_trip(self, connection: Connection, now: float) -> float:
        """Return for how long a connection, whose pong has come, took to answer its last ping; in seconds."""
        return now - self._pinged_at[connection.slot]

    def tick(self, now: float) -> None:
        """End those that did not answer in time, then ping the next slot."""
        while self._pinged and self._pinged[0][0] + self.timeout <= now:
            self._end_silent(*self._pinged.popleft())
        for connection in self._slots[self._next_to_ping]:
            if connection.is_open:
                connection.ping(self.heartbeat)
        self._pinged_at[self._next_to_ping] = now
        self._pinged.append((now, self._next_to_ping))
        self._next_to_ping = (self._next_to_ping + 1) % len(self._slots)

    def _end_silent(self, pinged_at: float, slot: int) -> None:
        for connection in [c for c in self._slots[slot] if c.last_received < pinged_at]:
            logger.info("A socket is closed (1011): it was silent for %g s after a ping.", self.timeout)
            connection.fail(1011, "no answer to a ping")
            connection.abort()
