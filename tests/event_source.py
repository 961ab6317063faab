"""A client of event streams (WHATWG HTML, 9.2.6) that sees what browsers hide from pages; and what a page posts."""

from __future__ import annotations

import http.client
import json
import ssl
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

TOKEN = "tokentokentokentokentokentoken32"  # as Django's cookie and header may have it: 32 letters


class Event(NamedTuple):
    """An event; `id` is the last that came, as the browser would name it."""

    data: str
    type: str = "message"
    id: str = ""

    @property
    def bytes(self) -> bytes:
        return b64decode(self.data, validate=True)


class EventSource:
    """One stream: the request is sent at once, `status` and `headers` (in lower case) are the answer's."""

    def __init__(
        self,
        port: int,
        path: str = "news?subscribe-broadcast",
        headers: Mapping[str, str] | None = None,
        *,
        cookie: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._http = connection(port, tls)
        given = {"Accept": "text/event-stream", "Cache-Control": "no-cache", **(headers or {})}
        if cookie:
            given["Cookie"] = f"sessionid={cookie}"
        self._http.request("GET", f"/ws/{path}", headers=given)
        self._socket = self._http.sock
        self._response = self._http.getresponse()
        self.status = self._response.status
        self.headers = {name.lower(): value for name, value in self._response.getheaders()}
        self.comments = 0
        self.retry: int | None = None
        self.last_id = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()
        self._http.close()

    @property
    def key(self) -> str:
        """Take the first event, which has the stream's key."""
        event = self.event()
        assert event is not None
        assert event.type == "hello"
        return str(json.loads(event.data)["stream"])

    def line(self, seconds: float = 15) -> bytes | None:
        """Return the next line, None at the end. Raises TimeoutError."""
        if self._socket is not None:
            try:
                self._socket.settimeout(seconds)
            except OSError:  # http.client has handed it to the response, and closed its own
                pass
        line = self._response.readline()
        return line.removesuffix(b"\n") if line.endswith(b"\n") else None

    def event(self) -> Event | None:
        """Return the next event, None at the end of the stream."""
        data: list[str] = []
        kind = "message"
        while (line := self.line()) is not None:
            assert b"\r" not in line
            name, _, value = line.decode().partition(":")
            value = value.removeprefix(" ")
            if not line:
                if data:
                    return Event("\n".join(data), kind, self.last_id)
                kind = "message"
            elif not name:
                self.comments += 1
            elif name == "data":
                data.append(value)
            elif name == "event":
                kind = value
            elif name == "id":
                self.last_id = value
            elif name == "retry":
                self.retry = int(value)
        assert data == []
        return None

    def message(self) -> str | bytes:
        """Return the next message; the stream's opening comes before the first."""
        while (event := self.event()) is not None and event.type == "hello":
            pass
        assert event is not None, "the stream ended"
        assert event.type in ("message", "binary"), event
        return event.bytes if event.type == "binary" else event.data

    def header(self) -> tuple[dict[str, Any], str | bytes]:
        """Return the header and the payload of the next message of wsredis.v1."""
        while (event := self.event()) is not None and event.type == "hello":
            pass
        assert event is not None, "the stream ended"
        text = event.data.encode() if event.type == "message" else event.bytes
        line, _, payload = text.partition(b"\n")
        return json.loads(line), payload if event.type == "binary" else payload.decode()

    def closed_with(self) -> int:
        """Return the code of the event that ends the stream; nothing may come after it."""
        while (event := self.event()) is not None and event.type != "close":
            pass
        assert event is not None, "the stream ended without a word"
        assert self.event() is None
        return int(json.loads(event.data)["code"])


def connection(port: int, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    if tls:
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=15, context=tls)
    return http.client.HTTPConnection("127.0.0.1", port, timeout=15)


def post(
    port: int,
    path: str,
    body: str | bytes,
    headers: Mapping[str, str | None] | None = None,
    *,
    cookie: str = "",
    tls: ssl.SSLContext | None = None,
) -> int:
    """Post as a page does that has Django's token, and return the status. A header of None is left out."""
    kind = "text/plain;charset=UTF-8" if isinstance(body, str) else "application/octet-stream"
    session = f"; sessionid={cookie}" if cookie else ""
    given = {"Content-Type": kind, "X-CSRFToken": TOKEN, "Cookie": f"csrftoken={TOKEN}{session}", **(headers or {})}
    http = connection(port, tls)
    try:
        sent = body.encode() if isinstance(body, str) else body
        http.request("POST", f"/ws/{path}", sent, {name: value for name, value in given.items() if value is not None})
        response = http.getresponse()
        response.read()
        return response.status
    finally:
        http.close()
