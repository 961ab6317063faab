"""What browsers send, on its way to Redis: it waits while Redis is away or refuses it, and is not lost with a link.

A message that is kept has a key, so that it may be sent again when it is not known whether Redis had it: with the same
key it is stored and published once, as long as Redis remembers the key. A plain one is not sent again, as it would
come twice. What Redis refuses it has not carried out, so that may be sent again in any case.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

from hiredis import ReplyError

from .. import commands
from ..conf import Keep
from ..messages import Message
from .link import Link
from .links import Links
from .reactor import Reactor
from .replies import is_elsewhere, is_transient

MAX_HELD_BYTES = 8 * 1024 * 1024  # that each link has not answered; and as much may wait for a link
ENTRY_BYTES = 500  # that a message takes besides its payload

# Shorter than Redis remembers a key, so that a message that comes late still meets the key of its first try.
MAX_RESEND_SECONDS = commands.MIN_KEY_SECONDS - 60

RETRY_SECONDS = 1.0  # after a refusal that passes

logger = logging.getLogger("django_wsredis.redis")


class Target(NamedTuple):
    """Where a browser's messages go: channels by their names in Redis, all of one facility, and what is kept there."""

    names: Sequence[bytes]
    keep: Keep | None


@dataclass(slots=True, eq=False)
class Entry:
    """A message to one channel.

    number: its place in the order of this worker's.
    on_refused: called when Redis refuses it for good.
    unsure_since: when it was first sent in a try of which it is not known whether Redis carried it out.
    """

    number: int
    name: bytes
    message: Message
    keep: Keep | None
    key: bytes | None
    on_refused: Callable[[], None]
    unsure_since: float | None = None


@dataclass(slots=True)
class Queue:
    """What is on its way to one channel: first what Redis has not answered, all on one link, then what waits.

    is_refused: whether Redis refused the last one that was answered, for now.
    """

    link: Link | None = None
    unanswered: dict[Entry, None] = field(default_factory=dict)
    waiting: list[Entry] = field(default_factory=list)
    is_refused: bool = False


class Outgoing:
    """The messages of a worker's browsers that Redis has not answered yet."""

    def __init__(self, reactor: Reactor, links: Links) -> None:
        self._reactor = reactor
        self._links = links
        self._queues: dict[bytes, Queue] = {}  # by channel: a message waits only for older ones of its own
        self._held_bytes: Counter[Link | None] = Counter()  # by link; None: of what waits
        self._retry_is_due = False
        self._worker = os.urandom(8).hex()
        self._count = 0

    @property
    def is_empty(self) -> bool:
        """Whether Redis has answered all."""
        return not self._queues

    def stop(self) -> None:
        """Say how much is lost now."""
        if count := sum(len(queue.unanswered) + len(queue.waiting) for queue in self._queues.values()):
            logger.error(
                "The server stops, and Redis has not answered %d messages of browsers: they may be lost.", count
            )

    def publish(self, target: Target, message: Message, on_refused: Callable[[], None]) -> bool:
        """Publish a message. While Redis is away, or refuses it for now, it waits; False says: there is no more room.

        on_refused: called when Redis refuses it for good.
        """
        links = [self._free_link(name) for name in target.names]
        size = _bytes_of(message) * len(target.names)
        for link in set(links):
            held_bytes = self._held_bytes[link]
            if held_bytes and held_bytes + size > MAX_HELD_BYTES:  # one may always go, however large
                return False
        for name in target.names:
            self._count += 1
            key = None if target.keep is None else f"{self._worker}-{self._count}".encode()
            self._put(Entry(self._count, name, message, target.keep, key, on_refused))
        return True

    def on_changed(self) -> None:
        """Send what waits; links came or went."""
        for queue in self._queues.values():
            if queue.link is not None and queue.link.is_closed:
                for entry in list(queue.unanswered):
                    self._forget(queue, entry)
                    self._wait(queue, entry)
        self._send_waiting(self._queues)

    def _free_link(self, name: bytes) -> Link | None:
        """Return the link on which a channel's next message may go; None if it must wait, for a link or for others.

        Else it could overtake one: what one link has not answered may have to go to another one, and of several that
        are sent at once Redis may refuse the first alone.
        """
        link = self._links.link(name)
        queue = self._queues.get(name)
        if queue is None or link is None:
            return link
        must_wait = queue.waiting or (queue.unanswered and (queue.is_refused or queue.link is not link))
        return None if must_wait else link

    def _send_waiting(self, names: Iterable[bytes]) -> None:
        """Send what waits on some channels, as far as it may go."""
        queues = {name: self._queues[name] for name in names}
        entries = sorted(chain.from_iterable(queue.waiting for queue in queues.values()), key=attrgetter("number"))
        for queue in queues.values():
            queue.waiting.clear()
        dropped = 0
        for entry in entries:
            self._held_bytes[None] -= _bytes_of(entry.message)
            if self._might_come_twice(entry):
                dropped += 1
            else:
                self._put(entry)
        for name, queue in queues.items():
            if not queue.unanswered and not queue.waiting:
                del self._queues[name]
        if dropped:
            logger.error(
                "Redis did not answer %d messages of browsers. They are not sent again: they may have been published.",
                dropped,
            )

    def _might_come_twice(self, entry: Entry) -> bool:
        """Return whether Redis may have carried it out already, and would not know it again."""
        if entry.unsure_since is None:
            return False
        return entry.key is None or self._reactor.now() - entry.unsure_since > MAX_RESEND_SECONDS

    def _put(self, entry: Entry) -> None:
        link = self._free_link(entry.name)
        queue = self._queues.setdefault(entry.name, Queue())
        if link is None:
            self._wait(queue, entry)
        else:
            self._send(queue, entry, link)

    def _wait(self, queue: Queue, entry: Entry) -> None:
        self._held_bytes[None] += _bytes_of(entry.message)
        queue.waiting.append(entry)

    def _send(self, queue: Queue, entry: Entry, link: Link) -> None:
        self._held_bytes[link] += _bytes_of(entry.message)
        queue.link = link
        queue.unanswered[entry] = None
        unsure_before = entry.unsure_since
        if unsure_before is None:
            entry.unsure_since = self._reactor.now()
        command = commands.publish_command(
            entry.name, entry.message, entry.keep, key=entry.key, is_sharded=self._links.is_sharded
        )
        link.call(*command, on_reply=partial(self._on_reply, queue, entry, link, unsure_before))

    def _forget(self, queue: Queue, entry: Entry) -> None:
        link = queue.link
        del queue.unanswered[entry]
        self._held_bytes[link] -= _bytes_of(entry.message)
        if not self._held_bytes[link]:
            del self._held_bytes[link]  # links come and go

    def _on_reply(self, queue: Queue, entry: Entry, link: Link, unsure_before: float | None, reply: Any) -> None:
        self._forget(queue, entry)
        is_error = isinstance(reply, ReplyError)
        if is_error and (is_elsewhere(reply) or is_transient(reply)):
            entry.unsure_since = unsure_before  # this try was not carried out
            self._wait(queue, entry)
            if is_elsewhere(reply):
                self._links.moved(link)
            else:
                self._retry_later(queue, reply)
            return
        queue.is_refused = False
        if is_error:
            logger.error("Redis refused a browser's message to %s: %s", entry.name, reply)
            entry.on_refused()
        if not queue.unanswered:
            self._send_waiting([entry.name])

    def _retry_later(self, queue: Queue, reply: ReplyError) -> None:
        if not self._retry_is_due:
            if not queue.is_refused:
                logger.error(
                    "Redis refuses what browsers send; it waits, and is sent again until it is taken. %s", reply
                )
            self._retry_is_due = True
            self._reactor.call_later(RETRY_SECONDS, self._retry)
        queue.is_refused = True

    def _retry(self) -> None:
        self._retry_is_due = False
        self._send_waiting(self._queues)


def _bytes_of(message: Message) -> int:
    return len(message.payload) + ENTRY_BYTES
