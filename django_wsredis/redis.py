"""The only place that builds Redis clients."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from functools import cache, partial
from typing import Any
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionInterface, ConnectionPool, SSLConnection, parse_url
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from . import embedded, redis_url
from .channels import everywhere_name
from .cluster import Cluster, SlotMap, read_map
from .commands import Command
from .conf import get_settings
from .exceptions import BrokerUnavailable
from .redis_errors import TIMEOUT_SECONDS, refusal, translated


def real_url(url: str) -> str:
    """Return a URL that redis-py knows: `embedded://` becomes the unix socket of the project's own server."""
    return f"unix://{quote(str(embedded.location(url).socket))}" if embedded.is_embedded(url) else url


def is_cluster(url: str | None = None) -> bool:
    """Tell whether a URL is that of a cluster: its messages go by SPUBLISH, each to its channel's own shard."""
    return redis_url.is_cluster(url or get_settings().url)


def has_sentinels(url: str) -> bool:
    """Tell whether a URL is that of sentinels."""
    return redis_url.is_several(url) and not redis_url.is_cluster(url)


def username(url: str) -> str:
    """Return the name of Redis' user that a URL logs in as."""
    if redis_url.is_several(url):
        return redis_url.parse(url).username or "default"
    return parse_url(real_url(url)).get("username") or "default"  # type: ignore[no-untyped-call]


def hosts(url: str) -> list[str]:
    """Return the hosts that a URL names, each once; none for a unix socket, and for a URL that cannot be used."""
    try:
        if redis_url.is_several(url):
            return list(dict.fromkeys(host for host, _ in redis_url.parse(url).addresses))
        real = real_url(url)
        host = parse_url(real).get("host", "localhost")  # type: ignore[no-untyped-call]
    except (TypeError, ValueError):
        return []
    return [] if real.startswith("unix:") else [host]


# Connections


def _options(**options: Any) -> dict[str, Any]:
    return {
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "socket_timeout": TIMEOUT_SECONDS,
        # A command whose reply is lost may have been carried out: to repeat it could deliver a message twice.
        # A connection that Redis closed meanwhile is noticed before a command is sent on it.
        "retry": Retry(NoBackoff(), 0),
        # else redis-py asks Redis for pushes that announce maintenance, and resolves its host's name to do so
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "driver_info": None,  # redis-py's name and version would cost two round trips, and a right
        **options,
    }


def _pool(url: str, **options: Any) -> ConnectionPool:
    if not redis_url.is_several(url):
        return ConnectionPool.from_url(real_url(url), **_options(**options))
    read = redis_url.parse(url)
    service, db = read.service, read.db
    options = {
        **_several_options(read),
        "db": db,
        "ssl": read.has_tls,
        "redis_connect_func": _connect_master,
        **options,
    }
    return SentinelConnectionPool(service, _Sentinels(read), **options)  # type: ignore[no-untyped-call]


def _several_options(read: redis_url.RedisUrl) -> dict[str, Any]:
    """Return how to connect to the servers that sentinels or a cluster's nodes name."""
    options = _options(**_query_options(read))
    options = {name: value for name, value in options.items() if not name.startswith("sentinel_")}
    return {**options, "username": read.username, "password": read.password}


def _query_options(read: redis_url.RedisUrl) -> dict[str, Any]:
    return parse_url(f"redis://?{read.query}")  # type: ignore[no-any-return, no-untyped-call]


def _address_pool(read: redis_url.RedisUrl, address: redis_url.Address, **options: Any) -> ConnectionPool:
    host, port = address
    kind = SSLConnection if read.has_tls else Connection
    return ConnectionPool(connection_class=kind, host=host, port=port, **{**_several_options(read), **options})


def _connect_master(connection: Any) -> None:
    """Log in, and see that it is a master: a sentinel may not know yet that it is not, and a replica loses messages."""
    connection.on_connect()
    role = connection.handshake_metadata.get(b"role", b"").decode()
    if role != "master":
        raise redis.ConnectionError(f"{connection.host}:{connection.port} is a {role}, no master")


class _Sentinels:
    """Those who know the master's address: what redis-py's pool asks on each connecting."""

    def __init__(self, read: redis_url.RedisUrl) -> None:
        query = _query_options(read)
        seconds = TIMEOUT_SECONDS / len(read.addresses)  # they share the time of one, as some may be dead
        options = {name: value for name, value in query.items() if name.startswith("ssl_")}
        options |= {"username": query.get("sentinel_username"), "password": query.get("sentinel_password")}
        options |= {"socket_connect_timeout": seconds, "socket_timeout": seconds}
        self.clients = {
            address: redis.Redis.from_pool(_address_pool(read, address, **options)) for address in read.addresses
        }

    def discover_master(self, service: str) -> redis_url.Address:
        """Return the master's address, by the first sentinel that knows it. Raises redis.ConnectionError."""
        problems = []
        for address, client in self.clients.items():
            try:
                found = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)  # type: ignore[no-untyped-call]
            except redis.RedisError as error:
                problems.append(f"sentinel {redis_url.shown_address(address)}: {error}".rstrip("."))
                continue
            if found:
                host, port = found
                return host.decode(), int(port)
            problems.append(f"sentinel {redis_url.shown_address(address)} knows no service {service!r}")
        raise redis.ConnectionError("; ".join(problems))


# What is sent


@cache
def _client(url: str, pid: int) -> redis.Redis:
    return redis.Redis.from_pool(_pool(url))


@cache
def _cluster(url: str, pid: int) -> Cluster:
    read = redis_url.parse(url)
    return Cluster(read.addresses, partial(_node_client, read), seconds=TIMEOUT_SECONDS)


def _node_client(read: redis_url.RedisUrl, address: redis_url.Address, seconds: float | None) -> redis.Redis:
    options = {} if seconds is None else {"socket_connect_timeout": seconds, "socket_timeout": seconds}
    return redis.Redis.from_pool(_address_pool(read, address, **options))


def execute(commands: Sequence[Command]) -> list[Any]:
    """Send commands to Redis and return their replies: in one round trip, in a cluster one for each master.

    Raises BrokerUnavailable within seconds: some of the commands may then have been carried out.
    """
    url = get_settings().url
    with translated(url):
        if is_cluster(url):
            return _cluster(url, os.getpid()).execute(commands)
        with _client(url, os.getpid()).pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            replies = pipeline.execute(raise_on_error=False)  # or else its words for an error quote the script
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies


def require_answer() -> None:
    """Raise BrokerUnavailable, within seconds, if Redis cannot be used."""
    execute([("EXISTS", everywhere_name(get_settings().prefix))])


# What a worker's loop uses


def connect_link(url: str, client_name: str) -> ConnectionInterface:
    """Return an open connection that speaks RESP3, on which replies and published messages come in one order.

    With sentinels it is one to the master. Blocks. Raises BrokerUnavailable. Needs Redis 6.2 (exclusive stream ranges)
    or any Valkey.
    """
    with translated(url):
        return _opened(_pool(url, protocol=3, client_name=client_name))


def connect_node(url: str, address: redis_url.Address, client_name: str) -> ConnectionInterface:
    """Return such a connection to one node of a cluster. Needs Redis 7.0 (sharded pub/sub) or any Valkey."""
    with translated(url):
        return _opened(_address_pool(redis_url.parse(url), address, protocol=3, client_name=client_name))


def _opened(pool: ConnectionPool) -> ConnectionInterface:
    connection = pool.make_connection()
    connection.connect()  # type: ignore[no-untyped-call]
    return connection


def read_slots(url: str, up: Sequence[redis_url.Address] = (), down: Sequence[redis_url.Address] = ()) -> SlotMap:
    """Ask nodes of a cluster which master serves which slot: those that are up, those of the URL, those that are down.

    Blocks. Raises BrokerUnavailable.
    """
    read = redis_url.parse(url)
    others = [address for address in random.sample(read.addresses, len(read.addresses)) if address not in down]
    with translated(url):
        return read_map(
            list(dict.fromkeys([*up, *others, *down])), partial(_node_client, read), seconds=TIMEOUT_SECONDS
        )


def ask_sentinels(url: str, *commands: Command) -> dict[redis_url.Address, list[Any] | BrokerUnavailable]:
    """Send commands to each sentinel of a URL; return its replies, or why there are none.

    What it refused is a BrokerUnavailable among its replies. Blocks, for as long as one server may if all hang.
    Raises BrokerUnavailable if the URL cannot be used.
    """
    found: dict[redis_url.Address, list[Any] | BrokerUnavailable] = {}
    with translated(url):
        clients = _Sentinels(redis_url.parse(url)).clients
    for address, client in clients.items():
        with client:
            try:
                found[address] = [_reply_or_refusal(client, command) for command in commands]
            except BrokerUnavailable as error:
                found[address] = error
    return found


def connect_sentinel(url: str, address: redis_url.Address) -> ConnectionInterface:
    """Return an open connection to one of the sentinels of a URL. Blocks. Raises BrokerUnavailable."""
    with translated(url):
        return _opened(_Sentinels(redis_url.parse(url)).clients[address].connection_pool)


def _reply_or_refusal(client: redis.Redis, command: Command) -> Any:
    try:
        with translated():
            return client.execute_command(*command)  # type: ignore[no-untyped-call]
    except BrokerUnavailable as error:
        if refusal(error):
            return error
        raise
