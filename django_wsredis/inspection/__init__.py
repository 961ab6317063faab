"""What wsinspect shows: Redis, and what its channels keep. Synchronous; knows no gevent."""

from __future__ import annotations

import heapq
import time
from contextlib import ExitStack
from typing import Any

from ..channels import Channel, channel_name
from ..conf import get_settings
from ..reader import KeptMessage, history
from ..recipients import Names, read_audiences
from .kept import age_seconds, counted, read_kept
from .reports import ChannelPage, Overview, ShownMessage
from .servers import Node, read_redis

__all__ = ["inspect_all", "inspect_channel"]


def inspect_all(*, limit: int) -> Overview:
    """Return what Redis is like, and the `limit` channels that keep most messages.

    Raises BrokerUnavailable if no server can be reached; one of several that cannot is told by its `problem`.
    """
    url = get_settings().url
    with ExitStack() as stack:
        nodes: list[Node] = []
        state = read_redis(url, stack, nodes)
        names: set[bytes] = set()
        most = heapq.nsmallest(limit, counted(nodes, names))
    channels = [channel for _, _, channel in most]
    return Overview(redis=state, channels=[kept for kept, _ in read_kept(channels)], channels_total=len(names))


def inspect_channel(
    *,
    facility: str,
    broadcast: bool = False,
    groups: Names = (),
    users: Names = (),
    sessions: Names = (),
    since: str | None = None,
    before: str | None = None,
    limit: int,
) -> ChannelPage:
    """Return kept messages of one channel; the arguments are those of `history()`, and so is what is raised."""
    audiences: dict[str, Any] = {"broadcast": broadcast, "groups": groups, "users": users, "sessions": sessions}
    page = history(facility=facility, since=since, before=before, limit=limit, **audiences)
    (audience,) = read_audiences(request=None, **audiences)
    channel = Channel(*audience, facility)
    kept, now = next(read_kept([channel]), (None, time.time_ns() // 1_000_000))
    return ChannelPage(
        channel=channel_name(channel),
        kept=kept,
        messages=[_shown(message, now) for message in page.messages],
        is_whole=page.is_whole,
        since=page.since,
        before=page.before,
    )


def _shown(message: KeptMessage, now: int) -> ShownMessage:
    data = message.data
    return ShownMessage(
        id=message.id,
        time=message.time.isoformat(timespec="milliseconds"),
        age_seconds=age_seconds(message.id.encode(), now),
        bytes=len(data.encode() if isinstance(data, str) else data),
        text=data if isinstance(data, str) else None,
        hex=data.hex() if isinstance(data, bytes) else None,
    )
