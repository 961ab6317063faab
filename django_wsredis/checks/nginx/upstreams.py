"""The addresses to which NGiNX passes websockets: does anybody listen there, and may NGiNX connect?"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...conf import Settings
from ..findings import Problem, Row, skipped
from ..kernel import ports_row
from .passing import target
from .probing import NO_HOST, Probed, probe
from .reading import Directive
from .routes import PASSES, Route
from .running import Account, Surroundings

TITLES = {
    "wsredis.E222": "Nobody listens where NGiNX passes websockets to.",
    "wsredis.W223": "Nobody listens at one of the addresses to which NGiNX passes websockets.",
    "wsredis.E224": "The site speaks another protocol than NGiNX does to it.",
    "wsredis.E225": "NGiNX may not open the site's socket.",
}


@dataclass(frozen=True, slots=True)
class Upstream:
    """One address: of a unix socket `path`, or `host` and `port`; and where it is written."""

    text: str
    written: Directive

    @property
    def path(self) -> str:
        return self.text.removeprefix("unix:") if self.text.startswith("unix:") else ""

    @property
    def is_local(self) -> bool:
        """Tell whether it is of the machine on which NGiNX runs."""
        return bool(self.path) or re.match(r"127\.|localhost:|\[::1\]", self.text) is not None

    @property
    def needs_name(self) -> bool:
        """Tell whether NGiNX asks for the address as it starts, and does not start without."""
        return "resolve" not in self.written.args and "$" not in self.written.text


def ask(routes: Iterable[Route], url: str, around: Surroundings) -> dict[str, Probed]:
    """Return what is found at each address of the servers, for websockets or not.

    Of a NGiNX that may be elsewhere only what answers is known from here.
    """
    asked = {upstream: protocol(passing) for route in routes for upstream, passing in of_server(route)}
    addresses = {upstream.text: spoken for upstream, spoken in asked.items() if around.is_here or not upstream.is_local}
    probed = probe(addresses, f"{url}-/healthz")  # which asks neither Redis nor the database
    return {upstream.text: _judged(probed.get(upstream.text), around) for upstream in asked}


def _judged(found: Probed | None, around: Surroundings) -> Probed:
    if found is None:
        return Probed("(not known: it is of the machine where NGiNX is)")
    is_known = around.is_here and (found.wrong != NO_HOST or around.workers is not None)
    if is_known or not found.wrong or found.wrong.startswith("("):
        return found
    return found._replace(wrong=f"(seen from here: {found.wrong}; NGiNX may reach it)")


def look(
    route: Route, passing: Directive, probed: dict[str, Probed], settings: Settings, around: Surroundings
) -> Iterator[Row]:
    """Look at each address. probed: what `ask()` found."""
    addresses = of(route)
    if addresses is None:
        yield skipped("upstream", f"`{passing.text}` has a variable that is not known here")
        return
    yield _listening(addresses, passing, probed)
    yield _protocol(addresses, passing, probed)
    for upstream in addresses:
        if upstream.path:
            yield _permissions(upstream, around.account)
    if not around.is_here:
        yield skipped("ports", "they are those of the machine where NGiNX is")
        return
    yield ports_row({upstream.text for upstream in addresses if not upstream.path}, settings.max_sockets, passing.place)


def of(route: Route) -> list[Upstream] | None:
    """Return the addresses to which a route leads; None if it leads to none, or a variable is not known."""
    return _addresses(route, route.passing) if route.passing is not None else None


def of_server(route: Route) -> Iterator[tuple[Upstream, Directive]]:
    """Yield all addresses of a route's server, those of its other locations as well, and what passes requests there."""
    others = [found for found in route.server.walk() if found.name in PASSES and found.args]
    for passing in [*others, *([route.passing] if route.passing is not None else [])]:  # the last one counts
        yield from ((upstream, passing) for upstream in _addresses(route, passing) or ())


def _addresses(route: Route, passing: Directive) -> list[Upstream] | None:
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
    return text if text.startswith("unix:") or re.search(r":\d+$", text) else f"{text}:{port}"


def protocol(passing: Directive) -> str:
    """Return what is spoken to the site, for `probe()`: "" for TLS, which is not tried."""
    if passing.name == "uwsgi_pass":
        return "" if passing.args[0].startswith("suwsgi:") else "uwsgi"
    return "" if passing.args[0].startswith("https:") else "http"


def _protocol(addresses: list[Upstream], passing: Directive, probed: dict[str, Probed]) -> Row:
    spoken = protocol(passing)
    seen = [(upstream, speaks) for upstream in addresses if (speaks := probed[upstream.text].speaks)]
    if not seen:
        return skipped("protocol", "nobody answered at once" if spoken else "TLS is not tried")
    problems = tuple(
        Problem(
            id="wsredis.E224",
            text=f"{upstream.text} speaks {speaks}, and `{passing.text}` speaks {spoken}: websockets get 400, 502 or"
            " 504.",
            hint=f"In its place: {_other_pass(passing)}",
            place=passing.place,
        )
        for upstream, speaks in seen
        if speaks != spoken
    )
    return Row(checked="protocol", found=", ".join(dict.fromkeys(speaks for _, speaks in seen)), problems=problems)


def _other_pass(passing: Directive) -> str:
    """Return the same in the other protocol."""
    address = passing.args[0].partition("://")[2] or passing.args[0]
    if passing.name == "uwsgi_pass":
        return f"proxy_pass http://{address}; with the headers that `wscheck --emit nginx --upstream …` prints."
    return f"include /etc/nginx/uwsgi_params; uwsgi_pass {address};"


def _listening(addresses: list[Upstream], passing: Directive, probed: dict[str, Probed]) -> Row:
    seen = [(upstream, probed[upstream.text].wrong) for upstream in addresses]
    found = ", ".join(f"{upstream.text}: {what or 'listens'}" for upstream, what in seen) or "no server"
    silent = [(upstream, what) for upstream, what in seen if what and not what.startswith("(")]
    if not silent and all(what for _, what in seen):
        return skipped("upstream", found)
    is_all = len(silent) == len(seen)
    problems = tuple(_silence(upstream, what, passing, is_all=is_all) for upstream, what in silent)
    return Row(checked="upstream", found=found, problems=problems)


def _silence(upstream: Upstream, what: str, passing: Directive, *, is_all: bool) -> Problem:
    id, then = "wsredis.W223", "The others have to do."
    hint = f"Start the site there, or write where it is: {_line(upstream, passing)}"
    if what == NO_HOST and upstream.needs_name:
        id, then = "wsredis.E222", "NGiNX refuses to start, or to reload."
        hint = f"Write where the site is, by an address that this machine knows: {_line(upstream, passing)}"
    elif is_all:
        id, then = "wsredis.E222", "Every websocket gets 502."
    return Problem(
        id=id,
        text=f"{upstream.text}: {what}. {then}",
        hint=hint,
        place=upstream.written.place,
    )


def _line(upstream: Upstream, passing: Directive) -> str:
    address = "unix:/run/site/site.sock" if upstream.path else "127.0.0.1:8000"
    if upstream.written is not passing:
        return f"server {address};"
    return f"{passing.name} {'http://' if passing.name == 'proxy_pass' else ''}{address};"


def _permissions(upstream: Upstream, account: Account | None) -> Row:
    checked = f"may open {upstream.path}"
    if account is None:
        return skipped(checked, "the user of NGiNX is not known: it is not here, or give its main file")
    try:
        barrier = _barrier(upstream.path, account)
    except FileNotFoundError:
        return skipped(checked, "there is no such socket")
    except OSError as error:
        return skipped(checked, f"{error.strerror}: run it as root, or as the user of the site")
    if not barrier:
        return Row(checked=checked, found=f"{account.name} may")
    problem = Problem(
        id="wsredis.E225",
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
