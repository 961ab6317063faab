"""What is wrong with the settings for a site that is open to the world; for `check --deploy`, too."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from django.conf import settings as django_settings
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import HttpRequest

from .. import embedded
from ..channels import AUDIENCES
from ..conf import resolve
from .application import application_row
from .findings import Problem, Row, skipped
from .situation import Situation
from .waiting import within

TITLES = {
    "wsredis.W003": "WSGI_APPLICATION is Django's own, which answers websockets with 404.",
    "wsredis.W010": "Every visitor may publish.",
    "wsredis.E011": "The session's cookie does not reach a websocket.",
    "wsredis.W012": "CSRF_TRUSTED_ORIGINS trusts a page by http, on a site of https.",
    "wsredis.W013": "The embedded Redis is for development.",
    "wsredis.E014": "ALLOWED_HOSTS is empty.",
}
PROJECT_SECONDS = 2.0  # that its code may take
PROBE = "wscheck"  # the facility that ALLOWED_CHANNELS is asked about


def look(situation: Situation) -> Iterator[Row]:
    """Look at what differs between a developer's machine and a server."""
    yield _application()
    yield _publishing(situation)
    yield _hosts()
    yield _cookie()
    yield _origins()
    if situation.settings is not None:
        yield _url(situation.settings.url)


def _application() -> Row:
    dotted = django_settings.WSGI_APPLICATION
    if not dotted:
        return Row(checked="application", found="none is named")
    module, _, name = dotted.rpartition(".")
    return application_row(f"{module}:{name}", id="wsredis.W003", place="")


def _publishing(situation: Situation) -> Row:
    """Ask ALLOWED_CHANNELS as a visitor would whom nobody knows."""
    checked = "who may publish"
    if situation.settings is None:
        return skipped(checked, "the settings are wrong")
    if situation.settings.allowed_channels is None:
        return Row(checked=checked, found="the site alone; ALLOWED_CHANNELS would let browsers")
    wanted = [f"publish-{audience}" for audience in AUDIENCES]
    ask, request = situation.settings.allowed_channels, _nobodys_request(situation.settings.websocket_url)
    try:
        granted = within(PROJECT_SECONDS, partial(_granted, ask, request, wanted))
    except PermissionDenied:
        return Row(checked=checked, found="ALLOWED_CHANNELS denies it to who is not logged in")
    except Exception as error:  # whatever the project's code raises, or TimeoutError
        return skipped(checked, f"ALLOWED_CHANNELS failed for who is not logged in, which refuses: {error!r}")
    open_to_all = [name for name in wanted if name in granted]
    if not open_to_all:
        return Row(checked=checked, found="ALLOWED_CHANNELS lets nobody who is not logged in")
    problem = Problem(
        id="wsredis.W010",
        text=f"ALLOWED_CHANNELS grants {', '.join(open_to_all)} to a visitor who is not logged in.",
        hint='Grant it only to some: "publish-…" names only if request.user.is_authenticated, or has a permission. If '
        "everybody may, skip this check.",
    )
    return Row(checked=checked, found="everybody", problems=(problem,))


def _granted(reference: Any, request: HttpRequest, wanted: list[str]) -> list[str]:
    try:
        return list(resolve(reference)(request, wanted))
    finally:
        connections.close_all()  # those of this thread


def _nobodys_request(websocket_url: str) -> HttpRequest:
    """Return the request of a visitor without a session."""
    from django.contrib.auth.models import AnonymousUser  # has models: only when it is needed

    request = HttpRequest()
    request.method = "GET"
    request.path = request.path_info = f"{websocket_url}{PROBE}"
    request.user = AnonymousUser()
    request.session = SessionStore()
    return request


def _hosts() -> Row:
    hosts = list(django_settings.ALLOWED_HOSTS)
    row = Row(checked="ALLOWED_HOSTS", found=", ".join(hosts) or "empty")
    if hosts or django_settings.DEBUG:
        return row
    problem = Problem(
        id="wsredis.E014",
        text="ALLOWED_HOSTS is empty while DEBUG is off: every request and every websocket is refused with 400.",
        hint='ALLOWED_HOSTS = ["example.com"], with the names of the site.',
    )
    return Row(checked=row.checked, found=row.found, problems=(problem,))


def _cookie() -> Row:
    same_site, is_secure = django_settings.SESSION_COOKIE_SAMESITE, django_settings.SESSION_COOKIE_SECURE
    row = Row(checked="session cookie", found=f"SameSite {same_site}, {'' if is_secure else 'not '}Secure")
    if not (same_site == "None" and not is_secure):
        return row
    problem = Problem(
        id="wsredis.E011",
        text="SESSION_COOKIE_SAMESITE is 'None' and SESSION_COOKIE_SECURE False: browsers drop such a cookie, so that "
        "nobody is logged in, on pages and sockets.",
        hint="SESSION_COOKIE_SECURE = True",
    )
    return Row(checked=row.checked, found=row.found, problems=(problem,))


def _origins() -> Row:
    origins = list(django_settings.CSRF_TRUSTED_ORIGINS)
    is_https = django_settings.SECURE_SSL_REDIRECT or django_settings.SESSION_COOKIE_SECURE
    plain = [origin for origin in origins if origin.startswith("http://")] if is_https else []
    lacking = [origin for origin in plain if origin.replace("http://", "https://", 1) not in origins]
    problems = tuple(
        Problem(
            id="wsredis.W012",
            text=f"CSRF_TRUSTED_ORIGINS has {origin!r} and no https, but the site is one of https: pages there are "
            "refused.",
            hint=f"Add {origin.replace('http://', 'https://', 1)!r} to CSRF_TRUSTED_ORIGINS.",
        )
        for origin in lacking
    )
    return Row(checked="CSRF_TRUSTED_ORIGINS", found=", ".join(origins) or "none", problems=problems)


def _url(url: str) -> Row:
    checked = "Redis for production"
    if not embedded.is_embedded(url):
        return Row(checked=checked, found="one of its own")
    if django_settings.DEBUG:
        return Row(checked=checked, found="none, as DEBUG is on")
    problem = Problem(
        id="wsredis.W013",
        text="WSREDIS['URL'] is embedded:// while DEBUG is off: that Redis lives and dies with one runwsserver here.",
        hint='"URL": "redis://localhost:6379/0", or that of your Redis.',
    )
    return Row(checked=checked, found="embedded", problems=(problem,))
