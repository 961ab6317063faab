"""A message that a worker sends itself through Redis, to see that messages arrive: only when somebody asks.

It takes the way of all others: the same link, subscribed and published to. In a cluster one goes by each link. A link
that is half open takes what is sent, and nothing comes back; a Redis that hangs does not answer either; one that
refuses writes delivers all the same.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from hiredis import ReplyError

from ..commands import publish_command
from ..control import Request, canary_name
from ..messages import Message
from .link import Link
from .links import Links
from .reactor import Reactor
from .replies import ignore, is_elsewhere

CANARY_SECONDS = 2.0  # in which it must be back
PROOF_SECONDS = 1.0  # for which the last one is proof, whether it came back or was lost

logger = logging.getLogger("django_wsredis.redis")


class Canary:
    """Tells whether messages arrive.

    seconds: how long the last one took that came back, on the slowest link; None before the first.
    outcomes: how many came back, and how many were lost.
    """

    def __init__(self, reactor: Reactor, links: Links, worker: str) -> None:
        self._reactor = reactor
        self._links = links
        self._name = canary_name(reactor.settings.prefix, worker)
        self._askers: list[Callable[[bool], None]] = []  # who wait for the one that is under way
        self._missing: set[str] = set()
        self._number = 0
        self._sent_at = 0.0
        self._valid_until = 0.0
        self._is_lost = False
        self._timer = reactor.timer(CANARY_SECONDS, CANARY_SECONDS)
        self.seconds: float | None = None
        self.outcomes = Counter(returned=0, lost=0)

    def ask(self, tell: Callable[[bool], None]) -> None:
        """Tell whether messages arrive, within CANARY_SECONDS. Those who ask meanwhile share one canary."""
        if self._reactor.now() < self._valid_until:
            tell(not self._is_lost)
            return
        self._askers.append(tell)
        if len(self._askers) == 1:
            self._send()

    def on_returned(self, token: str) -> None:
        """Take note that one came back; it may be one that came too late."""
        if token not in self._missing:
            return
        self._missing.discard(token)
        if not self._missing:
            self.seconds = self._reactor.now() - self._sent_at
            self._end("")

    def stop(self) -> None:
        """Send no more."""
        self._timer.stop()
        self._timer.close()
        self._answer(False)

    def _send(self) -> None:
        self._number += 1
        self._sent_at = self._reactor.now()
        self._timer.again(partial(self._end, f"It was not back after {CANARY_SECONDS:g} s."))
        places = [(name, self._links.link(name)) for name in self._links.probes(self._name)]
        self._missing = {f"{self._number}/{index}" for index in range(len(places))}
        for index, (name, link) in enumerate(places):
            if link is None:
                self._end("There is no link to Redis.")
                return
            self._send_by(link, name, f"{self._number}/{index}")

    def _send_by(self, link: Link, name: bytes, token: str) -> None:
        is_sharded = self._links.is_sharded
        message = Message(Request(verb="canary", reply=token).encode(), True, is_request=True)
        on_reply = partial(self._on_reply, link, self._number)
        link.call("SSUBSCRIBE" if is_sharded else "SUBSCRIBE", name, on_reply=on_reply)
        link.call(*publish_command(name, message, None, is_sharded=is_sharded), on_reply=on_reply)
        link.call("SUNSUBSCRIBE" if is_sharded else "UNSUBSCRIBE", name, on_reply=ignore)

    def _on_reply(self, link: Link, number: int, reply: Any) -> None:
        if not isinstance(reply, ReplyError) or number != self._number or not self._missing:
            return
        self._end(f"Redis refuses it: {reply}.")
        if is_elsewhere(reply):
            self._links.moved(link)

    def _end(self, problem: str) -> None:
        self._timer.stop()
        self._missing.clear()
        self.outcomes["lost" if problem else "returned"] += 1
        if problem and not self._is_lost:  # once, however often it is asked
            logger.warning("A canary was sent through Redis in vain, so this worker is not ready. %s", problem)
        elif self._is_lost and not problem:
            logger.warning("Canaries come back from Redis again.")
        self._is_lost = bool(problem)
        self._valid_until = self._reactor.now() + PROOF_SECONDS
        self._answer(not problem)

    def _answer(self, is_well: bool) -> None:
        askers, self._askers = self._askers, []
        for tell in askers:
            tell(is_well)
