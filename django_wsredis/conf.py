"""The settings: `WEBSOCKET_URL` and the dict `WSREDIS`, read into one frozen object.

docs/settings.rst documents each key. ws4redis's `WS4REDIS_*` names are understood where ours are absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import quote

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from .rules import FOLLOWED, RULES, problems, quoted_url

# settings of their own, beside WSREDIS
OWN_NAMES = ("WEBSOCKET_URL", "WEBSOCKET_URLCONF", "WEBSOCKET_HOST")

# ws4redis 0.6's names → ours. Its WS4REDIS_SUBSCRIBER has no equal: the classes differ.
LEGACY_NAMES = {
    "WS4REDIS_PREFIX": "PREFIX",
    "WS4REDIS_EXPIRE": "EXPIRE",
    "WS4REDIS_HEARTBEAT": "HEARTBEAT",
    "WS4REDIS_ALLOWED_CHANNELS": "ALLOWED_CHANNELS",
    "WS4REDIS_PROCESS_REQUEST": "PROCESS_REQUEST",
    "WS4REDIS_CONNECTION": "URL",
}

_forced: dict[str, Any] = {}


class Keep(NamedTuple):
    """How much of a channel is kept: so many of its newest messages, each for so many seconds.

    is_history: whether a reader is told if it missed some.
    """

    messages: int
    seconds: int
    is_history: bool = True

    @property
    def entries(self) -> int:
        """The length of the stream: a history has one more than a reader can have missed, the one that it saw last."""
        return self.messages + 1 if self.is_history else self.messages


def keep_last(seconds: int) -> Keep | None:
    """Return how a channel's last message is kept for so many seconds, None for 0."""
    return Keep(1, seconds, is_history=False) if seconds else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of the package; each field is the key of `WSREDIS` in lower case."""

    websocket_url: str
    url: str
    websocket_urlconf: Any = None  # of views: a module or its dotted path
    websocket_host: str = ""  # of the views' absolute URLs; "": the request's
    prefix: str = "wsredis"
    expire: int = 0  # seconds for which the last message is kept; 0: not at all
    history: tuple[tuple[str, Keep], ...] = ()  # (pattern of facilities, what is kept there)
    slow: tuple[tuple[str, str], ...] = ()  # (pattern of facilities, one of SLOW_POLICIES)
    follow: frozenset[str] = frozenset(FOLLOWED)
    session_recheck: float = 60.0  # seconds; 0: never
    heartbeat: str | None = None
    ping_interval: float = 20.0  # seconds
    ping_timeout: float = 20.0  # seconds
    max_message_bytes: int = 1024 * 1024
    max_outbox_bytes: int = 4 * 1024 * 1024
    max_sockets: int | None = None  # per worker; None: as many as it may open files
    max_facilities: int = 100  # of one socket that speaks wsredis.v1
    view_threads: int = 100  # per worker, for views that are functions; and as many for calls of those that are classes
    drain_seconds: float = 5.0  # over which a worker that ends closes its sockets; 0 by default if DEBUG
    compression: int = 256  # bytes: smaller messages are not compressed; 0: none is
    subprotocols: tuple[str, ...] = ()
    require_origin: bool = False
    allowed_channels: Any = None
    process_request: Any = None
    subscriber: Any = "django_wsredis.handshake.Subscriber"
    metrics_from: tuple[str, ...] = ("127.0.0.0/8", "::1")  # addresses and networks

    def history_of(self, facility: str) -> Keep | None:
        """Return what is kept of a facility's channels as their history, None if that is not set."""
        return next((keep for pattern, keep in self.history if fnmatchcase(facility, pattern)), None)

    def keep_of(self, facility: str) -> Keep | None:
        """Return what is kept of a facility's channels: their history, or else the last message for EXPIRE seconds."""
        return self.history_of(facility) or keep_last(self.expire)

    def slow_policy(self, facility: str) -> str:
        """Return what is done for a socket that does not keep up with a facility: one of SLOW_POLICIES."""
        return next((policy for pattern, policy in self.slow if fnmatchcase(facility, pattern)), "close")


def legacy_url(connection: dict[str, Any]) -> str:
    """Return the URL for ws4redis's `WS4REDIS_CONNECTION` dict."""
    password = connection.get("password")
    login = f":{quote(str(password), safe='')}@" if password else ""
    db = connection.get("db", 0)
    if path := connection.get("unix_socket_path"):
        return f"unix://{login}{quote(path)}?db={db}"
    scheme = "rediss" if connection.get("ssl") else "redis"
    return f"{scheme}://{login}{connection.get('host', 'localhost')}:{connection.get('port', 6379)}/{db}"


def legacy_settings() -> dict[str, Any]:
    """Return what a ws4redis project set under the old names, by our keys."""
    found = {}
    for old, key in LEGACY_NAMES.items():
        value = getattr(django_settings, old, None)
        if key == "URL" and value is not None and not isinstance(value, dict):
            raise ImproperlyConfigured(f"{old} is no dict.")  # it may hold a password
        if value is not None:
            found[key] = legacy_url(value) if key == "URL" else value
    return found


def given_settings() -> dict[str, Any]:
    """Return what the project set, by our keys: `WSREDIS`, and ws4redis's names where that is silent."""
    given = getattr(django_settings, "WSREDIS", {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"WSREDIS is {quoted_url(given)}, not a dict.")
    return {**legacy_settings(), **given, **_forced}


@contextmanager
def forcing(**values: Any) -> Iterator[None]:
    """Let keys of `WSREDIS` have these values, whatever the project, or a test of it, sets."""
    before = dict(_forced)
    _forced.update(values)
    get_settings.cache_clear()
    try:
        yield
    finally:
        _forced.clear()
        _forced.update(before)
        get_settings.cache_clear()


@cache
def get_settings() -> Settings:
    """Return the project's settings.

    Raises ImproperlyConfigured, naming each wrong key and value.
    """
    merged = given_settings()
    if found := [f"{problem} {hint}" for problem, hint in problems(merged)]:
        raise ImproperlyConfigured(" ".join(found))
    merged.setdefault("URL", "embedded://" if django_settings.DEBUG else "redis://localhost:6379/0")
    merged.setdefault("DRAIN_SECONDS", 0 if django_settings.DEBUG else 5.0)
    if "HISTORY" in merged:
        merged["HISTORY"] = tuple((pattern, Keep(**keep)) for pattern, keep in merged["HISTORY"].items())
    if "SLOW" in merged:
        merged["SLOW"] = tuple(merged["SLOW"].items())
    for key in ("SUBPROTOCOLS", "METRICS_FROM"):
        if key in merged:
            merged[key] = tuple(merged[key])
    if "FOLLOW" in merged:
        merged["FOLLOW"] = frozenset(name for name in FOLLOWED if merged["FOLLOW"].get(name, True))
    return Settings(
        websocket_url=getattr(django_settings, "WEBSOCKET_URL", "/ws/"),
        websocket_urlconf=getattr(django_settings, "WEBSOCKET_URLCONF", None),
        websocket_host=getattr(django_settings, "WEBSOCKET_HOST", ""),
        **{key.lower(): value for key, value in merged.items()},
    )


def resolve(reference: Any) -> Any:
    """Return the function or class that a setting names. Raises ImportError."""
    return import_string(reference) if isinstance(reference, str) else reference


def _forget(*, setting: str, **_: Any) -> None:
    if setting.startswith(("WSREDIS", "WS4REDIS", "WEBSOCKET", "DEBUG")):
        get_settings.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_wsredis.conf")

if {f.name.upper() for f in fields(Settings)} != {*RULES, *OWN_NAMES}:
    raise AssertionError("each setting has a field and a rule")
