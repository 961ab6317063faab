"""Echoes by websocket views: messages per second and their latency, next to Channels with uvicorn.

    pip install channels uvicorn uvloop httptools
    python -m benchmarks.views [--sockets 1000] [--threads 200] [--seconds 5] [--rounds 5] [--rst]

Each socket sends 64 bytes, waits for the echo, and sends again. Both servers are up at the same time, with one process
each, and are measured in turn with the same clients, the sockets of one kind of view at a time. A function view has a
thread for each socket, so there are fewer of them. All have Django's sessions and authentication, and write no log. The
ratios are to the faster one of Channels' consumers; that by CPU time, of echoes per second of the servers' processor
time, holds on a busy machine too.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any, NamedTuple

from .rig import BUILD, Program, Server, cpu_seconds, print_table, rig, wait_for_rest

START_SECONDS = 20


class Kind(NamedTuple):
    """A way to write an echo. few: whether it has as many sockets as there are threads."""

    path: str
    is_ours: bool
    is_few: bool = False


KINDS = {
    "class": Kind("/ws/class/", True),
    "Channels, WebsocketConsumer": Kind("/ws/sync/", False),
    "Channels, AsyncWebsocketConsumer": Kind("/ws/async/", False),
    "function": Kind("/ws/function/", True, is_few=True),
}


class Uvicorn:
    """Channels under uvicorn, with one worker."""

    def __init__(self, stack: ExitStack) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", "benchmarks.consumers:application", "--port", str(self.port)]
        self.popen = subprocess.Popen([*command, "--log-level", "error", "--no-access-log"])
        stack.callback(self.stop)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if self.popen.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("uvicorn did not start: are channels and uvicorn installed?") from None
                time.sleep(0.05)

    def pids(self) -> list[int]:
        return [self.popen.pid]

    def stop(self) -> None:
        self.popen.terminate()
        self.popen.wait(30)


class Round(NamedTuple):
    """Echoes per second of time, and per second of the server's processor time; milliseconds."""

    per_second: float
    per_cpu_second: float
    p50_ms: float
    p99_ms: float


def run(server: Server | Uvicorn, kind: Kind, sockets: int, seconds: float) -> Round:
    with ExitStack() as stack:
        clients = Program(stack, BUILD / "clients", "127.0.0.1", server.port, sockets, kind.path)
        clients.answer()
        wait_for_rest(server.pids())
        before = cpu_seconds(server.pids())
        clients.tell(f"echo {seconds * 1000:.0f}\n")
        report = clients.answer()
        used = cpu_seconds(server.pids()) - before
    wait_for_rest(server.pids())
    frames = report["frames"]
    return Round(frames / report["seconds"], frames / used, report["p50_ms"], report["p99_ms"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=200, help="as many sockets have function views")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rst", action="store_true", help="for docs/benchmarks.rst")
    options = parser.parse_args()
    measured: dict[str, list[Round]] = {label: [] for label in KINDS}
    with rig() as stack:
        ours = Server(stack, VIEW_THREADS=options.threads)
        theirs: Any = Uvicorn(stack)
        for number in range(options.rounds + 1):
            for label, kind in KINDS.items():
                sockets = options.threads if kind.is_few else options.sockets
                found = run(ours if kind.is_ours else theirs, kind, sockets, options.seconds)
                if number:  # the first round warms up
                    measured[label].append(found)
    medians = {label: Round(*map(statistics.median, zip(*rounds, strict=True))) for label, rounds in measured.items()}
    base = max((median for label, median in medians.items() if not KINDS[label].is_ours), key=lambda median: median[0])
    rows = [
        [
            label,
            f"{options.threads if KINDS[label].is_few else options.sockets:,}",
            f"{median.per_second:,.0f}",
            f"{median.per_second / base.per_second:.1f}",
            f"{median.per_cpu_second / base.per_cpu_second:.1f}",
            f"{median.p50_ms:.0f} / {median.p99_ms:.0f}",
        ]
        for label, median in medians.items()
    ]
    columns = ["view", "sockets", "echoes/s", "ratio", "by CPU time", "p50 / p99 ms"]
    print_table(f"Echoes, medians of {options.rounds} rounds", columns, rows, rst=options.rst)


if __name__ == "__main__":
    main()
