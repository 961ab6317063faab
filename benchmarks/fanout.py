"""Fan-out: deliveries per second, next to a bare loop in C that sends the same frame to as many sockets.

    python -m benchmarks.fanout [--sockets 1000 10000] [--rounds 7]

Both servers and their clients (the same C program) are up at the same time and measured in turn, so that both see the
same machine; the ratios are those of the medians. A rate is counted by the clients, from the first frame to the last;
the ratio by CPU time, of deliveries per second of the two servers' processor time, holds on a busy machine too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from .rig import BUILD, Program, Server, cpu_seconds, print_table, rig

PAYLOAD_BYTES = 64
DELIVERIES = 400_000  # in a round
PATH = "/ws/bench?subscribe-broadcast&subscribe-group"
BROADCAST, GROUP = "wsredis:broadcast:bench", "wsredis:group:staff:bench"
# Messages of one channel that come together go out together. Those of two channels in turn do not: then each is one
# system call for each socket, as in the bare loop.
CHANNELS = {"each alone": [BROADCAST, GROUP], "in bursts": [BROADCAST]}

SESSION_PATH = f"{PATH}&subscribe-user&subscribe-session"
SESSION_SOCKETS = 1000
LATENCY_MESSAGES = 200
LATENCY_PAUSE_SECONDS = 0.02


class Round(NamedTuple):
    """Deliveries per second of time, as the clients count it, and per second of the server's processor time."""

    per_second: float
    per_cpu_second: float


def run(pids: list[int], clients: Program, messages: int, send: Callable[[], object]) -> Round:
    clients.tell(f"expect {messages}\n")
    before = cpu_seconds(pids)
    send()
    report = clients.answer()
    return Round(report["frames"] / report["seconds"], report["frames"] / (cpu_seconds(pids) - before))


def publish(server: Server, messages: int, channels: Sequence[str]) -> None:
    with server.redis.pipeline(transaction=False) as pipeline:
        for number in range(messages):
            pipeline.publish(channels[number % len(channels)], b"x" * PAYLOAD_BYTES)
        pipeline.execute()


def tell_bare(bare: Program) -> None:
    bare.tell("g")
    bare.answer()


def measure(stack: ExitStack, sockets: int, rounds: int) -> list[list[str]]:
    messages = DELIVERIES // sockets
    server = Server(stack)
    cookie = f"sessionid={server.log_in()}"
    ours = Program(stack, BUILD / "clients", "127.0.0.1", server.port, sockets, PATH, cookie)
    ours.answer()
    bare = Program(stack, BUILD / "bare_loop", 0, sockets, messages, PAYLOAD_BYTES)
    theirs = Program(stack, BUILD / "clients", "127.0.0.1", bare.answer()["port"], sockets, PATH)
    theirs.answer()
    rounds_of: dict[str, list[Round]] = {"bare": [], **{label: [] for label in CHANNELS}}
    for _ in range(rounds + 1):
        rounds_of["bare"].append(run([bare.popen.pid], theirs, messages, lambda: tell_bare(bare)))
        for label, channels in CHANNELS.items():
            send = partial(publish, server, messages, channels)
            rounds_of[label].append(run(server.pids(), ours, messages, send))
    medians = {
        label: Round(*map(statistics.median, zip(*measured[1:], strict=True)))  # the first round warms up
        for label, measured in rounds_of.items()
    }
    bare_median = medians.pop("bare")
    return [
        [
            f"{sockets:,}",
            label,
            f"{median.per_second:,.0f}",
            f"{bare_median.per_second:,.0f}",
            f"{median.per_second / bare_median.per_second:.2f}",
            f"{median.per_cpu_second / bare_median.per_cpu_second:.2f}",
        ]
        for label, median in medians.items()
    ]


def measure_session(stack: ExitStack, sockets: int) -> list[str]:
    """Handshakes with a database session, and the time from publishing to the last browser's kernel."""
    server = Server(stack)
    cookie = f"sessionid={server.log_in()}"
    clients = Program(stack, BUILD / "clients", "127.0.0.1", server.port, sockets, SESSION_PATH, cookie)
    opened = clients.answer()
    clients.tell(f"latency {LATENCY_MESSAGES}\n")
    for _ in range(LATENCY_MESSAGES):
        server.redis.publish(BROADCAST, f"{time.monotonic_ns()} {'x' * 40}")
        time.sleep(LATENCY_PAUSE_SECONDS)
    latency = clients.answer()
    if latency["samples"] != sockets * LATENCY_MESSAGES:
        raise RuntimeError(f"messages are missing: {latency}")
    return [
        f"{sockets:,}",
        f"{sockets / opened['seconds']:,.0f}",
        f"{opened['handshake_p50_ms']:.1f} / {opened['handshake_p99_ms']:.1f}",
        f"{latency['p50_ms']:.2f} / {latency['p99_ms']:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sockets", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rows = []
    for sockets in options.sockets:
        with rig() as stack:
            rows += measure(stack, sockets, options.rounds)
    columns = ["sockets", "messages", "deliveries/s", "bare C loop", "ratio", "by CPU time"]
    with rig() as stack:
        session_rows = [measure_session(stack, SESSION_SOCKETS)]
    print_table(f"Fan-out of {PAYLOAD_BYTES}-byte messages, medians of {options.rounds} rounds", columns, rows)
    columns = ["sockets", "handshakes/s", "handshake p50 / p99 ms", "message p50 / p99 ms"]
    print_table("With a session and user from the database, 64 handshakes at a time", columns, session_rows)


if __name__ == "__main__":
    main()
