"""What each setting must be, and what is wrong with one that is not so."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_network
from typing import Any

from . import redis_url
from .channels import facility_problem

URL_SCHEMES = ("redis", "rediss", "unix", "embedded", *redis_url.SCHEMES)
URL_TEXT = "a URL that begins with " + ", ".join(f"{scheme}://" for scheme in URL_SCHEMES)

MAX_EXPIRE_SECONDS = 2**31 - 1  # 68 years; Redis refuses what overflows its clock, after it has stored the message
EXPIRE_TEXT = f"a whole number of seconds up to {MAX_EXPIRE_SECONDS}, 0 to keep nothing"

SLOW_POLICIES = ("close", "latest", "drop")
KEEP_NAMES = ("messages", "seconds")
KEEP_TEXT = 'a dict such as {"messages": 500, "seconds": 86400}'

# What Django takes for the name of a Host; or "*".
HOST = re.compile(r"\*|[a-z0-9.-]+|\[[a-f0-9:.]+\]", re.IGNORECASE)

# What Django tells of users and sessions, that open sockets follow; see `following.py`.
FOLLOWED = ("logout", "session", "password", "inactive", "deleted", "groups")


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


def is_websocket_url(value: Any) -> bool:
    """Tell whether a value can be WEBSOCKET_URL: a path with a slash at both ends, and a name between."""
    return isinstance(value, str) and value.startswith("/") and value.endswith("/") and value.strip("/") != ""


def is_allowed_host(value: Any) -> bool:
    """Tell whether a Host can be what ALLOWED_HOSTS has: a name without scheme and port, or with a dot before it."""
    return isinstance(value, str) and HOST.fullmatch(value) is not None


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
    "VIEW_THREADS": (lambda v: _is_count(v) and v > 0, "a whole number above 0"),
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
            yield f"WSREDIS[{key!r}] is {quoted_url(value) if key == 'URL' else repr(value)}.", f"It must be {must_be}."
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


def quoted_url(url: Any) -> str:
    """Return a URL for people, unless it may hold a login."""
    return "(hidden)" if any(word in str(url) for word in ("@", "password")) else repr(url)
