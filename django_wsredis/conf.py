"""The settings: `WEBSOCKET_URL` and the dict `WSREDIS`, read into one frozen object.

docs/settings.rst documents each key. ws4redis's `WS4REDIS_*` names are understood where ours are absent.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import cache
from ipaddress import ip_network
from typing import Any, NamedTuple
from urllib.parse import quote

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from . import redis_url
from .channels import facility_problem

URL_SCHEMES = ("redis", "rediss", "unix", "embedded", *redis_url.SCHEMES)
URL_TEXT = "a URL that begins with " + ", ".join(f"{scheme}://" for scheme in URL_SCHEMES)

MAX_EXPIRE_SECONDS = 2**31 - 1  # 68 years; Redis refuses what overflows its clock, after it has stored the message
EXPIRE_TEXT = f"a whole number of seconds up to {MAX_EXPIRE_SECONDS}, 0 to keep nothing"

# ws4redis 0.6's names → ours. Its WS4REDIS_SUBSCRIBER has no equal: the classes differ.
LEGACY_NAMES = {
    "WS4REDIS_PREFIX": "PREFIX",
    "WS4REDIS_EXPIRE": "EXPIRE",
    "WS4REDIS_HEARTBEAT": "HEARTBEAT",
    "WS4REDIS_ALLOWED_CHANNELS": "ALLOWED_CHANNELS",
    "WS4REDIS_PROCESS_REQUEST": "PROCESS_REQUEST",
    "WS4REDIS_CONNECTION": "URL",
}


SLOW_POLICIES = ("close", "latest", "drop")
KEEP_NAMES = ("messages", "seconds")
KEEP_TEXT = 'a dict such as {"messages": 500, "seconds": 86400}'

# What Django tells of users and sessions, that open sockets follow; see `following.py`.
FOLLOWED = ("logout", "session", "password", "inactive", "deleted", "groups")


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


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_expire(value: Any) -> bool:
    """Tell whether a value can be given to Redis' EXPIRE, or is 0 to keep nothing."""
    return _is_count(value) and value <= MAX_EXPIRE_SECONDS


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def is_seconds(value: Any) -> bool:
    """Tell whether a value is a number of seconds, or 0."""
    return _is_positive(value) or (value == 0 and not isinstance(value, bool))


def _url_problem(value: Any) -> str:
    """Return what a URL must be, without showing a login; "" for one that is right."""
    if not (isinstance(value, str) and value.startswith(tuple(f"{scheme}://" for scheme in URL_SCHEMES))):
        return URL_TEXT
    try:
        redis_url.require_sound(value)
    except ValueError as error:
        return str(error)
    return ""


def _keep_problems(where: str, keep: Any) -> Iterator[tuple[str, str]]:
    """For one pattern's HISTORY."""
    if not isinstance(keep, dict):
        yield f"{where} is {keep!r}.", f"It must be {KEEP_TEXT}."
        return
    if unknown := [name for name in keep if name not in KEEP_NAMES]:
        yield from (_unknown(where, name, KEEP_NAMES) for name in unknown)
        return
    for name in KEEP_NAMES:
        if name not in keep:
            yield f"{where} lacks {name!r}.", f"It must be {KEEP_TEXT}."
        elif not is_expire(keep[name]) or not keep[name]:
            yield f"{where}[{name!r}] is {keep[name]!r}.", f"It must be a whole number from 1 to {MAX_EXPIRE_SECONDS}."


def _slow_problems(where: str, policy: Any) -> Iterator[tuple[str, str]]:
    """For one facility's SLOW."""
    if policy not in SLOW_POLICIES:
        yield f"{where} is {policy!r}.", f"It must be one of {', '.join(SLOW_POLICIES)}."


def _are_networks(value: Any) -> bool:
    try:
        return isinstance(value, (list, tuple)) and all(isinstance(text, str) and ip_network(text) for text in value)
    except ValueError:
        return False


def _is_follow(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(is_on, bool) for is_on in value.values())


def _is_reference(value: Any) -> bool:
    return value is None or callable(value) or (isinstance(value, str) and "." in value)


# key → (is the value right?, what it must be)
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "URL": (lambda v: not _url_problem(v), URL_TEXT),
    "PREFIX": (lambda v: isinstance(v, str) and v != "", "a text that is not empty"),
    "EXPIRE": (is_expire, EXPIRE_TEXT),
    "HISTORY": (
        lambda v: isinstance(v, dict),
        'a dict of facilities, such as {"chat*": {"messages": 500, "seconds": 86400}}',
    ),
    "SLOW": (lambda v: isinstance(v, dict), 'a dict of facilities, such as {"ticker/*": "latest"}'),
    "FOLLOW": (_is_follow, "a dict of True and False, by " + ", ".join(FOLLOWED)),
    "SESSION_RECHECK": (is_seconds, "a number of seconds, or 0"),
    "HEARTBEAT": (lambda v: v is None or (isinstance(v, str) and v != ""), "a text, or None"),
    "PING_INTERVAL": (_is_positive, "a number of seconds above 0"),
    "PING_TIMEOUT": (_is_positive, "a number of seconds above 0"),
    "MAX_MESSAGE_BYTES": (lambda v: _is_count(v) and v > 0, "a whole number of bytes above 0"),
    "MAX_OUTBOX_BYTES": (lambda v: _is_count(v) and v > 0, "a whole number of bytes above 0"),
    "MAX_FACILITIES": (lambda v: _is_count(v) and v > 0, "a whole number above 0"),
    "MAX_SOCKETS": (lambda v: v is None or (_is_count(v) and v > 0), "a whole number above 0, or None"),
    "DRAIN_SECONDS": (is_seconds, "a number of seconds, or 0"),
    "COMPRESSION": (_is_count, "a whole number of bytes, 0 to turn it off"),
    "SUBPROTOCOLS": (
        lambda v: isinstance(v, (list, tuple)) and all(isinstance(name, str) and name for name in v),
        "a list of names",
    ),
    "REQUIRE_ORIGIN": (lambda v: isinstance(v, bool), "True or False"),
    "ALLOWED_CHANNELS": (_is_reference, "a function, its dotted path, or None"),
    "PROCESS_REQUEST": (_is_reference, "a function, its dotted path, or None"),
    "SUBSCRIBER": (lambda v: v is not None and _is_reference(v), "a class or its dotted path"),
    "METRICS_FROM": (_are_networks, 'a list of addresses and networks, such as ["127.0.0.1", "10.0.0.0/8"]'),
}

# key → what is wrong with what it says of one pattern of facilities
BY_FACILITY: dict[str, Callable[[str, Any], Iterator[tuple[str, str]]]] = {
    "HISTORY": _keep_problems,
    "SLOW": _slow_problems,
}


def problems(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (what is wrong, hint) for each wrong key or value of a `WSREDIS` dict."""
    for key, value in given.items():
        if key not in RULES:
            yield _unknown("WSREDIS", key, RULES)
        elif not RULES[key][0](value):
            must_be = _url_problem(value) if key == "URL" else RULES[key][1]
            yield f"WSREDIS[{key!r}] is {_shown(value) if key == 'URL' else repr(value)}.", f"It must be {must_be}."
        elif key == "FOLLOW":
            yield from (_unknown("WSREDIS['FOLLOW']", name, FOLLOWED) for name in value if name not in FOLLOWED)
        elif key in BY_FACILITY:
            for pattern, setting in value.items():
                yield from _pattern_problems(key, pattern)
                yield from BY_FACILITY[key](f"WSREDIS[{key!r}][{pattern!r}]", setting)


def _unknown(where: str, key: Any, known: Iterable[str]) -> tuple[str, str]:
    names = {name.upper(): name for name in known}
    nearest = names[difflib.get_close_matches(str(key).upper(), names, n=1, cutoff=0)[0]]
    return f"{where} has an unknown key {key!r}.", f"Did you mean {nearest!r}?"


def _pattern_problems(key: str, pattern: Any) -> Iterator[tuple[str, str]]:
    problem = facility_problem(pattern) if isinstance(pattern, str) else "it is a text"
    if problem:
        hint = f"{problem[0].upper()}{problem[1:]}."
        yield f"WSREDIS[{key!r}] has the pattern {pattern!r}, which fits no facility.", hint


def _shown(url: Any) -> str:
    """Return a URL for people, unless it may hold a login."""
    return "(hidden)" if any(word in str(url) for word in ("@", "password")) else repr(url)


def legacy_url(connection: dict[str, Any]) -> str:
    """Return the URL for ws4redis's `WS4REDIS_CONNECTION` dict."""
    password = connection.get("password")
    login = f":{quote(password, safe='')}@" if password else ""
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
        if value is not None:
            found[key] = legacy_url(value) if key == "URL" else value
    return found


def given_settings() -> dict[str, Any]:
    """Return what the project set, by our keys: `WSREDIS`, and ws4redis's names where that is silent."""
    given = getattr(django_settings, "WSREDIS", {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"WSREDIS is {given!r}, not a dict.")
    return {**legacy_settings(), **given}


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
        **{key.lower(): value for key, value in merged.items()},
    )


def resolve(reference: Any) -> Any:
    """Return the function or class that a setting names. Raises ImportError."""
    return import_string(reference) if isinstance(reference, str) else reference


def _forget(*, setting: str, **_: Any) -> None:
    if setting.startswith(("WSREDIS", "WS4REDIS", "WEBSOCKET", "DEBUG")):
        get_settings.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_wsredis.conf")

if {f.name.upper() for f in fields(Settings)} != {*RULES, "WEBSOCKET_URL"}:
    raise AssertionError("each setting has a field and a rule")
