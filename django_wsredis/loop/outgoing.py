"""What browsers send, on its way to Redis: it waits while there is none, and is not lost with a link.

A message that is kept has a key, so that it may be sent again when it is not known whether Redis had it: with the same
key it is stored and published once, as long as Redis remembers the key. A plain one is not sent again, as it would
come twice.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

from hiredis import ReplyError

from .. import commands, redis
from ..conf import Keep
from ..messages import Message
from .link import Link
from .links import Links

MAX_HELD_BYTES = 8 * 1024 * 1024  # that each link has not answered; and as much may wait for a link
ENTRY_BYTES = 500  # that a message takes besides its payload

# Shorter than Redis remembers a key, so that a message that comes late still meets the key of its first try.
MAX_RESEND_SECONDS = commands.MIN_KEY_SECONDS - 60

logger = logging.getLogger("django_wsredis.redis")


class Target(NamedTuple):
    """Where a browser's messages go: channels by their names in Redis, all of one facility, and what is kept there."""

    names: Sequence[bytes]
    keep: Keep | None


@dataclass(slots=True, eq=False)
class Entry:
    """A message to one channel.

    number: its place in the order of this worker's.
    unsure_since: when it was first sent in a try of which it is not known whether Redis carried it out.
    """

    number: int
    name: bytes
    message: Message
    keep: Keep | None
    key: bytes | None
    unsure_since: float | None = None


class Outgoing:
    """The messages of a worker's browsers that Redis has not answered yet.

    now: returns the time in seconds, of a monotonic clock.
    """

    def __init__(self, links: Links, now: Callable[[], float]) -> None:
        self._links = links
        self._now = now
        self._waiting: dict[bytes, list[Entry]] = {}  # by channel: a message waits only for older ones of its own
        self._unanswered: dict[Entry, Link] = {}
        self._held_bytes: Counter[Link | None] = Counter()  # by link; None: of what waits for one
        self._worker = os.urandom(8).hex()
        self._count = 0

    def publish(self, target: Target, message: Message) -> bool:
        """Publish a message. While Redis is away it waits, and False says that there is no more room."""
        links = [None if name in self._waiting else self._links.link(name) for name in target.names]
        size = _bytes_of(message) * len(target.names)
        for link in set(links):
            held_bytes = self._held_bytes[link]
            if held_bytes and held_bytes + size > MAX_HELD_BYTES:  # one may always go, however large
                return False
        for name, link in zip(target.names, links, strict=True):
            self._count += 1
            key = None if target.keep is None else f"{self._worker}-{self._count}".encode()
            entry = Entry(self._count, name, message, target.keep, key)
            if link is None:
                self._wait(entry)
            else:
                self._send(entry, link)
        return True

    def on_changed(self) -> None:
        """Send what waits; links came or went."""
        for entry in [entry for entry, link in self._unanswered.items() if link.is_closed]:
            self._forget(entry)
            self._wait(entry)
        entries = sorted(chain.from_iterable(self._waiting.values()), key=attrgetter("number"))  # some came back
        self._waiting.clear()
        del self._held_bytes[None]
        dropped = 0
        for entry in entries:
            if self._might_come_twice(entry):
                dropped += 1
            elif link := self._links.link(entry.name):
                self._send(entry, link)
            else:
                self._wait(entry)
        if dropped:
            logger.error(
                "Redis did not answer %d messages of browsers. They are not sent again: they may have been published.",
                dropped,
            )

    def _might_come_twice(self, entry: Entry) -> bool:
        """Return whether Redis may have carried it out already, and would not know it again."""
        if entry.unsure_since is None:
            return False
        return entry.key is None or self._now() - entry.unsure_since > MAX_RESEND_SECONDS

    def _wait(self, entry: Entry) -> None:
        self._held_bytes[None] += _bytes_of(entry.message)
        self._waiting.setdefault(entry.name, []).append(entry)

    def _send(self, entry: Entry, link: Link) -> None:
        self._held_bytes[link] += _bytes_of(entry.message)
        self._unanswered[entry] = link
        unsure_before = entry.unsure_since
        if unsure_before is None:
            entry.unsure_since = self._now()
        command = commands.publish_command(
            entry.name, entry.message, entry.keep, key=entry.key, is_sharded=self._links.is_sharded
        )
        link.call(*command, on_reply=partial(self._on_reply, entry, link, unsure_before))

    def _forget(self, entry: Entry) -> None:
        link = self._unanswered.pop(entry)
        self._held_bytes[link] -= _bytes_of(entry.message)
        if not self._held_bytes[link]:
            del self._held_bytes[link]  # links come and go

    def _on_reply(self, entry: Entry, link: Link, unsure_before: float | None, reply: Any) -> None:
        self._forget(entry)
        if not isinstance(reply, ReplyError):
            return
        if redis.is_elsewhere(reply):
            entry.unsure_since = unsure_before  # this try was not carried out
            self._wait(entry)
            self._links.moved(link)
        else:
            logger.error("Redis refused a browser's message to %s: %s", entry.name, reply)


def _bytes_of(message: Message) -> int:
    return len(message.payload) + ENTRY_BYTES
