"""The overview: Redis, its workers, its channels, one below the other."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from django_wsredis.inspection.reports import Overview
from django_wsredis.management.orders import CHANNELS, Order

from .channels import channel_lines
from .redis import redis_lines
from .words import number
from .workers import error_lines, worker_lines

FRAME_ERRORS = 2  # that a frame of few lines has room for


def head(report: Overview, narrowed: str, width: int) -> list[RenderableType]:
    """Return Redis, and what is wrong."""
    lines = redis_lines(report.redis, width)
    lines += [Text(problem, style="bold red") for problem in report.problems]
    if narrowed:
        lines += [Text(), Text(f"Only {narrowed}", style="magenta")]
    return lines


def overview(report: Overview, narrowed: str, order: Order, limit: int, width: int) -> list[RenderableType]:
    """Return everything, with so many channels."""
    parts = head(report, narrowed, width)
    if report.workers:
        parts += [Text(), *worker_lines(report.workers, width, order)]
    if errors := error_lines(report.workers):
        parts += [Text(), *errors]
    total = max(report.live_channels, report.kept_channels)
    if not report.channels:
        return [*parts, Text(), *_no_channel(report, narrowed)]
    channels = order.of(report.channels, CHANNELS)[:limit]
    parts += [Text(), *channel_lines(channels, width, order)]
    if total > len(channels):
        parts.append(Text(f" {number(total - len(channels))} more; --limit {total} shows all.", style="dim"))
    return parts


def body(report: Overview, order: Order, limit: int, width: int, height: int) -> list[RenderableType]:
    """Return what stands below the head, in so many lines: workers have at most about half of them."""
    errors = error_lines(report.workers, FRAME_ERRORS)
    taken = 1 + 2 + (len(report.workers) > 1) + len(errors) + 1 + 2  # what is neither a worker nor a channel
    rows = min(len(report.workers), max(1, (height - taken) // 2))
    taken += rows + (rows < len(report.workers))
    parts = [Text(), *worker_lines(report.workers, width, order, rows), *errors, Text()] if report.workers else [Text()]
    if not report.channels:
        return [*parts, *_no_channel(report)]
    return [*parts, *channel_lines(report.channels, width, order, min(limit, max(1, height - taken)))]


def _no_channel(report: Overview, narrowed: str = "") -> list[Text]:
    if narrowed:
        return [Text("Nobody of these listens, and no such channel keeps a message.", style="bold")]
    nothing = (
        "No channel keeps a message." if report.workers_problem else "Nobody listens, and no channel keeps a message."
    )
    return [
        Text(nothing, style="bold"),
        Text("WSREDIS['HISTORY'], EXPIRE and publish(…, expire=…) say what is kept.", style="dim"),
    ]
