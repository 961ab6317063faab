"""The end of a worker's sockets: all are closed, spread over a time, so that not all come back at once."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

from ..wording import of_them
from .connection import Connection
from .reactor import Reactor

TICK_SECONDS = 0.02

logger = logging.getLogger("django_wsredis.loop")


def drain(reactor: Reactor, connections: Iterable[Connection], code: int, reason: str, *, seconds: float) -> None:
    """Close connections with a code and a reason, evenly over so many seconds; 0 is at once."""
    # those for whom something still waits come last: it is to be sent before the close
    waiting = deque(sorted(connections, key=lambda connection: connection.outbox is not None))
    total = len(waiting)
    logger.info("Draining (%d, %s): %s to close over %g s.", code, reason, of_them(total, "socket"), seconds)
    began_at = reactor.now()

    def close_due() -> None:
        due = total if seconds == 0 else total * (reactor.now() - began_at) / seconds
        while waiting and total - len(waiting) <= due:
            waiting.popleft().close(code, reason)
        if waiting:
            reactor.call_later(TICK_SECONDS, close_due)

    close_due()
