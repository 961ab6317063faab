"""Addresses as an operator writes them, in the notation of each server. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

PATTERN = re.compile(
    r"(?:(?P<scheme>http|uwsgi)://)?"
    r"(?:(?:unix:)?(?P<path>/[\w.@+/-]+)|(?:(?P<host>\*|\[[0-9a-fA-F:]+\]|[\w.-]+)?:)?(?P<port>\d{1,5}))"
)
EXAMPLES = "8000, 127.0.0.1:8000, [::1]:8000, /run/site/site.sock or uwsgi:///run/site/site.sock"
MAX_UNIX_PATH_BYTES = 107  # unix(7): sun_path, with the zero that ends it


class Address(NamedTuple):
    """Where a server listens, and which protocol it speaks there."""

    scheme: str = "http"  # or "uwsgi"
    host: str = ""  # every address of the machine
    port: int = 0
    path: str = ""  # of a unix socket

    @property
    def host_port(self) -> str:
        """`host:port`, and `:port` for every address; for uWSGI and HAProxy."""
        return self.path or f"{self.host}:{self.port}"

    @property
    def any_port(self) -> str:
        """`host:port`, and `*:port` for every address; for Apache."""
        return f"{self.host or '*'}:{self.port}"

    @property
    def plain(self) -> str:
        """`host:port`, and the port alone for every address; for systemd and runwsserver."""
        return self.path or (f"{self.host}:{self.port}" if self.host else str(self.port))

    @property
    def unix_or_plain(self) -> str:
        """The same, with `unix:` before a path; for NGiNX."""
        return f"unix:{self.path}" if self.path else self.plain

    @property
    def unix_or_bound(self) -> str:
        """`host:port`, with IPv4's name for every address; for gunicorn."""
        return f"unix:{self.path}" if self.path else f"{self.host or '0.0.0.0'}:{self.port}"

    @property
    def url(self) -> str:
        """The base of a URL; for Apache."""
        return f"unix:{self.path}|http://localhost" if self.path else f"http://{self.host}:{self.port}"

    @property
    def haproxy(self) -> str:
        """The same, as HAProxy writes a path."""
        return f"unix@{self.path}" if self.path else f"{self.host}:{self.port}"


def parse(text: str) -> Address:
    """Return the address that a text names. Raises ValueError."""
    match = PATTERN.fullmatch(text)
    if match is None or not 0 <= int(match["port"] or 0) <= 65535:
        raise ValueError(f"{text!r} is no address; write {EXAMPLES}")
    path = match["path"] or ""
    if len(path.encode()) > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"{path!r} is too long for a unix socket: it has at most {MAX_UNIX_PATH_BYTES} bytes")
    host = "" if match["host"] in (None, "*", "0.0.0.0") else match["host"]
    return Address(match["scheme"] or "http", host, int(match["port"] or 0), path)
