"""Fan-out: deliveries per second, next to a bare loop in C that sends the same frame to as many sockets.

    python -m benchmarks.fanout [--sockets 1000 10000] [--rounds 7]

Both servers and their clients (the same C program) are up at the same time and measured in turn, so that both see the
same machine; the ratios are those of the medians. A rate is counted by the clients, from the first frame to the last;
the ratio by CPU time, of deliveries per second of the two servers' processor time, holds on a busy machine too.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from .rig import BUILD, Program, Server, cpu_seconds, print_table, rig

PAYLOAD_BYTES = 64
DELIVERIES = 400_000  # in a round
PATH = "/ws/bench?subscribe-broadcast"
SESSION_PATH = f"{PATH}&subscribe-user&subscribe-group&subscribe-session"
SESSION_SOCKETS = 1000
LATENCY_MESSAGES = 200
LATENCY_PAUSE_SECONDS = 0.02
CHANNEL = "wsredis:broadcast:bench"


class Round(NamedTuple):
    """Deliveries per second of time, as the clients count it, and per second of the server's processor time."""

    per_second: float
    per_cpu_second: float


def run(server: subprocess.Popen[str], clients: Program, messages: int, send: Callable[[], object]) -> Round:
    clients.tell(f"expect {messages}\n")
    before = cpu_seconds(server)
    send()
    report = clients.answer()
    return Round(report["frames"] / report["seconds"], report["frames"] / (cpu_seconds(server) - before))


def publish(server: Server, messages: int) -> None:
    with server.redis.pipeline(transaction=False) as pipeline:
        for _ in range(messages):
            pipeline.publish(CHANNEL, b"x" * PAYLOAD_BYTES)
        pipeline.execute()


def tell_bare(bare: Program) -> None:
    bare.tell("g")
    bare.answer()


def measure(stack: ExitStack, sockets: int, rounds: int) -> list[str]:
    messages = DELIVERIES // sockets
    server = Server(stack)
    ours = Program(stack, BUILD / "clients", "127.0.0.1", server.port, sockets, PATH)
    opened = ours.answer()
    bare = Program(stack, BUILD / "bare_loop", 0, sockets, messages, PAYLOAD_BYTES)
    theirs = Program(stack, BUILD / "clients", "127.0.0.1", bare.answer()["port"], sockets, PATH)
    theirs.answer()
    pairs = []
    for _ in range(rounds + 1):
        our_round = run(server.popen, ours, messages, lambda: publish(server, messages))
        pairs.append((our_round, run(bare.popen, theirs, messages, lambda: tell_bare(bare))))
    ours_all, bare_all = zip(*pairs[1:], strict=True)  # the first round warms up
    our_rate, bare_rate = (statistics.median(r.per_second for r in side) for side in (ours_all, bare_all))
    our_cpu, bare_cpu = (statistics.median(r.per_cpu_second for r in side) for side in (ours_all, bare_all))
    return [
        f"{sockets:,}",
        f"{our_rate:,.0f}",
        f"{bare_rate:,.0f}",
        f"{our_rate / bare_rate:.2f}",
        f"{our_cpu / bare_cpu:.2f}",
        f"{sockets / opened['seconds']:,.0f}",
    ]


def measure_session(stack: ExitStack, sockets: int) -> list[str]:
    """Handshakes with a database session, and the time from publishing to the last browser's kernel."""
    server = Server(stack)
    cookie = f"sessionid={server.log_in()}"
    clients = Program(stack, BUILD / "clients", "127.0.0.1", server.port, sockets, SESSION_PATH, cookie)
    opened = clients.answer()
    clients.tell(f"latency {LATENCY_MESSAGES}\n")
    for _ in range(LATENCY_MESSAGES):
        server.redis.publish(CHANNEL, f"{time.monotonic_ns()} {'x' * 40}")
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
            rows.append(measure(stack, sockets, options.rounds))
    columns = ["sockets", "deliveries/s", "bare C loop", "ratio", "ratio by CPU time", "handshakes/s"]
    with rig() as stack:
        session_rows = [measure_session(stack, SESSION_SOCKETS)]
    print_table(f"Fan-out of {PAYLOAD_BYTES}-byte messages, medians of {options.rounds} rounds", columns, rows)
    columns = ["sockets", "handshakes/s", "handshake p50 / p99 ms", "message p50 / p99 ms"]
    print_table("With a session and user from the database, 64 handshakes at a time", columns, session_rows)


if __name__ == "__main__":
    main()
