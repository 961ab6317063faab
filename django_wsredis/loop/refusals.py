"""What Redis refuses and we cannot do without: it is tried again, as sockets wait for it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .reactor import Reactor
from .redial import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, next_delay

logger = logging.getLogger("django_wsredis.redis")


class Refusals:
    """Of a worker. try_again(): called some time after a refusal, ever later; it may be refused again."""

    def __init__(self, reactor: Reactor, try_again: Callable[[], None]) -> None:
        self._reactor = reactor
        self._try_again = try_again
        self._attempts = 0  # since nothing was refused
        self._is_due = self._is_stopped = False

    def add(self, text: str) -> None:
        """Take note of a refusal. Only the first is logged: the reason is mostly one for all, and may last."""
        if not self._attempts:
            logger.error("%s It is tried again; sockets stay open.", text)
        if self._is_due:
            return
        self._is_due = True
        self._reactor.call_later(next_delay(self._attempts, FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS), self._fire)
        self._attempts += 1

    def clear(self) -> None:
        """Take note that nothing is refused any more."""
        if self._attempts:
            self._attempts = 0
            logger.warning("Redis refuses nothing any more.")  # good news for who saw the bad

    def stop(self) -> None:
        """Try nothing any more."""
        self._is_stopped = True

    def _fire(self) -> None:
        self._is_due = False
        if not self._is_stopped:
            self._try_again()
