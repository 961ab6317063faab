"""The scheme that the site learns: of it are made WEBSOCKET_URI, and what Django takes for secure."""

from __future__ import annotations

from django.conf import settings as django_settings

from ..findings import Problem, Row, skipped
from .passing import sent_headers
from .reading import Directive
from .routes import Route
from .variables import inherited

TITLES = {
    "wsredis.W214": "SECURE_PROXY_SSL_HEADER is believed, and NGiNX passes on what the browser says there.",
    "wsredis.W215": "The site takes https for http.",
}


def look(route: Route, passing: Directive) -> Row:
    """Look at what the site is told, by the header that it believes, or by its protocol."""
    believed = django_settings.SECURE_PROXY_SSL_HEADER
    if not believed:
        return _compared(route, passing, _by_protocol(route, passing), "without SECURE_PROXY_SSL_HEADER")
    name, secure = believed
    header = _header(name)
    telling = _telling(route, passing, name)
    if telling is None:
        return _from_browser(route, passing, header)
    value = route.variables.expand(telling.args[1])
    if value is None:
        return skipped("scheme", f"`{telling.text}`: a variable is not known here")
    # Django has none of an empty header: that is not passed on
    told = ("https" if value.partition(",")[0].strip() == secure else "http") if value else ""
    return _compared(route, telling, told or _by_protocol(route, passing), f"{header}: {value or '(none)'}")


def _compared(route: Route, place: Directive, told: str, by: str) -> Row:
    used = route.request.scheme
    found = f"{used} arrives as {told}, {by}"
    if told == used or used == "http":  # where there is no TLS here, another proxy before may speak it
        return Row(checked="scheme", found=found)
    problem = Problem(
        id="wsredis.W215",
        text=f"The browser uses https, and the site is told {told}, {by}: WEBSOCKET_URI begins with ws://, which pages"
        " of https may not open.",
        hint=_hint(route, place),
        place=place.place,
    )
    return Row(checked="scheme", found=found, problems=(problem,))


def _by_protocol(route: Route, passing: Directive) -> str:
    """Return the scheme of the connection to the site; uwsgi's protocol tells the browser's in HTTPS."""
    given = [found for found in inherited(route.chain, "uwsgi_param") if found.args[:1] == ("HTTPS",)]
    if passing.name != "uwsgi_pass" or not given or len(given[-1].args) < 2:
        return "http"
    return "https" if route.variables.expand(given[-1].args[1]) in ("on", "1") else "http"


def _telling(route: Route, passing: Directive, name: str) -> Directive | None:
    """Return what sets the header that the site believes."""
    if passing.name == "proxy_pass":
        return sent_headers(route).get(_header(name).lower())
    given = [found for found in inherited(route.chain, "uwsgi_param") if found.args[:1] == (name,)]
    return given[-1] if given and len(given[-1].args) > 1 else None


def _from_browser(route: Route, passing: Directive, header: str) -> Row:
    problem = Problem(
        id="wsredis.W214",
        text=f"SECURE_PROXY_SSL_HEADER believes {header}, which nothing sets in `{route.location.text}`: unless another"
        " proxy before NGiNX sets it, a browser may say https, and does not say it where it is true.",
        hint=_hint(route, passing),
        place=passing.place,
    )
    return Row(checked="scheme", found=f"{header}: what the browser sends", problems=(problem,))


def _hint(route: Route, place: Directive) -> str:
    if place.name.startswith("uwsgi"):
        return "Write: include /etc/nginx/uwsgi_params; and leave SECURE_PROXY_SSL_HEADER out: HTTPS is among them."
    name, secure = django_settings.SECURE_PROXY_SSL_HEADER or ("HTTP_X_FORWARDED_PROTO", "https")
    line = f"In `{route.location.text}` write: proxy_set_header {_header(name)} $scheme;"
    return f"{line}\nand in the settings: SECURE_PROXY_SSL_HEADER = {(name, secure)!r}"


def _header(name: str) -> str:
    """Return a header's name as a browser writes it."""
    return name.removeprefix("HTTP_").replace("_", "-").title()
