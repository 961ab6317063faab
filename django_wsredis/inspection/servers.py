"""Redis' servers, one by one."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import Any

from .. import redis, redis_errors
from ..exceptions import BrokerUnavailable
from ..redis_url import Address, shown_address
from .reports import Redis, Replica, Server

CLIENT_NAME = "django_wsredis:inspect"
ROUND_TRIPS = 3  # of which the fastest is told


class Node:
    """A connection to one master, which says more than `redis.execute()` may ask: where it is, and what it is like."""

    def __init__(self, url: str, address: Address | None, client_name: str = CLIENT_NAME) -> None:
        self._url = url
        self._connection: Any = (
            redis.connect_link(url, client_name) if address is None else redis.connect_node(url, address, client_name)
        )

    @property
    def address(self) -> str:
        """Host and port, or the path of a unix socket."""
        path = getattr(self._connection, "path", None)
        return path or shown_address((self._connection.host, self._connection.port))

    def call(self, *command: bytes | str | int) -> Any:
        """Return the reply to a command. Raises BrokerUnavailable."""
        with redis_errors.translated(self._url):
            self._connection.send_command(*command)
            return self._connection.read_response()

    def close(self) -> None:
        """Disconnect."""
        self._connection.disconnect()


def read_redis(url: str, stack: ExitStack, nodes: list[Node]) -> Redis:
    """Look at each master; those that answer are added to `nodes`, and are closed by the stack."""
    if not redis.is_cluster(url):
        nodes.append(stack.enter_context(closing(Node(url, None))))
        topology = "sentinel" if redis.has_sentinels(url) else "single"
        servers = [_read_server(nodes[0], [])]
        return Redis(url=redis_errors.shown_url(url), topology=topology, servers=servers, unserved_slots=[])
    slots, servers, problem = redis.read_slots(url), [], BrokerUnavailable("No master serves a slot of the cluster.")
    for address in sorted(slots.masters):
        ranges = slots.ranges(address)
        try:
            node = stack.enter_context(closing(Node(url, address)))
            servers.append(_read_server(node, ranges))
            nodes.append(node)
        except BrokerUnavailable as error:
            problem = error
            reason = str(error.__cause__ or error).rstrip(".")
            servers.append(Server(address=shown_address(address), slots=ranges, problem=reason))
    if not nodes:
        raise problem
    return Redis(
        url=redis_errors.shown_url(url), topology="cluster", servers=servers, unserved_slots=slots.ranges(None)
    )


def _read_server(node: Node, slots: list[tuple[int, int]]) -> Server:
    info = read_info(node)
    saves = persistence(node, info)
    failed = {"aof": "aof_last_write_status", "rdb": "rdb_last_bgsave_status"}.get(saves or "", "")
    return Server(
        address=node.address,
        flavour="Valkey" if "valkey_version" in info else "Redis",
        version=info.get("valkey_version") or info["redis_version"],
        round_trip_ms=round(min(round_trip(node) for _ in range(ROUND_TRIPS)) * 1000, 3),
        memory_bytes=int(info["used_memory"]),
        max_memory_bytes=int(info.get("maxmemory", 0)) or None,
        clients=int(info["connected_clients"]),
        # the latter are those of a cluster, from Redis 7
        pubsub_channels=int(info["pubsub_channels"]) + int(info.get("pubsubshard_channels", 0)),
        persistence=saves,
        persistence_failed=info.get(failed, "ok") != "ok",
        slots=slots,
        replicas=read_replicas(info),
    )


def read_info(node: Node) -> dict[str, str]:
    """Return what Redis tells of itself. Raises BrokerUnavailable."""
    return dict(line.split(":", 1) for line in node.call("INFO").decode(errors="replace").splitlines() if ":" in line)


def read_replicas(info: dict[str, str]) -> list[Replica]:
    """Return the replicas that are connected to a master."""
    replicas = [
        dict(pair.split("=", 1) for pair in info[f"slave{number}"].split(","))
        for number in range(int(info.get("connected_slaves", 0)))
        if f"slave{number}" in info
    ]
    return [Replica(address=shown_address((r["ip"], int(r["port"]))), state=r["state"]) for r in replicas]


def persistence(node: Node, info: dict[str, str]) -> str | None:
    """Return what is saved, "aof", "rdb" or "none"; None if Redis does not tell."""
    if info.get("aof_enabled") == "1":
        return "aof"
    try:
        return "rdb" if node.call("CONFIG", "GET", "save").get(b"save") else "none"
    except BrokerUnavailable:  # who hosts it, or the user's rights, may not allow that question
        return None


def round_trip(node: Node) -> float:
    """Return the seconds that a question and its answer take. Raises BrokerUnavailable."""
    began_at = time.perf_counter()
    node.call("TIME")  # PING is refused where Redis cannot write to its disk
    return time.perf_counter() - began_at
