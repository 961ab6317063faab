"""Requests by hand, whose answers are looked at as they are: also those that are no websocket's."""

from __future__ import annotations

import base64
import http.client
import re
import secrets
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus

from .way import STEP_SECONDS, Way

BODY_BYTES = 4096  # that are looked at

# of Django's own pages for what is not there, or fails: without DEBUG, and with it
DJANGO = (b"The requested resource was not found on this server.", b"<h1>Server Error (500)</h1>", b"DEBUG = True")

# of the pages that proxies write themselves: NGiNX, Apache, HAProxy
PROXIES = (b"<center>nginx", b"<html><head>\n<title>", b"<html><body><h1>")


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPAnswer:
    """An HTTP answer. headers: by their names in lower case. body: its beginning."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_ours(self) -> bool:
        """Whether it is of `responses.respond()`, and of no proxy, page or other server."""
        return self.body == f"{self.title}\n".encode() and self._is_uncached

    @property
    def is_healthy(self) -> bool:
        """Whether it is that of `-/healthz`: what answers is a worker."""
        return self.body in (b"ok\n", b"not ok\n") and self._is_uncached

    @property
    def _is_uncached(self) -> bool:
        return "no-store" in self.headers.get("cache-control", "")

    @property
    def is_djangos(self) -> bool:
        """Whether it is one of Django's own pages for what is not there, or not right."""
        return any(part in self.body for part in DJANGO)

    @property
    def author(self) -> str:
        """The layer that wrote it, or both that may have."""
        if self.is_ours or self.is_djangos:
            return "Site"
        return "Proxy" if any(part in self.body for part in PROXIES) else "Site or proxy"

    @property
    def is_nginxs(self) -> bool:
        """Whether it is a page of NGiNX itself."""
        return PROXIES[0] in self.body

    @property
    def reason(self) -> str:
        """The title of the page, which says more than the status where a proxy refuses; "" without."""
        found = re.search(rb"<title>(.*?)</title>", self.body)
        return found[1].decode(errors="replace") if found else ""

    @property
    def title(self) -> str:
        """The status in words."""
        try:
            return f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            return str(self.status)

    @property
    def shown(self) -> str:
        """The status, and who says so, as far as it tells."""
        if self.is_ours:
            return f"{self.title}, by django_wsredis"
        server = self.headers.get("server")
        return f"{self.title}, by {server}" if server else self.title


def ask(way: Way, path: str, headers: dict[str, str] | None = None, *, seconds: float = STEP_SECONDS) -> HTTPAnswer:
    """Ask for a path with its query; each part of the answer may take so long.

    Raises OSError and http.client.HTTPException.
    """
    with closing(http.client.HTTPConnection(way.host, way.port, timeout=seconds)) as connection:
        connection.sock = way.connect_safely()
        connection.sock.settimeout(seconds)
        connection.request("GET", path, headers={"Host": way.netloc, **way.headers, **(headers or {})})
        with connection.getresponse() as response:
            told = {name.lower(): value for name, value in response.getheaders()}
            return HTTPAnswer(status=response.status, headers=told, body=response.read(BODY_BYTES))


def ask_upgrade(way: Way, path: str, origin: str | None, changed: dict[str, str] | None = None) -> HTTPAnswer:
    """Ask for a websocket, from a page of an origin; it is closed at once. changed: headers. Raises as `ask()`."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
        **(changed or {}),
    }
    return ask(way, path, headers if origin is None else {**headers, "Origin": origin})
