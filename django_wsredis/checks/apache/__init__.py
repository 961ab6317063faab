"""Apache: its modules, and the rule by which it passes websockets on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...wording import sentence
from ..findings import Problem, Row, skipped
from ..own_hosts import is_called, own_names
from ..programs import find_program
from ..situation import Situation
from . import passing, server
from .program import Program, inspect
from .reading import Directive, DirectiveTree
from .routing import rules
from .site import Site

TITLES = {
    "wsredis.E451": "This version of Apache does not know upgrade=websocket.",
    "wsredis.E452": "The configuration of Apache cannot be read.",
    "wsredis.E453": "Apache lacks a module that its configuration uses.",
    "wsredis.E454": "Apache passes websockets nowhere.",
    "wsredis.E455": "Apache passes the request on, but not as a websocket.",
    "wsredis.E456": "A rule before the one for websockets takes them.",
    "wsredis.E457": "Apache strips the prefix, WEBSOCKET_URL.",
    "wsredis.E458": "Apache does not pass on the Host, so Origins are refused.",
    "wsredis.E459": "Apache cuts websockets between two pings.",
    "wsredis.W460": "Apache has fewer threads than MAX_SOCKETS.",
    "wsredis.I461": "Apache has threads for few websockets.",
    "wsredis.W462": "Apache has a process for each websocket.",
    "wsredis.W463": "After a restart of the site Apache answers 503 for a minute.",
}
MAIN_FILES = ("/etc/apache2/apache2.conf", "/etc/httpd/conf/httpd.conf")


def look(situation: Situation) -> Iterator[Row]:
    """Look at the program, and at each virtual host that is ours."""
    program, row = inspect(find_program("apache2", "httpd"))
    yield row
    given = situation.apache_conf
    path = given or next((path for path in map(Path, MAIN_FILES) if path.is_file()), None)
    if path is None:
        yield skipped("Apache's configuration", f"no --apache-conf, and none of {', '.join(MAIN_FILES)}")
        return
    configuration, main = _read(path, program)
    if not configuration.top.inside:
        yield _unreadable(configuration)
        return
    yield Row(checked="configuration", found=str(path))
    for what, why in configuration.unread:
        yield skipped(what, why)
    if situation.settings is None:
        yield skipped("Apache's rules", "the settings are wrong, and they depend on those")
        return
    site = Site(configuration, main, situation.settings, program.version)
    hosts = _hosts(site, is_given=given is not None)
    if not hosts:
        yield skipped("virtual hosts", "none proxies for this project; --apache-conf PATH names another file")
        return
    for host in hosts:
        name = host.get("servername")
        label = f"{name.value if name else 'any name'} {' '.join(host.words)}".strip()
        for row in passing.rows(site, host):
            yield replace(row, checked=f"{label}: {row.checked}") if len(hosts) > 1 else row
    yield server.modules_row(site, hosts)
    yield server.workers_row(site)


def _read(path: Path, program: Program) -> tuple[DirectiveTree, DirectiveTree]:
    """Return what is in a file, and in the server's own: a site's file loads no modules."""
    folder = path.absolute().parent
    configuration = DirectiveTree(folder, program.modules)
    configuration.read(path)
    if configuration.loads:
        return configuration, configuration
    main = DirectiveTree(folder, program.modules)
    for file in filter(Path.is_file, map(Path, MAIN_FILES)):
        main = DirectiveTree(file.parent, program.modules)
        main.read(file)
        break
    configuration = DirectiveTree(folder, main.modules)
    configuration.read(path)
    return configuration, main


def _unreadable(configuration: DirectiveTree) -> Row:
    what, why = configuration.unread[0] if configuration.unread else (configuration.top.place, "it is empty")
    hint = "./manage.py wscheck --emit apache > site.conf"
    problem = Problem(id="wsredis.E452", text=sentence(f"{what}: {why}"), hint=hint)
    return Row(checked="configuration", found=why, problems=(problem,))


def _hosts(site: Site, *, is_given: bool) -> list[Directive]:
    """Return the virtual hosts that browsers of this site meet: those of its names, or that proxy at all."""
    top = site.configuration.top
    hosts = top.all("virtualhost")
    proxies = [
        host for host in (*hosts, top)
        if any(rule.target or rule.is_redirect for rule in rules(top, host, site.path))
    ]  # fmt: skip
    named = _named(hosts)
    if chosen := [host for host in named if host in proxies] or (named if is_given else []):
        return chosen
    return [host for host in proxies if not host.get("servername")] or (proxies or hosts[:1] if is_given else [])


def _named(hosts: list[Directive]) -> list[Directive]:
    """Return the virtual hosts that take one of the site's names: of several at one address the first one does."""
    chosen = []
    for own in own_names():
        addresses: set[tuple[str, ...]] = set()  # where it is taken
        for host in hosts:
            names = [name for directive in host.all("servername", "serveralias") for name in directive.words]
            address = tuple(host.words)
            if address in addresses or not any(is_called(own, name.partition(":")[0]) for name in names):
                continue
            chosen.append(host)
            if not own.startswith("."):
                addresses.add(address)
    return [host for host in hosts if host in chosen]
