"""Fan-out: deliveries per second, next to a bare loop in C that sends the same frame to as many sockets.

    python -m benchmarks.fanout [--sockets 1000 10000] [--rounds 7]

Both servers and their clients (the same C program) are up at the same time and measured in turn, so that both see the
same machine; the ratio is that of the medians. A rate is counted by the clients, from the first frame to the last.
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import ExitStack

from .rig import BUILD, Program, Server, print_table, rig

PAYLOAD_BYTES = 64
DELIVERIES = 400_000  # in a round
PATH = "/ws/bench?subscribe-broadcast"
CHANNEL = "wsredis:broadcast:bench"


def bare_rate(bare: Program, clients: Program, messages: int) -> float:
    clients.tell(f"expect {messages}\n")
    bare.tell("g")
    bare.answer()
    return rate(clients)


def our_rate(server: Server, clients: Program, messages: int) -> float:
    clients.tell(f"expect {messages}\n")
    with server.redis.pipeline(transaction=False) as pipeline:
        for _ in range(messages):
            pipeline.publish(CHANNEL, b"x" * PAYLOAD_BYTES)
        pipeline.execute()
    return rate(clients)


def rate(clients: Program) -> float:
    report = clients.answer()
    return float(report["frames"] / report["seconds"])


def measure(stack: ExitStack, sockets: int, rounds: int) -> list[str]:
    messages = DELIVERIES // sockets
    server = Server(stack)
    ours = Program(stack, BUILD / "clients", "127.0.0.1", server.port, sockets, PATH)
    opened = ours.answer()
    bare = Program(stack, BUILD / "bare_loop", 0, sockets, messages, PAYLOAD_BYTES)
    theirs = Program(stack, BUILD / "clients", "127.0.0.1", bare.answer()["port"], sockets, PATH)
    theirs.answer()
    rates = [(our_rate(server, ours, messages), bare_rate(bare, theirs, messages)) for _ in range(rounds + 1)][1:]
    our_median, bare_median = (statistics.median(column) for column in zip(*rates, strict=True))
    ratios = sorted(a / b for a, b in rates)
    return [
        f"{sockets:,}",
        f"{our_median:,.0f}",
        f"{bare_median:,.0f}",
        f"{our_median / bare_median:.2f}",
        f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
        f"{sockets / opened['seconds']:,.0f}",
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
    columns = ["sockets", "deliveries/s", "bare C loop", "ratio", "ratios of rounds", "handshakes/s"]
    print_table(f"Fan-out of {PAYLOAD_BYTES}-byte messages, medians of {options.rounds} rounds", columns, rows)


if __name__ == "__main__":
    main()
