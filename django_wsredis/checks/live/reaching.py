"""DNS and TCP: whether there is somebody at the URL's host and port."""

from __future__ import annotations

import errno
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ..findings import Problem, Row
from ..waiting import within
from .way import STEP_SECONDS, Broken, Way, milliseconds, seen

NOT_HERE = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # this machine lacks the family


def resolve(way: Way) -> Row:
    """Look the name up."""
    try:
        found = within(STEP_SECONDS, partial(socket.getaddrinfo, way.host, way.port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:  # the latter: a label that no name can have
        reason = _reason(error)
        hint = (
            f"Is it spelled right? What DNS has of it: dig {way.host} A {way.host} AAAA\n"
            f"If that is nothing, add to the zone, with the proxy's address: {way.host}. A 192.0.2.1\n"
            "If nobody answers, another resolver is needed here: cat /etc/resolv.conf"
        )
        text = f"DNS: {way.host} does not resolve: {reason}."
        problem = Problem(id="wsredis.E602", text=text, hint=hint)
        raise Broken(seen(f"{way.host}: {reason}", problem)) from None
    addresses = [(str(address[0]), int(address[1])) for *_, address in found]
    way.addresses = list(dict.fromkeys(addresses))
    return seen(f"{way.host}: {', '.join(host for host, _ in way.addresses)}")


def connect(way: Way) -> Row:
    """Connect to each address, to all at once; those that do not accept are left out from here on."""
    with ThreadPoolExecutor(len(way.addresses)) as pool:
        results = dict(zip(way.addresses, pool.map(_try, way.addresses), strict=True))
    accepting = [address for address, result in results.items() if isinstance(result, float)]
    told = {address: _told(address, result) for address, result in results.items()}
    found = f"port {way.port}: {'; '.join(told.values())}"
    if not accepting:
        text = f"TCP: nothing accepts connections at {way.host}, {found}."
        problem = Problem(id="wsredis.E603", text=text, hint=_hint(way))
        raise Broken(seen(found, problem))
    way.addresses = accepting
    problems = [
        Problem(
            id="wsredis.W604",
            text=f"TCP: {way.host} has the address {told[address]}, on port {way.port}: its visitors wait, or fail.",
            hint=f"NGiNX: {_listen(way, address[0])} Or take {address[0]} out of the DNS of {way.host}.",
        )
        for address, result in results.items()
        if isinstance(result, OSError) and result.errno not in NOT_HERE and way.host != "localhost"
    ]
    return seen(found, *problems)


def lost(way: Way, error: Exception) -> Problem:
    """Return the problem that there is no connection any more."""
    text = f"TCP: {way.netloc} accepts connections no more, or breaks them off: {_reason(error)}."
    return Problem(id="wsredis.E603", text=text, hint=_hint(way))


def _try(address: tuple[str, int]) -> float | OSError:
    """Return how long it took to connect, or why it did not."""
    began_at = time.monotonic()
    try:
        with socket.create_connection(address, STEP_SECONDS):
            return time.monotonic() - began_at
    except OSError as error:
        return error


def _told(address: tuple[str, int], result: float | OSError) -> str:
    if isinstance(result, float):
        return f"{address[0]} in {milliseconds(result)}"
    return f"{address[0]}: {_reason(result)}"


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {STEP_SECONDS:g} s"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")


def _listen(way: Way, host: str = "") -> str:
    """Return NGiNX's line for an address; "" for all of IPv4."""
    name = f"[{host}]:" if ":" in host else f"{host}:" if host else ""
    return f"listen {name}{way.port}{' ssl' if way.is_secure else ''};"


def _hint(way: Way) -> str:
    return (
        f"Refused: nobody listens there. On its machine: ss -ltnp 'sport = :{way.port}'\n"
        f"Start the proxy (systemctl restart nginx), which has {_listen(way)}\n"
        f"No answer: a firewall drops what comes: ufw allow {way.port}/tcp, or the cloud's security group."
    )
