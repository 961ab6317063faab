"""Redis, the workers that share it, and their channels: what they keep beside who listens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from .. import workers
from ..channels import Channel, read_channel_name, redis_name
from ..cluster import slot_of
from ..conf import get_settings
from ..control import ANNOUNCED_SECONDS, Filter
from ..exceptions import BrokerUnavailable
from .kept import Ranking, merged, read_kept
from .reports import ChannelState, Kept, Overview, Redis
from .servers import Node, read_redis
from .times import now

MOST_SESSIONS = 100  # of a facility, whose ages are read: those that keep most


class Inspector:
    """Looks at what is meant, once or again and again.

    audiences: whose channels are meant of those to which nobody listens now, as `read_audiences()` returns them; all
    if there are none.
    """

    def __init__(self, which: Filter, audiences: Sequence[tuple[str, str]] = (), *, limit: int) -> None:
        self._which = which
        self._audiences = frozenset(audiences)
        self._limit = limit
        self._ranking = Ranking(self._is_meant)

    def look(self) -> Overview:
        """Return how everything is now, and the `limit` channels with most sockets, and those that keep most.

        Raises BrokerUnavailable if no server can be reached; one of several that cannot is told by its `problem`.
        """
        with ExitStack() as stack:
            nodes: list[Node] = []
            state = read_redis(get_settings().url, stack, nodes)
            if not self._which.worker:  # what is kept is no worker's
                self._ranking.refresh(nodes)
        most = self._ranking.first(self._limit)
        report, workers_problem = self._ask(most)
        sockets = {one.channel: one.sockets for one in report.channels}
        kept = self._kept([*sockets, *most], state)
        return Overview(
            time=now(),
            redis=state,
            problems=[*redis_problems(state), *worker_problems(report, workers_problem, self._which)],
            workers_problem=workers_problem,
            workers=report.workers,
            silent=report.silent,
            channels=[
                ChannelState(channel=name, sockets=sockets.get(name, 0), kept=kept.get(name))
                for name in dict.fromkeys([*sockets, *most])
            ],
            live_channels=report.channels_total,
            kept_channels=len(self._ranking.channels),
            seconds=round(report.seconds, 4),
        )

    def _is_meant(self, channel: Channel, name: str) -> bool:
        is_theirs = not self._audiences or (channel.audience, channel.name) in self._audiences
        return is_theirs and self._which.fits(channel.facility, name)

    def _ask(self, most: Sequence[str]) -> tuple[workers.Report, str | None]:
        """Ask the workers; a Redis that is full, or the part of a cluster that is there, is worth a look without."""
        try:
            return workers.report(self._which, limit=self._limit, also=most), None
        except BrokerUnavailable as error:
            return workers.NO_REPORT, str(error)

    def _kept(self, names: Sequence[str], state: Redis) -> dict[str, Kept]:
        channels = []
        for name in dict.fromkeys(names):
            if channel := read_channel_name(name):
                channels.append(channel)
            else:  # of sessions, which only Redis knows
                channels += self._ranking.channels.get(name, [])[:MOST_SESSIONS]
        found: dict[str, list[Kept]] = {}
        for kept, _ in read_kept([channel for channel in channels if is_served(channel, state)]):
            found.setdefault(kept.channel, []).append(kept)
        return {name: merged(several) for name, several in found.items()}


def is_served(channel: Channel, state: Redis) -> bool:
    """Tell whether the master of a channel answers."""
    if state.topology != "cluster":
        return True
    slot = slot_of(redis_name(get_settings().prefix, channel))
    away = [ranges for server in state.servers if server.problem for ranges in server.slots] + state.unserved_slots
    return not any(first <= slot <= last for first, last in away)


# What is missing


def redis_problems(state: Redis) -> Iterator[str]:
    """Yield what is wrong with Redis, in words."""
    for server in state.servers:
        if server.problem:
            yield f"{server.address} does not answer: {server.problem}."
        if server.persistence_failed:
            yield f"{server.address} cannot write to its disk."
    if state.unserved_slots:
        yield f"No master serves the slots {shown_slots(state.unserved_slots)}."


def worker_problems(report: workers.Report, problem: str | None, which: Filter) -> Iterator[str]:
    """Yield what is wrong with the workers, in words; `problem` is why they could not be asked."""
    if problem is not None:
        yield f"The workers could not be asked: {problem}"
        return
    # of those that heard the request some may be no workers: then a dead one is taken for one that hangs
    is_heard = report.announced - report.listening < len(report.silent)
    for worker in report.workers:
        if worker.id in report.silent:
            yield f"{worker.host}:{worker.pid} ({worker.server}) " + (
                "does not answer: it hangs, or has too much to do."
                if is_heard
                else f"listens no more: it was killed, or has lost Redis. It is forgotten within {ANNOUNCED_SECONDS} s."
            )
        elif worker.is_connected is False:
            yield f"{worker.host}:{worker.pid} ({worker.server}) is not connected to all masters of Redis."
    for id in report.unannounced:
        yield f"{shown_worker(id)} answers, but is not announced: if Redis refuses that, its log says why."
    if not report.announced and not report.unannounced:
        yield "No worker is announced: no server runs with this WSREDIS['URL'] and PREFIX."
    elif which.worker and not report.workers and not report.unannounced:
        yield f"No worker's id begins with {which.worker!r}."


def shown_slots(ranges: Sequence[tuple[int, int]]) -> str:
    """Return rows of slots for people."""
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def shown_worker(id: str) -> str:
    """Return a worker's id for people: its host and process id."""
    return id.rpartition(":")[0]
