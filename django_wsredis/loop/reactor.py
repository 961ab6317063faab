"""The event loop as the parts of a worker see it: time, watchers of sockets, timers, calls for later, and threads."""

from __future__ import annotations

import _thread
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..conf import Settings

READ, WRITE = 1, 2  # gevent's masks for watchers of sockets


class Reactor:
    """One gevent hub, with the settings of those who live on it. Only `run` may be called from other threads."""

    def __init__(self, hub: Any, settings: Settings) -> None:
        self._loop = hub.loop
        self.settings = settings
        # what is counted of all sockets
        self.dropped = 0  # messages that slow ones missed, as WSREDIS["SLOW"] allows
        self.closes = Counter[int]()  # by close code (RFC 6455, 7.1.5)

    def now(self) -> float:
        """Return the time in seconds, of a monotonic clock."""
        return time.monotonic()

    def io(self, fileno: int, events: int) -> Any:
        """Return a watcher of a descriptor, for READ or WRITE."""
        return self._loop.io(fileno, events)

    def timer(self, seconds: float, repeat: float = 0.0) -> Any:
        """Return a timer."""
        return self._loop.timer(seconds, repeat)

    def run(self, function: Callable[..., object], *arguments: object) -> None:
        """From any thread: call a function in the loop's thread, soon."""
        self._loop.run_callback_threadsafe(function, *arguments)

    def start_thread(self, function: Callable[[], object], on_failed: Callable[[str], object]) -> None:
        """Call a function, which may block, in a native thread of its own.

        on_failed(reason): called soon where there is no room for a thread; there may be later.
        """
        # not threading.Thread: where the host has patched it, its start() waits, which no callback of the loop may do
        try:
            _thread.start_new_thread(function, ())
        except RuntimeError as error:  # a limit of threads
            self.call_soon(on_failed, str(error))

    def call_soon(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function when the present callback has ended."""
        self._loop.run_callback(function, *arguments)

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        """Call a function once, later."""
        timer = self.timer(seconds)

        def fire() -> None:
            timer.close()
            function()

        timer.start(fire)
