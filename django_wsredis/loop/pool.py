"""Native threads for the project's views; greenlets, where the project has gevent patch its process.

Those that live as long as a socket are counted, and no more than VIEW_THREADS. Calls wait in a queue for one of a few
threads, and each that lasts gets another thread beside it, up to as many again: so a view that sleeps delays nobody,
and many short calls do not fight for Python's lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from django.db import connections

from .reactor import Reactor

if TYPE_CHECKING:
    from ..views.handler import Task

QUICK_THREADS = 2  # that are free for calls, beside those whose calls last
TICK_SECONDS = 0.005  # a call of more than that lasts
IDLE_SECONDS = 5.0  # after which a thread ends

logger = logging.getLogger("django_wsredis.views")


class Thread:
    """One that does calls. busy_since: the call that it does began then, None while it waits for one."""

    __slots__ = ("busy_since",)

    def __init__(self) -> None:
        self.busy_since: float | None = None


class Pool:
    """All but what runs in its threads is for the loop's thread."""

    def __init__(self, reactor: Reactor, limit: int) -> None:
        self._reactor = reactor
        self._limit = limit
        self._own = 0  # threads that live as long as a socket, and reservations of such
        self._tasks: SimpleQueue[Task] = SimpleQueue()
        self._coming: list[Task] = []  # of this turn of the loop
        self._undone = 0  # calls that wait in the queue, or are being done
        self._threads: set[Thread] = set()
        self._is_ticking = False

    @property
    def is_idle(self) -> bool:
        """Whether no view runs."""
        return not (self._own or self._undone or self._coming)

    # Threads of their own

    def reserve(self) -> bool:
        """Reserve a thread, if there is one; either `start()` or `release()` has to follow."""
        if self._own >= self._limit:
            return False
        self._own += 1
        return True

    def release(self) -> None:
        """Give a reservation back."""
        self._own -= 1

    def start(self, function: Callable[[], object], on_failed: Callable[[str], object]) -> None:
        """Run a function in the thread that was reserved; on_failed(reason) if the system has none."""

        def fail(reason: str) -> None:
            self.release()
            on_failed(reason)

        self._reactor.start_thread(partial(self._run, function), fail)

    def _run(self, function: Callable[[], object]) -> None:
        try:
            function()
        finally:
            connections.close_all()
            self._reactor.run(self.release)

    # Calls

    def call(self, task: Task) -> None:
        """Let some thread do a task, soon."""
        if not self._coming:
            self._reactor.call_soon(self._hand_over)
        self._coming.append(task)

    def _hand_over(self) -> None:
        """Give the threads what came in one turn of the loop.

        One by one, each would wake a thread that takes Python's lock from us: that made an echo a fifth dearer.
        """
        coming, self._coming = self._coming, []
        self._undone += len(coming)
        for task in coming:
            self._tasks.put(task)
        if len(self._threads) < QUICK_THREADS and len(self._threads) < self._undone:
            self._start()
        if not self._is_ticking and self._undone > len(self._threads):
            self._is_ticking = True
            self._reactor.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        """See to it that there are threads for what waits, beside those whose calls last."""
        now = time.monotonic()
        since = [thread.busy_since for thread in self._threads]
        lasting = sum(began is not None and now - began > TICK_SECONDS for began in since)
        waiting = self._tasks.qsize()
        for _ in range(min(waiting, lasting + QUICK_THREADS - len(since), self._limit - len(since))):
            self._start()
        self._is_ticking = waiting > 0
        if self._is_ticking:
            self._reactor.call_later(TICK_SECONDS, self._tick)

    def _start(self) -> None:
        thread = Thread()
        self._threads.add(thread)
        self._reactor.start_thread(partial(self._work, thread), partial(self._on_no_thread, thread))

    def _on_no_thread(self, thread: Thread, reason: str) -> None:
        self._threads.discard(thread)
        if not self._threads:
            logger.error("The calls of websocket views wait, as the system gives no thread: %s", reason)
        if not self._is_ticking:
            self._is_ticking = True
            self._reactor.call_later(TICK_SECONDS, self._tick)

    def _work(self, thread: Thread) -> None:
        try:
            while True:
                task = self._tasks.get(timeout=IDLE_SECONDS)
                thread.busy_since = time.monotonic()
                try:
                    task.do()
                finally:
                    thread.busy_since = None
                    self._reactor.run(self._done, task)
        except Empty:
            pass
        finally:
            connections.close_all()
            self._reactor.run(self._ended, thread)

    def _done(self, task: Task) -> None:
        self._undone -= 1
        task.done()

    def _ended(self, thread: Thread) -> None:
        self._threads.discard(thread)
        if self._tasks.qsize() and not self._is_ticking:  # it came when the last one had just given up waiting
            self._is_ticking = True
            self._reactor.call_later(TICK_SECONDS, self._tick)
