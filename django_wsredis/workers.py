"""How the workers do, and what is busy, for wsinspect; `live.py` asks them about sockets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .asking import ask, known
from .control import Announcement, Filter, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """How a worker does; `docs/inspect.rst` says what each field is. Without an answer all after `address` is None."""

    id: str
    host: str
    pid: int
    server: str
    group: str
    address: str
    sockets: int | None = None
    sockets_meant: int | None = None
    channels: int | None = None
    received: int | None = None
    delivered: int | None = None
    dropped: int | None = None
    received_per_second: float | None = None
    delivered_per_second: float | None = None
    outbox_bytes: int | None = None
    lag_p99_ms: float | None = None
    memory_bytes: int | None = None
    uptime_seconds: float | None = None
    is_draining: bool | None = None
    is_connected: bool | None = None
    closes: dict[str, int] | None = None
    last_error: str | None = None
    last_error_age_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveChannel:
    """A channel that sockets hear, by the name that clients know; those of all sessions are told of together."""

    channel: str
    sockets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How the workers do, and the busiest channels; `channels_total` is at least how many there are.

    silent, unannounced, announced, listening: as of `Asked`.
    """

    workers: list[WorkerState]
    channels: list[LiveChannel]
    channels_total: int
    silent: list[str]
    unannounced: list[str]
    announced: int
    listening: int
    seconds: float


NO_REPORT = Report(
    workers=[], channels=[], channels_total=0, silent=[], unannounced=[], announced=0, listening=0, seconds=0.0
)


def report(which: Filter, *, limit: int, also: Sequence[str] = ()) -> Report:
    """Ask the workers how they do, and for the channels that are meant to which most sockets listen.

    also: channels that are told of beside those, if somebody listens, by the names that clients know.

    Raises BrokerUnavailable.
    """
    asked = ask(Request(verb="report", which=which, limit=limit, also=tuple(also)))
    answers = {answer["worker"]: answer for answer in asked.answers}
    sockets: dict[str, int] = {}
    for answer in asked.answers:
        for name, number in answer["busiest"]:
            sockets[name] = sockets.get(name, 0) + number
    most = sorted(sockets.items(), key=lambda item: (-item[1], item[0]))
    return Report(
        workers=[_state(worker, answers.get(worker.id)) for worker in asked.workers],
        channels=[
            LiveChannel(channel=name, sockets=number)
            for place, (name, number) in enumerate(most)
            if place < limit or name in also
        ],
        channels_total=max([len(most), *(answer["channels_meant"] for answer in asked.answers)]),
        silent=asked.silent,
        unannounced=asked.unannounced,
        announced=asked.announced,
        listening=asked.listening,
        seconds=asked.seconds,
    )


def _state(worker: Announcement, answer: dict[str, Any] | None) -> WorkerState:
    return WorkerState(**{**known(WorkerState, answer or {}), **known(WorkerState, asdict(worker))})
