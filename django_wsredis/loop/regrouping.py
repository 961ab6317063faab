"""When a user's groups have changed: Django decides again what an open socket may, and the difference is made."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..control import NOT_AUTHORIZED
from .connection import Connection

if TYPE_CHECKING:
    from ..handshake import Granted
    from .desk import Desk

ATTACH_SECONDS = 0.1  # after which a socket is looked for again whose handshake is not answered yet
UNAVAILABLE = 503  # of a decision that could not be made now

TRY_AGAIN = 1013  # close code: after it wsredis.js comes back


class Regrouping:
    """The sockets that are decided again. One that speaks wsredis.v1 sees to that itself, among its wishes."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._under_way: set[Connection] = set()
        self._again: set[Connection] = set()  # those asked for meanwhile: what is being decided may be too old

    def regroup(self, connection: Connection) -> None:
        """Decide again what a connection may."""
        if not connection.visitor or not connection.is_open:
            return
        if connection in self._under_way:
            self._again.add(connection)
        else:
            self._under_way.add(connection)
            self._begin(connection)

    def _begin(self, connection: Connection) -> None:
        if connection.is_open and connection.sock is None:  # its handshake waits for the channels that it was granted
            self._desk.reactor.call_later(ATTACH_SECONDS, partial(self._begin, connection))
        elif connection.is_open and connection.dialogue is None:
            facility = connection.peer.facility
            decided = partial(self._on_decided, connection)
            self._desk.decide(connection.visitor, facility, None, decided, is_urgent=False)
        else:
            self._end(connection)
            if connection.dialogue is not None:
                connection.dialogue.regroup()

    def _on_decided(self, connection: Connection, granted: Granted | int) -> None:
        if not connection.is_open:
            pass
        elif isinstance(granted, int):
            connection.close(*close_code(granted))
        else:
            connection.publish_to = self._desk.target(granted)
            connection.groups = granted.groups
            exchange(self._desk, connection, granted, set(connection.channels) - set(self._desk.names(granted)))
        self._end(connection)

    def _end(self, connection: Connection) -> None:
        self._under_way.discard(connection)
        if connection in self._again:
            self._again.discard(connection)
            self.regroup(connection)


def exchange(desk: Desk, connection: Connection, granted: Granted, left: Collection[bytes]) -> None:
    """Let a connection leave channels, and join those of what is granted that it does not hear yet.

    What is kept there comes first, as to whoever is new; the positions that its URL named were of another time.
    """
    if left:
        desk.leave_channels(connection, [name for name in connection.channels if name in left])
    if set(desk.names(granted)) <= set(connection.channels) and (connection.key or not granted.publish):
        return
    join = desk.join(connection, replace(granted, wish=granted.wish._replace(since={})))
    if join.done.done() and join.done.exception():
        connection.close(TRY_AGAIN, "Redis is away")


def close_code(status: int) -> tuple[int, str]:
    """Return the close code, with its reason, for a refusal's status."""
    if status == UNAVAILABLE:
        return TRY_AGAIN, "what is allowed cannot be decided now"
    return NOT_AUTHORIZED, "no longer allowed"
