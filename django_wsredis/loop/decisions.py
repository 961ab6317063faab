"""Django's decisions on open sockets, on further facilities and once more: in native threads, a few at a time."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from django.db import connections

from ..exceptions import HandshakeError

if TYPE_CHECKING:
    from ..handshake import Granted
    from .reactor import Reactor

MAX_THREADS = 8

logger = logging.getLogger("django_wsredis.handshake")


class Question(NamedTuple):
    """A facility that a visitor wants, or without a query its URL's once more; on_decided gets the answer."""

    visitor: bytes
    facility: str
    query: str | None
    on_decided: Callable[[Granted | int], None]


class Decisions:
    """Two queues, and the threads that work on them; all but the decision itself runs in the loop's thread."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._urgent: deque[Question] = deque()
        self._later: deque[Question] = deque()
        self._threads = 0

    def decide(
        self,
        visitor: bytes,
        facility: str,
        query: str | None,
        on_decided: Callable[[Granted | int], None],
        *,
        is_urgent: bool = True,
    ) -> None:
        """Ask for a facility; on_decided gets what is granted, or the status of a refusal.

        Without a query it is decided again on the URL's. Where nobody waits for the answer it is not urgent: there may
        be as many such questions as there are sockets.
        """
        queue = self._urgent if is_urgent else self._later
        queue.append(Question(visitor, facility, query, on_decided))
        self._start_next()

    def _start_next(self) -> None:
        queue = self._urgent or self._later
        if queue and self._threads < MAX_THREADS:
            question = queue.popleft()
            self._threads += 1
            self._reactor.start_thread(partial(self._run, question), on_failed=partial(self._on_no_thread, question))

    def _on_no_thread(self, question: Question, reason: str) -> None:
        logger.error("503 subscribe %r: %s", question.facility, reason)
        self._decided(question, 503)

    def _run(self, question: Question) -> None:
        granted: Granted | int = 403
        try:
            granted = self._decision(question)
        finally:  # whatever was raised: the socket waits for it, and so may others
            self._reactor.run(self._decided, question, granted)

    def _decision(self, question: Question) -> Granted | int:
        from ..handshake import decide_again, decide_more  # has models: not before Django is set up

        visitor, facility, query, _ = question
        try:
            if query is None:
                return decide_again(visitor, self._reactor.settings)
            return decide_more(visitor, facility, query, self._reactor.settings)
        except HandshakeError as error:
            logger.warning("%d subscribe %r: %s", error.status, facility, error)
            return int(error.status)
        except Exception:
            logger.exception("A subscription could not be decided, so it is refused.")
            return 403
        finally:
            connections.close_all()  # this thread ends, and would take them with it

    def _decided(self, question: Question, granted: Granted | int) -> None:
        self._threads -= 1
        self._start_next()
        question.on_decided(granted)
