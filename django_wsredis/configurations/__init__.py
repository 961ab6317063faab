"""Configurations of the servers that a site runs with, made from the project's settings: what `wscheck --emit` prints.

Each kind is a template beside this file. The contract suite of the tests runs on exactly these texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from django.template import Context, Engine

from .addresses import Address
from .project import Project

SPARE_SECONDS = 10  # that a worker gets beyond its drain, to finish its requests
SPARE_FILES = 1024

FOLDER = Path(__file__).parent
LINE_OF_TAGS = re.compile(r"^[ \t]*((?:\{%[^\n]*?%\}|\{#[^\n]*?#\})+)[ \t]*\n", re.MULTILINE)


class WrongOption(ValueError):
    """Raised for an option that a kind does not have, or a value that cannot work there."""


class File(NamedTuple):
    """One file of a configuration."""

    name: str  # a path, if there are several
    text: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """What differs from one configuration of a project to the next; None: not given."""

    listen: Address | None = None
    upstream: tuple[Address, ...] | None = None
    ws_upstream: tuple[Address, ...] | None = None
    workers: int | None = None
    threads: int | None = None
    sockets: int | None = None
    timeout: int | None = None  # seconds
    router: bool | None = None
    certfile: str | None = None
    keyfile: str | None = None
    module: str | None = None  # read by read_project()

    @property
    def given(self) -> set[str]:
        return {field.name for field in fields(self) if getattr(self, field.name) is not None}


PROXY = {"listen", "upstream", "ws_upstream", "timeout", "certfile", "keyfile"}
APPLICATION = {"listen", "workers", "threads", "module"}


def nginx(project: Project, options: Options) -> list[File]:
    """One `location` before uWSGI's protocol, or before HTTP; or one for pages, and one for websockets."""
    options = with_defaults(
        options,
        listen=443 if options.certfile else 80,
        upstream=Address("uwsgi", path=f"/run/{project.name}/uwsgi.sock"),
    )
    return [File(f"{project.name}.nginx.conf", render("nginx.conf", project, options, **upstreams(options)))]


def apache(project: Project, options: Options) -> list[File]:
    options = with_defaults(
        options, listen=443 if options.certfile else 80, upstream=Address(host="127.0.0.1", port=8000), sockets=2000
    )
    require_http("apache", options)
    require("apache proxies to one --upstream here", len(options.upstream or ()) == 1)
    require("apache proxies to one --ws-upstream here", len(options.ws_upstream or ()) <= 1)
    require("apache listens on a port", not (options.listen and options.listen.path))
    threads = 100  # of one process
    processes = math.ceil((options.sockets or 0) / threads) + 1
    text = render(
        "apache.conf", project, options, **upstreams(options),
        threads=threads, processes=processes, max_workers=processes * threads,
    )  # fmt: skip
    return [File(f"{project.name}.apache.conf", text)]


def haproxy(project: Project, options: Options) -> list[File]:
    options = with_defaults(
        options, listen=443 if options.certfile else 80, upstream=Address(host="127.0.0.1", port=8000)
    )
    require_http("haproxy", options)
    require("haproxy wants one file with both certificate and key: --certfile alone", not options.keyfile)
    return [File(f"{project.name}.haproxy.cfg", render("haproxy.cfg", project, options, **upstreams(options)))]


def uwsgi(project: Project, options: Options) -> list[File]:
    socket = Address("uwsgi", path=f"/run/{project.name}/uwsgi.sock")
    port = 443 if options.certfile else 80 if options.router else None
    options = with_defaults(options, listen=port or socket, workers=2)
    listen = options.listen or Address()
    if options.certfile or options.keyfile:
        options = replace(options, router=True)  # only its router speaks TLS and leaves the workers' sockets plain
    if options.router:
        require("uwsgi's router is for browsers: let it --listen on a port, for http", not listen.path)
        require("uwsgi's router is for browsers: let it --listen on a port, for http", listen.scheme == "http")
    require("only uwsgi's --router has a --timeout", options.router or options.timeout is None)
    return [
        File(f"{project.name}.uwsgi.ini", render("uwsgi.ini", project, options, serves_static=listen.scheme == "http"))
    ]


def emperor(project: Project, options: Options) -> list[File]:
    """Three files: the Emperor, which routes, and its two vassals."""
    pages, websockets = (
        Address("uwsgi", path=f"/run/{project.name}/{name}.sock") for name in ("pages", "websockets")
    )  # fmt: skip
    options = with_defaults(options, listen=8000, upstream=pages, ws_upstream=(websockets,), workers=2)
    for name, given in (("upstream", options.upstream or ()), ("ws-upstream", options.ws_upstream or ())):
        one_uwsgi = len(given) == 1 and given[0].scheme == "uwsgi"
        require(f"the Emperor's --{name} is one socket of its vassal, as uwsgi:///run/site/{name}.sock", one_uwsgi)
    (pages,), (websockets,) = options.upstream or (), options.ws_upstream or ()
    vassal = replace(options, upstream=None, ws_upstream=None, threads=None)
    pattern = "^" + re.escape(project.websocket_url)
    return [
        File("uwsgi.ini", render("emperor.ini", project, options, pattern=pattern, **upstreams(options))),
        File(
            "vassals/pages.ini",
            render("uwsgi.ini", project, replace(vassal, listen=pages), role="pages", serves_static=True),
        ),
        File(
            "vassals/websockets.ini",
            render("uwsgi.ini", project, replace(vassal, listen=websockets, workers=1), role="websockets"),
        ),
    ]


def gunicorn(project: Project, options: Options) -> list[File]:
    options = with_defaults(options, listen=Address(host="127.0.0.1", port=8000), workers=2, threads=8)
    require_http("gunicorn", options)
    return [File("gunicorn.conf.py", render("gunicorn.conf.py", project, options))]


def systemd(project: Project, options: Options) -> list[File]:
    options = with_defaults(options, listen=Address(path=f"/run/{project.name}.sock"), workers=2, sockets=10_000)
    require_http("systemd", options)
    return [
        File(
            f"{project.name}.service",
            render("systemd.service", project, options, files=(options.sockets or 0) + SPARE_FILES),
        ),
        File(f"{project.name}.socket", render("systemd.socket", project, options)),
    ]


# kind → (what makes it, its options)
KINDS: dict[str, tuple[Callable[[Project, Options], list[File]], set[str]]] = {
    "nginx": (nginx, PROXY),
    "apache": (apache, PROXY | {"sockets"}),
    "haproxy": (haproxy, PROXY),
    "uwsgi": (uwsgi, APPLICATION | {"router", "timeout", "certfile", "keyfile"}),
    "uwsgi-emperor": (emperor, {"listen", "upstream", "ws_upstream", "workers", "module"}),
    "gunicorn": (gunicorn, APPLICATION),
    "systemd": (systemd, {"listen", "workers", "sockets"}),
}


def emit(kind: str, project: Project, options: Options) -> list[File]:
    """Return the files of a configuration. Raises WrongOption."""
    make, known = KINDS[kind]
    if wrong := sorted(options.given - known):
        raise WrongOption(f"{flag(wrong[0])} has no meaning for {kind}; it takes {', '.join(map(flag, sorted(known)))}")
    if options.keyfile:
        require("--keyfile needs --certfile", options.certfile)
    if options.timeout is not None and options.timeout <= project.ping_interval:
        raise WrongOption(
            f"--timeout {options.timeout} would cut sockets between pings: PING_INTERVAL is {project.ping_interval:g}"
        )
    return make(project, options)


def flag(name: str) -> str:
    """Return how an option is written."""
    return "--" + name.replace("_", "-")


def require(text: str, condition: Any) -> None:
    """Raise WrongOption with the text unless the condition is true."""
    if not condition:
        raise WrongOption(text)


def require_http(kind: str, options: Options) -> None:
    addresses = (options.listen or Address(), *(options.upstream or ()), *(options.ws_upstream or ()))
    require(f"{kind} speaks HTTP here, not uwsgi://", all(address.scheme == "http" for address in addresses))


def with_defaults(options: Options, *, listen: Address | int, **defaults: Any) -> Options:
    """Fill in what was not given; a port stands for every address, a single upstream for a tuple of it."""
    defaults["listen"] = Address(port=listen) if isinstance(listen, int) else listen
    if isinstance(upstream := defaults.get("upstream"), Address):
        defaults["upstream"] = (upstream,)
    return replace(options, **{name: value for name, value in defaults.items() if getattr(options, name) is None})


def upstreams(options: Options) -> dict[str, Any]:
    """Return what a proxy's template says of its upstreams. Raises WrongOption for two protocols in one."""
    for name in ("upstream", "ws_upstream"):
        schemes = {address.scheme for address in getattr(options, name) or ()}
        require(f"the addresses of {flag(name)} must all speak http or all uwsgi", len(schemes) < 2)
    pages, websockets = options.upstream or (), options.ws_upstream or ()
    return {
        "pages": pages,
        "websockets": websockets,
        "has_http": any(address.scheme == "http" for address in (*pages, *websockets)),
    }


def render(template: str, project: Project, options: Options, **more: Any) -> str:
    """Return a template's text. Lines that hold nothing but tags leave nothing behind."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    values |= {
        "project": project,
        "timeout": options.timeout or project.timeout_seconds,
        "ping_interval": f"{project.ping_interval:g}",
        "mercy": project.drain_seconds + SPARE_SECONDS,
        "reload_file": project.root / f"{project.name}.reload",
        **more,
    }
    for value in (*vars(project).values(), *values.values()):
        require(f"{value!r} has a character that no configuration can hold", is_plain(value))
    source = LINE_OF_TAGS.sub(r"\1", (FOLDER / f"{template}.template").read_text())
    return Engine(autoescape=False).from_string(source).render(Context(values))


def is_plain(value: Any) -> bool:
    """Tell whether a text can stand in a configuration between double quotes."""
    return not isinstance(value, str) or not re.search(r"[\x00-\x1f\"\\$%{}]", value)
