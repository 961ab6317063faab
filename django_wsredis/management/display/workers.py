"""The workers: how each of them does, and its last error."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from django_wsredis.management.orders import WORKERS, Order
from django_wsredis.wording import of_them
from django_wsredis.workers import WorkerState

from .tables import add_number, add_text, cut, table
from .words import duration, milliseconds, number, printable, rate, size, worker_name

COLUMNS = {
    "sockets": "Sockets", "in": "In/s", "out": "Out/s", "outbox": "Outbox", "lag": "Lag p99", "memory": "Memory",
    "uptime": "Up",
}  # fmt: skip
ADDRESS_WIDTH = 100  # of a terminal, from which there is room for it
MOST_ERRORS = 5
LATE_MS = 100.0  # a loop that is so late lets its sockets wait


def worker_lines(
    workers: Sequence[WorkerState], width: int, order: Order, rows: int | None = None
) -> list[RenderableType]:
    """Return the workers, at most so many, and what they have together."""
    shown = order.of(workers, WORKERS)[:rows]
    found = _table(width, order)
    has_address = width >= ADDRESS_WIDTH
    for worker in shown:
        _add_worker(found, worker, width)
    if len(workers) > 1:
        _add_sum(found, workers, has_address)
    lines: list[RenderableType] = [found]
    if len(workers) > len(shown):
        lines.append(Text(f" {number(len(workers) - len(shown))} more", style="dim"))
    return lines


def error_lines(workers: Sequence[WorkerState], rows: int = MOST_ERRORS) -> list[Text]:
    """Return the last errors of workers: the newest."""
    failed = [worker for worker in workers if worker.last_error is not None]
    failed.sort(key=lambda worker: worker.last_error_age_seconds or 0.0)
    lines = [
        Text.assemble(
            (f"{worker.host}:{worker.pid}", "bold"),
            (f"  {duration(worker.last_error_age_seconds)} ago  ", "dim"),
            (printable(worker.last_error or ""), "yellow"),
            no_wrap=True,
            overflow="ellipsis",
        )
        for worker in failed[:rows]
    ]
    if len(failed) > rows > 0:
        lines.append(Text(f" {of_them(len(failed) - rows, 'more error')}", style="dim"))
    return lines


def _table(width: int, order: Order) -> Table:
    found = table(width)
    add_text(found, "Worker", is_sorted=order.word == "name")
    add_text(found, "Server", ratio=1)
    if width >= ADDRESS_WIDTH:
        add_text(found, "Address", ratio=1)
    for word, header in COLUMNS.items():
        add_number(found, header, is_sorted=order.word == word)
    return found


def _add_worker(to: Table, worker: WorkerState, width: int) -> None:
    style = "red" if worker.sockets is None else "yellow" if worker.is_draining else ""
    name = worker_name(f"{worker.host}:{worker.pid}", width)
    texts = [name, _server(worker), worker.address] if width >= ADDRESS_WIDTH else [name, _server(worker)]
    lag = Text(milliseconds(worker.lag_p99_ms), style="bold red" if (worker.lag_p99_ms or 0) >= LATE_MS else "")
    to.add_row(
        *map(cut, texts),
        _sockets(worker),
        rate(worker.received_per_second),
        rate(worker.delivered_per_second),
        size(worker.outbox_bytes),
        lag,
        size(worker.memory_bytes),
        duration(worker.uptime_seconds),
        style=style,
    )


def _server(worker: WorkerState) -> str:
    if worker.sockets is None:
        return "does not answer"
    return f"ends: {worker.server}" if worker.is_draining else worker.server


def _sockets(worker: WorkerState) -> str:
    if worker.sockets_meant == worker.sockets:
        return number(worker.sockets)
    return f"{number(worker.sockets_meant)} of {number(worker.sockets)}"


def _add_sum(to: Table, workers: Sequence[WorkerState], has_address: bool) -> None:
    meant = sum(worker.sockets_meant or 0 for worker in workers)
    all_of_them = sum(worker.sockets or 0 for worker in workers)
    to.add_row(
        of_them(len(workers), "worker"),
        *[""] * (1 + has_address),
        number(meant) if meant == all_of_them else f"{number(meant)} of {number(all_of_them)}",
        rate(sum(worker.received_per_second or 0 for worker in workers)),
        rate(sum(worker.delivered_per_second or 0 for worker in workers)),
        size(sum(worker.outbox_bytes or 0 for worker in workers)),
        "",
        size(sum(worker.memory_bytes or 0 for worker in workers)),
        style="bold",
    )
