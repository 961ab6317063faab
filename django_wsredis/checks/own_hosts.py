"""The names under which browsers reach this site, as its settings have them."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings


def need_the_host() -> bool:
    """Tell whether a browser's Origin is refused where a proxy passes on another Host than the browser's.

    It is not where the proxy names that elsewhere, or where the site's own names are among the trusted origins.
    """
    if settings.USE_X_FORWARDED_HOST:
        return False
    trusted = {urlsplit(origin).hostname for origin in settings.CSRF_TRUSTED_ORIGINS}
    return not settings.ALLOWED_HOSTS or not {host.lstrip(".") for host in settings.ALLOWED_HOSTS} <= trusted
