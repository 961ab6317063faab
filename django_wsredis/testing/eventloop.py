"""The thread that reads and writes the sockets of all test clients of this process; it is there while there are any.

One thread for both, as a connection of OpenSSL must not be used from two (openssl/openssl#20446), as the threaded
client of `websockets` does; and any number of clients costs no more threads.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class EventLoop:
    """asyncio's event loop in a daemon thread, which runs as long as somebody has entered and not left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients = 0
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None

    def enter(self) -> None:
        """Start the thread, for the first client."""
        with self._lock:
            if self._pid != os.getpid():  # a fork has no thread of its own yet
                self._pid, self._clients = os.getpid(), 0
            if self._clients == 0:
                started: Future[None] = Future()
                self._thread = threading.Thread(
                    target=asyncio.run, args=(self._main(started),), name="wsredis-clients", daemon=True
                )
                self._thread.start()
                started.result()
            self._clients += 1

    def leave(self) -> None:
        """End the thread, after the last client."""
        with self._lock:
            self._clients -= 1
            if self._clients == 0 and self._loop and self._over and self._thread:
                self._loop.call_soon_threadsafe(self._over.set)
                self._thread.join()

    def run(self, step: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine there, and wait for its result."""
        if self._loop is None:
            raise AssertionError("to be called between enter() and leave()")
        return asyncio.run_coroutine_threadsafe(step, self._loop).result()

    async def _main(self, started: Future[None]) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        started.set_result(None)
        await self._over.wait()


EVENT_LOOP = EventLoop()
