"""The life of a link to Redis: connect, see that it answers, and connect again, ever more slowly, when it is lost.

Knows no topics and no messages.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from hiredis import ReplyError

from ..exceptions import BrokerUnavailable
from .link import Link
from .reactor import Reactor
from .replies import is_elsewhere

CLIENT_NAME = "django_wsredis"  # of each link, for CLIENT LIST
MAX_PINGS = 4  # that are not answered; one goes out each half PING_INTERVAL
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0

logger = logging.getLogger("django_wsredis.redis")


def next_delay(attempts: int, first: float, longest: float) -> float:
    """Return for how long to wait after so many vain attempts: exponential backoff with full jitter."""
    return random.uniform(first / 2, min(longest, first * 2 ** min(attempts, 16)))


class Redial:
    """Keeps one link alive; `link` is None while there is none.

    place: where it leads, for the log.
    connect: opens a connection, which may block, or raises BrokerUnavailable.
    on_message, on_read, on_unsubscribed: of each link; see `Link`.
    on_connected(): there is a new one. When all that it is asked at once is answered, it is taken for a good one.
    on_failed(): a try was in vain, or the link is over; another one is on its way.
    on_tried(): the first try has ended, with or without success.
    """

    def __init__(
        self,
        reactor: Reactor,
        *,
        place: str,
        connect: Callable[[], Any],
        on_message: Callable[[bytes, bytes], None],
        on_read: Callable[[], None],
        on_unsubscribed: Callable[[bytes], None],
        on_connected: Callable[[], None],
        on_failed: Callable[[], None],
        on_tried: Callable[[], None],
        longest_delay: float = LONGEST_DELAY_SECONDS,
    ) -> None:
        self._reactor = reactor
        self._place = place
        self._open = connect
        self._on_message = on_message
        self._on_read = on_read
        self._on_unsubscribed = on_unsubscribed
        self._tell_connected = on_connected
        self._tell_failed = on_failed
        self._tell_tried = on_tried
        self._longest_delay = longest_delay
        self.link: Link | None = None
        self.has_tried = False  # once, with or without success
        self._attempts = 0
        self._drops = 0  # since a link last lived for a while
        self._pings = 0  # that the link has not answered
        self._is_stopped = self._has_succeeded = False
        self._ping_timer = reactor.timer(reactor.settings.ping_interval / 2, reactor.settings.ping_interval / 2)
        self._ping_timer.start(self._check)

    def start(self) -> None:
        """Connect, in a native thread: what redis-py does there blocks."""
        self._reactor.start_thread(self._connect, on_failed=self._retry)

    def stop(self) -> None:
        """Disconnect for good."""
        self._is_stopped = True
        self._ping_timer.stop()
        self._ping_timer.close()
        if self.link is not None:
            self.link.finish()
            self.link = None

    def drop(self, reason: str) -> None:
        """End a link that is of no use, and connect again: ever later, if the next ones are of none either."""
        if self.link is not None:
            self.link.close()
            self._attempts = max(self._attempts, self._drops)
            self._drops += 1
            self._on_lost(reason)

    def _connect(self) -> None:
        try:
            connection = self._open()
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
            self._reactor,
            connection,
            on_message=self._on_message,
            on_read=self._on_read,
            on_lost=self._on_lost,
            on_unsubscribed=self._on_unsubscribed,
        )
        link = self.link
        self._pings = 0
        self._tell_connected()
        if self.link is link:  # all that it must be asked has been asked before this
            link.call("PING", on_reply=partial(self._on_answered, link))

    def _on_answered(self, link: Link, reply: Any) -> None:
        """Take the link for a good one: after it is lost, the next try comes soon."""
        if link is not self.link:
            return
        if isinstance(reply, ReplyError) and is_elsewhere(reply):
            self.drop(str(reply))
            return
        level = logging.WARNING if self._attempts else logging.INFO  # good news for who saw the bad
        logger.log(level, "Redis is connected (%s).", self._place)
        self._has_succeeded = True
        self._attempts = 0
        self._tried()

    def _tried(self) -> None:
        if not self.has_tried:
            self.has_tried = True
            self._tell_tried()

    def _on_lost(self, reason: str) -> None:
        self.link = None
        self._retry(reason)

    def _retry(self, reason: str) -> None:
        self._tried()
        if self._is_stopped:
            return
        delay = next_delay(self._attempts, FIRST_DELAY_SECONDS, self._longest_delay)
        self._attempts += 1
        state = "Redis is away; sockets stay open." if self._has_succeeded else "There is no Redis yet."
        logger.warning("%s Next try in %.1f s. %s", state, delay, reason)
        self._reactor.call_later(delay, self._start_again)
        self._tell_failed()

    def _start_again(self) -> None:
        if not self._is_stopped:
            self.start()

    def _check(self) -> None:
        """Find a link that is half open: nothing at all was heard since the last PING, or none was answered for long.

        Where nothing goes out any more, what is published may still come in.
        """
        if self.link is None:
            return
        if not self.link.has_heard or self._pings == MAX_PINGS:
            self.link.close()
            self._on_lost("Redis does not answer.")
            return
        self._drops = 0
        self.link.has_heard = False
        self._pings += 1
        self.link.call("PING", on_reply=self._on_pong)

    def _on_pong(self, reply: Any) -> None:
        self._pings -= 1
