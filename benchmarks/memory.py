"""Memory per idle, subscribed socket.

    python -m benchmarks.memory [--sockets 10000]

What the server process grows by (proportional set size) from a first thousand sockets, which warm it up, to all of
them, divided by their number. The kernel's own memory for a TCP socket comes on top, as with every server.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from .rig import BUILD, Program, Server, memory_bytes, print_table, rig, wait_for_rest

WARM_UP = 1000
BROADCAST = "/ws/bench?subscribe-broadcast"
VIEW = "/ws/class/"
# what is subscribed to → the path, and whether somebody is logged in
KINDS = {
    "broadcast": (BROADCAST, False),
    "broadcast, may publish, echo off": (f"{BROADCAST}&publish-broadcast", False),
    "broadcast, user, group, session": (f"{BROADCAST}&subscribe-user&subscribe-group&subscribe-session", True),
    "nothing: a class-based view": (VIEW, False),
    "nothing: the same, logged in": (VIEW, True),
}


def settled_memory(server: Server) -> int:
    """Return the process's memory once its threads have finished what they do after a handshake."""
    wait_for_rest(server.pids())
    return memory_bytes(server.pids())


def measure(stack: ExitStack, label: str, path: str, is_logged_in: bool, sockets: int) -> list[str]:
    server = Server(stack, ALLOWED_CHANNELS="benchmarks.project.everything")
    cookie = [f"sessionid={server.log_in()}"] if is_logged_in else []
    Program(stack, BUILD / "clients", "127.0.0.1", server.port, WARM_UP, path, *cookie).answer()
    before = settled_memory(server)
    Program(stack, BUILD / "clients", "127.0.0.1", server.port, sockets, path, *cookie).answer()
    after = settled_memory(server)
    return [label, f"{sockets:,}", f"{(after - before) / sockets:,.0f} bytes", f"{after / 2**20:.1f} MiB"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sockets", type=int, default=10_000)
    parser.add_argument("--views", action="store_true", help="those of views alone")
    options = parser.parse_args()
    rows = []
    for label, kind in KINDS.items():
        if options.views and kind[0] != VIEW:
            continue
        with rig() as stack:
            rows.append(measure(stack, label, *kind, options.sockets))
    print_table("Memory of idle sockets", ["subscribed to", "sockets", "per socket", "whole process"], rows)


if __name__ == "__main__":
    main()
