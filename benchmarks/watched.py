"""What it costs a worker to be watched: fan-out while `wsinspect --watch` asks it, next to fan-out in peace.

    python -m benchmarks.watched [--sockets 1000 10000] [--rounds 11]

Both are measured in turn, in one run, with the same sockets; the ratios are those of the medians. The one by processor
time counts the worker's alone, so it holds although the one who watches needs the processor, too.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from .fanout import CHANNELS, DELIVERIES, PATH, Round, publish, run
from .rig import BUILD, Program, Server, print_table, rig

WATCH_SECONDS = "1"
CHANNEL_NAMES = CHANNELS["each alone"]


@contextmanager
def watching(server: Server) -> Iterator[None]:
    """Have the server watched."""
    command = [sys.executable, "-m", "django", "wsinspect", "--watch", WATCH_SECONDS, "--json"]
    with subprocess.Popen(command, env=server.env, stdout=subprocess.PIPE) as watcher:
        if not watcher.stdout.readline():  # the first look
            raise RuntimeError("wsinspect --watch has ended")
        threading.Thread(target=watcher.stdout.read).start()
        yield
        watcher.terminate()


def measure(stack: ExitStack, sockets: int, rounds: int) -> list[str]:
    messages = DELIVERIES // sockets
    server = Server(stack)
    cookie = f"sessionid={server.log_in()}"
    clients = Program(stack, BUILD / "clients", "127.0.0.1", server.port, sockets, PATH, cookie)
    clients.answer()
    once = partial(run, server.pids(), clients, messages, partial(publish, server, messages, CHANNEL_NAMES))

    def some() -> list[Round]:
        once()  # what came between has taken the sockets out of the processor's cache
        return [once() for _ in range(3)]

    alone: list[Round] = []
    watched: list[Round] = []
    for _ in range(rounds):
        alone += some()
        with watching(server):
            watched += some()
    rates = [[statistics.median(column) for column in zip(*all_rounds, strict=True)] for all_rounds in (alone, watched)]
    (per_second, per_cpu_second), (watched_per_second, watched_per_cpu_second) = rates
    return [
        f"{sockets:,}",
        f"{per_second:,.0f}",
        f"{watched_per_second:,.0f}",
        f"{watched_per_second / per_second:.3f}",
        f"{watched_per_cpu_second / per_cpu_second:.3f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sockets", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    rows = []
    for sockets in options.sockets:
        with rig() as stack:
            rows.append(measure(stack, sockets, options.rounds))
    columns = ["sockets", "deliveries/s", "while watched", "ratio", "by CPU time"]
    print_table(
        f"Fan-out while wsinspect --watch {WATCH_SECONDS} runs, medians of {options.rounds} rounds", columns, rows
    )


if __name__ == "__main__":
    main()
