"""Which ways a browser's handshake can take: by each address and host, and below WEBSOCKET_URL by other locations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from django.conf import settings as django_settings
from django.utils.http import is_same_domain

from ...channels import facility_problem
from .locations import scope
from .reading import Directive
from .routes import OTHER_PASSES, PASSES, Route, follow
from .servers import Door, doors, plain_names
from .variables import Request

FACILITY = "anything"  # for which no location is likely to be


LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A browser's handshake at a server, by one door.

    is_named: whether the server has the host's name, or gets what no other server does.
    """

    door: Door
    is_named: bool
    route: Route
    url: str

    @property
    def concerns_us(self) -> bool:
        """Tell whether the server is, by what it has, meant for this site."""
        return self.has_location or any(directive.name in PASSES for directive in self.route.server.walk())

    @property
    def has_own_name(self) -> bool:
        """Tell whether the server has the host's name, and ALLOWED_HOSTS has it as one of the site alone."""
        names = [host for host in django_settings.ALLOWED_HOSTS if host != "*"]
        host = self.route.request.host
        return self.is_named and host not in LOCAL_HOSTS and any(is_same_domain(host, name) for name in names)

    @property
    def rank(self) -> tuple[bool, bool]:
        """What is best of several hosts that lead to the same server."""
        return self.is_named and self.route.request.host not in LOCAL_HOSTS, self.is_named

    @property
    def has_location(self) -> bool:
        """Tell whether the server has a location for websockets."""
        locations = (found for found in self.route.server.walk() if found.name == "location")
        return any(self.url.rstrip("/") in scope(location).name for location in locations)

    @property
    def shown(self) -> str:
        """The URL, for people."""
        return self.route.request.shown


def arrivals(http: Directive, url: str) -> list[Arrival]:
    """Return each arrival once: by the hosts of ALLOWED_HOSTS, or those of the servers if that allows every host."""
    found: dict[tuple[int, int, bool], Arrival] = {}
    for door in doors(http):
        if door.is_udp:
            continue
        for host in hosts(http):
            server, is_named = door.choose(host)
            key = (id(server), door.port, door.has_tls)
            request = Request(host=host, port=door.port, has_tls=door.has_tls, uri=url + FACILITY)
            arrival = Arrival(door=door, is_named=is_named, route=follow(http, server, request), url=url)
            if key not in found or arrival.rank > found[key].rank:
                found[key] = arrival
    return list(found.values())


def hosts(http: Directive) -> list[str]:
    """Return the hosts by which browsers come."""
    allowed = django_settings.ALLOWED_HOSTS
    of_servers = [name for server in http.all("server") for name in plain_names(server)]
    if not allowed or "*" in allowed:
        return [*dict.fromkeys(of_servers), "localhost"]
    named = [name for name in of_servers if any(host[0] == "." and is_same_domain(name, host) for host in allowed)]
    return [*dict.fromkeys([*(host.removeprefix(".") for host in allowed), *named])]


def sides(arrival: Arrival) -> Iterator[Route]:
    """Yield a route for each other location that catches some facilities below WEBSOCKET_URL."""
    http, server, *_ = arrival.route.chain
    seen = {id(arrival.route.location)}
    for location in list(server.walk()):
        if location.name != "location" or id(location) in seen:
            continue
        for facility in _facilities(scope(location).name, arrival.url, is_expression=scope(location).is_expression):
            route = follow(http, server, replace(arrival.route.request, uri=arrival.url + facility))
            if route.location is location:
                seen.add(id(location))
                yield route
                break


def _facilities(name: str, url: str, *, is_expression: bool) -> Iterator[str]:
    """Yield facilities that a location may be for: what it names itself, or what the words of an expression end."""
    if is_expression:
        words = dict.fromkeys(re.findall(r"[A-Za-z0-9_-]+", re.sub(r"\\[a-zA-Z]", " ", name)))
        tried = [text for word in words for text in (f"{FACILITY}.{word}", word, f"{word}/{FACILITY}")]
    else:
        tried = [name.removeprefix(url) + ending for ending in ("", FACILITY)] if name.startswith(url) else []
    yield from (facility for facility in tried if not facility_problem(facility))


def answering(route: Route) -> str:
    """Return what answers instead of the site, for people."""
    if route.stop is not None:
        return f"`{route.stop.text}` at {route.stop.place} answers"
    location = route.location
    if location.name == "server":
        return f"no location of the server at {location.place} is for it"
    other = next((found for found in location.block or () if found.name in OTHER_PASSES), None)
    if other is not None:
        return f"`{location.text}` has `{other.text}`, which has no websockets"
    return f"`{location.text}` at {location.place} passes nothing on: it serves files"
