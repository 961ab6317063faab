"""What a uWSGI serves websockets with: its application, its loop, its sockets, its router."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...conf import Settings
from ...hosts.uwsgi import UNUSABLE
from .. import kernel
from ..application import application_row, module_of
from ..findings import Problem, Row, skipped
from .reading import Option, OptionList

DEFAULT_HTTP_TIMEOUT_SECONDS = 60
DEFAULT_LISTEN = 100
OWN_ADDRESS = "127.0.0.1"  # at a port that uWSGI chooses: there its workers listen for the router, without `socket`
SOCKETS = ("http", "https", "http-socket", "http11-socket", "socket", *UNUSABLE)
APPLICATIONS = ("module", "wsgi-file")


def application(conf: OptionList, folder: Path) -> Row:
    """Look at what it runs."""
    option = conf.get(*APPLICATIONS)
    if option is None:
        return skipped("application", "neither module nor wsgi-file names it")
    named = named_application(conf, folder)
    if not named:
        return skipped("application", f"{option.value} is not where this Python imports from")
    return application_row(named, id="wsredis.W309", place=option.place)


def named_application(conf: OptionList, folder: Path) -> str:
    """Return `module:name`, or `module`, of what a uWSGI runs that starts in a folder; "" if that is not known."""
    option = conf.get(*APPLICATIONS)
    if option is None or option.name == "module":
        return option.value if option else ""
    chdir, name = conf.get("chdir"), conf.get("callable")
    module = module_of((folder / (chdir.value if chdir else ".") / option.value).resolve())
    return f"{module}:{name.value if name else 'application'}" if module else ""


def need_app(conf: OptionList) -> Row:
    if conf.is_on("need-app"):
        return Row(checked="need-app", found="on")
    problem = Problem(
        id="wsredis.W310",
        text="need-app is not set: where the code cannot be imported uWSGI starts nevertheless, and answers 500.",
        hint="need-app = true",
    )
    return Row(checked="need-app", found="off", problems=(problem,))


def loop(conf: OptionList) -> Row:
    """Look for gevent, or Python's threads: our loop runs in either. Values do not matter, as in hosts/uwsgi.py."""
    options = [option for option in map(conf.get, ("gevent", "enable-threads", "threads")) if option]
    if options:
        return Row(checked="loop", found=", ".join(f"{option.name} = {option.value}" for option in options))
    problem = Problem(
        id="wsredis.E311",
        text="Neither gevent nor enable-threads is set: every websocket gets 503.",
        hint="enable-threads = true\ngevent = 100, or threads = 4",
    )
    return Row(checked="loop", found="none", problems=(problem,))


def sockets(conf: OptionList) -> Row:
    """Look at what it listens on."""
    options = conf.all(*SOCKETS)
    if not options:
        return skipped("sockets", "it names none; they may come from its command line, or from systemd")
    wrong = tuple(map(_unusable, conf.all(*UNUSABLE)))
    return Row(checked="sockets", found=", ".join(map(_address, options)), problems=wrong)


def _address(option: Option) -> str:
    return f"{option.name} {option.value.partition(',')[0]}"  # without certificate and key


def _unusable(option: Option) -> Problem:
    why = "TLS is in the worker" if option.name in ("https-socket", "suwsgi-socket", "ssl-socket") else "it is no HTTP"
    return Problem(
        id="wsredis.E312",
        text=f"{_address(option)}: {why}, so that a socket cannot be detached; every websocket gets 503.",
        hint="Use https, whose router speaks TLS; or http-socket or socket, and a proxy in front.",
        place=option.place,
    )


def router(conf: OptionList, settings: Settings) -> Iterator[Row]:
    """Look at uWSGI's http router, if it is used."""
    option = conf.get("http", "https")
    if option is None:
        return
    if conf.is_on("http-websockets") or conf.is_on("http-raw-body"):
        yield Row(checked="http-websockets", found="on")
    else:
        problem = Problem(
            id="wsredis.E313",
            text=f"{_address(option)} without http-websockets: the router drops what browsers send.",
            hint="http-websockets = true",
            place=option.place,
        )
        yield Row(checked="http-websockets", found="off", problems=(problem,))
    seconds = conf.number("http-timeout", DEFAULT_HTTP_TIMEOUT_SECONDS)
    timeout = conf.get("http-timeout")
    problems: tuple[Problem, ...] = ()
    if seconds <= settings.ping_interval:
        problem = Problem(
            id="wsredis.E314",
            text=f"http-timeout is {seconds} s, not above PING_INTERVAL, {settings.ping_interval:g} s: "
            "the router cuts what is silent between two pings.",
            hint=f"http-timeout = {max(DEFAULT_HTTP_TIMEOUT_SECONDS, int(3 * settings.ping_interval))}",
            place=timeout.place if timeout else option.place,
        )
        problems = (problem,)
    yield Row(checked="http-timeout", found=f"{seconds} s", problems=problems)
    between = [each.value.partition(",")[0] for each in conf.all("socket")] or [OWN_ADDRESS]
    tcp = {address for address in between if not address.startswith(("/", "@"))}
    yield kernel.ports_row(tcp, settings.max_sockets, option.place)


def listen(conf: OptionList) -> Row:
    """Look at how many connections may wait, which the kernel limits, too."""
    wanted, option = conf.number("listen", DEFAULT_LISTEN), conf.get("listen")
    allowed = kernel.somaxconn()
    if allowed is None:
        return skipped("listen", f"{wanted}; net.core.somaxconn is not known here, to compare it with")
    found = f"{wanted}; net.core.somaxconn is {allowed}"
    if wanted <= allowed or option is None:
        return Row(checked="listen", found=found)
    problem = Problem(
        id="wsredis.E324",
        text=f"listen = {wanted} is above net.core.somaxconn, {allowed}: uWSGI does not start.",
        hint=f"listen = {allowed}\nOr: sysctl -w net.core.somaxconn={wanted}\n"
        f"and to keep it, in /etc/sysctl.d/99-websockets.conf: net.core.somaxconn = {wanted}",
        place=option.place,
    )
    return Row(checked="listen", found=found, problems=(problem,))
