"""Each way in, down to the site: which location it ends in, and all that this does to a websocket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ...conf import Settings
from ..findings import Problem, Row, skipped
from . import access, host, lasting, passing, scheme, upstreams
from .choosing import ours
from .locations import unreadable
from .reaching import Arrival, answering, sides
from .reading import Configuration, Directive
from .routes import Route
from .running import Surroundings

TITLES = {
    "wsredis.E204": "What WEBSOCKET_URL reaches does not pass websockets to the site.",
    "wsredis.W205": "Some websockets below WEBSOCKET_URL reach another location, which does not pass them on.",
}


def look(configuration: Configuration, found: list[Arrival], settings: Settings, around: Surroundings) -> Iterator[Row]:
    """Look at each arrival that is for this site, once for each location that it ends in."""
    if not found:
        yield _without_server(configuration)
    probed = upstreams.ask([arrival.route for arrival in found], settings.websocket_url, around)
    chosen = ours(found, probed, lambda arrival: _is_right(arrival, settings, around))
    yield from _others(found, chosen)
    looked_at: set[tuple[int, bool]] = set()
    has_ends = any(not arrival.route.redirects for arrival in chosen)
    for arrival in sorted(chosen, key=lambda arrival: not arrival.door.has_tls):  # what is most used comes first
        yield _arrival(arrival, is_spare=has_ends and arrival.route.redirects)
        passed = arrival.route.passing
        key = (id(arrival.route.location), arrival.route.request.http_host == arrival.route.request.host)
        if passed is None or key in looked_at:
            continue
        looked_at.add(key)
        yield from _passing(arrival.route, passed, settings, around)
        yield from access.look(arrival, around.program)
        yield from upstreams.look(arrival.route, passed, probed, settings, around)
        yield from _sides(arrival, settings, around)


def _is_right(arrival: Arrival, settings: Settings, around: Surroundings) -> bool:
    """Tell whether websockets arrive, if somebody listens there."""
    passed = arrival.route.passing
    if passed is None:
        return False
    rows = _passing(arrival.route, passed, settings, around)
    return not any(problem.level == "error" for row in rows for problem in row.problems)


def _others(found: list[Arrival], chosen: list[Arrival]) -> Iterator[Row]:
    """Tell which servers are not looked at, each once."""
    seen = {id(arrival.route.server) for arrival in chosen}
    others = {id(arrival.route.server): arrival for arrival in found if id(arrival.route.server) not in seen}
    for arrival in others.values():
        why = "nothing shows that it is this site's, and another is; if it is, name its host in ALLOWED_HOSTS"
        yield skipped(f"to {arrival.shown}", f"server at {arrival.route.server.place}: {why}")


def _without_server(configuration: Configuration) -> Row:
    problem = Problem(
        id="wsredis.E204",
        text=f"{configuration.path} has no server that browsers could reach.",
        hint="`./manage.py wscheck --emit nginx` prints one.",
        place=f"{configuration.path}:1",
    )
    return Row(checked="WEBSOCKET_URL", found="no server", problems=(problem,))


def _arrival(arrival: Arrival, *, is_spare: bool) -> Row:
    """Tell where an arrival ends. is_spare: it need not lead to the site, as another one does."""
    route = arrival.route
    by = "" if arrival.is_named else ", by default"
    head = f"server at {route.server.place}{by}"
    doubts = "".join(f"; not known: `{found.name}` at {found.place}" for found in route.doubtful)
    checked = f"to {arrival.shown}"
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
    hint = f"Pass {arrival.url} on to the site: `./manage.py wscheck --emit nginx` prints how."
    if route.redirects:
        hint += " A websocket follows no redirect."
    elif route.location.name == "location":
        hint += f" Begin with: location ^~ {arrival.url} {{"
    problem = Problem(
        id="wsredis.E204",
        text=f"{arrival.shown} does not reach the site: {answering(route)}.",
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


def _sides(arrival: Arrival, settings: Settings, around: Surroundings) -> Iterator[Row]:
    """Look at other locations that catch some websockets."""
    caught = []
    for route in sides(arrival):
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
            hint=f"Let no expression and no other prefix come first: location ^~ {arrival.url} {{"
            if route.location.args[:1] in (("~",), ("~*",))
            else "Remove that location, or give that facility another name.",
            place=(route.stop or route.location).place,
        )
        for route in caught
    )
    found = ", ".join(f"`{route.location.text}` catches {route.request.uri}" for route in caught) or "none in the way"
    yield Row(checked="other locations", found=found, problems=problems)
    for location in unreadable(arrival.route.server):
        yield skipped("other locations", f"`{location.text}` at {location.place} cannot be read here")
