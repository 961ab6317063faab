"""What of a handshake arrives at the site: the path, the version of HTTP, Upgrade and Connection, other headers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..findings import Problem, Row, skipped
from .locations import scope
from .program import HTTP_1_1_BY_DEFAULT, Program
from .reading import Directive
from .routes import Route
from .variables import inherited, setting

TITLES = {
    "wsredis.E206": "What arrives at the site has another path than the browser asked for: the prefix is stripped.",
    "wsredis.E207": "proxy_pass speaks HTTP/1.0, which has no upgrade.",
    "wsredis.E208": "The headers Upgrade and Connection do not arrive at the site.",
    "wsredis.E209": "uwsgi_pass lacks what uwsgi_params has.",
    "wsredis.E210": "Headers of the handshake, or of its answer, are withheld.",
    "wsredis.W211": "The Origin is withheld, so that pages of every other site may connect.",
}
TARGET = re.compile(r"(?:(?P<scheme>(?!unix:)\w+)://)?(?P<address>unix:[^:]+|[^/?]*)(?P<colon>:?)(?P<path>/.*)?")
NEEDED_PARAMETERS = ("QUERY_STRING", "REQUEST_METHOD", "REQUEST_URI", "PATH_INFO", "SERVER_PROTOCOL", "SERVER_NAME")
NEEDED_HEADERS = ("sec-websocket-key", "sec-websocket-version", "cookie")  # the last for who it is
ANSWER_HEADERS = ("upgrade", "connection", "sec-websocket-accept", "sec-websocket-protocol", "sec-websocket-extensions")
UPGRADES = "proxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection $connection_upgrade;"
MAP = "with, beside the server,\nmap $http_upgrade $connection_upgrade { default upgrade; '' close; }"


def look(route: Route, passing: Directive, url: str, program: Program | None) -> Iterator[Row]:
    """Look at what the location does to a handshake."""
    yield _path(route, passing, url)
    if passing.name == "proxy_pass":
        yield _version(route, program)
        yield _upgrade(route)
    else:
        yield _parameters(route)
    yield _withheld(route, passing)


def target(route: Route, passing: Directive) -> tuple[str, str] | None:
    """Return where it is passed, `name`, `host:port` or `unix:/path`, and the path there, "" for the request's own.

    None if a variable is not known.
    """
    text = route.variables.expand(passing.args[0]) if passing.args else None
    match = text is not None and TARGET.fullmatch(text)
    return (match["address"], match["path"] or "") if match else None


def sent_headers(route: Route) -> dict[str, Directive]:
    """Return what `proxy_set_header` sets, by names in lower case."""
    found = inherited(route.chain, "proxy_set_header")
    return {directive.args[0].lower(): directive for directive in found if len(directive.args) == 2}


def sent_header(route: Route, name: str) -> str | None:
    """Return what the site gets as one header, which nobody sets if it is not set here; None if nobody knows."""
    directive = sent_headers(route).get(name.lower())
    if directive is not None:
        return route.variables.expand(directive.args[1])
    return route.variables.value(f"http_{name.lower().replace('-', '_')}")


def _path(route: Route, passing: Directive, url: str) -> Row:
    arrives = arriving_path(route, passing)
    if arrives is None:
        return skipped("path", f"`{passing.text}` has a variable that is not known here")
    asked = route.request.uri
    if arrives == asked:
        return Row(checked="path", found=f"{asked} arrives as it is")
    changing = route.rewriting[-1] if route.rewriting else passing
    problem = Problem(
        id="wsredis.E206",
        text=f"`{changing.text}` makes {arrives} of {asked}: the site answers 404, since WEBSOCKET_URL is {url}.",
        hint=_keeping(changing),
        place=changing.place,
    )
    return Row(checked="path", found=f"{asked} arrives as {arrives}", problems=(problem,))


def arriving_path(route: Route, passing: Directive) -> str | None:
    """Return the path with which a request arrives at the site; None if a variable is not known."""
    if passing.name == "uwsgi_pass":
        given = [found for found in inherited(route.chain, "uwsgi_param") if found.args[:1] == ("PATH_INFO",)]
        return route.variables.expand(given[-1].args[1]) if given and len(given[-1].args) > 1 else route.uri
    found = target(route, passing)
    if found is None:
        return None
    path = found[1].partition("?")[0]
    if not path or (route.rewriting and "$" not in passing.args[0]):  # a rewritten one is passed on as it is
        return route.uri
    if "$" in passing.args[0]:
        return path
    place = scope(route.location)
    return path + route.uri.removeprefix(place.name) if place.is_prefix else path


def _keeping(changing: Directive) -> str:
    if changing.name != "proxy_pass":
        return f"Remove that line: {changing.text};"
    without = re.sub(r"(://(?:unix:[^:]+:?|[^/]+)).*", r"\1", changing.args[0]).rstrip(":")
    return f"Write it without a path behind the address: proxy_pass {without};"


def _version(route: Route, program: Program | None) -> Row:
    number = program.version if program is not None else ()
    version, directive = setting(route.chain, "proxy_http_version", "1.1" if number >= HTTP_1_1_BY_DEFAULT else "1.0")
    default = ", by default" if number else ", by default before NGiNX 1.29.7"  # mostly it is older than that
    found = f"HTTP/{version}{'' if directive else default}"
    if version == "1.1":
        return Row(checked="proxy_http_version", found=found)
    problem = Problem(
        id="wsredis.E207",
        text=f"Handshakes arrive as {found}: the site answers 400 or 426, since only HTTP/1.1 has an upgrade.",
        hint=f"In `{route.location.text}` write: proxy_http_version 1.1;",
        place=(directive or route.location).place,
    )
    return Row(checked="proxy_http_version", found=found, problems=(problem,))


def _upgrade(route: Route) -> Row:
    given = sent_headers(route)
    values = {name: _value(route, given.get(name), usual) for name, usual in (("upgrade", ""), ("connection", "close"))}
    found = ", ".join(
        f"{name.title()}: {'(unknown)' if value is None else value or '(none)'}" for name, value in values.items()
    )
    undefined = [directive for directive in given.values() if _has_undefined(route, directive)]
    if undefined:
        text = f"`{undefined[0].text}`, and no `map` makes $connection_upgrade: NGiNX does not start."
        problem = Problem(id="wsredis.E208", text=text, hint=f"Write it {MAP}", place=undefined[0].place)
        return Row(checked="Upgrade, Connection", found=found, problems=(problem,))
    if None in values.values():
        return skipped("Upgrade, Connection", f"{found}: a variable is not known here")
    is_right = (values["upgrade"] or "").lower() == "websocket" and "upgrade" in (values["connection"] or "").lower()
    if is_right:
        return Row(checked="Upgrade, Connection", found=found)
    dropped = _dropped(route)
    why = f" `{dropped.text}` at {dropped.place} is not inherited, as {_level(route)} has others." if dropped else ""
    problem = Problem(
        id="wsredis.E208",
        text=f"A handshake arrives with {found}: the site answers 400 or 426.{why}",
        hint=f"In `{route.location.text}` write:\n{UPGRADES}\n{MAP}",
        place=(given.get("upgrade") or given.get("connection") or next(iter(given.values()), route.location)).place,
    )
    return Row(checked="Upgrade, Connection", found=found, problems=(problem,))


def _value(route: Route, directive: Directive | None, usual: str) -> str | None:
    return usual if directive is None else route.variables.expand(directive.args[1])


def _has_undefined(route: Route, directive: Directive) -> bool:
    """Tell whether it has the variable of every guide, which everybody has to define."""
    name = "connection_upgrade"
    is_used = re.search(rf"\$\{{?{name}\b", directive.args[1]) is not None
    is_alone = route.chain[0].line == 0  # a site's file: the map may be in another one
    return is_used and not is_alone and not route.variables.is_defined(name)


def _dropped(route: Route) -> Directive | None:
    """Return the Upgrade of a block outside that does not hold, since an inner one sets other headers."""
    for block in reversed(route.chain):
        for directive in block.all("proxy_set_header"):
            if directive.args[:1] and directive.args[0].lower() == "upgrade":
                return directive if directive not in inherited(route.chain, "proxy_set_header") else None
    return None


def _level(route: Route) -> str:
    block = next(block for block in reversed(route.chain) if block.all("proxy_set_header"))
    return f"`{block.text}`"


def _parameters(route: Route) -> Row:
    given = {found.args[0]: found for found in inherited(route.chain, "uwsgi_param") if found.args}
    missing = [name for name in NEEDED_PARAMETERS if name not in given]
    if not missing:
        return Row(checked="uwsgi_param", found=f"{len(given)} of them; uwsgi_pass upgrades by itself")
    found = f"{', '.join(given) or 'none'}"
    problem = Problem(
        id="wsredis.E209",
        text=f"uwsgi_pass has no {', '.join(missing)}: uWSGI closes what it cannot read, and browsers get 502.",
        hint=f"In `{route.location.text}` write: include /etc/nginx/uwsgi_params;"
        + ("\nAn `uwsgi_param` there drops those of the blocks outside." if given else ""),
        place=next(iter(given.values()), route.location).place,
    )
    return Row(checked="uwsgi_param", found=found, problems=(problem,))


def _withheld(route: Route, passing: Directive) -> Row:
    kind = passing.name.removesuffix("_pass")
    problems = list(_withheld_requests(route, kind))
    for directive in inherited(route.chain, f"{kind}_hide_header"):
        if directive.args and directive.args[0].lower() in ANSWER_HEADERS:
            text = f"`{directive.text}` takes away what the browser must see of the answer: it closes the websocket."
            problems.append(Problem(id="wsredis.E210", text=text, hint="Remove that line.", place=directive.place))
    origin = sent_headers(route).get("origin") if kind == "proxy" else None
    if origin is not None and route.variables.expand(origin.args[1]) == "":
        problem = Problem(
            id="wsredis.W211",
            text=f"`{origin.text}`: a page of any other site may connect with a visitor's cookies.",
            hint="Remove that line. Pages of yours that may connect: CSRF_TRUSTED_ORIGINS = ['https://app.example.com']",
            place=origin.place,
        )
        problems.append(problem)
    found = "; ".join(f"`{problem.place}`" for problem in problems) or "all are passed on"
    return Row(checked="other headers", found=found, problems=tuple(problems))


def _withheld_requests(route: Route, kind: str) -> Iterator[Problem]:
    value, directive = setting(route.chain, f"{kind}_pass_request_headers", "on")
    if value == "off" and directive is not None:
        text = f"`{directive.text}`: neither Sec-WebSocket-Key nor a cookie arrives; the site answers 400 or 426."
        yield Problem(id="wsredis.E210", text=text, hint="Remove that line.", place=directive.place)
    for name in NEEDED_HEADERS if kind == "proxy" else ():
        header = sent_headers(route).get(name)
        if header is not None and route.variables.expand(header.args[1]) == "":
            text = f"`{header.text}`: the site refuses handshakes without it, or takes everybody for nobody."
            yield Problem(id="wsredis.E210", text=text, hint="Remove that line.", place=header.place)
