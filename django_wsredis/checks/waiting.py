"""Waiting no longer than so long for what cannot be told to hurry."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, function: Callable[[], T]) -> T:
    """Return what a function returns that cannot be told to hurry; raise TimeoutError, and leave it to its thread."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(function())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="wscheck", daemon=True).start()
    return done.result(seconds)


def yielded_within(seconds: float, things: Iterable[T]) -> Iterator[T]:
    """Yield what comes, no None, within so many seconds altogether; raise TimeoutError in place of the rest."""
    until, iterator = time.monotonic() + seconds, iter(things)
    while (thing := within(max(until - time.monotonic(), 0), lambda: next(iterator, None))) is not None:
        yield thing
