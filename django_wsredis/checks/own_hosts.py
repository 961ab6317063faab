"""The names under which browsers reach this site, as its settings have them."""

from __future__ import annotations

from fnmatch import fnmatch
from urllib.parse import urlsplit

from django.conf import settings


def allowed_hosts() -> list[str]:
    """Return ALLOWED_HOSTS without what is no text."""
    return [host for host in settings.ALLOWED_HOSTS if isinstance(host, str)]


def own_names() -> list[str]:
    """Return the names in ALLOWED_HOSTS but "*", in lower case.

    `.example.com` stands for any host below that domain, which is one itself, and comes before it.
    """
    names = [host.lower() for host in allowed_hosts() if host != "*"]
    return [each for name in names for each in ([name[1:], name] if name.startswith(".") else [name])]


def is_called(own: str, name: str) -> bool:
    """Tell whether a name that a proxy has for a site, maybe one with * and ?, fits one of own_names()."""
    name = name.lower()
    if own.startswith("."):
        return fnmatch(name, f"*{own}") or fnmatch(f"x{own}", name)
    return name == own or fnmatch(own, name)


def need_the_host() -> bool:
    """Tell whether a browser's Origin is refused where a proxy passes on another Host than the browser's.

    It is not where the proxy names that elsewhere, or where the site's own names are among the trusted origins.
    """
    if settings.USE_X_FORWARDED_HOST:
        return False
    trusted = {urlsplit(origin).hostname for origin in settings.CSRF_TRUSTED_ORIGINS}
    return not allowed_hosts() or not {host.lstrip(".") for host in allowed_hosts()} <= trusted
