"""The addresses to which NGiNX passes websockets: does anybody listen there, and may NGiNX connect?"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ..findings import Problem, Row, skipped
from .configuration import Directive
from .passing import target
from .routes import Route
from .running import Account

TITLES = {
    "wsredis.E221": "Nobody listens where NGiNX passes websockets to.",
    "wsredis.W222": "Nobody listens at one of the addresses to which NGiNX passes websockets.",
    "wsredis.E223": "NGiNX may not open the site's socket.",
}
CONNECT_SECONDS = 0.5
TOTAL_SECONDS = 1.5  # of all addresses
HOST_AND_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:]+)(?::(?P<port>\d+))?")


@dataclass(frozen=True, slots=True)
class Upstream:
    """One address: of a unix socket `path`, or `host` and `port`; and where it is written."""

    text: str
    written: Directive

    @property
    def path(self) -> str:
        return self.text.removeprefix("unix:") if self.text.startswith("unix:") else ""


def look(route: Route, passing: Directive, account: Account | None) -> Iterator[Row]:
    """Connect to each address. account: that of NGiNX's workers, None if it is not known."""
    addresses = upstreams(route, passing)
    if addresses is None:
        yield skipped("upstream", f"`{passing.text}` has a variable that is not known here")
        return
    yield _listening(addresses, passing)
    for upstream in addresses:
        if upstream.path:
            yield _permissions(upstream, account)


def upstreams(route: Route, passing: Directive) -> list[Upstream] | None:
    """Return the addresses that are in use; None if a variable is not known."""
    found = target(route, passing)
    if found is None:
        return None
    name, is_tls = found[0], passing.args[0].startswith("https:")
    for block in route.chain[0].all("upstream"):
        if block.args == (name,):
            servers = [server for server in block.all("server") if server.args and "down" not in server.args]
            return [Upstream(_with_port(server.args[0], 80), server) for server in servers]
    return [Upstream(_with_port(name, 443 if is_tls else 80), passing)]


def _with_port(text: str, port: int) -> str:
    match = HOST_AND_PORT.fullmatch(text)
    if text.startswith("unix:") or match is None or match["port"]:
        return text
    return f"{text}:{port}"


def _listening(addresses: list[Upstream], passing: Directive) -> Row:
    deadline = time.monotonic() + TOTAL_SECONDS
    seen = [(upstream, _connect(upstream, deadline)) for upstream in addresses]
    found = ", ".join(f"{upstream.text}: {what or 'listens'}" for upstream, what in seen) or "no server"
    silent = [(upstream, what) for upstream, what in seen if what and not what.startswith("(")]
    if not silent and all(what for _, what in seen):
        return skipped("upstream", found)
    is_all = len(silent) == len(seen)
    problems = tuple(
        Problem(
            id="wsredis.E221" if is_all else "wsredis.W222",
            text=f"{upstream.text}: {what}. {'Every websocket gets 502.' if is_all else 'The others have to do.'}",
            hint=f"Start the site there, or write where it is: {_line(upstream, passing)}",
            place=upstream.written.place,
        )
        for upstream, what in silent
    )
    return Row(checked="upstream", found=found, problems=problems)


def _line(upstream: Upstream, passing: Directive) -> str:
    address = "unix:/run/site/site.sock" if upstream.path else "127.0.0.1:8000"
    if upstream.written is not passing:
        return f"server {address};"
    return f"{passing.name} {'http://' if passing.name == 'proxy_pass' else ''}{address};"


def _connect(upstream: Upstream, deadline: float) -> str:
    """Return "" if somebody listens, what is wrong, or, in parentheses, why that is not known."""
    seconds = min(CONNECT_SECONDS, deadline - time.monotonic())
    if seconds <= 0:
        return "(not tried: the others took too long)"
    try:
        if upstream.path:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(seconds)
                sock.connect(upstream.path)
            return ""
        match = HOST_AND_PORT.fullmatch(upstream.text)
        if match is None:
            return "it is no address"
        with socket.create_connection((match["host"].strip("[]"), int(match["port"])), timeout=seconds):
            return ""
    except TimeoutError:
        return "it takes no connection" if upstream.path else f"no answer within {seconds:.1g} s"
    except socket.gaierror:
        return "there is no such host"
    except BlockingIOError:  # its queue is full: somebody listens, and is busy
        return ""
    except OSError as error:
        return _reason(error)


def _reason(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"(not known: you may not open it yourself: {error.strerror})"
    return {
        errno.ENOENT: "there is no such socket",
        errno.ECONNREFUSED: "nobody listens",
        errno.ENOTSOCK: "it is no socket",
        errno.ENAMETOOLONG: "the path is too long for a socket",
    }.get(error.errno or 0, error.strerror or str(error))


def _permissions(upstream: Upstream, account: Account | None) -> Row:
    checked = f"may open {upstream.path}"
    if account is None:
        return skipped(checked, "the user of NGiNX is not known: give its main file")
    try:
        barrier = _barrier(upstream.path, account)
    except FileNotFoundError:
        return skipped(checked, "there is no such socket")
    except OSError as error:
        return skipped(checked, f"{error.strerror}: run it as root, or as the user of the site")
    if not barrier:
        return Row(checked=checked, found=f"{account.name} may")
    problem = Problem(
        id="wsredis.E223",
        text=f"NGiNX runs as {account.name}, and may not open {upstream.path}: {barrier}. Every websocket gets 502.",
        hint="Run the site with the group of NGiNX, and let that open the socket: uWSGI `chmod-socket = 660` and"
        f" `gid = {account.group}`, runwsserver `--umask 007`, gunicorn `umask = 0o007`.",
        place=upstream.written.place,
    )
    return Row(checked=checked, found=f"{account.name} may not: {barrier}", problems=(problem,))


def _barrier(path: str, account: Account) -> str:
    """Return what keeps an account from a socket, "" if nothing does. Raises OSError. Knows no ACLs of files."""
    if account.uid == 0:
        return ""
    parent = os.path.dirname(os.path.abspath(path))
    while True:
        status = os.stat(parent)
        if not _may(account, status, stat.S_IXOTH):
            return f"{parent} is {stat.filemode(status.st_mode)} of {account.named_owner(status)}"
        if parent == os.path.dirname(parent):
            break
        parent = os.path.dirname(parent)
    status = os.stat(path)
    if _may(account, status, stat.S_IWOTH):
        return ""
    return f"it is {stat.filemode(status.st_mode)} of {account.named_owner(status)}"


def _may(account: Account, status: os.stat_result, bit: int) -> bool:
    """Tell whether an account has a permission: the owner's, else the group's, else everybody's."""
    if status.st_uid == account.uid:
        return bool(status.st_mode & (bit << 6))
    if status.st_gid in account.groups:
        return bool(status.st_mode & (bit << 3))
    return bool(status.st_mode & bit)
