"""A websocket whose methods wait for an answer, in the caller's own thread.

The package's threaded client reads in one thread what another one writes, and a connection of OpenSSL must not be used
so (openssl/openssl#20446): over TLS 1.3, whose tickets arrive after the handshake, a request sometimes was never sent
(python/cpython#77271). So an asyncio loop reads and writes it here, as long as one of the methods waits.
"""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection, connect


class Websocket:
    """An open websocket. While no method of a socket of the runner waits, no ping is answered."""

    def __init__(self, runner: asyncio.Runner, uri: str, **options: Any) -> None:
        """Open it. options: those of `websockets.asyncio.client.connect()`, whose errors are raised."""

        async def opening() -> ClientConnection:
            return await connect(uri, **options)

        self._runner = runner
        self._connection = runner.run(opening())

    @property
    def server(self) -> str | None:
        """The header Server of the answer."""
        response = self._connection.response
        return response.headers.get("Server") if response else None

    @property
    def extensions(self) -> list[str]:
        """The names of those agreed on."""
        return [extension.name for extension in self._connection.protocol.extensions]

    def receive(self, seconds: float) -> str | bytes:
        """Return the next message. Raises TimeoutError and ConnectionClosed."""

        async def receiving() -> str | bytes:
            async with asyncio.timeout(seconds):
                return await self._connection.recv()

        return self._runner.run(receiving())

    def ping(self, seconds: float) -> bool:
        """Tell whether a ping is answered. Raises ConnectionClosed."""

        async def pinging() -> bool:
            try:
                async with asyncio.timeout(seconds):
                    await (await self._connection.ping())
            except TimeoutError:
                return False
            return True

        return self._runner.run(pinging())

    def close(self, code: int = 1000, reason: str = "") -> int | None:
        """Close it, and return the code that came back; 1006 for none."""
        self._runner.run(self._connection.close(code, reason))
        return self._connection.close_code
