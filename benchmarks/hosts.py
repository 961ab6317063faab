"""Every host and proxy: deliveries per second, handshakes, and memory per socket, next to a bare loop in C.

    python -m benchmarks.hosts [--sockets 1000] [--rounds 7] [--rst] [word …]

Only the layouts whose name has one of the words, if there are any. Needs uwsgi, gunicorn, nginx, apache2 and haproxy;
what is missing is left out. Each layout runs with exactly what `wscheck --emit` prints, and with one worker unless its
name says more. It is measured in turn with the bare loop, so that both see the same machine; ratios are of the medians.

A rate is counted by the clients, from the first frame to the last. Alone means that a message is sent when the one
before has reached every client, so that no proxy can pass on two in one piece. Processor time is counted twice: that of
the busiest worker (the rate if each process had a core of its own), and that of all processes, proxies too.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from tests import layouts
from tests.servers import free_port, wait_until

from . import starts
from .deployed import BROADCAST, FACILITY, FAILURES, Deployed, Deployment, Start, chosen
from .rig import Program, build, cpu_seconds, memory_bytes, print_table, rig, wait_for_rest

PAYLOAD_BYTES = 64
DELIVERIES = 100_000  # in a round
PATH = f"/ws/{FACILITY}?subscribe-broadcast"


def all_layouts(sockets: int) -> dict[str, Start]:
    return {
        "runwsserver": starts.runwsserver,
        "runwsserver --workers 2": lambda layout: starts.runwsserver(layout, "--workers", "2"),
        "runwsserver --certfile (wss)": starts.runwsserver_tls,
        "NGiNX, runwsserver on TCP": starts.nginx_on_tcp,
        "NGiNX, runwsserver on a unix socket": starts.nginx_on_unix,
        "HAProxy, runwsserver": starts.haproxy,
        "uWSGI --http-socket, gevent": starts.uwsgi,
        "uWSGI --http-socket, threads": lambda layout: starts.uwsgi(layout, "--threads", "4"),
        "NGiNX, uwsgi_pass to uWSGI": starts.nginx_to_uwsgi,
        "Apache, uWSGI": lambda layout: starts.apache(layout, sockets),
        "uWSGI --http router": lambda layout: starts.uwsgi(layout, "--router"),
        "uWSGI --https router (wss)": starts.uwsgi_tls,
        "uWSGI Emperor with a route": layouts.uwsgi_emperor,
        "gunicorn, gevent": lambda layout: starts.gunicorn(layout, "gevent"),
        "gunicorn, gthread": lambda layout: starts.gunicorn(layout, "gthread"),
    }


class Unready(Deployed):
    """A proxy in front of what answers no pages."""

    def wait_until_ready(self) -> None:
        def listens() -> bool:
            with socket.socket() as sock:
                return not sock.connect_ex(("127.0.0.1", self.port))

        wait_until(listens, 10, "the proxy listening")


# Measuring


class Side(NamedTuple):
    """A server with its clients."""

    site: list[int]  # process ids: the workers, with their masters
    front: Callable[[], list[int]]  # those of proxies, which may come and go
    clients: Program
    send: Callable[[int], object]  # a number of messages, at once


class Round(NamedTuple):
    """Deliveries per second: of time, of the busiest worker's processor time, and of that of all processes."""

    per_second: float
    per_busiest: float
    per_cpu_second: float


class Row(NamedTuple):
    """What was measured of one layout, the bare loop's rounds in between included."""

    name: str
    bare: Round
    alone: Round
    handshakes: float  # per second
    bursts: Round | None = None
    site_bytes: float | None = None  # per socket
    front_bytes: float | None = None


def run(side: Side, times: int, at_once: int) -> Round:
    """Send so many messages at once so many times, each time when all have arrived."""
    before = used_by(side)
    seconds = frames = 0
    for _ in range(times):
        side.clients.tell(f"expect {at_once}\n")
        side.send(at_once)
        report = side.clients.answer()
        seconds += report["seconds"]
        frames += report["frames"]
    used = {pid: seconds - before.get(pid, 0) for pid, seconds in used_by(side).items()}
    return Round(frames / seconds, frames / max(used[pid] for pid in side.site), frames / sum(used.values()))


def used_by(side: Side) -> dict[int, float]:
    """Return the processor time of each process, in seconds."""
    return {pid: cpu_seconds([pid]) for pid in (*side.site, *side.front())}


class Turns:
    """Takes turns between the bare loop and each layout."""

    def __init__(self, stack: ExitStack, sockets: int, rounds: int) -> None:
        self._sockets = sockets
        self._messages = DELIVERIES // sockets
        self._rounds = rounds
        self._deployment = Deployment(stack)
        self._bare, self.handshakes = self._start_bare(stack)

    def measure(self, name: str, start: Start) -> Row:
        with ExitStack() as stack:
            layout = stack.enter_context(self._deployment.running(start))
            # these warm it up, and stay open: what they would give back would not be counted
            first, _ = self._join(stack, layout, self._sockets // 2)
            before = memory_bytes(layout.site), memory_bytes(layout.front)
            clients, handshakes = self._join(stack, layout, self._sockets)
            after = memory_bytes(layout.site), memory_bytes(layout.front)
            site_bytes, front_bytes = ((new - old) / self._sockets for new, old in zip(after, before, strict=True))
            first.stop()
            side = Side(layout.site, lambda: layout.front, clients, self._publish)
            bare, alone, bursts = self._medians((self._bare, True), (side, True), (side, False))
            return Row(name, bare, alone, handshakes, bursts, site_bytes, front_bytes if layout.front else None)

    def measure_proxied_bare(self, name: str) -> Row:
        """Measure what NGiNX costs anybody."""
        port = free_port()

        def start(layout: Deployed) -> None:
            layouts.run_proxy(layout, "nginx", "--upstream", f"127.0.0.1:{port}")

        with ExitStack() as stack:
            layout = stack.enter_context(self._deployment.running(start, Unready))
            side, handshakes = self._start_bare(stack, port, layout)
            bare, alone = self._medians((self._bare, True), (side, True))
            return Row(name, bare, alone, handshakes)

    def _start_bare(self, stack: ExitStack, port: int = 0, layout: Deployed | None = None) -> tuple[Side, float]:
        """Start the bare loop, on any port by default; its clients meet it at the layout's if there is one."""
        bare = Program(stack, build("bare_loop"), port, self._sockets, 1, PAYLOAD_BYTES)
        port = bare.answer()["port"]
        clients = Program(stack, build("clients"), "127.0.0.1", layout.port if layout else port, self._sockets, PATH)
        handshakes = self._sockets / clients.answer()["seconds"]

        def send(_: int) -> None:
            bare.tell("g")
            bare.answer()

        return Side([bare.popen.pid], lambda: layout.front if layout else [], clients, send), handshakes

    def _join(self, stack: ExitStack, layout: Deployed, count: int) -> tuple[Program, float]:
        """Return clients, and how many handshakes they had per second."""
        program = build("clients_tls" if layout.tls else "clients")
        clients = Program(stack, program, "127.0.0.1", layout.port, count, PATH, self._deployment.cookie)
        handshakes = count / clients.answer()["seconds"]
        wait_for_rest([*layout.site, *layout.front])
        return clients, handshakes

    def _publish(self, messages: int) -> None:
        with self._deployment.redis.pipeline(transaction=False) as pipeline:
            for _ in range(messages):
                pipeline.publish(BROADCAST, b"x" * PAYLOAD_BYTES)
            pipeline.execute()

    def _medians(self, *turns: tuple[Side, bool]) -> list[Round]:
        """Run sides in turn, again and again, with messages alone or at once; the first time warms up."""
        rounds = []
        for _ in range(self._rounds + 1):
            counts = {True: (self._messages, 1), False: (1, self._messages)}
            rounds.append([run(side, *counts[is_alone]) for side, is_alone in turns])
        return [median(measured) for measured in zip(*rounds[1:], strict=True)]


def median(rounds: Iterable[Round]) -> Round:
    return Round(*map(statistics.median, zip(*rounds, strict=True)))


# Telling

COLUMNS = [
    "layout", "deliveries/s\neach alone", "ratio", "by busiest\nworker's CPU", "by all\nCPU", "ratio\nin bursts",
    "hand-\nshakes/s", "bytes per\nsocket", "in the\nproxy",
]  # fmt: skip


def cells(row: Row) -> list[str]:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:,.0f}"

    ratios = [f"{mine / bare:.2f}" for mine, bare in zip(row.alone, row.bare, strict=True)]
    bursts = "" if row.bursts is None else f"{row.bursts.per_second / row.bare.per_second:.0f}"
    ends = map(number, (row.handshakes, row.site_bytes, row.front_bytes))
    return [row.name, number(row.alone.per_second), *ratios, bursts, *ends]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rst", action="store_true", help="print the table as docs/benchmarks.rst has it")
    parser.add_argument("word", nargs="*", help="of a layout's name: only those are measured")
    options = parser.parse_args()
    rows: list[Row] = []
    failed = []
    with rig() as stack:
        turns = Turns(stack, options.sockets, options.rounds)
        measures = {name: partial(turns.measure, name, start) for name, start in all_layouts(options.sockets).items()}
        proxied = "NGiNX, bare C loop"
        measures[proxied] = partial(turns.measure_proxied_bare, proxied)
        for name, measure in chosen(measures, options.word).items():
            print(f"{name} …", file=sys.stderr)
            try:
                rows.append(measure())
            except FAILURES as error:
                failed.append(f"{name}: {error!r}")
    if rows:
        bare = median(row.bare for row in rows)
        rows.insert(0, Row("bare C loop", bare, bare, turns.handshakes))
    title = f"{options.sockets:,} sockets, {PAYLOAD_BYTES}-byte messages, medians of {options.rounds} rounds"
    print_table(title, COLUMNS, [cells(row) for row in rows], rst=options.rst)
    print(*failed, sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main()
