"""Several servers: the sentinels, the nodes of a cluster, and the replicas."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from ... import redis, redis_errors, redis_url
from ...cluster import SlotMap
from ...exceptions import BrokerUnavailable
from ...inspection.servers import read_replicas
from ...redis_url import Address, shown_address
from ...wording import sentence
from ..findings import Problem, Row, skipped
from . import tls
from .master import Found, Master, Sentinel, Server

MOST_THREADS = 16

TITLES = {
    "wsredis.E105": "The sentinels do not know the service.",
    "wsredis.W106": "A sentinel does not answer, or names another master than the others.",
    "wsredis.W107": "The sentinels are too few to choose another master.",
    "wsredis.E108": "Slots of the cluster are served by no master.",
    "wsredis.E109": "A master of the cluster cannot be reached from here.",
    "wsredis.W110": "A node that WSREDIS['URL'] names does not answer.",
    "wsredis.W111": "There is no replica, or one that is not connected.",
}


# Sentinels


def look_at_sentinels(url: str) -> Iterator[Row]:
    """Look at each sentinel that the URL names."""
    service = redis_url.parse(url).service
    asked = redis.ask_sentinels(
        url,
        ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service),
        ("SENTINEL", "CKQUORUM", service),
        ("SENTINEL", "REPLICAS", service),
    )
    replies = {address: reply for address, reply in asked.items() if not isinstance(reply, BrokerUnavailable)}
    yield _sentinels(service, asked)
    knowing = [reply for reply in replies.values() if _master_of(reply)]
    if knowing:
        yield _quorum(service, knowing[0][1])
        yield _known_replicas(service, knowing[0][2])
    if told := _certificates(url, list(replies)):
        yield tls.others("sentinel", told, "nobody can ask it for the master", tls.RENEW_SENTINEL)


def _certificates(url: str, addresses: list[Address]) -> dict[str, dict[str, Any]]:
    """Return what the certificates of sentinels that answer say."""
    found = {}
    for address in addresses:
        try:
            with closing(Sentinel(url, address)) as sentinel:
                found[shown_address(address)] = sentinel.certificate
        except BrokerUnavailable:  # now; a moment ago it answered
            continue
    return {where: told for where, told in found.items() if told}


def _master_of(reply: Any) -> Address | None:
    if isinstance(reply, BrokerUnavailable) or isinstance(reply[0], BrokerUnavailable) or not reply[0]:
        return None
    host, port = reply[0]
    return host.decode(), int(port)


def _sentinels(service: str, asked: dict[Address, Any]) -> Row:
    masters = {address: named for address, reply in asked.items() if (named := _master_of(reply))}
    problems = [_silent(address, reply) for address, reply in asked.items() if _words(reply)]
    ignorant = [address for address, reply in asked.items() if address not in masters and not _words(reply)]
    first = next(iter(masters.values()), None)
    if ignorant and first is None:
        problems.append(
            Problem(
                id="wsredis.E105",
                text=f"The sentinels know no service {service!r}, which WSREDIS['URL'] names.",
                hint="The names that they know: redis-cli -h HOST -p 26379 SENTINEL MASTERS",
            )
        )
    elif first is not None:
        others: list[tuple[Address, Address | None]] = [pair for pair in masters.items() if pair[1] != first]
        others += [(address, None) for address in ignorant]
        problems += [_disagrees(service, address, named, first) for address, named in others]
    text = f"{len(asked) - sum(bool(_words(reply)) for reply in asked.values())} of {len(asked)} answer"
    if first:
        text += f"; master of {service!r}: {shown_address(first)}"
    return Row(checked="sentinels", found=text, problems=tuple(problems))


def _words(reply: Any) -> str:
    """Return why a sentinel gave no answer; "" if it did."""
    error = reply if isinstance(reply, BrokerUnavailable) else reply[0]
    return str(error.__cause__ or error) if isinstance(error, BrokerUnavailable) else ""


def _silent(address: Address, reply: Any) -> Problem:
    host, port = address
    start = f"Start it, or take it out of WSREDIS['URL']. Try it: redis-cli -h {host} -p {port} PING"
    return Problem(
        id="wsredis.W106",
        text=sentence(f"The sentinel {shown_address(address)} gives no answer: {_words(reply)}"),
        hint=tls.RENEW_SENTINEL if tls.EXPIRED in _words(reply) else start,
    )


def _disagrees(service: str, address: Address, found: Address | None, first: Address) -> Problem:
    host, port = address
    says = f"names the master {shown_address(found)}" if found else "knows no such service"
    return Problem(
        id="wsredis.W106",
        text=f"Of {service!r} the sentinel {shown_address(address)} {says}, and another one {shown_address(first)}.",
        hint=f"Compare: redis-cli -h {host} -p {port} SENTINEL MASTERS",
    )


def _quorum(service: str, reply: Any) -> Row:
    if not isinstance(reply, BrokerUnavailable):
        return Row(checked="quorum", found=reply.decode() if isinstance(reply, bytes) else str(reply))
    words = redis_errors.refusal(reply)
    if "NOQUORUM" not in words:
        return skipped("quorum", f"SENTINEL CKQUORUM is refused: {words}")
    problem = Problem(
        id="wsredis.W107",
        text=sentence(f"If the master of {service!r} fails, the sentinels cannot choose another one: {words}"),
        hint="Have three sentinels run, and a quorum of 2: redis-cli -p 26379 SENTINEL SET "
        f"{_quoted(service)} quorum 2",
    )
    return Row(checked="quorum", found=words, problems=(problem,))


def _quoted(name: str) -> str:
    return name if name.isalnum() else f"'{name}'"


def _known_replicas(service: str, reply: Any) -> Row:
    checked = "replicas that sentinels know"
    if isinstance(reply, BrokerUnavailable):
        return skipped(checked, f"SENTINEL REPLICAS is refused: {redis_errors.refusal(reply)}")
    states = [one if isinstance(one, dict) else dict(zip(one[::2], one[1::2], strict=True)) for one in reply]
    down = [state[b"name"].decode() for state in states if b"down" in state[b"flags"]]
    problems = tuple(
        Problem(
            id="wsredis.W111",
            text=f"The replica {name} of {service!r} is down.",
            hint="Start it; or let the sentinels forget it: redis-cli -p 26379 SENTINEL RESET " + _quoted(service),
        )
        for name in down
    )
    return Row(checked=checked, found=f"{len(states) - len(down)} of {len(states)} up", problems=problems)


# Clusters


def look_at_slots(slots: SlotMap) -> Row:
    """Look whether each slot has a master."""
    unserved = slots.ranges(None)
    missing = sum(last - first + 1 for first, last in unserved)
    problem = Problem(
        id="wsredis.E108",
        text=f"No master serves the slots {', '.join(f'{first}-{last}' for first, last in unserved)}: nothing can be "
        "published or heard there.",
        hint="See what is wrong, and mend it: redis-cli --cluster check HOST:PORT; redis-cli --cluster fix HOST:PORT",
    )
    total = sum(last - first + 1 for address in (*slots.masters, None) for first, last in slots.ranges(address))
    masters = ", ".join(map(shown_address, sorted(slots.masters)))
    found = f"{total - missing} of {total} served, by {masters}"
    return Row(checked="slots", found=found, problems=(problem,) if missing else ())


def look_at_nodes(url: str) -> Iterator[Row]:
    """Look whether each node answers that the URL names; and at the certificates of replicas among them."""
    addresses = redis_url.parse(url).addresses
    with ThreadPoolExecutor(MOST_THREADS) as threads:
        answers = list(threads.map(lambda address: _asked(url, address), addresses))
    problems = tuple(
        Problem(
            id="wsredis.W110",
            text=sentence(f"The node {shown_address(address)}, which WSREDIS['URL'] names, gives no answer: {why}"),
            hint=_cure(address, why),
        )
        for address, (why, _) in zip(addresses, answers, strict=True)
        if why
    )
    found = f"{len(addresses) - len(problems)} of {len(addresses)} answer"
    yield Row(checked="nodes in WSREDIS['URL']", found=found, problems=problems)
    told = {shown_address(address): told for address, (_, told) in zip(addresses, answers, strict=True) if told}
    if told:
        yield tls.others("replica", told, "no worker can use it when it becomes a master", tls.RENEW)


def _cure(address: Address, why: str) -> str:
    if tls.EXPIRED in why:
        return tls.RENEW
    host, port = address
    return f"Start it, or name another one in WSREDIS['URL']. Try it: redis-cli -h {host} -p {port} PING"


def _asked(url: str, address: Address) -> tuple[str, dict[str, Any]]:
    """Return why a node does not answer, "" if it does; and what its certificate says, if it is a replica."""
    try:
        with closing(Server(url, address)) as node:
            return "", node.certificate if node.said(b"role") == "replica" else {}
    except BrokerUnavailable as error:
        return str(error.__cause__ or error), {}


# Replicas


def replicas(master: Master) -> Found:
    """Look at those that are connected to a master: where there are several servers one is to take its place."""
    states = [replica.state for replica in read_replicas(master.info)]
    online = states.count("online")
    found = f"{online} of {len(states)} online" if states else "none"
    is_several = redis_url.is_several(master.settings.url)
    if (is_several and not states) or online < len(states):
        what = "has no replica" if not states else f"has a replica that is not ready ({found})"
        problem = Problem(
            id="wsredis.W111",
            text=f"The master {master.address} {what}: when it fails, none takes its place.",
            hint="Add one: redis-cli --cluster add-node NEW:PORT HOST:PORT --cluster-slave"
            if master.is_sharded
            else "Add one, by this line in its redis.conf: replicaof HOST PORT",
        )
        return found, (problem,)
    return found, ()
