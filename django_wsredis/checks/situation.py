"""What there is to check: the project's settings, and the files and addresses that the command line names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from ..conf import Settings, get_settings


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What the areas look at. Of a file that is None, the usual place is looked at, or what is running.

    haproxy_conf: a file, or a folder of them. live: a websocket's URL, ws:// or wss://, which leads through everything;
    "" for none. user: the name of the user who connects there, "" for nobody. idle: seconds for which its socket is
    silent.
    """

    nginx_conf: Path | None = None
    uwsgi_conf: Path | None = None
    gunicorn_conf: Path | None = None
    apache_conf: Path | None = None
    haproxy_conf: Path | None = None
    live: str = ""
    user: str = ""
    idle: float = 0.0
    is_insecure: bool = False

    @cached_property
    def settings(self) -> Settings | None:
        """The project's settings; None if they are wrong, which the area `settings` tells."""
        try:
            return get_settings()
        except ImproperlyConfigured:
            return None
