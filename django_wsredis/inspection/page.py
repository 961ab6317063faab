"""The messages of one channel."""

from __future__ import annotations

import time
from typing import Any

from ..channels import Channel, channel_name
from ..reader import KeptMessage, history
from ..recipients import Names, read_audiences
from .kept import age_seconds, read_kept
from .reports import ChannelPage, ShownMessage


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
        **payload(data),
    )


def payload(data: str | bytes) -> dict[str, Any]:
    """Return what is told of a message's data: a text, or binary data in hexadecimal digits."""
    return {
        "bytes": len(data.encode() if isinstance(data, str) else data),
        "text": data if isinstance(data, str) else None,
        "hex": data.hex() if isinstance(data, bytes) else None,
    }
