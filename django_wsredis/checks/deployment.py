"""What is wrong with the settings for a site that is open to the world; for `check --deploy`, too."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings as django_settings
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest
from django.utils.module_loading import import_string

from .. import embedded
from ..channels import AUDIENCES
from ..conf import resolve
from .findings import Problem, Row, skipped
from .situation import Situation

TITLES = {
    "wsredis.W003": "WSGI_APPLICATION is Django's own, which answers websockets with 404.",
    "wsredis.W010": "Every visitor may publish.",
    "wsredis.E011": "The session's cookie does not reach a websocket.",
    "wsredis.W012": "CSRF_TRUSTED_ORIGINS trusts a page by http, on a site of https.",
    "wsredis.W013": "The embedded Redis is for development.",
}
PROBE = "wscheck"  # the facility that ALLOWED_CHANNELS is asked about


def look(situation: Situation) -> Iterator[Row]:
    """Look at what differs between a developer's machine and a server."""
    yield _application()
    yield _publishing(situation)
    yield _cookie()
    yield _origins()
    if situation.settings is not None:
        yield _url(situation.settings.url)


def _application() -> Row:
    dotted = django_settings.WSGI_APPLICATION
    try:
        application = dotted and import_string(dotted)
    except ImportError:  # Django's own commands say that well
        application = None
    if not isinstance(application, WSGIHandler):  # ours, or one that wraps another
        return Row(checked="WSGI_APPLICATION", found=str(dotted))
    problem = Problem(
        id="wsredis.W003",
        text=f"{dotted} is Django's own application: under uWSGI and gunicorn every websocket gets 404.",
        hint="In wsgi.py, import get_wsgi_application from django_wsredis.wsgi. (runwsserver needs no change.)",
    )
    return Row(checked="WSGI_APPLICATION", found=dotted, problems=(problem,))


def _publishing(situation: Situation) -> Row:
    """Ask ALLOWED_CHANNELS as a visitor would whom nobody knows."""
    checked = "who may publish"
    if situation.settings is None:
        return skipped(checked, "the settings are wrong")
    if situation.settings.allowed_channels is None:
        return Row(checked=checked, found="the site alone; ALLOWED_CHANNELS would let browsers")
    wanted = [f"publish-{audience}" for audience in AUDIENCES]
    try:
        granted = resolve(situation.settings.allowed_channels)(_nobodys_request(situation), list(wanted))
        open_to_all = [name for name in wanted if name in granted]
    except Exception as error:  # the project's code; PermissionDenied is what is hoped for
        return Row(checked=checked, found=f"ALLOWED_CHANNELS refuses nobody's request ({type(error).__name__})")
    if not open_to_all:
        return Row(checked=checked, found="ALLOWED_CHANNELS lets nobody who is not logged in")
    problem = Problem(
        id="wsredis.W010",
        text=f"ALLOWED_CHANNELS grants {', '.join(open_to_all)} to a visitor who is not logged in.",
        hint='Grant it only to some: "publish-…" names only if request.user.is_authenticated, or has a permission. If '
        "everybody may, skip this check.",
    )
    return Row(checked=checked, found="everybody", problems=(problem,))


def _nobodys_request(situation: Situation) -> HttpRequest:
    """Return the request of a visitor without a session."""
    from django.contrib.auth.models import AnonymousUser  # has models: only when it is needed

    request = HttpRequest()
    request.method = "GET"
    request.path = request.path_info = f"{situation.settings.websocket_url}{PROBE}" if situation.settings else "/"
    request.user = AnonymousUser()
    request.session = SessionStore()
    return request


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
