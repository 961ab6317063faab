"""runwsserver's parent process: it holds the listening socket and keeps the workers that accept from it.

Knows no gevent and no Django, and imports nothing that a reload could not replace.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .systemd import Notifier
from .worker import Worker

YOUNG_SECONDS = 10.0  # a worker that dies before that has something wrong with it
BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 30.0

logger = logging.getLogger("django_wsredis.server")


class Supervisor:
    """Keeps `count` workers. `run()` returns the exit status.

    on_ready: called when all have become ready for the first time.
    """

    def __init__(
        self, listener: socket.socket, count: int, *, notifier: Notifier, on_ready: Callable[[], None]
    ) -> None:
        self._listener = listener
        self._count = count
        self._notifier = notifier
        self._on_ready = on_ready
        self._workers: list[Worker] = []
        self._generation = self._status = self._failures = 0
        self._start_at: float | None = None  # when missing workers are started, after failures
        self._has_served = self._is_announced = self._is_reloading = self._reload_is_wanted = self._is_stopping = False
        self._had_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Serve until a SIGINT or SIGTERM has come, and all workers have ended."""
        with self._selector, _signals_as_bytes() as signals:
            self._selector.register(signals, selectors.EVENT_READ)
            while not self._is_stopping or self._workers:
                self._fill()
                for key, _ in self._selector.select(self._seconds_to_wait()):
                    if key.fileobj is signals:
                        for number in signals.recv(4096):
                            self._on_signal(number)
                    else:
                        self._on_message(key.data)
                self._look_at_each()
        if self._has_served:
            logger.info("Stopped.")
        return self._status

    # What happens

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP and not (self._had_terminal and not _has_terminal()):
            self._reload_is_wanted = True
        elif number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last one: the terminal's window was closed
            if not self._is_stopping:
                self._stop()
            elif number != signal.SIGHUP:
                self._kill()

    def _on_message(self, worker: Worker) -> None:
        if not worker.hear():
            self._selector.unregister(worker.channel)  # it ends
            return
        self._has_served = True
        if not self._is_stopping and worker.generation == self._generation and (old := self._serving(old=True)):
            logger.info("Reload: worker %d takes the place of %d, which drains.", worker.pid, old[0].pid)
            old[0].end(signal.SIGHUP)

    def _look_at_each(self) -> None:
        now = time.monotonic()
        for worker in self._workers.copy():
            if worker.process.poll() is not None:
                self._on_end(worker, worker.process.returncode)
            elif worker.deadline is not None and worker.deadline < now:
                logger.warning("Worker %d took too long to %s.", worker.pid, "end" if worker.is_ending else "start")
                worker.deadline = None
                worker.process.kill()

    def _on_end(self, worker: Worker, status: int) -> None:
        self._workers.remove(worker)
        if worker.channel in self._selector.get_map():
            self._selector.unregister(worker.channel)
        worker.channel.close()
        if worker.is_ending or self._is_stopping:
            return
        if not self._has_served:
            self._status = status if status > 0 else 128 - status
            self._stop()
        elif not worker.is_ready and worker.generation == self._generation and self._serving(old=True):
            self._give_up_reload(worker, status)
        else:
            self._replace(worker, status)

    # What is done about it

    def _fill(self) -> None:
        """Start the workers that are missing, and new ones for a reload: one after the other."""
        if self._is_stopping:
            return
        if self._reload_is_wanted and self._is_announced and not self._is_reloading:
            self._begin_reload()
        old, new = self._serving(old=True), self._serving(old=False)
        are_ready = all(worker.is_ready for worker in new)
        if old:
            if are_ready:
                self._start(checks=not new)
        elif not self._has_served:
            if not new:  # the first one alone: what is wrong with the project is said once
                self._start(checks=True)
        elif len(new) < self._count:
            if self._start_at is None or self._start_at <= time.monotonic():
                self._start_at = None
                for _ in range(self._count - len(new)):
                    self._start(checks=False)
        elif are_ready:
            self._all_are_ready()

    def _start(self, *, checks: bool) -> None:
        self._workers.append(worker := Worker(self._listener, self._generation, checks=checks))
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)

    def _all_are_ready(self) -> None:
        pids = [worker.pid for worker in self._serving(old=False)]
        shown = ", ".join(map(str, pids))
        if not self._is_announced:
            self._is_announced = True
            logger.info("Started: worker %s.", shown)
            self._on_ready()
        elif self._is_reloading:
            self._is_reloading = False
            logger.info("Reloaded: worker %s.", shown)
        else:
            return
        self._notifier.ready(f"{self._count} serving")

    def _begin_reload(self) -> None:
        logger.info("Reload: %d to be replaced.", len(self._serving(old=False)))
        self._notifier.reloading()
        self._reload_is_wanted, self._is_reloading = False, True
        self._generation += 1
        self._failures, self._start_at = 0, None

    def _give_up_reload(self, worker: Worker, status: int) -> None:
        for other in self._workers:
            other.generation = self._generation
        self._is_reloading = False
        left = ", ".join(str(other.pid) for other in self._serving(old=False))
        logger.error("Reload given up: new worker %d %s before it was ready. %s stay.", worker.pid, how(status), left)
        self._notifier.ready("Reload given up: a new worker did not start; those before it serve on")

    def _replace(self, worker: Worker, status: int) -> None:
        lived = time.monotonic() - worker.started_at
        self._failures = self._failures + 1 if lived < YOUNG_SECONDS or not worker.is_ready else 1
        delay = min(BACKOFF_SECONDS * 2 ** (self._failures - 1), MAX_BACKOFF_SECONDS)
        self._start_at = time.monotonic() + delay
        logger.error("Worker %d %s; another one starts in %g s.", worker.pid, how(status), delay)

    def _stop(self) -> None:
        self._is_stopping = True
        if self._has_served:
            logger.info("Stopping: %d to drain.", len(self._workers))
        self._notifier.stopping()
        self._listener.close()
        for worker in self._workers:
            worker.end(signal.SIGTERM)

    def _kill(self) -> None:
        logger.warning("Told to stop again: %d killed.", len(self._workers))
        self._status = 1
        for worker in self._workers:
            worker.process.kill()

    # What there is

    def _serving(self, *, old: bool) -> list[Worker]:
        return [w for w in self._workers if not w.is_ending and (w.generation < self._generation) is old]

    def _seconds_to_wait(self) -> float | None:
        due = [worker.deadline for worker in self._workers if worker.deadline is not None]
        if self._start_at is not None and not self._is_stopping and not self._serving(old=True):
            due.append(self._start_at)
        return max(0.0, min(due) - time.monotonic()) if due else None


def how(status: int) -> str:
    """Return how a process ended."""
    return f"ended with status {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"


@contextmanager
def _signals_as_bytes() -> Iterator[socket.socket]:
    """Have the signals that we get written, one byte for each, to a socket."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    ours, pythons = socket.socketpair()
    with ours, pythons:
        for sock in (ours, pythons):
            sock.setblocking(False)
        fileno = signal.set_wakeup_fd(pythons.fileno())
        handlers = [signal.signal(number, lambda *_: None) for number in numbers]
        try:
            yield ours
        finally:
            for number, handler in zip(numbers, handlers, strict=True):
                signal.signal(number, handler)
            signal.set_wakeup_fd(fileno)


def _has_terminal() -> bool:
    """Tell whether there is a terminal that could send Ctrl-C; no more once its window is closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
