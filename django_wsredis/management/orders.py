"""By what the rows of wsinspect's tables are sorted: the words of --sort, and the keys of --watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from django_wsredis.inspection.reports import ChannelState
from django_wsredis.messages import id_key
from django_wsredis.workers import WorkerState

Row = TypeVar("Row")

WORKERS: dict[str, Callable[[WorkerState], Any]] = {
    "sockets": lambda worker: worker.sockets_meant,
    "in": lambda worker: worker.received_per_second,
    "out": lambda worker: worker.delivered_per_second,
    "outbox": lambda worker: worker.outbox_bytes,
    "lag": lambda worker: worker.lag_p99_ms,
    "memory": lambda worker: worker.memory_bytes,
    "uptime": lambda worker: worker.uptime_seconds,
    "name": lambda worker: (worker.host, worker.pid),
}

CHANNELS: dict[str, Callable[[ChannelState], Any]] = {
    "sockets": lambda channel: channel.sockets,
    "kept": lambda channel: channel.kept and channel.kept.messages,
    "newest": lambda channel: channel.kept and id_key(channel.kept.newest_id.encode()),
    "name": lambda channel: channel.channel,
}

# How `live.SORTS` calls what the columns of sockets are called here.
SOCKETS = {"out": "sent", "in": "received", "outbox": "outbox", "rtt": "rtt", "age": "age"}

OVERVIEW_KEYS = {
    "s": "sockets", "i": "in", "o": "out", "b": "outbox", "l": "lag", "m": "memory", "u": "uptime", "k": "kept",
    "w": "newest", "n": "name",
}  # fmt: skip
SOCKET_KEYS = {"o": "out", "i": "in", "b": "outbox", "r": "rtt", "a": "age"}


class Order(NamedTuple):
    """Most comes first, and names from A to Z; or the other way round."""

    word: str
    is_reversed: bool = False

    def of(self, rows: Iterable[Row], keys: dict[str, Callable[[Row], Any]]) -> list[Row]:
        """Return the rows in this order, what is not known last; as they are if they have no such column."""
        key = keys.get(self.word)
        if key is None:
            return list(rows)
        known = [(value, row) for row in rows if (value := key(row)) is not None]
        unknown = [row for row in rows if key(row) is None]
        known.sort(key=lambda item: item[0], reverse=(self.word != "name") != self.is_reversed)
        return [row for _, row in known] + unknown

    def pressed(self, word: str) -> Order:
        """Return the order after the key of a word was pressed: the second time it is turned round."""
        return Order(word, not self.is_reversed if word == self.word else False)
