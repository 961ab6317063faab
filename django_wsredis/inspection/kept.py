"""What channels keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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


def counted(nodes: Iterable[Node], seen: set[bytes]) -> Iterator[tuple[int, bytes, Channel]]:
    """Yield each channel that keeps something, after its number of messages, which is negative: most come first.

    The names are added to `seen`: a scan may tell one twice.
    """
    prefix = get_settings().prefix
    for node in nodes:
        for names in _scan(node, f"{escape(prefix)}:*"):
            channels = {name: channel for name in names if (channel := read_redis_name(prefix, name))}
            fresh = list(channels.keys() - seen)
            for name, count in zip(fresh, redis.execute([("XLEN", name) for name in fresh]), strict=True):
                if count:  # else it was only begun, for somebody who waits there
                    seen.add(name)
                    yield -count, name, channels[name]


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


def age_seconds(id: bytes, now: int) -> float:
    """Return the age of a message; `now` is in milliseconds."""
    return max(0, now - id_key(id)[0]) / 1000
