"""What the kernel allows, for each area that asks. Linux tells it in files; elsewhere it is not seen."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from .findings import Problem, Row, skipped

PROC = Path("/proc")
MOST_PORTS = len(range(1024, 65536))  # that ip_local_port_range can have, without those of root
UNKNOWN_PORTS = "sys/net/ipv4/ip_local_port_range cannot be read here"


def text(name: str) -> str:
    """Return what a file below /proc says; "" where there is none."""
    try:
        return (PROC / name).read_text()
    except OSError:  # another system, or a container that hides it
        return ""


def somaxconn() -> int | None:
    """Return how many connections may wait to be accepted; None if that is not known."""
    numbers = _numbers("sys/net/core/somaxconn")
    return numbers[0] if numbers else None


def port_range() -> range | None:
    """Return the ports from which connections are made; None if they are not known."""
    numbers = _numbers("sys/net/ipv4/ip_local_port_range")
    return range(numbers[0], numbers[1] + 1) if len(numbers) == 2 else None


def ports_row(addresses: Collection[str], max_sockets: int | None, place: str) -> Row:
    """See whether a proxy on this machine has a port for each connection to each TCP address of the site.

    addresses: those of TCP, `host:port`; none if it reaches the site by unix sockets alone.
    """
    checked = "ports"
    if not addresses:
        return Row(checked=checked, found="none is needed: no TCP to the site")
    ports = port_range()
    if ports is None:
        return skipped(checked, f"{PROC}/{UNKNOWN_PORTS}")
    whom = ", ".join(sorted(addresses))
    wanted = "not set" if max_sockets is None else f"{max_sockets:,}"
    found = f"{len(ports):,} to each of {whom}; MAX_SOCKETS {wanted}"
    if max_sockets is None or len(ports) >= max_sockets:
        return Row(checked=checked, found=found)
    wider = "; or: sysctl -w net.ipv4.ip_local_port_range='1024 65535'" if max_sockets <= MOST_PORTS else "."
    problem = Problem(
        id="wsredis.W555",
        text=f"ip_local_port_range is {shown(ports)}: a proxy here has {len(ports):,} connections at most to each of "
        f"{whom}, and MAX_SOCKETS is {max_sockets:,}.",
        hint=f"Let the proxy use a unix socket, or each worker have a port of its own{wider}",
        place=place,
    )
    return Row(checked=checked, found=found, problems=(problem,))


def shown(ports: range) -> str:
    """Return a range of ports for people."""
    return f"{ports[0]} to {ports[-1]}"


def _numbers(name: str) -> list[int]:
    words = text(name).split()
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else []
