"""What is wrong with the settings for a site that is open to the world; for `check --deploy`, too."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings as django_settings

from .. import embedded
from ..rules import is_allowed_host
from . import permissions, visitors
from .application import application_row
from .findings import Problem, Row
from .greenlets import patched_modules
from .own_hosts import allowed_hosts
from .situation import Situation

TITLES = {
    "wsredis.W003": "WSGI_APPLICATION is Django's own, which answers websockets with 404.",
    "wsredis.W010": "Every visitor may publish.",
    "wsredis.E011": "The session's cookie does not reach a websocket.",
    "wsredis.W012": "CSRF_TRUSTED_ORIGINS trusts a page by http, on a site of https.",
    "wsredis.W013": "The embedded Redis is for development.",
    "wsredis.E014": "ALLOWED_HOSTS is empty, or has no name of a host.",
    "wsredis.W015": "The project has gevent patch a part of Python.",
    "wsredis.E016": "ALLOWED_CHANNELS returns what is no list of names.",
    "wsredis.W017": "The session's cookie goes out by http, too, on a site of https.",
    "wsredis.W018": "CSRF_TRUSTED_ORIGINS trusts the sites of others.",
    "wsredis.W019": "A trusted page of another site comes without the session's cookie.",
}
OF_DEVELOPERS = ("localhost", "127.0.0.1", "[::1]", "testserver", "*")  # in ALLOWED_HOSTS; and names below .localhost


def look(situation: Situation) -> Iterator[Row]:
    """Look at what differs between a developer's machine and a server."""
    yield _application()
    yield _patching()
    yield from permissions.rows(situation)
    yield _hosts()
    yield from visitors.rows()
    if situation.settings is not None:
        yield _url(situation.settings.url)


def _application() -> Row:
    dotted = django_settings.WSGI_APPLICATION
    if not dotted:
        return Row(checked="application", found="none is named")
    module, _, name = dotted.rpartition(".")
    return application_row(f"{module}:{name}", id="wsredis.W003", place="")


def _patching() -> Row:
    """Look at what gevent has patched, now that the application has been imported."""
    checked = "monkey patching"
    patched, others = patched_modules()
    if not (patched and others):
        return Row(checked=checked, found=", ".join(patched) or "nothing, as it should be")
    lacking = ", ".join(others)
    problem = Problem(
        id="wsredis.W015",
        text=f"The project's code has gevent patch {', '.join(patched)}, and not {lacking}: what it did not patch "
        "holds up all greenlets; and with socket alone uWSGI's and gunicorn's workers are taken for gevent's.",
        hint="Remove it: nothing here needs it. Or patch all, in the first two lines of wsgi.py: "
        "from gevent import monkey; monkey.patch_all()",
    )
    return Row(checked=checked, found=f"{', '.join(patched)}; not {lacking}", problems=(problem,))


def _hosts() -> Row:
    hosts = list(django_settings.ALLOWED_HOSTS)
    row = Row(checked="ALLOWED_HOSTS", found=", ".join(map(str, hosts)) or "empty")
    if any(map(is_allowed_host, django_settings.ALLOWED_HOSTS)) or (django_settings.DEBUG and not hosts):
        return row
    what = (
        f"has only {hosts[0]!r}, and the like, which is no name of a host" if hosts else "is empty while DEBUG is off"
    )
    problem = Problem(
        id="wsredis.E014",
        text=f"ALLOWED_HOSTS {what}: every request and every websocket is refused with 400.",
        hint='ALLOWED_HOSTS = ["example.com"], with the names of the site, and neither scheme nor port.',
    )
    return Row(checked=row.checked, found=row.found, problems=(problem,))


def _url(url: str) -> Row:
    checked = "Redis for production"
    if not embedded.is_embedded(url):
        return Row(checked=checked, found="one of its own")
    public = [host for host in allowed_hosts() if host not in OF_DEVELOPERS and not host.endswith(".localhost")]
    if django_settings.DEBUG and not public:
        return Row(checked=checked, found="none, as DEBUG is on")
    why = f"ALLOWED_HOSTS has {public[0]}" if django_settings.DEBUG else "DEBUG is off"
    problem = Problem(
        id="wsredis.W013",
        text=f"WSREDIS['URL'] is embedded:// while {why}: that Redis lives and dies with one runwsserver here.",
        hint='"URL": "redis://localhost:6379/0", or that of your Redis.',
    )
    return Row(checked=checked, found="embedded", problems=(problem,))
