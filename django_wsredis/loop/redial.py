"""The life of the link to Redis: connect, see that it answers, and connect again, ever more slowly, when it is lost.

Knows no topics and no messages.
"""

from __future__ import annotations

import _thread
import logging
import random
import threading
from collections.abc import Callable
from typing import Any

from .. import redis
from ..exceptions import BrokerUnavailable
from .link import Link
from .reactor import Reactor

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0

logger = logging.getLogger("django_wsredis.redis")


class Redial:
    """Keeps one link alive; `link` is None while there is none.

    on_message, on_read: of each link; see `Link`.
    on_connected(link): there is a new one. `succeeded()` is to be called when all that was asked of it is answered.
    on_lost(): it is over, and another one is on its way.
    """

    def __init__(
        self,
        reactor: Reactor,
        *,
        on_message: Callable[[bytes, bytes], None],
        on_read: Callable[[], None],
        on_connected: Callable[[Link], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._on_message = on_message
        self._on_read = on_read
        self._tell_connected = on_connected
        self._tell_lost = on_lost
        self.link: Link | None = None
        self.has_tried = threading.Event()  # once, with or without success
        self._attempts = 0
        self._is_stopped = self._has_succeeded = False
        self._ping_timer = reactor.timer(reactor.settings.ping_interval / 2, reactor.settings.ping_interval / 2)
        self._ping_timer.start(self._check)

    def start(self) -> None:
        """Connect, in a native thread: what redis-py does there blocks."""
        # not threading.Thread: where the host has patched it, its start() waits, which no callback of the loop may do
        _thread.start_new_thread(self._connect, ())

    def stop(self) -> None:
        """Disconnect for good."""
        self._is_stopped = True
        self._ping_timer.stop()
        if self.link is not None:
            self.link.close()
            self.link = None

    def succeeded(self) -> None:
        """Take the link for a good one: after it is lost, the next try comes soon."""
        level = logging.WARNING if self._attempts else logging.INFO  # good news for who saw the bad
        logger.log(level, "Redis is connected (%s).", redis.shown_url(self._reactor.settings.url))
        self._has_succeeded = True
        self._attempts = 0
        self.has_tried.set()

    def _connect(self) -> None:
        settings = self._reactor.settings
        try:
            connection = redis.connect_link(settings.url, client_name="django_wsredis")
        except BrokerUnavailable as error:
            self._reactor.run(self._retry, str(error))
        except Exception as error:  # whatever it is, the loop must try again
            logger.exception("Redis cannot be connected.")
            self._reactor.run(self._retry, repr(error))
        else:
            self._reactor.run(self._on_connected, connection)

    def _on_connected(self, connection: Any) -> None:
        if self._is_stopped:
            connection.disconnect()
            return
        self.link = Link(
            self._reactor, connection, on_message=self._on_message, on_read=self._on_read, on_lost=self._on_lost
        )
        self._tell_connected(self.link)

    def _on_lost(self, reason: str) -> None:
        self.link = None
        self._tell_lost()
        self._retry(reason)

    def _retry(self, reason: str) -> None:
        """Connect again later: exponential backoff with full jitter."""
        self.has_tried.set()
        if self._is_stopped:
            return
        longest = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**self._attempts)
        self._attempts = min(self._attempts + 1, 16)
        delay = random.uniform(FIRST_DELAY_SECONDS / 2, longest)
        state = "Redis is away; sockets stay open." if self._has_succeeded else "There is no Redis yet."
        logger.warning("%s Next try in %.1f s. %s", state, delay, reason)
        self._reactor.call_later(delay, self.start)

    def _check(self) -> None:
        """Find a link that is half open: a PING goes out, and nothing at all was heard until the next."""
        if self.link is None:
            return
        if not self.link.has_heard:
            self.link.close()
            self._on_lost("Redis does not answer.")
            return
        self.link.has_heard = False
        self.link.call("PING", on_reply=_ignore)


def _ignore(reply: Any) -> None:
    pass
