"""What it costs a worker with very many sockets to be asked about them, and what its sockets feel of it.

    python -m benchmarks.asked [--sockets 5000 50000] [--rounds 30]

Each question is asked again and again, while one more socket pings without end: it is answered when the loop is free.
A worker has at most as many sockets as its hard limit of open files allows, so there may be fewer than were wanted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing.connection import Connection

import django
from websockets.sync.client import connect

from .rig import BUILD, Program, Server, print_table, rig

PATH = "/ws/bench?subscribe-broadcast"
OTHER_FILES = 200  # that worker and clients have open besides their sockets


def questions() -> dict[str, Callable[[], object]]:
    """Return what is asked; Django is set up by then."""
    from django_wsredis import connections, count, disconnect, is_online
    from django_wsredis.control import Filter
    from django_wsredis.workers import report

    return {
        "nothing": lambda: time.sleep(0.1),
        "wsinspect": lambda: report(Filter(), limit=10),
        "is_online('alice')": lambda: is_online("alice"),
        "count()": count,
        "count(facility='bench*')": lambda: count(facility="bench*"),
        "connections()": connections,
        "connections(sort='age')": lambda: connections(sort="age"),
        "disconnect(channel='no:*')": lambda: disconnect(channel="no:*"),
    }


def ping_pong(port: int, orders: Connection) -> None:
    """Ping a server from each "begin" to the next "stop", and send the round trips, in seconds."""
    with connect(f"ws://127.0.0.1:{port}{PATH}", compression=None) as socket:
        while orders.recv() == "begin":
            round_trips = []
            while not orders.poll():
                began_at = time.perf_counter()
                socket.ping().wait()
                round_trips.append(time.perf_counter() - began_at)
                time.sleep(0.001)
            orders.recv()
            orders.send(round_trips)


def measure(wanted: int, rounds: int) -> list[list[str]]:
    with rig() as stack:
        return measure_with(stack, wanted, rounds)


def measure_with(stack: ExitStack, wanted: int, rounds: int) -> list[list[str]]:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    sockets = min(wanted, limit - OTHER_FILES)
    server = Server(stack, MAX_SOCKETS=sockets + 1)
    django.setup()
    Program(stack, BUILD / "clients", "127.0.0.1", server.port, sockets, PATH).answer()
    ours, theirs = multiprocessing.Pipe()
    pinger = multiprocessing.get_context("fork").Process(target=ping_pong, args=(server.port, theirs), daemon=True)
    pinger.start()
    stack.callback(pinger.terminate)
    rows = []
    for name, ask in questions().items():
        ask()  # warms up
        ours.send("begin")
        durations = []
        for _ in range(rounds):
            time.sleep(0.05)
            began_at = time.perf_counter()
            ask()
            durations.append(time.perf_counter() - began_at)
        ours.send("stop")
        round_trips = sorted(ours.recv())
        took = "" if name == "nothing" else f"{statistics.median(durations) * 1000:.1f}"
        rows.append([f"{sockets:,}", name, took, *(f"{1000 * value:.2f}" for value in percentiles(round_trips))])
    return rows


def percentiles(values: list[float]) -> tuple[float, float, float]:
    """Return the median, the 99th percentile, and the greatest of sorted values."""
    return values[len(values) // 2], values[len(values) * 99 // 100], values[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sockets", type=int, nargs="+", default=[5000, 50_000])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    rows: list[list[str]] = []
    for sockets in options.sockets:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # Django is set up for one server
            rows += pool.submit(measure, sockets, options.rounds).result()
    columns = ["sockets", "asked", "took, ms", "ping p50, ms", "p99, ms", "longest, ms"]
    print_table(f"A worker that is asked, medians of {options.rounds} rounds", columns, rows)


if __name__ == "__main__":
    main()
