"""The sockets of a worker, and whose they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .connection import Connection


class Registry:
    """All connections, and those of a user or of a session without a walk over all.

    Most users have one socket: it stands in the index itself, and a set only where there are more.
    """

    def __init__(self) -> None:
        self._all: set[Connection] = set()
        self._by_user: dict[str, Connection | set[Connection]] = {}
        self._by_session: dict[str, Connection | set[Connection]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._all)

    def __contains__(self, connection: object) -> bool:
        return connection in self._all

    def add(self, connection: Connection) -> None:
        """Add a connection."""
        self._all.add(connection)
        _index(self._by_user, connection.peer.user, connection)
        _index(self._by_session, connection.peer.session, connection)

    def discard(self, connection: Connection) -> None:
        """Forget a connection, if it is here."""
        if connection in self._all:
            self._all.discard(connection)
            _unindex(self._by_user, connection.peer.user, connection)
            _unindex(self._by_session, connection.peer.session, connection)

    def sessions(self) -> list[str]:
        """Return the digests of the sessions that have connections."""
        return list(self._by_session)

    def of(self, users: Iterable[str] = (), sessions: Iterable[str] = ()) -> set[Connection]:
        """Return the connections of some users and of some sessions; the latter by their digests."""
        found: set[Connection] = set()
        for index, names in ((self._by_user, users), (self._by_session, sessions)):
            for name in names:
                one = index.get(name, ())
                found.update(one if isinstance(one, (set, tuple)) else (one,))
        return found


def _index(index: dict[str, Connection | set[Connection]], name: str, connection: Connection) -> None:
    if not name:
        return
    there = index.get(name)
    if there is None:
        index[name] = connection
    elif isinstance(there, set):
        there.add(connection)
    else:
        index[name] = {there, connection}


def _unindex(index: dict[str, Connection | set[Connection]], name: str, connection: Connection) -> None:
    there = index.get(name)
    if isinstance(there, set):
        there.discard(connection)
        if not there:
            del index[name]
    elif there is connection:
        del index[name]
