"""Reloads and stops: what browsers notice of them.

    python -m benchmarks.reloads [--sockets 1000] [--rate 100] [--rst] [word …]

Only the cases whose name has one of the words, if there are any. While workers end, sockets are open, which come back
as with wsredis.js, and pages are asked for at a steady rate, half of them on connections of their own. No request is
sent twice: one that is cut has failed. Each site runs with exactly what `wscheck --emit` prints.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from . import starts
from .browsers import Close, Crowd, Flow, Request
from .deployed import FACILITY, FAILURES, Deployed, Deployment, Start, chosen
from .rig import print_table, rig

PATH = f"/ws/{FACILITY}?subscribe-broadcast"
BEFORE_SECONDS = 2
LIMIT_SECONDS = 90
TICK_SECONDS = 0.05
TWO = ("--workers", "2")


class Reloadable(Deployed):
    """A site as it is deployed."""

    def configure(self) -> None:
        # as they are by default
        self.settings["WSREDIS"].update(PING_INTERVAL=20, PING_TIMEOUT=20, DRAIN_SECONDS=5)

    def workers(self) -> set[int]:
        """Return the processes that run Django now, without their masters."""
        return set(self.pids()) - {process.pid for process in self.sites}


def hang_up(layout: Reloadable) -> None:
    for process in layout.sites:
        os.kill(process.pid, signal.SIGHUP)


def touch(layout: Reloadable) -> None:
    os.utime(layout.reload_file)


def terminate(layout: Reloadable) -> None:
    for process in layout.sites:
        os.kill(process.pid, signal.SIGTERM)


CASES: dict[str, tuple[Start, Callable[[Reloadable], None]]] = {}


def add(name: str, start: Start, reload: tuple[str, Callable[[Reloadable], None]]) -> None:
    """Add two cases: a reload and a stop."""
    CASES[f"{name}: {reload[0]}"] = start, reload[1]
    CASES[f"{name}: TERM"] = start, terminate


HUP, CHAIN = ("HUP", hang_up), ("chain reload", touch)
add("runwsserver", lambda layout: starts.runwsserver(layout, *TWO), HUP)
add("NGiNX, runwsserver", lambda layout: starts.nginx_on_tcp(layout, *TWO), HUP)
add("uWSGI, gevent", lambda layout: starts.uwsgi(layout, *TWO), CHAIN)
add("uWSGI, gevent, one worker", starts.uwsgi, HUP)
add("uWSGI, threads", lambda layout: starts.uwsgi(layout, *TWO, "--threads", "8"), CHAIN)
add("NGiNX, uWSGI", lambda layout: starts.nginx_to_uwsgi(layout, *TWO), CHAIN)
add("gunicorn, gevent", lambda layout: starts.gunicorn(layout, "gevent", *TWO), HUP)
add("gunicorn, gthread", lambda layout: starts.gunicorn(layout, "gthread", *TWO), HUP)


class Result(NamedTuple):
    """What was noticed, from the signal on; times are in seconds since then."""

    requests: list[Request]
    late: list[Request]  # begun after the signal of a stop: these may be refused
    closes: list[Close]
    refusals: Counter[str]
    ended: float | None  # the last of the old workers
    back: float | None  # the last socket


async def observe(
    layout: Reloadable, cookie: str, trigger: Callable[[Reloadable], None], sockets: int, rate: float
) -> Result:
    """Have browsers come, then signal; return what they notice."""
    crowd = Crowd(f"ws://127.0.0.1:{layout.port}{PATH}", cookie, sockets)
    await crowd.come()
    flow = Flow(layout.port, rate)
    running = asyncio.create_task(flow.run())
    await asyncio.sleep(BEFORE_SECONDS)
    if crowd.closes:
        raise RuntimeError(f"sockets were closed before the signal: {crowd.closes[:3]}")
    is_stop = trigger is terminate
    crowd.comes_back = not is_stop
    began_at = time.monotonic()
    old = layout.workers() or {process.pid for process in layout.sites}
    trigger(layout)
    ended_at = await end_of(old, LIMIT_SECONDS)
    while not is_stop and crowd.open < sockets and time.monotonic() < began_at + LIMIT_SECONDS:
        await asyncio.sleep(TICK_SECONDS)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await flow.finish()
    result = told(crowd, flow, began_at, ended_at, is_stop)
    crowd.leave()
    await asyncio.sleep(TICK_SECONDS)
    return result


def told(crowd: Crowd, flow: Flow, began_at: float, ended_at: float | None, is_stop: bool) -> Result:
    requests = [request for request in flow.requests if request.began_at + request.seconds >= began_at]
    late = [request for request in requests if is_stop and request.began_at >= began_at]
    return Result(
        [request for request in requests if request not in late],
        late,
        [Close(at - began_at, code) for at, code in crowd.closes],
        Counter(reason for at, reason in crowd.refusals if at >= began_at),
        ended_at and ended_at - began_at,
        None if is_stop or crowd.open < crowd.count else crowd.opened_at - began_at,
    )


async def end_of(pids: set[int], seconds: float) -> float | None:
    """Return when the last of some processes has ended."""
    deadline = time.monotonic() + seconds
    while (now := time.monotonic()) < deadline:
        if not any(map(is_alive, pids)):
            return now
        await asyncio.sleep(TICK_SECONDS)
    return None


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


COLUMNS = [
    "how it ends", "requests", "failed", "slowest\nrequest, s", "closed\n1012", "\n1001", "other\ncode", "no\ncode",
    "over, s", "all back\nafter, s",
]  # fmt: skip


def cells(name: str, result: Result) -> list[str]:
    codes = Counter(code for _, code in result.closes)
    others = sum(count for code, count in codes.items() if code not in (1012, 1001, None))
    times = [at for at, _ in result.closes] or [0.0]
    return [
        name,
        f"{len(result.requests):,}",
        str(sum(bool(request.problem) for request in result.requests)),
        f"{max((request.seconds for request in result.requests), default=0):.2f}",
        *(f"{count:,}" for count in (codes[1012], codes[1001], others, codes[None])),
        f"{max(times) - min(times):.1f}",
        "" if result.back is None else f"{result.back:.1f}",
    ]


def details(name: str, result: Result) -> list[str]:
    """Return what else there is to know, above all of what failed."""

    def counted(requests: list[Request], what: str) -> list[str]:
        kinds = {True: "on a new connection", False: "on a kept one"}
        counts = Counter((r.problem or "answered", kinds[r.is_new]) for r in requests)
        return [f"{name}: {count} × {what} {problem}, {kind}" for (problem, kind), count in counts.items()]

    lines = counted([request for request in result.requests if request.problem], "request failed:")
    lines += counted(result.late, "request begun after the signal:")
    lines += [f"{name}: {count} × handshake failed: {reason}" for reason, count in result.refusals.items()]
    ended = "never" if result.ended is None else f"after {result.ended:.1f} s"
    return [*lines, f"{name}: the old workers ended {ended}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=100, help="requests per second")
    parser.add_argument("--rst", action="store_true", help="print the table as docs/benchmarks.rst has it")
    parser.add_argument("--verbose", action="store_true", help="show what the servers say")
    parser.add_argument("word", nargs="*", help="of a case's name: only those are measured")
    options = parser.parse_args()
    rows, notes = [], []
    with rig() as stack:
        deployment = Deployment(stack)
        for name, (start, trigger) in chosen(CASES, options.word).items():
            print(f"{name} …", file=sys.stderr)
            try:
                with deployment.running(start, Reloadable) as layout:
                    result = asyncio.run(observe(layout, deployment.cookie, trigger, options.sockets, options.rate))
                    if options.verbose:
                        print(layout.output)
            except FAILURES as error:
                notes.append(f"{name}: {error!r}")
                continue
            rows.append(cells(name, result))
            notes += details(name, result)
    title = f"{options.sockets:,} sockets and {options.rate:g} requests a second"
    print_table(title, COLUMNS, rows, rst=options.rst)
    print(*notes, sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main()
