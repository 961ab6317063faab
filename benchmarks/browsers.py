"""Browsers on one asyncio loop: websockets that come back as with wsredis.js, and a steady flow of page requests."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import deque
from typing import NamedTuple

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.protocol import State
from websockets.uri import parse_uri

# wsredis.js' defaults, in seconds
CONNECT_TIMEOUT = 10
RETRY_BASE = 1
RETRY_CAP = 30
STABLE_AFTER = 10

AT_ONCE = 64  # handshakes under way, when the crowd comes
REQUEST_TIMEOUT = 30
SLOW_EVERY, SLOW_MILLISECONDS = 9, 200  # some requests are always under way; odd, so that both kinds are among them


class Close(NamedTuple):
    """The end of a websocket that was open."""

    at: float  # of time.monotonic()
    code: int | None  # None: without a close frame


class Crowd:
    """Browsers with one websocket each."""

    def __init__(self, uri: str, cookie: str, count: int) -> None:
        self.uri = parse_uri(uri)
        self.cookie = cookie
        self.count = count
        self.closes: list[Close] = []
        self.refusals: list[tuple[float, str]] = []  # of attempts that came to nothing
        self.open = 0
        self.opened_at = 0.0  # the last one
        self.comes_back = True
        self.tasks: set[asyncio.Task[None]] = set()
        self._browsers = [Browser(self) for _ in range(count)]

    async def come(self) -> None:
        """Open all."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def enter(browser: Browser) -> None:
            async with slots:
                await browser.connect()
                await browser.is_settled.wait()

        await asyncio.gather(*map(enter, self._browsers))
        if self.open < len(self._browsers):
            raise RuntimeError(f"{self.open} of {len(self._browsers)} sockets opened: {self.refusals[:3]}")

    def leave(self) -> None:
        self.comes_back = False
        for browser in self._browsers:
            browser.leave()


class Browser:
    """One websocket after another."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._transport: asyncio.BaseTransport | None = None
        self._attempt = 0
        self._opened_at: float | None = None  # None: not open
        self.is_settled = asyncio.Event()  # opened, or refused

    async def connect(self) -> None:
        uri = self._crowd.uri
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                self._transport, _ = await loop.create_connection(lambda: Wire(self, self._crowd), uri.host, uri.port)
        except OSError as error:  # TimeoutError is one
            self.lost(None, type(error).__name__)

    def opened(self) -> None:
        self._opened_at = self._crowd.opened_at = time.monotonic()
        self._crowd.open += 1
        self.is_settled.set()

    def lost(self, code: int | None, refusal: str) -> None:
        """Count a close, or else a refusal; try again after a while, with full jitter."""
        now = time.monotonic()
        if self._opened_at is not None:
            self._crowd.open -= 1
            self._crowd.closes.append(Close(now, code))
            if now - self._opened_at > STABLE_AFTER:
                self._attempt = 0
            self._opened_at = None
        else:
            self._crowd.refusals.append((now, refusal))
        self.is_settled.set()
        if self._crowd.comes_back:
            asyncio.get_running_loop().call_later(
                random.random() * min(RETRY_CAP, RETRY_BASE * 2**self._attempt), self._retry
            )
            self._attempt += 1

    def leave(self) -> None:
        if self._transport:
            self._transport.close()

    def _retry(self) -> None:
        if self._crowd.comes_back:
            task = asyncio.create_task(self.connect())
            self._crowd.tasks.add(task)
            task.add_done_callback(self._crowd.tasks.discard)


class Wire(asyncio.Protocol):
    """The bytes of one websocket."""

    def __init__(self, browser: Browser, crowd: Crowd) -> None:
        self._browser = browser
        self._cookie = crowd.cookie
        self._protocol = ClientProtocol(crowd.uri)
        self._was_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        request = self._protocol.connect()
        request.headers["Cookie"] = self._cookie
        self._protocol.send_request(request)
        self._flush()
        self._timer = asyncio.get_running_loop().call_later(CONNECT_TIMEOUT, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._flush()
        self._protocol.events_received()
        if not self._was_open and self._protocol.state is not State.CONNECTING:
            self._was_open = True
            self._timer.cancel()
            self._browser.opened()

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()
        close, refusal = self._protocol.close_rcvd, self._protocol.handshake_exc
        status = refusal.response.status_code if isinstance(refusal, InvalidStatus) else None
        self._browser.lost(close.code if close else None, str(status or type(error or refusal).__name__))

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()


class Request(NamedTuple):
    """A page that was asked for once."""

    began_at: float
    seconds: float
    is_new: bool  # whether on a connection of its own
    problem: str  # "" if it was answered


class Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Flow:
    """Asks for pages at a steady rate, whether answers come or not; half of them on connections that are kept."""

    def __init__(self, port: int, per_second: float) -> None:
        self._port = port
        self._interval = 1 / per_second
        self._idle: deque[Connection] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[Request] = []

    async def run(self) -> None:
        """Ask until cancelled."""
        began_at = time.monotonic()
        for number in itertools.count():
            await asyncio.sleep(began_at + number * self._interval - time.monotonic())
            path = f"/slow/{SLOW_MILLISECONDS}/" if number % SLOW_EVERY == 0 else "/"
            task = asyncio.create_task(self._ask(path, is_new=number % 2 == 0))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait for the answers."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        for connection in self._idle:
            connection.writer.close()

    async def _ask(self, path: str, *, is_new: bool) -> None:
        began_at = time.monotonic()
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                problem = await self._exchange(path, is_new=is_new)
        except TimeoutError:
            problem = "no answer in time"
        self.requests.append(Request(began_at, time.monotonic() - began_at, is_new, problem))

    async def _exchange(self, path: str, *, is_new: bool) -> str:
        """Return what went wrong."""
        try:
            connection = None if is_new else self._find_idle()
            is_reused = connection is not None
            connection = connection or Connection(*await asyncio.open_connection("127.0.0.1", self._port))
        except OSError as error:
            return f"connecting: {type(error).__name__}"
        close = "Connection: close\r\n" if is_new else ""
        head = b""
        try:
            connection.writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n{close}\r\n".encode())
            head = await connection.reader.readuntil(b"\r\n\r\n")
            length = header(head, b"content-length")
            if length is None:
                body = await connection.reader.read()
            else:
                body = await connection.reader.readexactly(int(length))
        except (OSError, asyncio.IncompleteReadError) as error:
            connection.writer.close()
            where = f"{'after' if head else 'before'} the head, {'reused' if is_reused else 'fresh'}"
            return f"{where}: {type(error).__name__}"
        keeps = not is_new and length is not None and (header(head, b"connection") or b"").lower() != b"close"
        if keeps and head.startswith(b"HTTP/1.1"):
            self._idle.append(connection)
        else:
            connection.writer.close()
        status = head.split(b" ", 2)[1].decode()
        if status != "200":
            return f"status {status}"
        return "" if body == (b"slow" if "slow" in path else b"hello") else f"body {body[:40]!r}"

    def _find_idle(self) -> Connection | None:
        """Return a connection that the server has not closed, the one that was idle longest."""
        while self._idle:
            connection = self._idle.popleft()
            if not connection.reader.at_eof() and not connection.reader.exception():
                return connection
            connection.writer.close()
        return None


def header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return None
