"""The only place that builds Redis clients, words commands, and translates redis-py's errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from urllib.parse import quote, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionInterface, ConnectionPool
from redis.retry import Retry

from . import embedded
from .conf import get_settings
from .exceptions import BrokerUnavailable
from .messages import HAS_ID, Message, encode, envelope

TIMEOUT_SECONDS = 2.0  # for a connection, and for a reply: a web request waits no longer for Redis

PUBLISH_SCRIPT = resources.files(__package__).joinpath("publish.lua").read_text()


def real_url(url: str) -> str:
    """Return a URL that redis-py knows: `embedded://` becomes the unix socket of the project's own server."""
    return f"unix://{quote(str(embedded.location(url).socket))}" if embedded.is_embedded(url) else url


def shown_url(url: str) -> str:
    """Return a URL for people, without the login that it may hold."""
    if embedded.is_embedded(url):
        return f"embedded server at {embedded.location(url).folder}"
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def _pool(url: str, **options: object) -> ConnectionPool:
    return ConnectionPool.from_url(
        real_url(url),
        socket_connect_timeout=TIMEOUT_SECONDS,
        socket_timeout=TIMEOUT_SECONDS,
        # A command whose reply is lost may have been carried out: to repeat it could deliver a message twice.
        # A connection that Redis closed meanwhile is noticed before a command is sent on it.
        retry=Retry(NoBackoff(), 0),
        **options,
    )


@cache
def _client(url: str, pid: int) -> redis.Redis:
    return redis.Redis.from_pool(_pool(url))


def get_client() -> redis.Redis:
    """Return this process's client; calls one after another use one connection. Opens nothing yet."""
    return _client(get_settings().url, os.getpid())


def connect_link(url: str, client_name: str) -> ConnectionInterface:
    """Return an open connection that speaks RESP3, on which replies and published messages come in one order.

    Blocks. Raises BrokerUnavailable. Needs Redis 6.2 (exclusive stream ranges) or any Valkey.
    """
    with translated(url):
        connection = _pool(url, protocol=3, client_name=client_name).make_connection()
        connection.connect()  # type: ignore[no-untyped-call]
    return connection


@contextmanager
def translated(url: str | None = None) -> Iterator[None]:
    """Turn redis-py's errors into BrokerUnavailable, with a line that says what to do."""
    try:
        yield
    except redis.ConnectionError as error:
        raise BrokerUnavailable(_unreachable(url or get_settings().url, error)) from error
    except redis.TimeoutError as error:
        where = shown_url(url or get_settings().url)
        raise BrokerUnavailable(f"Redis ({where}) did not answer within {TIMEOUT_SECONDS:g} s.") from error
    except redis.RedisError as error:
        raise BrokerUnavailable(f"Redis refused a command: {error}") from error
    except (TypeError, ValueError) as error:  # redis-py's word for a query in the URL that it does not know
        raise BrokerUnavailable(f"WSREDIS['URL'] cannot be used: {error}") from error


def _unreachable(url: str, error: Exception) -> str:
    if embedded.is_embedded(url):
        return (
            f"No Redis runs at {embedded.location(url).socket}. "
            "Start it with: ./manage.py runwsserver (or runserver), which own it; or set WSREDIS['URL']."
        )
    reason = str(error).rstrip(".")
    return f"Redis ({shown_url(url)}) cannot be reached: {reason}. Is it running, and is WSREDIS['URL'] right?"


def publish_command(name: bytes, message: Message, expire: int) -> tuple[bytes | str | int, ...]:
    """Return the command that publishes a message; with `expire` > 0 it is kept for as many seconds.

    Its reply is the number of workers that received the message.
    """
    if not expire:
        return ("PUBLISH", name, encode(message))
    head, tail = envelope(message)
    return ("EVAL", PUBLISH_SCRIPT, 1, name, head, head[:-1] + bytes([head[-1] | HAS_ID]), tail, expire)


def stored_command(name: bytes) -> tuple[bytes | str, ...]:
    """Return the command that reads a channel's last kept message; `decode_entry` reads the entries of its reply."""
    return ("XREVRANGE", name, "+", "-", "COUNT", "1")
