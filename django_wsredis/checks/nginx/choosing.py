"""Which of several servers are this site's: by name, by what answers behind them, or by what they do to websockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from django.conf import settings as django_settings
from django.utils.http import is_same_domain

from . import upstreams
from .probing import Found
from .reaching import Way


def meant(found: Iterable[Way]) -> list[Way]:
    """Return those that may be for this site: by a name, by a location for websockets, or since they pass something on.

    By a name of the machine itself come monitors and others as well.
    """
    found = list(found)
    is_named = any(way.is_named and not way.route.redirects for way in found)
    asked = [way for way in found if way.is_named or not is_named]
    chosen = [way for way in asked if way.concerns_us or way.route.redirects or way.has_own_name]
    return chosen if any(way.concerns_us or way.has_own_name for way in chosen) else []


def ours(found: list[Way], probed: Mapping[str, Found], is_right: Callable[[Way], bool]) -> list[Way]:
    """Return the ways whose server is this site's, of all that are meant.

    Where ALLOWED_HOSTS names the host, or this site answers behind a server, that is certain. Else those are taken that
    pass websockets well; of wrong ones those with a location for them; else all. A redirect leads to one or the other.
    """
    told = [way for way in found if _is_allowed_by_name(way) or _leads_to_site(way, probed)]
    chosen = [way for way in told if not way.route.redirects]
    if not chosen:
        ends = [way for way in found if not way.route.redirects]
        chosen = [way for way in ends if is_right(way)] or [way for way in ends if way.has_location] or ends
    servers = {id(way.route.server) for way in chosen}
    return [way for way in found if id(way.route.server) in servers or way.route.redirects]


def _is_allowed_by_name(way: Way) -> bool:
    names = [host for host in django_settings.ALLOWED_HOSTS if host != "*"]
    return way.has_own_name and any(is_same_domain(way.route.request.host, name) for name in names)


def _leads_to_site(way: Way, probed: Mapping[str, Found]) -> bool:
    return any(probed[upstream.text].is_site for upstream in upstreams.of(way.route) or ())
