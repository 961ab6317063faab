"""What is wrong with the rest of the site, as far as websockets depend on it: its URLs, and its pings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.urls import URLPattern, URLResolver, get_resolver, get_script_prefix
from django.urls.resolvers import RoutePattern

from ..rules import is_websocket_url
from .findings import Problem, Row, skipped
from .situation import Situation

TITLES = {
    "wsredis.W005": "A URL pattern is below WEBSOCKET_URL, so its page is never served.",
    "wsredis.E006": "STATIC_URL or MEDIA_URL and WEBSOCKET_URL are below each other.",
    "wsredis.W007": "PING_INTERVAL is longer than proxies wait.",
    "wsredis.W020": "FORCE_SCRIPT_NAME and WEBSOCKET_URL do not fit together.",
}

# Debian's haproxy.cfg has 50 s; Heroku's router cuts after 55; NGiNX, Apache, uWSGI's router, and load balancers of
# Amazon and Azure after 60 s and more.
PROXY_SECONDS = 50
SPECIAL = re.compile(r"[\\.*+?(\[{|$^]")  # with which a regular expression stops being a plain text


def look(situation: Situation) -> Iterator[Row]:
    """Look at what the settings beside `WSREDIS` say."""
    if situation.settings is None or not is_websocket_url(situation.settings.websocket_url):
        yield skipped("URLs, pings", "the settings are wrong")
    else:
        url = situation.settings.websocket_url
        yield _patterns(url)
        yield _files(url)
        yield _script_name(url)
        yield _pings(situation.settings.ping_interval)


def _patterns(websocket_url: str) -> Row:
    try:
        below = [text for text in _texts(get_resolver().url_patterns, "/") if text.startswith(websocket_url)]
    except Exception as error:  # whatever the project's modules raise; Django's own check tells it
        return skipped("URL patterns", f"ROOT_URLCONF cannot be used: {error}")
    problems = tuple(
        Problem(
            id="wsredis.W005",
            text=f"The URL pattern {text} is below WEBSOCKET_URL {websocket_url}: its page is never served.",
            hint='WEBSOCKET_URL = "/sockets/", here and where a proxy names it; or move the pattern elsewhere.',
        )
        for text in below
    )
    return Row(checked="URL patterns", found=", ".join(below) or f"none is below {websocket_url}", problems=problems)


def _texts(patterns: list[Any], before: str) -> Iterator[str]:
    """Yield what each pattern of a page surely begins with."""
    for pattern in patterns:
        text, is_whole = _text(pattern.pattern)
        if isinstance(pattern, URLResolver) and is_whole:
            yield from _texts(pattern.url_patterns, before + text)
        elif isinstance(pattern, (URLPattern, URLResolver)):
            yield before + text


def _text(pattern: Any) -> tuple[str, bool]:
    """Return the plain text with which a pattern begins, and whether that is all of it."""
    text = str(pattern)
    if isinstance(pattern, RoutePattern) or not hasattr(pattern, "_regex"):  # path(), or the prefix of a language
        plain = text.partition("<")[0]
        return plain, plain == text
    text = text.removeprefix("^")
    found = SPECIAL.search(text)
    return (text[: found.start()], False) if found else (text, True)


def _files(websocket_url: str) -> Row:
    prefix = get_script_prefix()  # FORCE_SCRIPT_NAME, which Django has put before what is relative, even ""; or "/"
    given = {name: getattr(django_settings, name) for name in ("STATIC_URL", "MEDIA_URL")}
    paths = {name: urlsplit(url).path for name, url in given.items() if url and not urlsplit(url).netloc}
    paths = {name: path for name, path in paths.items() if path != prefix}
    # what the site itself is asked for
    behind = {name: f"/{path.removeprefix(prefix).lstrip('/')}" for name, path in paths.items()}
    problems = tuple(
        Problem(
            id="wsredis.E006",
            text=f"{name} is {paths[name]}, and WEBSOCKET_URL {websocket_url}: one is below the other.",
            hint=f'{name} = "/{name.partition("_")[0].lower()}/" and WEBSOCKET_URL = "/ws/"',
        )
        for name, path in behind.items()
        if path.startswith(websocket_url) or websocket_url.startswith(path)
    )
    return Row(
        checked="static files, media",
        found=", ".join(f"{name} {path}" for name, path in paths.items()) or "none on this site",
        problems=problems,
    )


def _script_name(websocket_url: str) -> Row:
    """Look at the prefix that a proxy takes off: the context processor puts it before WEBSOCKET_URL again."""
    name = django_settings.FORCE_SCRIPT_NAME
    prefix = (name or "").rstrip("/")
    row = Row(checked="FORCE_SCRIPT_NAME", found=name or "none")
    if prefix and not prefix.startswith("/"):
        text = f"FORCE_SCRIPT_NAME is {name!r}, without a slash before it: WEBSOCKET_URI is ws://HOST{prefix}{websocket_url}."
        hint = f'FORCE_SCRIPT_NAME = "/{prefix}"'
    elif prefix and websocket_url.startswith(f"{prefix}/") and websocket_url != f"{prefix}/":
        text = (
            f"WEBSOCKET_URL, {websocket_url}, has FORCE_SCRIPT_NAME, {name}, at its beginning, which WEBSOCKET_URI has "
            f"before it once more: pages connect to {prefix}{websocket_url}."
        )
        hint = f'WEBSOCKET_URL = "{websocket_url.removeprefix(prefix)}": it is what the proxy leaves of the path.'
    else:
        return row
    problem = Problem(id="wsredis.W020", text=text, hint=hint)
    return Row(checked=row.checked, found=row.found, problems=(problem,))


def _pings(interval: float) -> Row:
    row = Row(checked="PING_INTERVAL", found=f"{interval:g} s")
    if interval < PROXY_SECONDS:
        return row
    problem = Problem(
        id="wsredis.W007",
        text=f"WSREDIS['PING_INTERVAL'] is {interval:g} s: most proxies cut a connection that is silent for 60 s, some "
        f"for {PROXY_SECONDS}.",
        hint='WSREDIS = {"PING_INTERVAL": 20, …}, the default; or see that every proxy on the way waits longer.',
    )
    return Row(checked=row.checked, found=row.found, problems=(problem,))
