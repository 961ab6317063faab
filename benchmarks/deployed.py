"""The layouts of tests/layouts.py, with the settings of a site in production and a database that knows alice."""

from __future__ import annotations

import re
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests import conftest, layouts  # which sets Django up

# isort: split
from django.contrib.auth.models import User
from django.core.management import call_command

from tests.servers import RedisServer, find_redis

from .rig import descendants

Start = Callable[[layouts.Layout], None]

FACILITY = "layoutbench"  # which the layouts' Redis lets them use
BROADCAST = f"wsredis:broadcast:{FACILITY}"
WSREDIS = {"PING_INTERVAL": 600, "DRAIN_SECONDS": 0}  # no round of pings falls into a measurement

RELOAD_FILE = re.compile(r"(?<=^touch-chain-reload = ).+", re.M)
VASSAL = re.compile(rb"\b(pages|websockets)\.ini")

# What ends one row of a table and no more: a program that is not installed, one that does not come up, and the rest.
FAILURES = (pytest.skip.Exception, pytest.fail.Exception, Exception)


class Deployed(layouts.Layout):
    """A layout as it is in production: without Python's development mode, and with a quiet log."""

    python = layouts.Layout.python[:1]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.reload_file = self.folder / "reload"
        self.reload_file.touch()
        self.configure()

    def configure(self) -> None:
        """Change the settings of the tests."""
        self.settings["WSREDIS"].update(WSREDIS)
        quiet = {"handlers": {"null": {"class": "logging.NullHandler"}}, "root": {"handlers": ["null"]}}
        self.settings["LOGGING"] = {"version": 1, **quiet}

    def emit(self, kind: str, *options: str) -> list[Path]:
        """Have a configuration written; the file that reloads uWSGI, the project's and so everybody's, is its own."""
        files = super().emit(kind, *options)
        for file in files:
            file.write_text(RELOAD_FILE.sub(str(self.reload_file), file.read_text()))
        return files

    @property
    def front(self) -> list[int]:
        """The processes between browsers and the site, as they are now: proxies, and uWSGI's routers."""
        return sorted(self._all() - set(self.site))

    @cached_property
    def site(self) -> list[int]:
        """The processes that run Django, with their masters."""
        pids = self.pids()
        # the Emperor routes; its vassals are the site
        vassals = [pid for pid in pids if VASSAL.search(Path(f"/proc/{pid}/cmdline").read_bytes())]
        return vassals or pids

    def _all(self) -> set[int]:
        roots = {process.pid for process in (*self.sites, *self.proxies)}
        return roots.union(*(descendants(pid) for pid in roots))


class Deployment:
    """Runs layouts one after another, with one Redis and one database."""

    def __init__(self, stack: ExitStack) -> None:
        call_command("migrate", verbosity=0)
        User.objects.get_or_create(username="alice")
        self.cookie = f"sessionid={conftest.login('alice')}"
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="wsr-"))
        self.redis_server = RedisServer(Path(folder), find_redis())
        stack.callback(self.redis_server.stop)
        self.redis = stack.enter_context(self.redis_server.client())
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    @contextmanager
    def running(self, start: Start, kind: type[Deployed] = Deployed) -> Iterator[Deployed]:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wsr-")))
            yield stack.enter_context(layouts.running(start, folder, self.redis_server, kind))


def chosen(things: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """Return those whose name has one of the words; all if there are none."""
    return {name: thing for name, thing in things.items() if not words or any(word in name for word in words)}
