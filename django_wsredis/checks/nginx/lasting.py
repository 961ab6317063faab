"""For how long NGiNX keeps a silent websocket, and what it buffers."""

from __future__ import annotations

from collections.abc import Iterator

from ...conf import Settings
from ..findings import Problem, Row, skipped
from .reading import Directive
from .routes import Route
from .variables import seconds, setting

TITLES = {
    "wsredis.E216": "NGiNX cuts websockets between two pings.",
    "wsredis.W217": "NGiNX waits hardly longer than from one ping to the next.",
}
USUAL = "60s"  # of all of these times
SPARE = 1.25  # times PING_INTERVAL, for a worker that is late


def look(route: Route, passing: Directive, settings: Settings) -> Iterator[Row]:
    """Look at the times, and at buffering."""
    kind = passing.name.removesuffix("_pass")
    yield _reading(route, kind, settings.ping_interval)
    yield _sending(route, kind)
    yield _buffering(route, kind)


def _reading(route: Route, kind: str, ping_interval: float) -> Row:
    """See that the site writes more often than NGiNX waits. (A browser's pong counts, too, but comes later.)"""
    name = f"{kind}_read_timeout"
    text, directive = setting(route.chain, name, USUAL)
    waits = seconds(text)
    if waits is None:
        return skipped(name, f"{text} is no time")
    found = f"{waits:g} s{'' if directive else ', by default'}; PING_INTERVAL is {ping_interval:g} s"
    if waits >= ping_interval * SPARE:
        return Row(checked=name, found=found)
    wanted = max(60, round(3 * ping_interval))
    is_cut = waits <= ping_interval
    problem = Problem(
        id="wsredis.E216" if is_cut else "wsredis.W217",
        text=f"{name} is {waits:g} s, and a silent websocket is pinged each {ping_interval:g} s: "
        + ("it is cut before, with code 1006." if is_cut else "it is cut whenever a worker is late."),
        hint=f"In `{route.location.text}` write: {name} {wanted}s;",
        place=(directive or route.location).place,
    )
    return Row(checked=name, found=found, problems=(problem,))


def _sending(route: Route, kind: str) -> Row:
    """Tell the times that end who takes nothing, be it the site or a browser; silence is none of theirs."""
    site, browser = (setting(route.chain, name, USUAL)[0] for name in (f"{kind}_send_timeout", "send_timeout"))
    return Row(
        checked="send timeouts", found=f"a site that takes nothing: {site}; a browser that takes nothing: {browser}"
    )


def _buffering(route: Route, kind: str) -> Row:
    """Tell the truth that many guides do not: after a 101 nothing is buffered, whatever is set."""
    value, _ = setting(route.chain, f"{kind}_buffering", "on")
    return Row(
        checked=f"{kind}_buffering", found=f"{value}: without effect on websockets, only on pages and event streams"
    )
