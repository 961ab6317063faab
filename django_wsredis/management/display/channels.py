"""Channels: who listens, and what they keep."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from django_wsredis.inspection.reports import ChannelState, Kept
from django_wsredis.management.orders import CHANNELS, Order

from .tables import add_number, add_text, cut, table
from .words import duration, number


def channel_lines(
    channels: Sequence[ChannelState], width: int, order: Order, rows: int | None = None
) -> list[RenderableType]:
    """Return the channels that come first, at most so many lines; without such a bound names are told in full."""
    found = table(width)
    add_text(found, "Channel", ratio=1, is_sorted=order.word == "name")
    add_number(found, "Sockets", is_sorted=order.word == "sockets")
    add_number(found, "Kept", is_sorted=order.word == "kept")
    add_number(found, "Newest", is_sorted=order.word == "newest")
    add_number(found, "Gone in")
    for channel in order.of(channels, CHANNELS)[:rows]:
        name = Text(channel.channel, overflow="fold") if rows is None else cut(channel.channel)
        found.add_row(name, number(channel.sockets), *_kept(channel.kept))
    return [found]


def _kept(kept: Kept | None) -> tuple[str, str, str]:
    if kept is None:
        return "", "", ""
    return f"{number(kept.messages)} of {number(kept.of)}", f"{duration(kept.newest_age_seconds)} ago", gone_in(kept)


def gone_in(kept: Kept) -> str:
    """Return after how long what is kept is gone."""
    return "never" if kept.seconds_to_live is None else duration(kept.seconds_to_live)
