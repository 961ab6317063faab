"""The Host that the site learns, with which it compares the browser's Origin."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.http import HttpRequest

from ...exceptions import HandshakeError
from ...origin import check_origin
from ..findings import Problem, Row, skipped
from .passing import sent_header, sent_headers, target
from .reading import Directive
from .routes import Route
from .variables import inherited

TITLES = {
    "wsredis.E212": "The Host does not arrive at the site, which refuses the browser's Origin.",
    "wsredis.W213": "The Host arrives without its port, which the browser's Origin has.",
}


def look(route: Route, passing: Directive, *, has_own_ports: bool) -> Row:
    """Look at the Host. has_own_ports: whether browsers come by the ports at which NGiNX listens."""
    host, directive = arriving_host(route, passing)
    if host is None:
        return skipped("Host", f"{directive.text if directive else passing.text}: a variable is not known here")
    request = route.request
    forwarded = sent_header(route, "X-Forwarded-Host") if passing.name == "proxy_pass" else ""
    told = {"HTTP_HOST": host, "HTTP_X_FORWARDED_HOST": forwarded or None}
    refusal = _refusal(told, f"{request.scheme}://{request.http_host}")
    found = f"{request.http_host} arrives as {host or '(none)'}"
    if not refusal:
        return Row(checked="Host", found=found)
    place = (directive or passing).place
    if host == request.http_host:  # NGiNX is right
        text = f"{found}, and ALLOWED_HOSTS = {django_settings.ALLOWED_HOSTS!r} refuses it."
        hint = f"In the settings write: ALLOWED_HOSTS = [{request.host!r}, …]"
        return Row(checked="Host", found=found, problems=(Problem(id="wsredis.E212", text=text, hint=hint),))
    hint = _hint(route, passing)
    if _refusal(told, f"{request.scheme}://{request.host}"):
        text = f"{found}: websockets of browsers are refused. {refusal[:1].upper()}{refusal[1:]}."
        problem = Problem(id="wsredis.E212", text=text, hint=hint, place=place)
    elif not has_own_ports:
        why = f"{found}: right if browsers come by 80 or 443, which a container or a proxy before makes {request.port};"
        return skipped("Host", f"{why} for other ports: proxy_set_header Host $http_host;")
    else:
        text = f"{found}: whoever comes by port {request.port} is refused with 403, since the Origin has the port."
        problem = Problem(id="wsredis.W213", text=text, hint=hint, place=place)
    return Row(checked="Host", found=found, problems=(problem,))


def arriving_host(route: Route, passing: Directive) -> tuple[str | None, Directive | None]:
    """Return the Host that the site gets, None if nobody knows, and what sets it, if something does."""
    if passing.name == "uwsgi_pass":
        given = [found for found in inherited(route.chain, "uwsgi_param") if found.args[:1] == ("HTTP_HOST",)]
        if not given:  # headers are passed on as they are
            return route.request.http_host, None
        return route.variables.expand(given[-1].args[1] if len(given[-1].args) > 1 else ""), given[-1]
    directive = sent_headers(route).get("host")
    found = target(route, passing)
    proxy_host = found and ("localhost" if found[0].startswith("unix:") else found[0])
    if directive is None:
        return proxy_host, None
    value = directive.args[1]
    if value == "$proxy_host":
        return proxy_host, directive
    return route.variables.expand(value), directive


def _refusal(told: dict[str, str | None], origin: str) -> str:
    """Return why the site refuses a handshake that says this, "" if it does not."""
    request = HttpRequest()
    meta: dict[str, Any] = {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "HTTP_ORIGIN": origin}
    request.META = meta | {name: value for name, value in told.items() if value}
    try:
        check_origin(request, required=True)
    except HandshakeError as error:
        return str(error)
    return ""


def _hint(route: Route, passing: Directive) -> str:
    if passing.name == "uwsgi_pass":
        line = "uwsgi_param HTTP_HOST $http_host if_not_empty;"
        return f"In `{route.location.text}` write, below the `include` of uwsgi_params: {line}"
    others = [found for found in sent_headers(route).values() if found not in route.location.all("proxy_set_header")]
    also = "\nand repeat there the others, which it drops." if others else ""
    return f"In `{route.location.text}` write: proxy_set_header Host $http_host;{also}"
