"""What browsers send, on its way to Redis: it waits while there is none, and is not lost with a link.

A message that is kept has a key, so that it may be sent again when it is not known whether Redis had it: with the same
key it is stored and published once. A plain one is not sent again, as it would come twice.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from hiredis import ReplyError

from .. import commands, redis
from ..conf import Keep
from ..messages import Message
from .link import Link
from .links import Links

MAX_WAITING_BYTES = 8 * 1024 * 1024
ENTRY_BYTES = 500  # that a message takes besides its payload

logger = logging.getLogger("django_wsredis.redis")


class Target(NamedTuple):
    """Where a browser's messages go: channels by their names in Redis, all of one facility, and what is kept there."""

    names: Sequence[bytes]
    keep: Keep | None


class Entry(NamedTuple):
    """A message to one channel. number: its place in the order of this worker's."""

    number: int
    name: bytes
    message: Message
    keep: Keep | None
    key: bytes | None


class Outgoing:
    """The messages of a worker's browsers that Redis has not answered yet."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._waiting: list[Entry] = []
        self._waiting_bytes = 0
        self._unanswered: dict[Entry, Link] = {}
        self._worker = os.urandom(8).hex()
        self._count = 0

    def publish(self, target: Target, message: Message) -> bool:
        """Publish a message. While Redis is away it waits, and False says that there is no more room."""
        size = (len(message.payload) + ENTRY_BYTES) * len(target.names)
        links = [self._links.link(name) for name in target.names]
        must_wait = bool(self._waiting) or None in links
        if must_wait and self._waiting_bytes + size > MAX_WAITING_BYTES:
            return False
        for name in target.names:
            self._count += 1
            key = None if target.keep is None else f"{self._worker}-{self._count}".encode()
            self._wait(Entry(self._count, name, message, target.keep, key))
        if any(links):  # else nothing can go: what waits for others goes when their links come
            self._send_waiting()
        return True

    def on_changed(self) -> None:
        """Send what waits; links came or went."""
        lost = [entry for entry, link in self._unanswered.items() if link.is_closed]
        for entry in lost:
            del self._unanswered[entry]
        again = [entry for entry in lost if entry.key is not None]
        if len(again) < len(lost):
            logger.error(
                "Redis did not answer %d messages of browsers. They are not sent again: they may have been published.",
                len(lost) - len(again),
            )
        for entry in again:
            self._wait(entry)
        self._send_waiting()

    def _wait(self, entry: Entry) -> None:
        self._waiting_bytes += len(entry.message.payload) + ENTRY_BYTES
        self._waiting.append(entry)

    def _send_waiting(self) -> None:
        entries, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for entry in sorted(entries, key=attrgetter("number")):  # some may have come back
            link = self._links.link(entry.name)
            if link is None:
                self._wait(entry)
                continue
            self._unanswered[entry] = link
            command = commands.publish_command(
                entry.name, entry.message, entry.keep, key=entry.key, is_sharded=self._links.is_sharded
            )
            link.call(*command, on_reply=partial(self._on_reply, entry, link))

    def _on_reply(self, entry: Entry, link: Link, reply: Any) -> None:
        self._unanswered.pop(entry, None)
        if not isinstance(reply, ReplyError):
            return
        if redis.is_elsewhere(reply):  # it was not carried out
            self._wait(entry)
            self._links.moved(link)
        else:
            logger.error("Redis refused a browser's message to %s: %s", entry.name, reply)
