"""Where NGiNX listens, and which `server` gets a request: by address and port first, then by its Host."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

from .reading import Directive
from .variables import search

LISTEN = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):)?(?P<port>\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """An address at which NGiNX listens, with the servers behind it in their order. port: 0 of a unix socket."""

    address: str
    port: int
    options: frozenset[str]
    servers: list[Directive]
    listens: list[Directive]
    default: Directive

    @property
    def has_tls(self) -> bool:
        return "ssl" in self.options

    @property
    def is_udp(self) -> bool:
        """Tell whether it is for HTTP/3 alone."""
        return "quic" in self.options

    def choose(self, host: str) -> tuple[Directive, bool]:
        """Return the server for a Host, and whether it has that name; else it is the default one."""
        ranked = [(rank, server) for server in self.servers if (rank := _rank(server, host))]
        if not ranked:
            return self.default, False
        return max(ranked, key=lambda pair: pair[0])[1], True  # of several alike the first, as NGiNX has it


@dataclass(slots=True)
class _Opening:
    options: set[str] = field(default_factory=set)
    servers: list[Directive] = field(default_factory=list)
    listens: list[Directive] = field(default_factory=list)
    default: Directive | None = None


def doors(http: Directive) -> list[Door]:
    """Return all addresses at which the servers of a configuration listen."""
    opened: dict[tuple[str, int, bool], _Opening] = {}
    for server in http.all("server"):
        for address, port, options, listen in _listens(server):
            door = opened.setdefault((address, port, "quic" in options), _Opening())
            if server not in door.servers:
                door.servers.append(server)
            door.listens.append(listen)
            door.options |= options
            if options & {"default_server", "default"}:
                door.default = server
    return [
        Door(
            address=address, port=port, options=frozenset(door.options), servers=door.servers,
            listens=door.listens, default=door.default or door.servers[0],
        )
        for (address, port, _), door in opened.items()
    ]  # fmt: skip


def names(server: Directive) -> list[str]:
    """Return the names of a server."""
    return [name.lower() if name[:1] != "~" else name for found in server.all("server_name") for name in found.args]


def plain_names(server: Directive) -> list[str]:
    """Return names of a server by which a browser can reach it: none if it has but patterns."""
    plain = [name for name in names(server) if not re.search(r"[~$]|^_?$|\.\*$", name)]
    return [f"www{name.lstrip('*')}" if name.startswith("*") else name.removeprefix(".") for name in plain]


def _listens(server: Directive) -> Iterator[tuple[str, int, set[str], Directive]]:
    found = server.all("listen")
    if not found:
        yield "*", 80, set(), server
    for listen in found:
        text, *options = listen.args or ("80",)
        words = {option.partition("=")[0] for option in options}
        if any(directive.args == ("on",) for directive in server.all("ssl")):  # before 1.25.1
            words.add("ssl")
        if text.startswith("unix:"):
            yield text, 0, words, listen
        elif match := LISTEN.fullmatch(text):
            yield match["host"] or "*", int(match["port"]), words, listen
        else:  # an address without a port
            yield text, 80, words, listen


def _rank(server: Directive, host: str) -> tuple[int, int] | None:
    """Return how well a server's names fit: exact before `*.example.com` before `www.example.*` before expressions."""
    ranks = [rank for name in names(server) if (rank := _fit(name, host.lower()))]
    return max(ranks, default=None)


def _fit(name: str, host: str) -> tuple[int, int] | None:
    if name == "$hostname":
        name = socket.gethostname().lower()
    if name.startswith("~"):
        try:
            return (1, 0) if search(name[1:], host, is_caseless=True) else None
        except re.error:
            return None
    if name == host or (name.startswith(".") and name[1:] == host):
        return (4, 0)
    if name.startswith(("*.", ".")) and host.endswith(name.lstrip("*")):
        return (3, len(name))
    if name.endswith(".*") and host.startswith(name[:-1]):
        return (2, len(name))
    return None
