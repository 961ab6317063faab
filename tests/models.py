"""A model of Redis for tests without one: streams as publish.lua and read.lua keep and read them, and workers' links.

Ids are numbers of one clock, with which also a Redis that lost its data goes on. test_joins.py compares it with a real
one.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django_wsredis.commands import READ_SCRIPT


def id_bytes(number: int) -> bytes:
    return b"%d-0" % number


def number_of(id: str | bytes) -> int:
    return int(id.partition("-" if isinstance(id, str) else b"-")[0])


@dataclass
class Stream:
    """Entries as (number, payload, the position that it came after); the number stands for the id."""

    entries: list[tuple[int, bytes, int | None]] = field(default_factory=list)
    last: int = 0


class Call(NamedTuple):
    command: Any
    on_reply: Callable[[Any], None]


class ModelLink:
    """A worker's connection: commands on their way there, replies and messages on their way back, in one order."""

    def __init__(self) -> None:
        self.is_closed = False
        self.subscribed: set[bytes] = set()
        self.outgoing: deque[Call] = deque()
        self.incoming: deque[Callable[[], None]] = deque()

    def call(self, *command: Any, on_reply: Callable[[Any], None]) -> None:
        assert command[0] == "UNSUBSCRIBE" or not self.is_closed, "nobody will answer"
        self.outgoing.append(Call(command, on_reply))


class ModelRedis:
    """The data, and what is done for a worker's commands."""

    def __init__(self) -> None:
        self.clock = 0
        self.streams: dict[bytes, Stream] = {}
        self.losses: dict[bytes, list[int]] = defaultdict(list)  # when something else than MAXLEN took entries away

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def carry_out(self, link: ModelLink, command: Any) -> Any:
        """Do a command of a link; return the reply."""
        match command:
            case ("SUBSCRIBE", name):
                link.subscribed.add(name)
                return [b"subscribe", name, 1]
            case ("UNSUBSCRIBE", name):
                link.subscribed.discard(name)
                return [b"unsubscribe", name, 0]
            case ("EVAL", script, 1, name, since, count, _, *others):
                assert script == READ_SCRIPT
                return self.read(name, since, count, *others)
        raise AssertionError(f"the model does not know {command}")

    def publish(self, name: bytes, payload: bytes, entries: int) -> int:
        """Do what publish.lua does; return the number of the id."""
        after = None
        if name in self.streams and not self.streams[name].entries:
            after = self.streams[name].last
        stream = self.streams.setdefault(name, Stream())
        stream.last = self.tick()
        stream.entries = [*stream.entries, (stream.last, payload, after)][-entries:]
        return stream.last

    def read(
        self,
        name: bytes,
        since: bytes,
        count: int,
        begin_seconds: int,
        max_bytes: int,
        max_entries: int,
        before: bytes,
    ) -> list[Any]:
        """Do what read.lua does."""
        if name not in self.streams:
            if not begin_seconds:
                return [int(not since), b"", []]
            self.streams[name] = Stream(last=self.tick())
            return [int(not since), id_bytes(self.streams[name].last), []]
        stream = self.streams[name]
        end = id_bytes(stream.last)
        length = min(count, max_entries)
        if not since:
            older = [entry for entry in stream.entries[::-1] if not before or entry[0] < number_of(before)]
            newest = self.page(older, length, max_bytes)
            is_all = len(older) < length and sum(len(payload) for _, payload, _ in older) <= max_bytes
            if newest and not is_all and len(newest) < count:
                return [1, end, [], newest[-1][0], count - len(newest)]
            if not newest and before:
                newer = [entry for entry in stream.entries if entry[0] >= number_of(before)]
                return [1, end, self.page(newer, length, max_bytes)]
            return [1, end, newest[::-1]]
        position = number_of(since)
        found = [entry for entry in stream.entries if entry[0] > position]
        is_whole = (
            position == stream.last
            or (count and found and found[0][2] == position)
            or any(number == position for number, _, _ in stream.entries)
        )
        return [int(bool(is_whole)), end, self.page(found, length, max_bytes)]

    @staticmethod
    def page(entries: list[tuple[int, bytes, int | None]], length: int, max_bytes: int) -> list[Any]:
        found: list[Any] = []
        size = 0
        for number, payload, _ in entries[:length]:
            size += len(payload)
            if size > max_bytes and found:
                break
            found.append([id_bytes(number), [b"m", payload]])
        return found

    def trim(self, name: bytes, count: int) -> None:
        """Drop the oldest, as time does."""
        if name in self.streams and len(self.streams[name].entries) > count:
            self.streams[name].entries = self.streams[name].entries[count:]
            self.losses[name].append(self.clock)

    def lose(self, name: bytes) -> None:
        """Forget a stream, which has expired or was deleted."""
        if self.streams.pop(name, None):
            self.losses[name].append(self.clock)
