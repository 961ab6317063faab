"""Messages as they are delivered, a line each."""

from __future__ import annotations

from datetime import datetime

from rich.text import Text

from django_wsredis.inspection.reports import Delivered

from .messages import payload
from .words import size

MAX_CHANNEL_WIDTH = 30
ID_WIDTH = 15  # of 1700000000000-0


class DeliveredLines:
    """Columns are as wide as what has come needs: the text gets the rest.

    is_cut: whether a long channel is cut, as on a terminal.
    """

    def __init__(self, *, is_cut: bool) -> None:
        self._is_cut = is_cut
        self._channel_width = 0
        self._id_width = 0

    def line(self, message: Delivered) -> Text:
        """Return a message as a line, for a terminal to cut."""
        channel = Text(message.channel)
        if self._is_cut:
            channel.truncate(MAX_CHANNEL_WIDTH, overflow="ellipsis")
        self._channel_width = max(self._channel_width, channel.cell_len)
        self._id_width = max(self._id_width, len(message.id or ""))
        local = datetime.fromisoformat(message.time).astimezone()
        line = Text.assemble(
            (f"{local:%H:%M:%S}.{local.microsecond // 1000:03d} ", "dim"),
            (channel.plain.ljust(self._channel_width), "cyan"),
            " ",
        )
        if self._id_width:
            line.append(f"{message.id or '':{self._id_width}} ", style="dim")
        line.append(f"{size(message.bytes):>5} ")
        if message.from_browser:
            line.append("↑ ", style="green")
        for audience in message.audiences:
            line.append(f"→{audience} ", style="cyan")
        return line.append_text(payload(message.text, message.hex))
