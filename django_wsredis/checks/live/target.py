"""What the URL names: a facility, and the scratch facility to which messages go, so that no visitor sees them."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qsl, unquote, urlencode

from django.utils.encoding import iri_to_uri

from ...channels import facility_problem, parse_wish
from ...exceptions import HandshakeError
from ...wording import sentence
from ..findings import Problem, Row
from .way import Broken, Way, seen

SCRATCH = "wscheck"  # what a facility is called, or its last part begins with, that is for our messages alone


def read(way: Way) -> Row:
    """Read the URL."""
    if problem := _read(way):
        text, hint = problem
        wrong = Problem(id="wsredis.E601", text=f"URL: {text}", hint=f"Write --live '{hint}'")
        raise Broken(seen(way.url.path or "no path", wrong))
    named = f"facility {way.facility}" if way.facility else "no facility"
    where = "itself" if way.scratch == way.facility else way.scratch
    return seen(f"{way.shown}: {named}; messages go to {where}")


def _read(way: Way) -> tuple[str, str] | None:
    """Return what is wrong, and the URL to write."""
    websocket_url = way.settings.websocket_url
    try:
        way.port  # noqa: B018  urllib looks at it when it is read
    except ValueError as error:
        host = f"[{way.host}]" if ":" in way.host else way.host
        return sentence(str(error)), f"{way.url.scheme}://{host}{websocket_url}"
    path = way.url.path if way.url.path.endswith("/") or way.url.path + "/" != websocket_url else websocket_url
    head, found, tail = path.partition(websocket_url)
    example = f"{way.url.scheme}://{way.netloc}{websocket_url}"
    if not found:
        return f"{way.url.path or '/'} is not below WEBSOCKET_URL, {websocket_url!r}.", f"{example}news"
    way.base, way.facility = head + found, unquote(tail)
    if way.facility and (problem := facility_problem(way.facility)):
        return f"{way.facility!r} is no facility: {problem}.", f"{example}news"
    way.scratch = _scratch(way.facility)
    try:
        parse_wish(f"{way.url.query}&subscribe-broadcast")
    except HandshakeError as error:
        return sentence(str(error)), f"{example}{tail or 'news'}?subscribe-broadcast"
    return None


def _scratch(facility: str) -> str:
    """Return the facility for our messages: below the one that the URL names, as that is heard by visitors."""
    if facility.rpartition("/")[2].startswith(SCRATCH):
        return facility
    name = f"{SCRATCH}-{secrets.token_hex(6)}"
    below = f"{facility.rstrip('/')}/{name}" if facility else name
    return name if facility_problem(below) else below  # too long


def url_path(way: Way) -> str:
    """Return the path of the URL, with a query that asks for something, and with --user for what is the user's."""
    if way.is_all_scratch:
        return scratch_path(way)
    names = {name.lower() for name, _ in parse_qsl(way.url.query, keep_blank_values=True)}
    wanted = [] if any(map(_is_wish, names)) else ["subscribe-broadcast"]
    if way.situation.user and "subscribe-user" not in names:
        wanted.append("subscribe-user")
    return _path(way, way.facility, iri_to_uri(way.url.query), wanted)


def scratch_path(way: Way) -> str:
    """Return the path of the scratch facility: what is not ours in the URL's query, such as a token, is in it."""
    pairs = parse_qsl(way.url.query, keep_blank_values=True)
    others = [(name, value) for name, value in pairs if not _is_wish(name.lower()) and name != "since"]
    wanted = ["subscribe-broadcast", "subscribe-user"] if way.situation.user else ["subscribe-broadcast"]
    return _path(way, way.scratch, urlencode(others), wanted)


def _path(way: Way, facility: str, query: str, wanted: list[str]) -> str:
    return f"{way.path_of(facility)}?{'&'.join(filter(None, [query, *wanted]))}"


def _is_wish(name: str) -> bool:
    return name.startswith(("subscribe-", "publish-"))
