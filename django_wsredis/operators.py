"""What a worker answers to machines of operators: whether it is alive, whether it is ready, and how its server does.

The paths are below WEBSOCKET_URL, where every layout leads to the workers that take websockets; they are no facilities.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, TypeAlias

from .conf import get_settings
from .exceptions import NotAuthorized, NotFound, Unavailable
from .responses import respond

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

Answer: TypeAlias = Iterable[bytes]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus' text format

_FORWARDED_FOR = re.compile(r'(?:^|[;,\s])for\s*=\s*"?([^",;\s]*)', re.IGNORECASE)  # RFC 7239, 4 and 5.2


def answer(path: str, environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Answer a request for one of `PATHS`. Blocks for some seconds at most.

    Raises HandshakeError. What is not well is not logged: whoever asks does so all the time.
    """
    if environ.get("HTTP_UPGRADE"):
        raise NotFound(f"{path} is no facility: it is for operators")
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return respond(environ, start_response, HTTPStatus.METHOD_NOT_ALLOWED, headers=[("Allow", "GET, HEAD")])
    return PATHS[path](environ, start_response)


def tell_health(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Tell whether this process's loop turns: 200, or 503. One that has no loop yet is alive."""
    from . import loop  # gevent: not before Django is set up

    if loop.is_alive():
        return respond(environ, start_response, HTTPStatus.OK, b"ok\n")
    return respond(environ, start_response, HTTPStatus.SERVICE_UNAVAILABLE, b"not ok\n")


def tell_readiness(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Tell whether this process's loop delivers: 200, or 503 while it does not, or not any more.

    Raises CannotDetach, and starts no loop, where no websocket is ever served.
    """
    from . import loop
    from .hosts import detach

    detach.find(environ)
    if loop.get_loop().is_ready():
        return respond(environ, start_response, HTTPStatus.OK, b"ready\n")
    status, headers = Unavailable.status, Unavailable.headers
    return respond(environ, start_response, status, b"not ready\n", headers=headers)


def tell_metrics(environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
    """Tell how the workers of this server do, to those whom METRICS_FROM allows it."""
    require_allowed(environ, get_settings().metrics_from)
    if importlib.util.find_spec("prometheus_client") is None:
        body = b"prometheus_client is not installed. Run: pip install 'django-wsredis[metrics]'\n"
        return respond(environ, start_response, HTTPStatus.NOT_IMPLEMENTED, body)
    from .metrics import scrape

    body = scrape()
    return respond(environ, start_response, HTTPStatus.OK, body, content_type=METRICS_TYPE)


PATHS: dict[str, Callable[[WSGIEnvironment, StartResponse], Answer]] = {
    "-/healthz": tell_health,
    "-/readyz": tell_readiness,
    "-/metrics": tell_metrics,
}


# Who may ask


def require_allowed(environ: WSGIEnvironment, networks: Iterable[str]) -> None:
    """Raise NotAuthorized unless all that a request came from, or through, is in one of some networks."""
    allowed, texts = list(map(ip_network, networks)), list(named_addresses(environ))
    for text in texts:
        address = read_address(text)
        if address is None or not any(address in network for network in allowed):
            raise NotAuthorized(f"WSREDIS['METRICS_FROM'] does not allow {text!r}")
    if not texts:
        raise NotAuthorized("WSREDIS['METRICS_FROM'] allows addresses, and nothing names one: it is a unix socket")


def named_addresses(environ: WSGIEnvironment) -> Iterator[str]:
    """Yield whom a request comes from, and whom proxies say that it came from; to that list anybody may only add."""
    if (peer := environ.get("REMOTE_ADDR", "")) not in ("", "0.0.0.0"):  # a unix socket has none; the latter: uWSGI
        yield peer
    for header in ("HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP"):
        if header in environ:
            yield from environ[header].split(",")
    if "HTTP_FORWARDED" in environ:
        yield from _FORWARDED_FOR.findall(environ["HTTP_FORWARDED"]) or [environ["HTTP_FORWARDED"]]


def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """Read `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1` or `[2001:db8::1]:4711`; None for what is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address  # ::ffff:192.0.2.1, of a socket for both kinds
