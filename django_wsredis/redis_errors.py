"""What people read of Redis: its URL without a login; and its errors, with a line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.exceptions import ClusterDownError, MovedError

from . import embedded, redis_url
from .conf import get_settings
from .exceptions import BrokerUnavailable

TIMEOUT_SECONDS = 2.0  # for a connection, and for a reply: a web request waits no longer for Redis


def shown_url(url: str) -> str:
    """Return a URL for people, without the login that it may hold."""
    if embedded.is_embedded(url):
        return f"embedded server at {embedded.location(url).folder}"
    return redis_url.without_login(url)


def refusal(error: BrokerUnavailable) -> str:
    """Return Redis' own words for a command that it refused; "" if it did not answer."""
    cause = error.__cause__
    return str(cause) if isinstance(cause, redis.ResponseError) else ""


@contextmanager
def translated(url: str | None = None) -> Iterator[None]:
    """Turn redis-py's errors into BrokerUnavailable, with a line that says what to do."""
    try:
        yield
    except redis.RedisError as error:
        raise BrokerUnavailable(_explained(url or get_settings().url, error)) from error
    except (TypeError, ValueError) as error:  # redis-py's word for a query in the URL that it does not know
        raise BrokerUnavailable(f"WSREDIS['URL'] cannot be used: {error}") from error


def _explained(url: str, error: redis.RedisError) -> str:
    where = shown_url(url)
    if isinstance(error, redis.AuthenticationError) and "HELLO must be called" in str(error):
        return f"Redis ({where}) wants a login, and WSREDIS['URL'] has none: redis://:PASSWORD@host:6379/0."
    if isinstance(error, redis.AuthenticationError):
        return f"Redis ({where}) refuses the login of WSREDIS['URL']: {_reason(error)}."
    if isinstance(error, redis.ConnectionError):
        return _unreachable(url, error)
    if isinstance(error, redis.TimeoutError):
        hint = " Does it speak TLS there? If not, WSREDIS['URL'] begins with redis." if url.startswith("rediss") else ""
        return f"Redis ({where}) did not answer within {TIMEOUT_SECONDS:g} s.{hint}"
    if isinstance(error, redis.InvalidResponse):
        return f"What listens at {where} is no Redis. Is WSREDIS['URL'] right?"
    return f"Redis refused a command: {_reason(error)}.{_hint(url, error)}"


def _unreachable(url: str, error: Exception) -> str:
    if embedded.is_embedded(url):
        return (
            f"No Redis runs at {embedded.location(url).socket}. "
            "Start it with: ./manage.py runwsserver (or runserver), which own it; or set WSREDIS['URL']."
        )
    return f"Redis ({shown_url(url)}) cannot be reached: {_reason(error)}. Is it running, and is WSREDIS['URL'] right?"


def _hint(url: str, error: redis.RedisError) -> str:
    """Return what a refusal tells of the URL; "" for most."""
    text = str(error)
    if "DB index is out of range" in text:
        return " WSREDIS['URL'] names a database that it does not have."
    if "cluster support disabled" in text:
        return " It is no cluster: let WSREDIS['URL'] begin with redis://."
    is_of_cluster = isinstance(error, (MovedError, ClusterDownError)) or "not allowed in cluster mode" in text
    if is_of_cluster and not redis_url.is_cluster(url):
        return " It is a node of a cluster: let WSREDIS['URL'] begin with redis+cluster://."
    return ""


def _reason(error: Exception) -> str:
    return str(error).rstrip(".")
