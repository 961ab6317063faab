"""What is told about Redis and its channels. The fields are the keys of `wsinspect --json`, as in docs/inspect.rst."""

from __future__ import annotations

from dataclasses import dataclass, field


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
class Overview:
    """Redis, and those channels that keep most."""

    redis: Redis
    channels: list[Kept]
    channels_total: int


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
