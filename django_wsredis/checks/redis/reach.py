"""Whether Redis answers, how fast, by which clock; and whether it is one that we can use."""

from __future__ import annotations

import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from ... import embedded, redis, redis_errors
from ...exceptions import BrokerUnavailable
from ...inspection.servers import round_trip
from ...redis_url import Address, shown_address
from ...wording import sentence
from ..findings import Problem, Row, skipped
from ..waiting import within
from .master import Found, Master, NotSeen

RESOLVE_SECONDS = 2.0  # a resolver that hangs knows no deadline
ROUND_TRIPS = 20
MOST_SECONDS = 1.0  # for all of them
SLOW_SECONDS = 0.02  # within a data centre it is 1 ms at most; what publishes waits for it
SCHEMES = {  # by its mode, what it is, and the form of its URL
    "sentinel": ("a sentinel", "redis+sentinel://host:26379,host:26379/service"),
    "cluster": ("a node of a cluster", "redis+cluster://host:port,host:port"),
}
FIRST_REDIS = (6, 2)  # with exclusive ranges of streams
FIRST_CLUSTER = (7, 0)  # with sharded pub/sub
SKEW_SECONDS = 5.0

TITLES = {
    "wsredis.E101": "Redis cannot be reached, or refuses the login.",
    "wsredis.E102": "Redis is too old.",
    "wsredis.E103": "Redis is a replica, which takes no messages.",
    "wsredis.W104": "A round trip to Redis takes long.",
    "wsredis.W124": "Redis' clock and that of this machine differ.",
}


def unresolved(url: str) -> Row | None:
    """Return the row for a URL that names a host for which the resolver hangs; None if it does not.

    A name that it does not know is told by who connects.
    """
    hosts = redis.hosts(url)
    with ThreadPoolExecutor(max(len(hosts), 1)) as threads:
        hanging = [host for host, hangs in zip(hosts, threads.map(_hangs, hosts), strict=True) if hangs]
    if not hanging:
        return None
    problem = Problem(
        id="wsredis.E101",
        text=f"The name of Redis' host, {', '.join(hanging)}, is not resolved within {RESOLVE_SECONDS:g} s.",
        hint=f"Each worker that connects waits for it. Ask the DNS servers in /etc/resolv.conf: dig {hanging[0]}",
    )
    return Row(checked="connection", found=redis_errors.shown_url(url), problems=(problem,))


def _hangs(host: str) -> bool:
    try:
        within(RESOLVE_SECONDS, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except TimeoutError:
        return True
    except (OSError, UnicodeError):  # the latter: a label that no name can have
        pass
    return False


def unreachable(url: str, error: BrokerUnavailable) -> Row:
    """Return the row for a Redis that does not answer."""
    where = redis_errors.shown_url(url)
    if embedded.is_embedded(url):
        return skipped("connection", str(error))
    if "unknown command" in redis_errors.refusal(error):  # HELLO, the first that it is asked
        return Row(checked="connection", found=f"{where}: too old", problems=(_too_old(where, "does not know HELLO"),))
    problem = Problem(
        id="wsredis.E101", text=sentence(str(error)), hint=f"Until it answers, websockets get 503. {_command(url)}"
    )
    return Row(checked="connection", found=where, problems=(problem,))


def _command(url: str) -> str:
    where = redis_errors.shown_url(url)
    if redis.has_sentinels(url):
        return "Ask a sentinel: redis-cli -h HOST -p 26379 SENTINEL MASTERS"
    if redis.is_cluster(url):
        return "Ask a node: redis-cli -h HOST -p PORT CLUSTER INFO"
    if where.startswith("unix://"):
        return f"Try it: redis-cli -s {where.removeprefix('unix://').partition('?')[0]} PING"
    return f"Try it, with its login: redis-cli -u {where.partition('?')[0]} PING"


def unreachable_master(address: Address, error: BrokerUnavailable) -> Problem:
    """Return the problem of a cluster, one of whose masters does not answer."""
    return Problem(
        id="wsredis.E109",
        text=sentence(f"The master {shown_address(address)} cannot be used from here: {error.__cause__ or error}"),
        hint="What is published on its slots is lost. Is it running, and is that the address by which this machine "
        "reaches it? If not: cluster-announce-ip, cluster-announce-port in its redis.conf.",
    )


def connection(master: Master) -> Found:
    """Look at whom we speak to."""
    user = f"as the user {master.user}"
    found, scheme = f"{master.address}, {user}", SCHEMES.get(master.said(b"mode"))
    if master.is_sharded:
        return user, ()
    if scheme is None:
        return found, ()
    problem = Problem(
        id="wsredis.E101",
        text=f"What WSREDIS['URL'] names, {master.address}, is {scheme[0]}.",
        hint=f"Let WSREDIS['URL'] be: {scheme[1]}",
    )
    return found, (problem,)


def version(master: Master) -> Found:
    """Look at the program."""
    flavour, number = master.said(b"server").title(), master.said(b"version")
    found = f"{flavour} {number}".strip()
    if flavour != "Redis":  # every Valkey will do
        return found, ()
    first = FIRST_CLUSTER if master.is_sharded else FIRST_REDIS
    try:
        is_old = tuple(map(int, number.split(".")[:2])) < first
    except ValueError:
        raise NotSeen(f"{found}: that is no version") from None
    problem = _too_old(master.address, f"is Redis {number}, and {'.'.join(map(str, first))} is needed")
    return found, (problem,) if is_old else ()


def _too_old(where: str, what: str) -> Problem:
    return Problem(
        id="wsredis.E102",
        text=f"The Redis at {where} {what}.",
        hint="Install Redis 6.2 or newer, for a cluster 7.0, or any Valkey.",
    )


def role(master: Master) -> Found:
    """Look whether it takes writes."""
    found = master.said(b"role")
    if found == "master":
        return found, ()
    problem = Problem(
        id="wsredis.E103",
        text=f"The Redis at {master.address} is a {found}: it keeps nothing, and its master's workers hear nothing.",
        hint="Name the master in WSREDIS['URL'], or its sentinels: redis+sentinel://host:26379,host:26379/service",
    )
    return found, (problem,)


def round_trips(master: Master) -> Found:
    """Measure how long Redis takes to answer."""
    began_at, seconds = time.monotonic(), [round_trip(master)]
    while len(seconds) < ROUND_TRIPS and time.monotonic() < began_at + MOST_SECONDS:
        seconds.append(round_trip(master))
    median = statistics.median(seconds)
    found = f"{median * 1000:.2f} ms, median of {len(seconds)}"
    if median < SLOW_SECONDS:
        return found, ()
    problem = Problem(
        id="wsredis.W104",
        text=f"A round trip to {master.address} takes {median * 1000:.0f} ms: who publishes waits for it, and each "
        "websocket that connects.",
        hint="Have Redis in the same network; see what is slow: redis-cli --latency, redis-cli SLOWLOG GET",
    )
    return found, (problem,)


def clock(master: Master) -> Found:
    """Compare the clocks: ids of messages, and ages, are by that of Redis."""
    before = time.time()
    seconds, microseconds = master.call("TIME")
    skew = int(seconds) + int(microseconds) / 1e6 - (before + time.time()) / 2
    found = f"{round(skew, 3) + 0.0:+.3f} s from ours"  # + 0.0: there is no -0.000
    if abs(skew) < SKEW_SECONDS:
        return found, ()
    problem = Problem(
        id="wsredis.W124",
        text=f"The clock of {master.address} is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this "
        "machine's: the times in messages' ids are wrong here.",
        hint="Let both follow a time server: timedatectl set-ntp true",
    )
    return found, (problem,)
