"""What is wrong with the websocket views of a site."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from ..routes import views_alone
from ..views.admission import OPTIONS
from ..wording import of_them
from .findings import Problem, Row, skipped
from .situation import Situation

TITLES = {
    "wsredis.E030": "WEBSOCKET_URLCONF cannot be used.",
    "wsredis.W031": "A view of WEBSOCKET_URLCONF is no websocket view.",
    "wsredis.E032": "WEBSOCKET_HOST is no host.",
}

HOST = re.compile(r"[A-Za-z0-9._-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")


def look(situation: Situation) -> Iterator[Row]:
    """Look at `WEBSOCKET_URLCONF` and `WEBSOCKET_HOST`."""
    if situation.settings is None:
        yield skipped("websocket views", "the settings are wrong")
        return
    if situation.settings.websocket_urlconf is not None:
        yield _urlconf(situation.settings.websocket_urlconf)
    if situation.settings.websocket_host:
        yield _host(situation.settings.websocket_host)


def _urlconf(name: Any) -> Row:
    try:
        patterns = list(_patterns(get_resolver(views_alone()).url_patterns, "/"))  # type: ignore[arg-type]
    except Exception as error:  # whatever the project's modules raise
        problem = Problem(
            id="wsredis.E030",
            text=f"WEBSOCKET_URLCONF is {name!r}: {type(error).__name__}: {error}",
            hint='WEBSOCKET_URLCONF = "mysite.sockets": a module that can be imported, with urlpatterns as in urls.py.',
        )
        return Row(checked="WEBSOCKET_URLCONF", found="it cannot be used", problems=(problem,))
    problems = tuple(
        Problem(
            id="wsredis.W031",
            text=f"{path} leads to {_name(callback)}, which is no websocket view: a websocket there is refused (500).",
            hint=_mending(callback),
        )
        for path, callback in patterns
        if not hasattr(callback, OPTIONS)
    )
    return Row(checked="WEBSOCKET_URLCONF", found=of_them(len(patterns), "view"), problems=problems)


def _patterns(patterns: list[Any], before: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        path = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _patterns(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern):
            yield path, pattern.callback


def _mending(callback: Any) -> str:
    if isinstance(callback, type):
        return f"Write {callback.__name__}.as_view() there."
    return f"Put @websocket (django_wsredis.views) on {_name(callback)}, or move its path to ROOT_URLCONF."


def _name(callback: Any) -> str:
    return f"{callback.__module__}.{getattr(callback, '__qualname__', type(callback).__qualname__)}"


def _host(host: Any) -> Row:
    row = Row(checked="WEBSOCKET_HOST", found=str(host))
    if isinstance(host, str) and HOST.fullmatch(host):
        return row
    problem = Problem(
        id="wsredis.E032",
        text=f"WEBSOCKET_HOST is {host!r}.",
        hint='WEBSOCKET_HOST = "sockets.example.com": a host, or host:port, without a scheme or a path.',
    )
    return Row(checked=row.checked, found=row.found, problems=(problem,))
