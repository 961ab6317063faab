"""A TCP proxy that fails as networks do: it stops forwarding without a word, refuses, or cuts."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

READ_BYTES = 64 * 1024


class Pair:
    """A connection and its other half; what comes on one goes out on the other, unless it is frozen."""

    def __init__(self) -> None:
        self.is_thawed = asyncio.Event()
        self.is_thawed.set()
        self.writers: list[asyncio.StreamWriter] = []

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(READ_BYTES):
                await self.is_thawed.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        await self.is_thawed.wait()
        self.end()

    def end(self) -> None:
        for writer in self.writers:
            writer.close()

    def cut(self) -> None:
        """Reset both."""
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self.is_thawed.set()


class Proxy:
    """Listens on `port` and forwards to a port, or to a unix socket. It lives in a thread of its own."""

    def __init__(self, target: int | str) -> None:
        self._target = target
        self._pairs: set[Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.accept()

    def accept(self) -> None:
        """Listen, again on the same port if that was refused."""
        self._run(self._accept)

    def refuse(self) -> None:
        """Refuse new connections."""
        self._run(self._refuse)

    def freeze(self) -> None:
        """Forward nothing more on the connections that there are, without closing them; new ones are well."""
        self._run(self._freeze)

    def cut(self) -> None:
        """Reset all connections."""
        self._run(self._cut)

    def stop(self) -> None:
        self._run(self._refuse)
        self._run(self._cut)
        self._run(self._finish)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, function: Callable[[], Any]) -> None:
        future: Future[None] = asyncio.run_coroutine_threadsafe(function(), self._loop)
        future.result(20)

    async def _accept(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server:
            self._server.close()
            self._server = None

    async def _freeze(self) -> None:
        for pair in self._pairs:
            pair.is_thawed.clear()

    async def _cut(self) -> None:
        for pair in list(self._pairs):
            pair.cut()

    async def _finish(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if isinstance(self._target, int):
                other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._target)
            else:
                other_reader, other_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.close()
            return
        pair = Pair()
        pair.writers = [writer, other_writer]
        self._pairs.add(pair)
        await asyncio.gather(pair.forward(reader, other_writer), pair.forward(other_reader, writer))
        self._pairs.discard(pair)
