"""Which of several servers are this site's: by name, by what answers behind them, or by what they do to websockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from . import upstreams
from .probing import Probed
from .reaching import Arrival


def meant(found: Iterable[Arrival]) -> list[Arrival]:
    """Return those that may be for this site: by a name, by a location for websockets, or since they pass something on.

    By a name of the machine itself come monitors and others as well.
    """
    found = list(found)
    is_named = any(arrival.is_named and not arrival.route.redirects for arrival in found)
    asked = [arrival for arrival in found if arrival.is_named or not is_named]
    chosen = [arrival for arrival in asked if arrival.concerns_us or arrival.route.redirects or arrival.has_own_name]
    return chosen if any(arrival.concerns_us or arrival.has_own_name for arrival in chosen) else []


def ours(found: list[Arrival], probed: Mapping[str, Probed], is_right: Callable[[Arrival], bool]) -> list[Arrival]:
    """Return the arrivals whose server is this site's, of all that are meant.

    Where ALLOWED_HOSTS names the host, or this site answers behind a server, that is certain. Else those are taken that
    pass websockets well; of wrong ones those with a location for them; else all. A redirect leads to one or the other.
    """
    told = [arrival for arrival in found if arrival.has_own_name or _leads_to_site(arrival, probed)]
    chosen = [arrival for arrival in told if not arrival.route.redirects]
    if not chosen:
        ends = [arrival for arrival in found if not arrival.route.redirects]
        located = [arrival for arrival in ends if arrival.has_location]
        chosen = [arrival for arrival in ends if is_right(arrival)] or located or ends
    servers = {id(arrival.route.server) for arrival in chosen}
    return [arrival for arrival in found if id(arrival.route.server) in servers or arrival.route.redirects]


def _leads_to_site(arrival: Arrival, probed: Mapping[str, Probed]) -> bool:
    """Tell whether the site answers behind some location of the server, be it that websockets do not get there."""
    return any(probed[upstream.text].is_site for upstream, _ in upstreams.of_server(arrival.route))
