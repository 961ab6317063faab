"""wsinspect --disconnect: say what would be closed, ask, and close it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict

from django.core.management.base import CommandError

from django_wsredis import live
from django_wsredis.asking import ask
from django_wsredis.control import Filter, Request
from django_wsredis.wording import of_them


def disconnect(
    which: Filter, *, code: int, reason: str, is_sure: bool, as_json: bool, say: Callable[[str], object]
) -> live.Count:
    """Close the sockets that are meant, and say how many. Raises BrokerUnavailable."""
    if not is_sure:
        if not sys.stdin.isatty():
            raise CommandError("Standard input is no terminal, so nobody can be asked: --yes closes without asking.")
        there = live.counted(ask(Request(verb="count", which=which)))
        if not there.sockets:
            say(json.dumps(asdict(there)) if as_json else "There is no such socket.")
            return there
        if not is_agreed(f"Close {counted(there)} with {code}? [y/N] "):
            raise CommandError("Nothing was closed.")
    closed = live.counted(ask(Request(verb="close", which=which, code=code, reason=reason)))
    if as_json:
        say(json.dumps(asdict(closed)))
    elif not closed.sockets:
        say("There is no such socket.")
    else:
        say(f"Closed {counted(closed)} in {closed.seconds * 1000:.0f} ms.")
    return closed


def counted(count: live.Count) -> str:
    """Return a count in words."""
    return f"{of_them(count.sockets, 'socket')} of {of_them(count.users, 'user')} on {of_them(count.workers, 'worker')}"


def is_agreed(question: str) -> bool:
    """Ask on standard error, so that standard output has the answer alone."""
    print(question, end="", file=sys.stderr, flush=True)  # noqa: T201
    return sys.stdin.readline().strip().lower() in ("y", "yes")
