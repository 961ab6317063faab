"""How wsinspect's answers look on a terminal; 80 columns are enough."""

from __future__ import annotations

from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from django_wsredis.inspection.reports import ChannelPage, Kept, Overview, Redis, Server, ShownMessage

TOPOLOGIES = {"single": "one server", "sentinel": "master and replicas, watched by sentinels", "cluster": "cluster"}
PERSISTENCE = {"aof": "AOF", "rdb": "RDB", "none": "nothing", None: "not told"}
AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
MOST_CHARACTERS = 500  # of a message's text that are looked at: no terminal's line is so long


def overview(report: Overview) -> RenderableType:
    """Return Redis, and below it the channels."""
    return Group(_redis(report.redis), Text(), *_channels(report))


def page(report: ChannelPage, command: str) -> RenderableType:
    """Return a channel's messages, and how `command`, which shows that channel, shows those around them."""
    parts: list[RenderableType] = [_title(report)]
    if not report.is_whole:
        parts.append(Text("What followed that message is not kept any more, or not all of it.", style="yellow"))
    if report.messages:
        parts += [Text(), _messages(report.messages)]
    if report.before or report.since:
        parts.append(Text())
    if report.before:
        parts.append(_command("Older", f"{command} --before {report.before}"))
    if report.since:
        parts.append(_command("Newer", f"{command} --since {report.since}"))
    return Group(*parts)


# Redis


def _redis(state: Redis) -> RenderableType:
    head = Text.assemble(
        ("Redis", "bold"), "  ", state.url, (f"  {TOPOLOGIES[state.topology]}", "dim"), overflow="fold"
    )
    table = _table()
    if state.topology != "single":
        table.add_column("Server", overflow="fold")
    if state.topology == "cluster":
        table.add_column("Slots", overflow="fold")
    table.add_column("Version", no_wrap=True)
    for column in ("Answers in", "Memory"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("Saves")
    for server in state.servers:
        _add_server(table, state, server)
    lines: list[RenderableType] = [head, Text(), table]
    for server in state.servers:
        if server.problem:
            lines.append(Text(f"{server.address} does not answer: {server.problem}.", style="bold red"))
    if state.unserved_slots:
        lines.append(Text(f"No master serves the slots {_slots(state.unserved_slots)}.", style="bold red"))
    return Group(*lines)


def _add_server(table: Table, state: Redis, server: Server) -> None:
    saves = Text(PERSISTENCE[server.persistence])
    if server.persistence_failed:
        saves = Text(f"{saves}, which fails", style="bold red")
    cells: list[RenderableType] = [Text(server.address)] if state.topology != "single" else []
    if state.topology == "cluster":
        cells.append(_slots(server.slots))
    if server.problem:
        table.add_row(*cells, style="red")
        return
    memory = size(server.memory_bytes or 0)
    if server.max_memory_bytes:
        memory += f" of {size(server.max_memory_bytes)}"
    table.add_row(*cells, f"{server.flavour} {server.version}", f"{server.round_trip_ms:.2f} ms", memory, saves)
    for replica in server.replicas:
        style = "dim" if replica.state == "online" else "yellow"
        state_text = "replica" if replica.state == "online" else f"replica, {replica.state}"
        if state.topology == "single":
            table.add_row(f"{state_text} {replica.address}", style=style)
        else:
            table.add_row(f"└ {replica.address}", state_text, style=style)


def _slots(ranges: list[tuple[int, int]]) -> str:
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


# Channels


def _channels(report: Overview) -> list[RenderableType]:
    if not report.channels:
        return [
            Text("No channel keeps a message.", style="bold"),
            Text("WSREDIS['HISTORY'], EXPIRE and publish(…, expire=…) say what is kept.", style="dim"),
        ]
    table = _table()
    table.add_column("Channel", overflow="fold", ratio=1)
    for column in ("Messages", "of", "Newest", "Oldest", "Gone in"):
        table.add_column(column, justify="right", no_wrap=True)
    for kept in report.channels:
        table.add_row(kept.channel, str(kept.messages), str(kept.of), *_ages(kept))
    more = report.channels_total - len(report.channels)
    lines: list[RenderableType] = [Text("Channels that keep messages", style="bold"), Text(), table]
    if more > 0:
        lines.append(Text(f" {more} more; --limit {report.channels_total} shows all.", style="dim"))
    return lines


def _ages(kept: Kept) -> tuple[str, str, str]:
    to_live = "never" if kept.seconds_to_live is None else duration(kept.seconds_to_live)
    return duration(kept.newest_age_seconds), duration(kept.oldest_age_seconds), to_live


# Messages


def _title(report: ChannelPage) -> Text:
    title = Text(report.channel, style="bold", overflow="fold")
    if report.kept is None:
        return title.append(" keeps no message.", style="not bold")
    _, oldest, to_live = _ages(report.kept)
    rest = f"  {report.kept.messages} of {report.kept.of} messages, the oldest {oldest} old, gone in {to_live}"
    return title.append(rest.removesuffix(", gone in never"), style="dim not bold")


def _messages(messages: list[ShownMessage]) -> Table:
    table = _table()
    table.add_column("Time", no_wrap=True)
    for column in ("Age", "Size"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("Message")  # the only one that gives way; its cells are cut by themselves
    for message in messages:
        local = datetime.fromisoformat(message.time).astimezone()
        table.add_row(
            f"{local:%Y-%m-%d %H:%M:%S}", duration(message.age_seconds), size(message.bytes), _payload(message)
        )
    return table


def _payload(message: ShownMessage) -> Text:
    if message.text is not None:
        return Text(printable(message.text[:MOST_CHARACTERS]), no_wrap=True, overflow="ellipsis")
    digits = (message.hex or "")[: 2 * MOST_CHARACTERS]
    shown = " ".join(digits[i : i + 2] for i in range(0, len(digits), 2))
    return Text(shown, style="magenta", no_wrap=True, overflow="ellipsis")


def _command(word: str, command: str) -> Text:
    return Text.assemble((f" {word}  ", "dim"), command, overflow="fold")


# Words


def printable(text: str) -> str:
    """Return a text in one line that does nothing to a terminal: what is not printable is escaped."""
    return "".join(c if c.isprintable() else "⏎" if c == "\n" else c.encode("unicode_escape").decode() for c in text)


def duration(seconds: float) -> str:
    """Return a duration in its largest unit: `3 s`, `12 min`, `5 h`, `2 d`."""
    for unit_seconds, unit in AGES:
        if seconds >= unit_seconds:
            return f"{seconds // unit_seconds:.0f} {unit}"
    return "0 s"


def size(count: int) -> str:
    """Return a number of bytes in its largest unit: `120 B`, `1.5 KiB`."""
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB"):
        amount /= 1024
        if amount < 1000:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} GiB"


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, header_style="bold cyan", pad_edge=False, padding=(0, 1), show_edge=False)
