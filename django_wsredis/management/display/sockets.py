"""Live sockets: two lines each, so that 80 columns are enough."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from django_wsredis.inspection.overview import shown_worker
from django_wsredis.inspection.reports import SocketList
from django_wsredis.live import Socket
from django_wsredis.management.orders import Order
from django_wsredis.wording import of_them

from .tables import add_number, add_text, cut, table
from .words import duration, milliseconds, number, printable, size, worker_name

COLUMNS = {"age": "Age", "rtt": "RTT", "outbox": "Outbox", "in": "In", "out": "Out"}


def socket_lines(report: SocketList, width: int, order: Order, rows: int | None = None) -> list[RenderableType]:
    """Return the sockets that come first, and how many there are."""
    if not report.sockets:
        return [Text("No socket.", style="bold")]
    found = table(width)
    add_text(found, "User, address")
    add_text(found, "Facility, channels", ratio=1)
    for word, header in COLUMNS.items():
        add_number(found, header, is_sorted=order.word == word)
    add_text(found, "Worker")
    shown = report.sockets[:rows]
    for socket in shown:
        found.add_row(
            _lines(socket.user or "–", socket.address),
            _lines(" ".join(socket.facilities), " ".join(_short(socket))),
            duration(socket.age_seconds),
            milliseconds(socket.round_trip_ms),
            size(socket.outbox_bytes),
            number(socket.received),
            number(socket.sent),
            cut(worker_name(shown_worker(socket.worker), width)),
        )
    total = of_them(report.total, "socket")
    if report.total == len(shown):
        return [found, Text(f" {total}", style="dim")]
    return [found, Text(f" {number(len(shown))} of {total}", style="dim")]


def _lines(first: str, second: str) -> Text:
    return Text.assemble(printable(first), "\n", (printable(second), "dim"), no_wrap=True, overflow="ellipsis")


def _short(socket: Socket) -> list[str]:
    """Return the channels, without the facility where it is the only one."""
    if len(socket.facilities) != 1:
        return socket.channels
    return [channel.rpartition(":")[0] for channel in socket.channels]
