"""What the workers are told of users and sessions: together, when the transaction that changed them is over."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from . import asking
from .channels import session_digest
from .control import NOT_LOGGED_IN, Filter, Request
from .transactions import open_transaction

MAX_NAMES = 1000  # in one request

logger = logging.getLogger("django_wsredis.live")


class News:
    """What is told together: the names of users and sessions, by verb, their kind and reason."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str, str], dict[str, None]] = {}  # a dict's keys have an order
        self._committed: list[str] = []  # databases, by alias

    def add(self, verb: str, kind: str, names: Iterable[str], reason: str) -> None:
        """Add names of a kind, "users" or "sessions"; each counts once."""
        self._names.setdefault((verb, kind, reason), {}).update(dict.fromkeys(names))

    def send(self) -> None:
        """Tell the workers, when the transaction is over if there is one."""
        if transaction := open_transaction(self._committed):
            self._committed.append(transaction.alias)
            transaction.on_commit(self.send)
            return
        try:
            for request in self._requests():
                asking.tell(request)
        except Exception as error:  # nobody is to see a logout or a commit fail for it
            logger.error("Open sockets do not follow a change of users, sessions or groups at once: %s", error)

    def _requests(self) -> Iterator[Request]:
        for (verb, kind, reason), names in self._names.items():
            for chunk in chunks(names):
                which = Filter(users=chunk) if kind == "users" else Filter(sessions=chunk)
                yield Request(verb=verb, which=which, code=NOT_LOGGED_IN, reason=reason)


def tell(verb: str, *, users: Iterable[Any] = (), sessions: Iterable[str] = (), reason: str = "") -> None:
    """Tell the workers of users by name, or of sessions by key, together with what its transaction told last.

    verb, reason: of the request.
    """
    waiting = _waiting_news()
    news = waiting or News()
    news.add(verb, "users", map(str, users), reason)
    news.add(verb, "sessions", map(session_digest, sessions), reason)
    if waiting is None:
        news.send()


def _waiting_news() -> News | None:
    """Return what the present transaction will tell, if nothing else came after it, and both go with one rollback."""
    transaction = open_transaction()
    if transaction is None or not transaction.run_on_commit:
        return None
    savepoints, function, *_ = transaction.run_on_commit[-1]
    news = getattr(function, "__self__", None)
    return news if isinstance(news, News) and savepoints == set(transaction.savepoint_ids) else None


def chunks(names: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield as many names at a time as one request has, or one query of the database."""
    names = tuple(names)
    for start in range(0, len(names), MAX_NAMES):
        yield names[start : start + MAX_NAMES]
