"""The kept messages of one channel."""

from __future__ import annotations

from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from django_wsredis.inspection.reports import ChannelPage, ShownMessage
from django_wsredis.wording import of_them

from .channels import gone_in
from .tables import add_number, add_text, cut, table
from .words import duration, size

MOST_CHARACTERS = 500  # of a message's text that are looked at: no terminal's line is so long


def page(report: ChannelPage, command: str, width: int) -> RenderableType:
    """Return a channel's messages, and how `command`, which shows that channel, shows those around them."""
    parts: list[RenderableType] = [_title(report)]
    if not report.is_whole:
        parts.append(Text("What followed that message is not kept any more, or not all of it.", style="yellow"))
    if report.messages:
        parts += [Text(), _messages(report.messages, width)]
    if report.before or report.since:
        parts.append(Text())
    if report.before:
        parts.append(_command("Older", f"{command} --before {report.before}"))
    if report.since:
        parts.append(_command("Newer", f"{command} --since {report.since}"))
    return Group(*parts)


def _title(report: ChannelPage) -> Text:
    title, kept = Text(report.channel, style="bold", overflow="fold"), report.kept
    if kept is None:
        return title.append(" keeps no message.", style="not bold")
    rest = f"  {kept.messages:,} of {of_them(kept.of, 'message')}, the oldest {duration(kept.oldest_age_seconds)} old"
    if kept.seconds_to_live is not None:
        rest += f", gone in {gone_in(kept)}"
    return title.append(rest, style="dim not bold")


def _messages(messages: list[ShownMessage], width: int) -> Table:
    found = table(width)
    found.add_column("Time", no_wrap=True)
    add_number(found, "Age")
    add_number(found, "Size")
    add_text(found, "Message", ratio=1)
    for message in messages:
        local = datetime.fromisoformat(message.time).astimezone()
        shown = payload(message.text, message.hex)
        found.add_row(f"{local:%Y-%m-%d %H:%M:%S}", duration(message.age_seconds), size(message.bytes), shown)
    return found


def payload(text: str | None, hex: str | None) -> Text:
    """Return a message's data as a line, which is cut where it is too long: a text, or hexadecimal digits."""
    if text is not None:
        return cut(text[:MOST_CHARACTERS])
    digits = (hex or "")[: 2 * MOST_CHARACTERS]
    return cut(" ".join(digits[i : i + 2] for i in range(0, len(digits), 2)), style="magenta")


def _command(word: str, command: str) -> Text:
    return Text.assemble((f" {word}  ", "dim"), command, overflow="fold")
