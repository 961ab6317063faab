"""wsinspect --tail: messages as they are delivered, until Ctrl-C."""

from __future__ import annotations

import json
from dataclasses import asdict

from django.core.management.base import OutputWrapper
from rich.console import Console

from django_wsredis.inspection.tail import Notice, Tail

from .display.delivered import DeliveredLines


def follow(what: str, *, as_json: bool, console: Console, stdout: OutputWrapper, stderr: OutputWrapper) -> None:
    """Write each message as a line, and what else is to be said on standard error. Raises BrokerUnavailable."""
    lines = DeliveredLines(is_cut=console.is_terminal)
    tail = Tail(what)
    try:
        for item in tail.follow():
            if item is None:
                stdout.flush()
            elif isinstance(item, Notice):
                stderr.write(str(item))
            elif as_json:
                stdout.write(json.dumps(asdict(item)))
            elif console.is_terminal:
                console.print(lines.line(item), no_wrap=True, overflow="ellipsis")
            else:
                stdout.write(lines.line(item).plain)
    finally:
        tail.stop()
