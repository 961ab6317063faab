"""What history costs, how long it takes until all are whole again, and what a cluster's shards add.

    python -m benchmarks.delivery [--messages 5000] [--sockets 2000] [--rounds 5] [--rst]

Publishing: one process that calls `publish()` for one message after another, plain and kept in turn, so that both see
the same machine. Resuming: sockets that all come at once and missed 100 messages each. Shards: messages to channels
that are on one, two or three masters of one cluster; as a machine with few cores cannot let them all run at once, the
rate per second of the busiest one's processor time is what counts.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import redis

from django_wsredis import commands
from django_wsredis.channels import Channel, redis_name
from django_wsredis.conf import Keep
from django_wsredis.messages import Message
from tests.topologies import Cluster

from .rig import ANSWER_SECONDS, BUILD, Program, Server, cpu_seconds, print_table, rig

PAYLOAD = "x" * 64
KEEP = Keep(messages=500, seconds=3600)
HISTORY = {"kept/*": {"messages": KEEP.messages, "seconds": KEEP.seconds}}
MISSED = 100
RESUMED_CHANNELS = [1, 10]
LISTENERS = [0, 1, 10, 100]
SHARD_CHANNELS = 6
SHARD_SOCKETS = 20  # for each of them
BATCH = 100  # messages that a publisher to the cluster sends together


class Published(NamedTuple):
    per_second: float
    p50_ms: float
    p99_ms: float
    redis_us: float  # of its processor's time for a message


def name_of(facility: str) -> bytes:
    return redis_name("wsredis", Channel("broadcast", "", facility))


def path_of(facility: str, query: str = "") -> str:
    return f"/ws/{facility}?subscribe-broadcast{query}"


def redis_pid(client: redis.Redis) -> int:
    return int(client.info("server")["process_id"])


# Publishing


def publish_calls(facility: str) -> Callable[[], object]:
    """Return a function that publishes one message as an application does."""
    from django_wsredis import publish

    return lambda: publish(PAYLOAD, facility=facility, broadcast=True)


def publish_once_calls(facility: str) -> Callable[[], object]:
    """Return a function that publishes one message which may be sent again, and then is stored once."""
    from django_wsredis import publish

    return lambda: publish(PAYLOAD, facility=facility, broadcast=True, retry=10)


# label → (facility, what publishes one message)
PUBLISHERS = {
    "plain": ("plain/bench", publish_calls),
    "kept, 500 messages": ("kept/bench", publish_calls),
    "kept, and sent again if need be": ("kept/again", publish_once_calls),
}


def time_publishing(pid: int, publish: Callable[[], object], messages: int) -> Published:
    times = []
    before = cpu_seconds([pid])
    began_at = time.perf_counter()
    for _ in range(messages):
        at = time.perf_counter()
        publish()
        times.append(time.perf_counter() - at)
    seconds = time.perf_counter() - began_at
    times.sort()
    return Published(
        messages / seconds,
        times[len(times) // 2] * 1000,
        times[len(times) * 99 // 100] * 1000,
        (cpu_seconds([pid]) - before) / messages * 1e6,
    )


def measure_publishing(stack: ExitStack, server: Server, messages: int, rounds: int) -> list[list[str]]:
    pid = redis_pid(server.redis)
    measured: dict[str, list[Published]] = {label: [] for label in PUBLISHERS}
    listeners = [  # a worker hears each, as it does where somebody listens
        Program(stack, BUILD / "clients", "127.0.0.1", server.port, 1, path_of(facility))
        for facility, _ in PUBLISHERS.values()
    ]
    for listener in listeners:
        listener.answer()
    for number in range(rounds + 1):
        for label, (facility, kind) in PUBLISHERS.items():
            result = time_publishing(pid, kind(facility), messages)
            if number:  # the first round warms up
                measured[label].append(result)
    for listener in listeners:
        listener.stop()
    medians = {
        label: Published(*map(statistics.median, zip(*results, strict=True))) for label, results in measured.items()
    }
    plain = medians["plain"]
    return [
        [
            label,
            f"{median.per_second:,.0f}",
            f"{median.per_second / plain.per_second:.2f}",
            f"{median.p50_ms:.2f} / {median.p99_ms:.2f}",
            f"{median.redis_us:.0f}",
            f"{median.redis_us / plain.redis_us:.1f}",
        ]
        for label, median in medians.items()
    ]


# Resuming


def fill(client: redis.Redis, facility: str, messages: int) -> str:
    """Publish messages to a channel that nobody listens to; return the position before the last MISSED of them."""
    with client.pipeline(transaction=False) as pipeline:
        for _ in range(messages):
            pipeline.execute_command(
                *commands.publish_command(name_of(facility), Message(PAYLOAD.encode(), True), KEEP)
            )
        pipeline.execute()
    entries = client.xrevrange(name_of(facility), count=MISSED + 1)
    return entries[-1][0].decode()


def calls(client: redis.Redis) -> dict[str, int]:
    """Return how often each command was called that is not called by a script."""
    stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in stats.items()}


class Measured(NamedTuple):
    opened: float  # seconds, from the first handshake
    whole: float
    reads: int
    redis_ms: float
    worker_seconds: float


def come(stack: ExitStack, server: Server, sockets: int, paths: list[str], expected: int) -> Measured:
    """Let sockets come with a position, or without; return when all had what they expected."""
    pids = [redis_pid(server.redis)]
    before, redis_before, worker_before = calls(server.redis), cpu_seconds(pids), cpu_seconds(server.pids())
    began_at = time.monotonic()
    share = sockets // len(paths)
    programs = [Program(stack, BUILD / "clients", "127.0.0.1", server.port, share, path) for path in paths]
    for program in programs:
        program.answer()
    opened = whole = time.monotonic() - began_at
    if expected:
        for program in programs:
            program.tell(f"expect {expected}\n")
        whole = max(program.answer()["last"] for program in programs) - began_at
    after = calls(server.redis)
    result = Measured(
        opened,
        max(whole, opened),
        after.get("eval", 0) - before.get("eval", 0),
        (cpu_seconds(pids) - redis_before) * 1000,
        cpu_seconds(server.pids()) - worker_before,
    )
    for program in programs:
        program.stop()
    wait_for_no_sockets(server)
    return result


def wait_for_no_sockets(server: Server) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    while server.redis.pubsub_channels("wsredis:broadcast:*"):
        if time.monotonic() > deadline:
            raise RuntimeError("the worker keeps its subscriptions")
        time.sleep(0.05)


def cut_link(stack: ExitStack, server: Server, sockets: int, facility: str) -> Measured:
    """Cut the worker's link, and publish what it misses; return when all sockets had it."""
    program = Program(stack, BUILD / "clients", "127.0.0.1", server.port, sockets, path_of(facility, "&history=0"))
    program.answer()
    pids = [redis_pid(server.redis)]
    client = server.redis
    link = next(found for found in client.client_list() if found["name"] == "django_wsredis")
    before, redis_before, worker_before = calls(client), cpu_seconds(pids), cpu_seconds(server.pids())
    program.tell(f"expect {MISSED}\n")
    began_at = time.monotonic()
    client.execute_command("CLIENT", "KILL", "ID", link["id"])
    fill(client, facility, MISSED)
    whole = program.answer()["last"] - began_at
    reads = calls(client).get("eval", 0) - before.get("eval", 0) - MISSED
    worker = cpu_seconds(server.pids()) - worker_before
    result = Measured(0.0, whole, reads, (cpu_seconds(pids) - redis_before) * 1000, worker)
    program.stop()
    wait_for_no_sockets(server)
    return result


def measure_resuming(stack: ExitStack, server: Server, sockets: int) -> list[list[str]]:
    rows = []
    fresh = come(stack, server, sockets, [path_of("kept/fresh", "&history=0")], 0)
    rows.append(cells("come, and missed nothing", 0, fresh))
    for count in RESUMED_CHANNELS:
        facilities = [f"kept/resume{count}-{number}" for number in range(count)]
        positions = {facility: fill(server.redis, facility, MISSED + 20) for facility in facilities}
        paths = [path_of(facility, f"&since={position}") for facility, position in positions.items()]
        where = "of one channel" if count == 1 else f"of {count} channels"
        rows.append(cells(f"come back, {where}", MISSED, come(stack, server, sockets, paths, MISSED)))
    rows.append(cells("the worker's link was cut", MISSED, cut_link(stack, server, sockets, "kept/cut")))
    return rows


def cells(label: str, missed: int, measured: Measured) -> list[str]:
    return [
        label,
        str(missed),
        f"{measured.opened:.2f}" if measured.opened else "",
        f"{measured.whole:.2f}",
        f"{measured.reads:,}",
        f"{measured.redis_ms:,.0f}",
        f"{measured.worker_seconds:.2f}",
    ]


# Workers


class Listeners:
    """Connections that are subscribed to a channel as workers are, and read what comes in a thread."""

    def __init__(self, stack: ExitStack, client: redis.Redis, name: bytes, count: int) -> None:
        path = client.connection_pool.connection_kwargs["path"]
        self._selector = selectors.DefaultSelector()
        self._is_over = False
        for _ in range(count):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(path)
            sock.sendall(b"SUBSCRIBE %b\r\n" % name)
            sock.recv(1024)
            self._selector.register(sock, selectors.EVENT_READ)
        thread = threading.Thread(target=self._read)
        thread.start()
        stack.callback(self._selector.close)
        stack.callback(thread.join)
        stack.callback(self._stop)

    def _stop(self) -> None:
        self._is_over = True

    def _read(self) -> None:
        while not self._is_over:
            for key, _ in self._selector.select(0.1):
                key.fileobj.recv(64 * 1024)  # type: ignore[union-attr]


def measure_listeners(client: redis.Redis, messages: int) -> list[list[str]]:
    """Return what a message costs Redis, by the number of workers that receive it."""
    pid = redis_pid(client)
    rows = []
    for count in LISTENERS:
        row = [str(count)]
        for facility, keep in (("plain/workers", None), ("kept/workers", KEEP)):
            name = name_of(facility)
            command = commands.publish_command(name, Message(PAYLOAD.encode(), True), keep)
            with ExitStack() as stack:
                Listeners(stack, client, name, count)
                before = cpu_seconds([pid])
                for _ in range(messages):
                    client.execute_command(*command)
                row.append(f"{(cpu_seconds([pid]) - before) / messages * 1e6:.0f}")
        rows.append(row)
    return rows


# Shards


def publish_to_shards(cluster: Cluster, places: dict[bytes, Any], messages: int, keep: Keep | None) -> None:
    """Publish to each channel in turn, a batch at a time, from one process."""
    commands_of = {
        name: commands.publish_command(name, Message(PAYLOAD.encode(), True), keep, is_sharded=True) for name in places
    }
    for _ in range(messages // BATCH):
        for name, client in places.items():
            with client.pipeline(transaction=False) as pipeline:
                for _ in range(BATCH):
                    pipeline.execute_command(*commands_of[name])
                pipeline.execute()


def measure_shards(stack: ExitStack, messages: int) -> list[list[str]]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wsr-")))
    cluster = Cluster(folder, replicas=0)
    stack.callback(cluster.stop)
    server = Server(stack, URL=cluster.url, HISTORY=HISTORY)
    rows = []
    for label, keep in (("plain", None), ("kept", KEEP)):
        prefix = "kept" if keep else "plain"
        found = cluster.names(f"wsredis:broadcast:{prefix}/%d", per_master=SHARD_CHANNELS)
        for shards in (1, 2, 3):
            rows.append([label, *one_spread(stack, cluster, server, found, shards, messages, keep)])
    return rows


def one_spread(
    stack: ExitStack,
    cluster: Cluster,
    server: Server,
    found: dict[int, list[str]],
    shards: int,
    messages: int,
    keep: Keep | None,
) -> list[str]:
    """Publish to channels that are on so many masters."""
    ports = list(found)[:shards]
    nodes = {node.port: node for node in cluster.masters()}
    places: dict[bytes, Any] = {}
    programs = []
    with ExitStack() as inner:
        clients = {port: inner.enter_context(nodes[port].client()) for port in ports}
        for number in range(SHARD_CHANNELS):
            port = ports[number % shards]
            name = found[port][number // shards]
            places[name.encode()] = clients[port]
            path = path_of(name.removeprefix("wsredis:broadcast:"), "&history=0")
            programs.append(Program(stack, BUILD / "clients", "127.0.0.1", server.port, SHARD_SOCKETS, path))
        for program in programs:
            program.answer()
        pids = {port: [nodes[port].process.pid] for port in ports}
        publish_to_shards(cluster, places, BATCH, keep)  # warms up
        for program in programs:
            program.tell(f"expect {BATCH}\n")
        for program in programs:
            program.answer()
        before = {port: cpu_seconds(pids[port]) for port in ports}
        worker_before = cpu_seconds(server.pids())
        for program in programs:
            program.tell(f"expect {messages}\n")
        began_at = time.monotonic()
        publish_to_shards(cluster, places, messages, keep)
        published = time.monotonic() - began_at
        delivered = max(program.answer()["last"] for program in programs) - began_at
        busiest = max(cpu_seconds(pids[port]) - before[port] for port in ports)
        worker = cpu_seconds(server.pids()) - worker_before
    for program in programs:
        program.stop()
    total = messages * SHARD_CHANNELS
    return [
        str(shards),
        f"{total / published:,.0f}",
        f"{total * SHARD_SOCKETS / delivered:,.0f}",
        f"{total / busiest:,.0f}",
        f"{worker / total * 1e6:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=5000, help="of a round, and of a channel of the cluster")
    parser.add_argument("--sockets", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rst", action="store_true", help="print the tables as docs/benchmarks.rst has them")
    options = parser.parse_args()
    with rig() as stack:
        server = Server(stack, HISTORY=HISTORY)
        import django

        django.setup()  # with the server's settings, which the environment names now
        publishing = measure_publishing(stack, server, options.messages, options.rounds)
        resuming = measure_resuming(stack, server, options.sockets)
        listeners = measure_listeners(server.redis, options.messages)
    with rig() as stack:
        shards = measure_shards(stack, options.messages)
    title = f"One publisher, one message after another, medians of {options.rounds} rounds of {options.messages:,}"
    columns = ["publishing", "messages/s", "ratio", "p50 / p99 ms", "Redis, µs\na message", "ratio"]
    print_table(title, columns, publishing, rst=options.rst)
    columns = [
        "sockets that", "missed\neach", "open\nafter, s", "whole\nafter, s", "reads of\nstreams", "Redis,\nms",
        "worker,\ns",
    ]  # fmt: skip
    print_table(f"{options.sockets:,} sockets", columns, resuming, rst=options.rst)
    columns = ["workers that\nreceive it", "plain, µs\nof Redis", "kept, µs\nof Redis"]
    print_table("What a message costs Redis", columns, listeners, rst=options.rst)
    columns = [
        "messages",
        "shards",
        "published\n/s",
        "delivered\n/s",
        "by busiest\nshard's CPU",
        "worker, µs\na message",
    ]
    print_table(f"{SHARD_CHANNELS} channels with {SHARD_SOCKETS} sockets each", columns, shards, rst=options.rst)


if __name__ == "__main__":
    main()
