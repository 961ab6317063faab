"""Django's decisions on further facilities of open sockets: in native threads, a few at a time."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import connections

from ..exceptions import HandshakeError

if TYPE_CHECKING:
    from ..handshake import Granted
    from .reactor import Reactor

MAX_THREADS = 8

logger = logging.getLogger("django_wsredis.handshake")


class Decisions:
    """A queue, and the threads that work on it; all but the decision itself runs in the loop's thread."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._queue: deque[tuple[Any, ...]] = deque()
        self._threads = 0

    def decide(self, visitor: bytes, facility: str, query: str, on_decided: Callable[[Granted | int], None]) -> None:
        """Ask for a facility; on_decided gets what is granted, or the status of a refusal."""
        self._queue.append((visitor, facility, query, on_decided))
        self._start_next()

    def _start_next(self) -> None:
        if self._queue and self._threads < MAX_THREADS:
            visitor, facility, query, on_decided = self._queue.popleft()
            self._threads += 1
            self._reactor.start_thread(
                partial(self._run, visitor, facility, query, on_decided),
                on_failed=partial(self._on_no_thread, facility, on_decided),
            )

    def _on_no_thread(self, facility: str, on_decided: Callable[[Granted | int], None], reason: str) -> None:
        logger.error("503 subscribe %r: %s", facility, reason)
        self._decided(on_decided, 503)

    def _run(self, visitor: bytes, facility: str, query: str, on_decided: Callable[[Granted | int], None]) -> None:
        granted: Granted | int = 403
        try:
            granted = self._decision(visitor, facility, query)
        finally:  # whatever was raised: the socket waits for it, and so may others
            self._reactor.run(self._decided, on_decided, granted)

    def _decision(self, visitor: bytes, facility: str, query: str) -> Granted | int:
        from ..handshake import decide_more  # has models: not before Django is set up

        try:
            return decide_more(visitor, facility, query, self._reactor.settings)
        except HandshakeError as error:
            logger.warning("%d subscribe %r: %s", error.status, facility, error)
            return int(error.status)
        except Exception:
            logger.exception("A subscription could not be decided, so it is refused.")
            return 403
        finally:
            connections.close_all()  # this thread ends, and would take them with it

    def _decided(self, on_decided: Callable[[Granted | int], None], granted: Granted | int) -> None:
        self._threads -= 1
        self._start_next()
        on_decided(granted)
