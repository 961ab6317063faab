"""Each way in, down to the site: which location it ends in, and all that this does to a websocket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ...conf import Settings
from ..findings import Problem, Row, skipped
from . import access, host, lasting, passing, scheme, upstreams
from .choosing import ours
from .configuration import Configuration, Directive
from .locations import unreadable
from .reaching import Way, answering, sides
from .routes import Route
from .running import Surroundings

TITLES = {
    "wsredis.E204": "What WEBSOCKET_URL reaches does not pass websockets to the site.",
    "wsredis.W205": "Some websockets below WEBSOCKET_URL reach another location, which does not pass them on.",
}


def look(configuration: Configuration, found: list[Way], settings: Settings, around: Surroundings) -> Iterator[Row]:
    """Look at each way in that leads to this site, once for each location that it ends in."""
    if not found:
        yield _without_server(configuration)
    probed = upstreams.ask([way.route for way in found], settings.websocket_url, around)
    chosen = ours(found, probed, lambda way: _is_right(way, settings, around))
    yield from _others(found, chosen)
    looked_at: set[tuple[int, bool]] = set()
    has_ends = any(not way.route.redirects for way in chosen)
    for way in sorted(chosen, key=lambda way: not way.door.has_tls):  # what is most used comes first
        yield _way(way, is_spare=has_ends and way.route.redirects)
        passed = way.route.passing
        key = (id(way.route.location), way.route.request.http_host == way.route.request.host)
        if passed is None or key in looked_at:
            continue
        looked_at.add(key)
        yield from _passing(way.route, passed, settings, around)
        yield from access.look(way, around.program)
        yield from upstreams.look(way.route, passed, probed, settings, around)
        yield from _sides(way, settings, around)


def _is_right(way: Way, settings: Settings, around: Surroundings) -> bool:
    """Tell whether websockets arrive, if somebody listens there."""
    passed = way.route.passing
    if passed is None:
        return False
    rows = _passing(way.route, passed, settings, around)
    return not any(problem.level == "error" for row in rows for problem in row.problems)


def _others(found: list[Way], chosen: list[Way]) -> Iterator[Row]:
    """Tell which servers are not looked at, each once."""
    seen = {id(way.route.server) for way in chosen}
    others = {id(way.route.server): way for way in found if id(way.route.server) not in seen}
    for way in others.values():
        why = "nothing shows that it is this site's, as another is; if it is, name its host in ALLOWED_HOSTS"
        yield skipped(f"to {way.shown}", f"server at {way.route.server.place}: {why}")


def _without_server(configuration: Configuration) -> Row:
    problem = Problem(
        id="wsredis.E204",
        text=f"{configuration.path} has no server that browsers could reach.",
        hint="`./manage.py wscheck --emit nginx` prints one.",
        place=f"{configuration.path}:1",
    )
    return Row(checked="WEBSOCKET_URL", found="no server", problems=(problem,))


def _way(way: Way, *, is_spare: bool) -> Row:
    """Tell where a way ends. is_spare: it need not lead to the site, as another one does."""
    route = way.route
    by = "" if way.is_named else ", by default"
    head = f"server at {route.server.place}{by}"
    doubts = "".join(f"; not known: `{found.name}` at {found.place}" for found in route.doubtful)
    checked = f"to {way.shown}"
    if route.passing is not None:
        rewritten = "".join(f" → `{found.text}`" for found in route.rewriting)
        found = (
            f"{head}{rewritten} → `{route.location.text}` at {route.location.place} → `{route.passing.text}`{doubts}"
        )
        return Row(checked=checked, found=found)
    found = f"{head}: {answering(route)}{doubts}"
    if is_spare:
        return Row(checked=checked, found=found)
    if route.doubtful:
        return skipped(checked, found)
    hint = f"Pass {way.url} on to the site: `./manage.py wscheck --emit nginx` prints how."
    if route.redirects:
        hint += " A websocket follows no redirect."
    elif route.location.name == "location":
        hint += f" Begin with: location ^~ {way.url} {{"
    problem = Problem(
        id="wsredis.E204",
        text=f"{way.shown} does not reach the site: {answering(route)}.",
        hint=hint,
        place=(route.stop or route.location).place,
    )
    return Row(checked=checked, found=found, problems=(problem,))


def _passing(route: Route, passed: Directive, settings: Settings, around: Surroundings) -> Iterator[Row]:
    """Look at what a location makes of a handshake, and of the websocket."""
    yield from passing.look(route, passed, settings.websocket_url, around.program)
    yield host.look(route, passed, has_own_ports=around.has_own_ports)
    yield scheme.look(route, passed)
    yield from lasting.look(route, passed, settings)


def _sides(way: Way, settings: Settings, around: Surroundings) -> Iterator[Row]:
    """Look at other locations that catch some websockets."""
    caught = []
    for route in sides(way):
        passed = route.passing
        if passed is None:
            caught.append(route)
            continue
        for row in _passing(route, passed, settings, around):
            if row.problems:
                yield replace(row, checked=f"{row.checked} of `{route.location.text}`")
    problems = tuple(
        Problem(
            id="wsredis.W205",
            text=f"{route.request.uri} does not reach the site: {answering(route)}.",
            hint=f"Let no expression and no other prefix come first: location ^~ {way.url} {{"
            if route.location.args[:1] in (("~",), ("~*",))
            else "Remove that location, or give that facility another name.",
            place=(route.stop or route.location).place,
        )
        for route in caught
    )
    found = ", ".join(f"`{route.location.text}` catches {route.request.uri}" for route in caught) or "none in the way"
    yield Row(checked="other locations", found=found, problems=problems)
    for location in unreadable(way.route.server):
        yield skipped("other locations", f"`{location.text}` at {location.place} cannot be read here")
