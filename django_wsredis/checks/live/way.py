"""The way to a socket: what the steps learn of it, and connections along it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import SplitResult, quote, unquote, urlsplit

from django.utils.encoding import iri_to_uri
from websockets.headers import build_authorization_basic

from ...conf import Settings
from ..findings import Problem, Row
from ..situation import Situation
from .websocket import Websocket

STEP_SECONDS = 5.0  # for one step, and so for whatever it waits for
DEFAULT_PORTS = {"ws": 80, "wss": 443}


class Broken(Exception):
    """Raised by a step that ends those which need it. row: what it found."""

    def __init__(self, row: Row) -> None:
        super().__init__(row.found)
        self.row = row


@dataclass(kw_only=True)
class Way:
    """Where the URL leads, and what the steps have learned.

    stack: closes what was opened. runner: of the websockets' loop. base: the path, up to the end of WEBSOCKET_URL.
    facility: that the URL names, "" for none. scratch: that to which messages go, which nobody else hears. addresses:
    those that accept connections. context: of TLS, None without. user: the name of who connects, "" for nobody; cookie:
    the header of the session. line: a socket of the URL. talk: one of the scratch facility. hearer: the user to whom
    messages go there, "" for everybody.
    """

    situation: Situation
    settings: Settings
    stack: ExitStack
    runner: asyncio.Runner
    base: str = ""
    facility: str = ""
    scratch: str = ""
    addresses: list[tuple[str, int]] = field(default_factory=list)
    context: ssl.SSLContext | None = None
    user: str = ""
    cookie: str = field(default="", repr=False)
    hearer: str = ""
    _line: Websocket | None = None
    _talk: Websocket | None = None

    @cached_property
    def url(self) -> SplitResult:
        """What the command line has."""
        return urlsplit(self.situation.live)

    @property
    def is_secure(self) -> bool:
        """Whether it is wss."""
        return self.url.scheme == "wss"

    @property
    def host(self) -> str:
        """The name, or the address, without brackets."""
        return self.url.hostname or ""

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.url.port or DEFAULT_PORTS[self.url.scheme]

    @property
    def netloc(self) -> str:
        """The Host as a browser sends it: without a port that goes without saying."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.url.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """That of the site's own pages."""
        return f"{'https' if self.is_secure else 'http'}://{self.netloc}"

    @property
    def shown(self) -> str:
        """The URL for people: a login, or a token in the query, is left out."""
        return f"{self.url.scheme}://{self.netloc}{self.url.path}"

    @property
    def is_all_scratch(self) -> bool:
        """Whether the URL names no facility that visitors could hear."""
        return self.facility in ("", self.scratch)

    @property
    def headers(self) -> dict[str, str]:
        """Those that every request needs."""
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if self.url.username is not None:
            login = unquote(self.url.username), unquote(self.url.password or "")
            headers["Authorization"] = build_authorization_basic(*login)
        return headers

    @property
    def line(self) -> Websocket:
        """The open socket of the URL itself."""
        assert self._line is not None, "the step that needs it follows the handshake"
        return self._line

    @line.setter
    def line(self, websocket: Websocket) -> None:
        self._line = websocket

    @property
    def talk(self) -> Websocket:
        """The open socket on which messages are heard."""
        assert self._talk is not None, "the step that needs it follows that of the scratch facility"
        return self._talk

    @talk.setter
    def talk(self, websocket: Websocket) -> None:
        self._talk = websocket

    def path_of(self, facility: str) -> str:
        """Return a facility's path; of the one that the URL names, as it is written there."""
        return iri_to_uri(self.url.path if facility == self.facility else self.base + quote(facility, safe="/"))

    def connect(self) -> socket.socket:
        """Return a fresh connection, without TLS. Raises OSError."""
        return socket.create_connection(self.addresses[0], STEP_SECONDS)

    def connect_safely(self) -> socket.socket:
        """Return a fresh connection, with TLS where the URL has it. Raises OSError."""
        sock = self.connect()
        if self.context is None:
            return sock
        try:
            return self.context.wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise


def seen(found: str, *problems: Problem) -> Row:
    """Return the row of a step, which gets its name from the table of steps."""
    return Row(checked="", found=found, problems=problems)


def milliseconds(seconds: float) -> str:
    """Return a duration for people."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
