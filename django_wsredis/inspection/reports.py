"""What wsinspect tells. The fields are the keys of `wsinspect --json`, as in docs/inspect.rst."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..live import Socket
from ..workers import WorkerState


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A server that follows a master, as that one tells it."""

    address: str
    state: str  # "online", or what it does to become that


@dataclass(frozen=True, kw_only=True)
class Server:
    """One master: the only server, that of the sentinels, or one of a cluster. Without an answer most is None."""

    address: str
    flavour: str | None = None  # "Redis" or "Valkey"
    version: str | None = None
    round_trip_ms: float | None = None
    memory_bytes: int | None = None
    max_memory_bytes: int | None = None  # None: it may grow
    clients: int | None = None
    pubsub_channels: int | None = None  # to which somebody is subscribed, whoever it is
    persistence: str | None = None  # "aof", "rdb" or "none"; None: it does not tell
    persistence_failed: bool = False  # the last time that it wrote to its disk
    slots: list[tuple[int, int]] = field(default_factory=list)  # of a cluster: first and last of each row
    replicas: list[Replica] = field(default_factory=list)
    problem: str | None = None  # why it does not answer


@dataclass(frozen=True, kw_only=True)
class Redis:
    """Redis as a whole."""

    url: str  # without a login
    topology: str  # "single", "sentinel" or "cluster"
    servers: list[Server]
    unserved_slots: list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What one channel keeps. A session's is named without the session."""

    channel: str
    messages: int
    of: int  # so many it can hold, by the settings
    newest_id: str
    newest_age_seconds: float
    oldest_age_seconds: float
    seconds_to_live: float | None  # of all, unless another message comes; None: for ever


@dataclass(frozen=True, kw_only=True)
class ChannelState:
    """A channel: how many sockets hear it, and what it keeps. Those of all sessions on a facility are told together."""

    channel: str
    sockets: int
    kept: Kept | None  # None: nothing


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Redis, the workers that share it, and the busiest channels.

    problems: what is missing, in words. workers_problem: why the workers could not be asked.
    silent: the ids of workers that did not answer. seconds: that the others took.
    live_channels, kept_channels: how many have sockets, at least, and how many keep something; of those that are meant.
    """

    time: str  # ISO 8601, in UTC
    redis: Redis
    problems: list[str]
    workers_problem: str | None
    workers: list[WorkerState]
    silent: list[str]
    channels: list[ChannelState]
    live_channels: int
    kept_channels: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SocketList:
    """Live sockets, at most as many as were asked for, and how many there are; `silent` as of `Overview`."""

    time: str
    sockets: list[Socket]
    total: int
    silent: list[str]


@dataclass(frozen=True, kw_only=True)
class ShownMessage:
    """A kept message: its data are a text or, in hexadecimal digits, binary."""

    id: str
    time: str  # ISO 8601, in UTC
    age_seconds: float
    bytes: int
    text: str | None
    hex: str | None


@dataclass(frozen=True, kw_only=True)
class ChannelPage:
    """Messages of one channel, oldest first. `is_whole`, `since` and `before` are those of `history()`."""

    channel: str
    kept: Kept | None  # None: nothing
    messages: list[ShownMessage]
    is_whole: bool
    since: str | None
    before: str | None


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """A message as it was delivered; `id` is None if it is not kept.

    channel: "everywhere" for one that goes to its `audiences` on every facility.
    from_browser: a socket sent it, which does not get it back; False does not mean that none did.
    """

    time: str  # ISO 8601, in UTC, when it came here
    channel: str
    audiences: list[str]
    id: str | None
    from_browser: bool
    bytes: int
    text: str | None
    hex: str | None
