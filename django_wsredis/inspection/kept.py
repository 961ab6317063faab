"""What channels keep."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import resources

from .. import redis
from ..channels import Channel, channel_name, escape, read_redis_name, redis_name
from ..conf import Keep, get_settings
from ..messages import id_key
from .reports import Kept
from .servers import Node

INSPECT_SCRIPT = resources.files("django_wsredis").joinpath("inspect.lua").read_text()
STEP_KEYS = 1000  # that Redis looks at in one step of a scan; it serves others between two
STEP_CHANNELS = 100  # whose details are read in one round trip
PAUSE_FACTOR = 20  # after the channels were counted, so many times as long as that took


class Ranking:
    """Which channels keep something, by the name that clients know; of sessions several have the same.

    is_meant(channel, name): which of them are counted.
    """

    def __init__(self, is_meant: Callable[[Channel, str], bool]) -> None:
        self._is_meant = is_meant
        self._next_at = 0.0
        self._messages: dict[str, int] = {}
        self.channels: dict[str, list[Channel]] = {}  # those that keep most first

    def first(self, limit: int) -> list[str]:
        """Return the names of those that keep most messages."""
        return heapq.nsmallest(limit, self._messages, key=lambda name: (-self._messages[name], name))

    def refresh(self, nodes: Iterable[Node]) -> None:
        """Count them again, if that was long ago: it takes long where there are many, and Redis has other work."""
        began_at = time.monotonic()
        if began_at < self._next_at:
            return
        counts: dict[str, list[tuple[int, Channel]]] = {}
        for count, channel in self._counted(nodes):
            counts.setdefault(channel_name(channel), []).append((count, channel))
        self._messages = {name: sum(count for count, _ in found) for name, found in counts.items()}
        self.channels = {
            name: [channel for _, channel in sorted(found, reverse=True)] for name, found in counts.items()
        }
        ended_at = time.monotonic()
        self._next_at = ended_at + (ended_at - began_at) * PAUSE_FACTOR

    def _counted(self, nodes: Iterable[Node]) -> Iterator[tuple[int, Channel]]:
        prefix = get_settings().prefix
        seen: set[bytes] = set()  # a scan may tell a name twice
        for node in nodes:
            for names in _scan(node, f"{escape(prefix)}:*"):
                found = {name: channel for name in names if (channel := read_redis_name(prefix, name))}
                fresh = [name for name in found.keys() - seen if self._is_meant(found[name], channel_name(found[name]))]
                for name, count in zip(fresh, redis.execute([("XLEN", name) for name in fresh]), strict=True):
                    if count:  # else it was only begun, for somebody who waits there
                        seen.add(name)
                        yield count, found[name]


def _scan(node: Node, pattern: str) -> Iterator[list[bytes]]:
    """Yield the names of a server's streams step by step, so that it serves others in between."""
    cursor = b"0"
    while True:
        cursor, names = node.call("SCAN", cursor, "MATCH", pattern, "COUNT", STEP_KEYS, "TYPE", "stream")
        yield names
        if cursor == b"0":
            return


def read_kept(channels: Sequence[Channel]) -> Iterator[tuple[Kept, int]]:
    """Yield what channels keep, with the time in milliseconds on the server's clock; not those that keep nothing."""
    settings = get_settings()
    for start in range(0, len(channels), STEP_CHANNELS):
        step = channels[start : start + STEP_CHANNELS]
        names = [redis_name(settings.prefix, channel) for channel in step]
        replies = redis.execute([("EVAL", INSPECT_SCRIPT, 1, name) for name in names])
        for channel, (count, oldest, newest, to_live, now) in zip(step, replies, strict=True):
            keep = settings.keep_of(channel.facility) or Keep(1, 0, is_history=False)  # expire= keeps the last one
            if count:
                kept = Kept(
                    channel=channel_name(channel),
                    # a full stream has one entry more, as a proof for who saw that one last
                    messages=keep.messages if count == keep.entries else count,
                    of=keep.messages,
                    newest_id=newest.decode(),
                    newest_age_seconds=age_seconds(newest, now),
                    oldest_age_seconds=age_seconds(oldest, now),
                    seconds_to_live=to_live / 1000 if to_live >= 0 else None,
                )
                yield kept, now


def merged(several: Sequence[Kept]) -> Kept:
    """Return what channels of one name keep together."""
    newest = min(several, key=lambda kept: kept.newest_age_seconds)
    to_live = [kept.seconds_to_live for kept in several if kept.seconds_to_live is not None]
    return replace(
        newest,
        messages=sum(kept.messages for kept in several),
        of=sum(kept.of for kept in several),
        oldest_age_seconds=max(kept.oldest_age_seconds for kept in several),
        seconds_to_live=max(to_live) if len(to_live) == len(several) else None,
    )


def age_seconds(id: bytes, now: int) -> float:
    """Return the age of a message; `now` is in milliseconds."""
    return max(0, now - id_key(id)[0]) / 1000
