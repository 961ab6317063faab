"""What `Tail` listens with: connections to Redis, one to each master, and the names of the channels that are live."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from .. import redis, redis_errors
from ..asking import ask
from ..conf import get_settings
from ..control import Filter, Request
from ..exceptions import BrokerUnavailable
from ..redis_url import Address
from .servers import CLIENT_NAME

READ_SECONDS = 0.1  # that one read of all links waits for a message
PING_SECONDS = 2.0  # without any message, after which a link is asked whether it is alive
ASK_SECONDS = 1.0  # from one question which channels are live to the next
MOST_CHANNELS = 1000  # that are followed
MOST_AT_ONCE = 100  # messages of one link; then the others have their turn


class Moved(Exception):
    """A channel is on another shard of the cluster now."""


class Links:
    """Connections to all masters, on each of which its own channels are subscribed. All may raise BrokerUnavailable."""

    def __init__(self) -> None:
        self._url = get_settings().url
        self._slots = redis.read_slots(self._url) if redis.is_cluster(self._url) else None
        self._links: dict[Address | None, Link] = {}
        self._subscribed: frozenset[bytes] = frozenset()

    def close(self) -> None:
        """Disconnect."""
        for link in self._links.values():
            link.close()

    def subscribe(self, names: Sequence[bytes]) -> None:
        """Listen to these channels, and to no others."""
        for name in names:
            if name not in self._subscribed:
                self._link(name).subscribe(name)
        for name in self._subscribed.difference(names):
            self._link(name).unsubscribe(name)
        self._subscribed = frozenset(names)

    def confirm(self) -> None:
        """Wait until Redis has confirmed the channels."""
        for link in self._links.values():
            link.confirm()

    def read(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield messages with their channels' names: those that are there, or come within a moment."""
        for link in self._links.values():
            yield from link.read(READ_SECONDS / len(self._links))

    def _link(self, name: bytes) -> Link:
        address = self._slots.master(name) if self._slots else None
        if self._slots and address is None:
            raise BrokerUnavailable("No master serves a slot of the cluster.")
        if address not in self._links:
            self._links[address] = Link(self._url, address)
        return self._links[address]


class Link:
    """A connection to one master."""

    def __init__(self, url: str, address: Address | None) -> None:
        self._url = url
        self._words = ("SUBSCRIBE", "UNSUBSCRIBE") if address is None else ("SSUBSCRIBE", "SUNSUBSCRIBE")
        self._connection: Any = (
            redis.connect_link(url, CLIENT_NAME) if address is None else redis.connect_node(url, address, CLIENT_NAME)
        )
        self._unconfirmed: set[bytes] = set()
        self._left: set[bytes] = set()  # what we have unsubscribed ourselves
        self._early: list[tuple[bytes, bytes]] = []  # messages that came before all channels were confirmed
        self._heard_at = time.monotonic()
        self._is_pinged = False

    def close(self) -> None:
        """Disconnect."""
        self._connection.disconnect()

    def subscribe(self, name: bytes) -> None:
        """Listen to a channel."""
        self._left.discard(name)
        self._unconfirmed.add(name)
        self._send(self._words[0], name)

    def unsubscribe(self, name: bytes) -> None:
        """Listen to a channel no more."""
        self._left.add(name)
        self._send(self._words[1], name)

    def confirm(self) -> None:
        """Wait until Redis has confirmed the channels."""
        deadline = time.monotonic() + redis_errors.TIMEOUT_SECONDS
        while self._unconfirmed:
            if time.monotonic() > deadline:
                raise BrokerUnavailable("Redis did not confirm a subscription in time.")
            self._early += self._received(READ_SECONDS)

    def read(self, seconds: float) -> Iterator[tuple[bytes, bytes]]:
        """Yield messages with their channels' names: those that are there, or come within so long."""
        early, self._early = self._early, []
        yield from early
        yield from self._received(seconds)

    def _received(self, seconds: float) -> Iterator[tuple[bytes, bytes]]:
        for number in range(MOST_AT_ONCE):
            match self._reply(0 if number else seconds):
                case None:
                    break
                case [b"message" | b"smessage", name, data]:
                    yield name, data
                case [b"subscribe" | b"ssubscribe", name, _]:
                    self._unconfirmed.discard(name)
                case [b"unsubscribe" | b"sunsubscribe", name, _]:
                    if name not in self._left:
                        raise Moved
                    self._left.discard(name)
        self._see_that_it_lives()

    def _reply(self, seconds: float) -> Any:
        with redis_errors.translated(self._url):
            if not self._connection.can_read(seconds):
                return None
            reply = self._connection.read_response(push_request=True)
        self._heard_at, self._is_pinged = time.monotonic(), False
        return reply

    def _see_that_it_lives(self) -> None:
        silent_seconds = time.monotonic() - self._heard_at
        if silent_seconds > PING_SECONDS + redis_errors.TIMEOUT_SECONDS:
            raise BrokerUnavailable(f"Redis ({redis_errors.shown_url(self._url)}) does not answer.")
        if silent_seconds > PING_SECONDS and not self._is_pinged:
            self._is_pinged = True
            self._send("PING")

    def _send(self, *command: bytes | str) -> None:
        with redis_errors.translated(self._url):
            self._connection.send_command(*command)


class LiveNames(Thread):
    """The Redis names of the live channels that are meant, asked for again and again.

    left_out: how many there are beside them, at least.
    """

    def __init__(self, which: Filter) -> None:
        super().__init__(daemon=True)
        self._which = which
        self._stopped = Event()
        self.names: frozenset[bytes] = frozenset()
        self.left_out = 0

    def run(self) -> None:
        """Ask until it is stopped. Whether Redis is there is for others to notice."""
        while not self._stopped.is_set():
            self._stopped.wait(ASK_SECONDS)
            with suppress(BrokerUnavailable):
                self.ask()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def ask(self) -> None:
        """Ask once. Raises BrokerUnavailable."""
        answers = ask(Request(verb="names", which=self._which, limit=MOST_CHANNELS)).answers
        names = sorted({name.encode() for answer in answers for name in answer["names"]})
        total = max([len(names), *(answer["channels_meant"] for answer in answers)])
        self.left_out = max(0, total - MOST_CHANNELS)
        self.names = frozenset(names[:MOST_CHANNELS])
