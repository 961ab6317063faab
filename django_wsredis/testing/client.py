"""A websocket as a browser has one, for tests: real frames over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self, TypedDict
from urllib.parse import urlsplit

from django.core.serializers.json import DjangoJSONEncoder
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from . import logged
from .eventloop import EVENT_LOOP

if TYPE_CHECKING:
    import ssl

    from django.test import Client

SECONDS = 10.0  # for a handshake, a message and a close

SAME_SITE = ""


class HandshakeRefused(Exception):
    """Raised where a handshake is answered with another status than 101.

    status: the answer's. logged: what was logged of it meanwhile, where the server runs in this process.
    """

    def __init__(self, url: str, status: int, logged: str = "") -> None:
        super().__init__(url, status, logged)  # as it was called: test processes pickle it
        self.url = url
        self.status = status
        self.logged = logged

    def __str__(self) -> str:
        names = {status.value: status.phrase for status in HTTPStatus}
        answer = f"{self.status} {names.get(self.status, '')}".rstrip()
        return f"{self.url} was answered with {answer}: {self.logged or 'the log of the server says why'}"


class SocketClosed(Exception):
    """Raised by whoever waits for a message, or sends one, when the socket is closed.

    code: RFC 6455, 7.4; 1005 for a close without one, 1006 where the connection just ended.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"the socket is closed with {self.code}" + (f": {self.reason}" if self.reason else "")


class ClientOptions(TypedDict, total=False):
    """For type checkers: those of `WebSocketClient`."""

    client: Client | None
    subprotocols: Iterable[str]
    headers: Mapping[str, str] | None
    origin: str | None
    timeout: float
    tls: ssl.SSLContext | None


class WebSocketClient:
    """An open websocket. It reads, and answers pings, also while nobody waits for a message.

    url_or_path: a ws:// or wss:// URL; or a path of the live server that runs in this process: one that begins with a
        slash is the whole path, any other follows `WEBSOCKET_URL`.
    client: Django's test client, whose cookies it sends: who is logged in there is so here.
    subprotocols: to offer, best first. headers: further ones of the handshake.
    origin: the header Origin; by default that of a page of the same site, None for no header, as of a program.
    timeout: seconds for the handshake, for each message and for the close.
    tls: with wss, what to trust, if not what this machine does.

    Raises HandshakeRefused; OSError, of which TimeoutError is one, where there is no sound answer.
    """

    def __init__(
        self,
        url_or_path: str,
        *,
        client: Client | None = None,
        subprotocols: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
        origin: str | None = SAME_SITE,
        timeout: float = SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.url = _url(url_or_path)
        self.timeout = timeout
        options: dict[str, Any] = {
            "additional_headers": {**_cookie(client), **(headers or {})},
            "origin": _own_origin(self.url) if origin == SAME_SITE else origin,
            "subprotocols": list(subprotocols) or None,
            "open_timeout": timeout,
            "close_timeout": timeout,
            "ping_interval": None,  # browsers send none
            "proxy": None,
            "max_size": None,
            "max_queue": None,  # messages that nobody receives must not keep pings waiting
        }
        if tls is not None:
            options["ssl"] = tls
        EVENT_LOOP.enter()
        self._is_left = False
        try:
            with logged.meanwhile() as lines:
                self._connection: ClientConnection = EVENT_LOOP.run(_open(self.url, options))
        except BaseException as error:
            self._leave()
            if isinstance(error, InvalidStatus):
                said = logged.about(lines, urlsplit(self.url).path)
                raise HandshakeRefused(self.url, error.response.status_code, said) from None
            if isinstance(error, WebSocketException):
                raise ConnectionError(f"{self.url} gave no sound answer: {error}") from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def subprotocol(self) -> str | None:
        """The one that was agreed on."""
        return self._connection.subprotocol

    @property
    def close_code(self) -> int | None:
        """The code with which the socket was closed, None while it is open; `SocketClosed` says more of it."""
        return self._connection.close_code

    def send(self, message: str | bytes) -> None:
        """Send a text, or binary data. Raises SocketClosed."""
        self._run(self._connection.send(message), self.timeout)

    def send_json(self, value: Any) -> None:
        """Send a value as JSON, as `publish()` would; of a text, too."""
        self.send(json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False))

    def receive(self, timeout: float | None = None) -> str | bytes:
        """Return the next message: str for a text, bytes for binary data.

        timeout: seconds, if not those of the client. Raises TimeoutError and SocketClosed.
        """
        seconds = self.timeout if timeout is None else timeout
        try:
            message: str | bytes = self._run(self._connection.recv(), seconds)
        except TimeoutError:
            raise TimeoutError(f"nothing came from {self.url} within {seconds:g} s") from None
        return message

    def receive_json(self, timeout: float | None = None) -> Any:
        """Return what the next message holds as JSON. As `receive()`; raises ValueError for what is no JSON."""
        message = self.receive(timeout)
        try:
            return json.loads(message)
        except ValueError:
            raise ValueError(f"{message!r} is no JSON") from None

    def receive_nothing(self, seconds: float) -> None:
        """Wait so long, and raise AssertionError if a message comes, SocketClosed at the socket's end."""
        try:
            message = self.receive(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"{message!r} came from {self.url}, where nothing should")

    def receive_close(self, timeout: float | None = None) -> int:
        """Wait for the other side's close, and return its code. Raises AssertionError if a message comes instead."""
        try:
            message = self.receive(timeout)
        except SocketClosed as closed:
            return closed.code
        raise AssertionError(f"{message!r} came from {self.url}, where its close should")

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket, and wait for the answer. May be called again."""
        if not self._is_left:
            try:
                EVENT_LOOP.run(self._connection.close(code, reason))
            finally:
                self._leave()

    def _run(self, step: Any, seconds: float) -> Any:
        if self._is_left:
            step.close()
            raise SocketClosed(self.close_code or 1006, self._connection.close_reason or "")

        async def in_time() -> Any:
            async with asyncio.timeout(seconds):
                return await step

        try:
            return EVENT_LOOP.run(in_time())
        except ConnectionClosed:
            raise SocketClosed(self.close_code or 1006, self._connection.close_reason or "") from None

    def _leave(self) -> None:
        self._is_left = True
        EVENT_LOOP.leave()


class _Connect(connect):
    """A redirection is an answer, which no browser follows (WHATWG WebSockets, 2.2, "redirect mode" is "error")."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def _open(url: str, options: dict[str, Any]) -> ClientConnection:
    return await _Connect(url, **options)


def _url(url_or_path: str) -> str:
    if url_or_path.startswith(("ws://", "wss://")):
        return url_or_path
    from .server import LiveServer

    return LiveServer.current().websocket_url(url_or_path)


def _cookie(client: Client | None) -> dict[str, str]:
    # as the test client itself writes it
    cookies = [] if client is None else client.cookies.values()
    text = "; ".join(sorted(f"{morsel.key}={morsel.coded_value}" for morsel in cookies))
    return {"Cookie": text} if text else {}


def _own_origin(url: str) -> str:
    """Return the origin of a page of the site (RFC 6454, 6.2)."""
    parts = urlsplit(url)
    return f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc.rpartition('@')[2]}"
