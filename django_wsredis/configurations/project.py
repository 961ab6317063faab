"""What a configuration needs to know of the project: its settings, and where it is."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import ENVIRONMENT_VARIABLE
from django.conf import settings as django_settings

from ..conf import get_settings
from ..rules import is_allowed_host

# A developer's own settings have DEBUG on and so no drain: what they are printed for has one.
MIN_DRAIN_SECONDS = 5
APPLICATION = re.compile(r"[\w.]+:\w+")
DEFAULT_TIMEOUT_SECONDS = 60  # of NGiNX, Apache and uWSGI alike

TLS_HEADER = "HTTP_X_FORWARDED_PROTO"


@dataclass(frozen=True, kw_only=True)
class Project:
    """The project, as its settings tell it; a path that is not known is empty."""

    name: str
    websocket_url: str
    settings_module: str
    application: str  # module:name
    root: Path  # the folder from which it is imported
    virtualenv: str
    manage: str  # the command line before "runwsserver"
    static_url: str
    static_root: str
    hosts: tuple[str, ...]  # as ALLOWED_HOSTS has them; none: any
    tls_header: str  # as SECURE_PROXY_SSL_HEADER has it, if it is the usual one
    ping_interval: float  # seconds
    drain_seconds: int

    @property
    def timeout_seconds(self) -> int:
        """What a proxy should wait for: well above the interval of pings, and never less than is usual for pages."""
        return max(DEFAULT_TIMEOUT_SECONDS, math.ceil(3 * self.ping_interval))

    @property
    def server_names(self) -> list[str]:
        """The hosts as Apache names them: ALLOWED_HOSTS has `.example.com` for a domain and all below it."""
        return [name for host in self.hosts for name in ([host[1:], f"*{host}"] if host[0] == "." else [host])]


def read_project(application: str | None = None) -> Project:
    """Return what the settings say. Raises ValueError if no WSGI application is named."""
    settings = get_settings()
    application = application or dotted_application()
    if not APPLICATION.fullmatch(application):
        raise ValueError(f"{application!r} is no WSGI application; write module:name, as mysite.wsgi:application")
    package = application.partition(":")[0].partition(".")[0]
    return Project(
        name=package,
        websocket_url=settings.websocket_url,
        settings_module=os.environ.get(ENVIRONMENT_VARIABLE, ""),
        application=application,
        root=root_of(package),
        virtualenv=sys.prefix if sys.prefix != sys.base_prefix else "",
        manage=manage_command(),
        static_url=urlsplit(django_settings.STATIC_URL or "").path if is_own_url(django_settings.STATIC_URL) else "",
        static_root=os.path.abspath(django_settings.STATIC_ROOT) if django_settings.STATIC_ROOT else "",
        hosts=()
        if "*" in django_settings.ALLOWED_HOSTS
        else tuple(filter(is_allowed_host, django_settings.ALLOWED_HOSTS)),
        tls_header=TLS_HEADER if TLS_HEADER in (django_settings.SECURE_PROXY_SSL_HEADER or ()) else "",
        ping_interval=settings.ping_interval,
        drain_seconds=max(math.ceil(settings.drain_seconds), MIN_DRAIN_SECONDS),
    )


def dotted_application() -> str:
    """Return WSGI_APPLICATION as servers name it, `module:name`. Raises ValueError."""
    dotted = django_settings.WSGI_APPLICATION
    if not dotted:
        raise ValueError("WSGI_APPLICATION is not set; set it, or name the application with --module mysite.wsgi:name")
    module, _, name = dotted.rpartition(".")
    return f"{module}:{name}"


def is_own_url(url: str | None) -> bool:
    """Tell whether static files are served below a path of this site, and not by another one."""
    return bool(url) and not urlsplit(url or "").netloc and url != "/"


def root_of(package: str) -> Path:
    """Return the folder from which a package is imported; the current one if it cannot be."""
    spec = importlib.util.find_spec(package)
    if spec is None or not (spec.origin or spec.submodule_search_locations):
        return Path.cwd()
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve().parent
    return Path(str(spec.origin)).resolve().parent


def manage_command() -> str:
    """Return how a management command of this project is started."""
    script = Path(sys.argv[0])
    if script.name == "manage.py":
        return shlex.join([sys.executable, str(script.resolve())])
    return shlex.join([sys.executable, "-m", "django"])
