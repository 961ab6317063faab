"""Redis: reachable, allowed what we need, and set up so that messages live."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from ... import redis, redis_errors
from ...cluster import SlotMap
from ...conf import Settings
from ...exceptions import BrokerUnavailable
from ...redis_url import Address, shown_address
from ..findings import Row, skipped
from ..situation import Situation
from ..waiting import yielded_within
from . import keeping, keys, limits, message, reach, rights, tls, topology
from .master import Found, Master, NotSeen, scratch_name

SECONDS = 2.5  # after which nothing more is begun; what was begun may take redis.TIMEOUT_SECONDS longer
MOST_SECONDS = 4.6  # for all: how long a name is looked up knows no limit, and each new connection looks it up
SELECT = "'select'"  # the command that a user may lack when the URL names a database

TITLES: dict[str, str] = {
    id: title
    for module in (reach, topology, rights, limits, keeping, tls, keys, message)
    for id, title in module.TITLES.items()
}
CHECKS: dict[str, Callable[[Master], Found]] = {
    "connection": reach.connection,
    "version": reach.version,
    "role": reach.role,
    "round trip": reach.round_trips,
    "replicas": topology.replicas,
    "rights": rights.rights,
    "rights of wsinspect": rights.rights_to_inspect,
    "output buffer": limits.buffer,
    "memory": keeping.memory,
    "clients": limits.clients,
    "timeout": limits.timeout,
    "certificate": tls.certificate,
    "persistence": keeping.saved,
    "clock": reach.clock,
    "keys": keys.keys,
    "listeners": keys.listeners,
    "projects": keys.projects,
    "message": message.message,
}


def look(situation: Situation) -> Iterator[Row]:
    """Look at Redis for so long."""
    try:
        yield from yielded_within(MOST_SECONDS, _look(situation))
    except TimeoutError:
        yield skipped("the rest", f"it takes longer than {MOST_SECONDS:g} s; are the names of hosts resolved slowly?")


def _look(situation: Situation) -> Iterator[Row]:
    """Look at each master; those of a cluster at the same time."""
    settings, until = situation.settings, time.monotonic() + SECONDS
    if settings is None:
        yield skipped("connection", "the settings are wrong, so it is not known where Redis is")
        return
    if row := reach.unresolved(settings.url):
        yield row
        return
    try:
        if redis.has_sentinels(settings.url):
            yield from topology.look_at_sentinels(settings.url)
        slots = redis.read_slots(settings.url) if redis.is_cluster(settings.url) else None
    except BrokerUnavailable as error:
        yield _not_connected(settings, None, error)
        return
    addresses: list[Address | None] = [None] if slots is None else [*sorted(slots.masters)]
    with ThreadPoolExecutor(topology.MOST_THREADS) as threads:
        looks = [threads.submit(_look_at, settings, slots, address, until) for address in addresses]
        if slots is not None:
            yield topology.look_at_slots(slots)
            yield from topology.look_at_nodes(settings.url)
        yield from together([looked.result() for looked in looks])


def _look_at(settings: Settings, slots: SlotMap | None, address: Address | None, until: float) -> tuple[str, list[Row]]:
    """Return the rows of one master, with its name."""
    try:
        master = Master(settings, address, scratch_name(settings, slots, address))
    except BrokerUnavailable as error:
        return _shown(settings, address), [_not_connected(settings, address, error)]
    with closing(master):
        return master.address, list(_rows(master, until))


def _shown(settings: Settings, address: Address | None) -> str:
    """Return the name for people of a master that does not answer."""
    return redis_errors.shown_url(settings.url) if address is None else shown_address(address)


def _not_connected(settings: Settings, address: Address | None, error: BrokerUnavailable) -> Row:
    where = _shown(settings, address)
    if row := tls.expired(where, error):
        return row
    if SELECT in redis_errors.refusal(error):
        problem = rights.lacking(where, redis.username(settings.url), ["+select"])
        return Row(checked="rights", found=f"{where}: none to select a database", problems=(problem,))
    if address is not None:
        return Row(checked="connection", found="none", problems=(reach.unreachable_master(address, error),))
    return reach.unreachable(settings.url, error)


def _rows(master: Master, until: float) -> Iterator[Row]:
    for checked, check in CHECKS.items():
        if time.monotonic() > until:
            yield skipped(checked, f"Redis is slow: what came before took {SECONDS:g} s and more")
            continue
        try:
            found, problems = check(master)
            yield Row(checked=checked, found=found, problems=problems)
            if checked == "connection" and problems:
                return
        except NotSeen as reason:
            yield skipped(checked, str(reason))
        except (LookupError, TypeError, ValueError) as error:  # of a server that only speaks as Redis does
            yield skipped(checked, f"its answer is not understood: {error!r}")
        except BrokerUnavailable as error:
            if words := redis_errors.refusal(error):
                yield skipped(checked, f"refused: {words}")
            else:
                yield _not_connected(master.settings, master.place, error)
                return


def together(looks: Sequence[tuple[str, list[Row]]]) -> Iterator[Row]:
    """Yield what was found at each master, a row for each thing that was checked."""
    names = list(dict.fromkeys(row.checked for _, rows in looks for row in rows))
    for checked in names:
        # of two rows of one master the later counts: "connection" comes again where it was lost
        found = {where: row for where, rows in looks for row in rows if row.checked == checked}
        texts = {row.found for row in found.values()}
        yield Row(
            checked=checked,
            found=texts.pop()
            if len(texts) == 1
            else "; ".join(f"{where}: {row.found}" for where, row in found.items()),
            # what each master of a cluster tells of all is told once
            problems=tuple(dict.fromkeys(problem for row in found.values() for problem in row.problems)),
            is_skipped=all(row.is_skipped for row in found.values()),
        )
