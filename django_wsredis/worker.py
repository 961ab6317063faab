"""A worker of runwsserver and its parent, as each sees the other: two ends of a channel.

A worker is a fresh interpreter with the same command line, so that a reload runs new code.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "WSREDIS_WORKER"  # in a worker's environment: the descriptors of listener and channel, and whether it checks

START_SECONDS = 120.0  # until a worker must be ready
GRACE_SECONDS = 5.0  # after its drain, until a worker must have ended


class Parent:
    """The supervisor, as its worker sees it; `listener` is what to accept from.

    checks: whether this worker looks for mistakes in the project, for those that come after it, too.
    """

    def __init__(self, listener: socket.socket, channel: socket.socket, checks: bool) -> None:
        self.listener = listener
        self.checks = checks
        self._channel = channel

    def ready(self, drain_seconds: float) -> None:
        """Say that we accept, and how long we shall drain."""
        try:
            self._channel.send(f"{drain_seconds}\n".encode())
        except OSError:  # it is dead, as the end of `fileno()` tells
            pass

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the parent is dead."""
        return self._channel.fileno()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def find_parent() -> Parent | None:
    """Return the supervisor whose worker this process is, None if it has none. For the main thread, once."""
    given = os.environ.pop(VARIABLE, None)
    if given is None:
        return None
    listener, channel, checks = map(int, given.split(","))
    for fileno in (listener, channel):
        os.set_inheritable(fileno, False)
    # Ctrl-C in a terminal reaches us too, but it is for the parent, who tells us what to do
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    parent = Parent(socket.socket(fileno=listener), socket.socket(fileno=channel), bool(checks))
    parent.listener.setblocking(False)
    return parent


class Worker:
    """A worker, as the supervisor sees it.

    generation: how many reloads came before it.
    deadline: when it is killed, unless it is ready, or has ended, before.
    """

    def __init__(self, listener: socket.socket, generation: int, *, checks: bool) -> None:
        self.generation = generation
        self.is_ready = self.is_ending = False
        self.drain_seconds = 0.0
        self.started_at = time.monotonic()
        self.deadline: float | None = self.started_at + START_SECONDS
        self.channel, theirs = socket.socketpair()
        given = f"{listener.fileno()},{theirs.fileno()},{int(checks)}"
        with theirs, _sigint_blocked():
            self.process = subprocess.Popen(
                [sys.executable, *sys.orig_argv[1:]],
                env={**os.environ, VARIABLE: given},
                pass_fds=(listener.fileno(), theirs.fileno()),
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self, number: int) -> None:
        """Tell it to drain: SIGTERM before a stop, SIGHUP where another takes its place."""
        self.is_ending = True
        self.deadline = time.monotonic() + self.drain_seconds + GRACE_SECONDS
        self.process.send_signal(number)

    def hear(self) -> bool:
        """Read from the channel; return whether it has become ready."""
        text = self.channel.recv(64)
        if text:
            self.drain_seconds = float(text)
            self.is_ready, self.deadline = True, None
        return bool(text)


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Have a child begin with SIGINT blocked; `find_parent()` unblocks it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
