"""What the site learns of who asks it: the Host, with which the browser's Origin is compared, and the scheme."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings as django_settings
from django.http import HttpRequest

from ...exceptions import HandshakeError
from ...origin import check_origin
from ..findings import Problem, Row, skipped
from .configuration import Directive
from .passing import sent_header, sent_headers, target
from .routes import Route
from .variables import inherited

TITLES = {
    "wsredis.E212": "The Host does not arrive at the site, which refuses the browser's Origin.",
    "wsredis.W213": "The Host arrives without its port, which the browser's Origin has.",
    "wsredis.W214": "SECURE_PROXY_SSL_HEADER is believed, and NGiNX passes on what the browser says there.",
}


def look(route: Route, passing: Directive) -> Iterator[Row]:
    """Look at what the site is told."""
    yield _host(route, passing)
    yield _scheme(route, passing)


def _host(route: Route, passing: Directive) -> Row:
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
    hint = _hint(route, passing)
    if _refusal(told, f"{request.scheme}://{request.host}"):
        text = f"{found}: websockets of browsers are refused. {refusal[:1].upper()}{refusal[1:]}."
        problem = Problem(id="wsredis.E212", text=text, hint=hint, place=place)
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


def _scheme(route: Route, passing: Directive) -> Row:
    believed = django_settings.SECURE_PROXY_SSL_HEADER
    if not believed:
        return Row(checked="scheme", found=f"{route.request.scheme}; no SECURE_PROXY_SSL_HEADER")
    name, secure = believed
    header = name.removeprefix("HTTP_").replace("_", "-").title()
    setting_it = _what_sets(route, passing, name, header)
    if setting_it is None:
        return _from_browser(route, passing, name, header)
    value = route.variables.expand(setting_it.args[1])
    found = f"{header}: {'(unknown)' if value is None else value or '(none)'}"
    if value is None:
        return skipped("scheme", f"`{setting_it.text}`: a variable is not known here")
    if (value.partition(",")[0].strip() == secure) == route.request.has_tls:
        return Row(checked="scheme", found=found)
    text = f"`{setting_it.text}` tells the site {value or 'nothing'} where the browser uses {route.request.scheme}."
    problem = Problem(
        id="wsredis.W214", text=text, hint=_scheme_hint(route, passing, name, header), place=setting_it.place
    )
    return Row(checked="scheme", found=found, problems=(problem,))


def _what_sets(route: Route, passing: Directive, name: str, header: str) -> Directive | None:
    if passing.name == "proxy_pass":
        return sent_headers(route).get(header.lower())
    given = [found for found in inherited(route.chain, "uwsgi_param") if found.args[:1] == (name,)]
    return given[-1] if given and len(given[-1].args) > 1 else None


def _from_browser(route: Route, passing: Directive, name: str, header: str) -> Row:
    found = f"{header}: what the browser sends"
    problem = Problem(
        id="wsredis.W214",
        text=f"SECURE_PROXY_SSL_HEADER believes {header}, and nothing sets it here: a browser may say https, and"
        " where it says nothing the site takes TLS for none.",
        hint=_scheme_hint(route, passing, name, header),
        place=passing.place,
    )
    return Row(checked="scheme", found=found, problems=(problem,))


def _scheme_hint(route: Route, passing: Directive, name: str, header: str) -> str:
    if passing.name == "uwsgi_pass":
        return f"Leave SECURE_PROXY_SSL_HEADER out: uwsgi_params has the scheme. Or write: uwsgi_param {name} $scheme;"
    return f"In `{route.location.text}` write: proxy_set_header {header} $scheme;"
