"""What no signal tells: from time to time it is looked whether whoever is logged in on open sockets still is.

Every SESSION_RECHECK seconds, once for each session, in batches that are spread over that time; and at once where a
user was saved. A native thread looks, and there is one at a time. Where there are no sessions there is nothing to do.

A look that fails changes nothing: while the database is away nobody could come back, and nothing new is permitted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from django.db import connections

from .. import sessions
from ..control import COME_BACK, NOT_LOGGED_IN
from ..peer import Peer
from .connection import Connection
from .reactor import Reactor
from .registry import Registry

if TYPE_CHECKING:
    from ..handshake import Standing

BATCH = 100  # sessions
MAX_PROBLEMS = 3  # of a batch: then the rest is left for the next round

logger = logging.getLogger("django_wsredis.loop")


class Question(NamedTuple):
    """A session, what the handshake of one of its sockets said, and whether to ask for the user's groups."""

    session: str
    visitor: bytes
    with_groups: bool


Answers: TypeAlias = "list[tuple[Question, Standing]]"


class Recheck:
    """Looks at the sessions of a worker's sockets, round by round; `regroup` is for those whose groups have changed."""

    def __init__(self, reactor: Reactor, registry: Registry, regroup: Callable[[Connection], None]) -> None:
        settings = reactor.settings
        self._reactor = reactor
        self._registry = registry
        self._regroup = regroup
        self._seconds = settings.session_recheck  # for which a round lasts
        self._follows_groups = "groups" in settings.follow
        self._pause = self._seconds  # from one batch to the next
        self._waiting: list[str] = []  # sessions, of this round
        self._urgent: dict[str, None] = {}  # sessions, out of turn
        self._is_looking = False
        self._next_at = reactor.now() + self._seconds
        self._has_failed = False
        self._timer: Any = None
        # PROCESS_REQUEST is not asked again: what it was shown may be good for once only
        self._is_on = self._seconds > 0 and settings.process_request is None and sessions.are_there()
        self._wait(self._seconds)

    def hurry(self, sessions: Iterable[str]) -> None:
        """Look at some sessions at once."""
        if self._is_on:
            self._urgent.update(dict.fromkeys(sessions))
            if self._urgent and not self._is_looking:
                self._wait(0)

    def stop(self) -> None:
        """Look no more."""
        self._is_on = False
        self._wait(0)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        if self._is_on:
            self._timer = self._reactor.timer(seconds)
            self._timer.start(self._begin)

    def _begin(self) -> None:
        """Look at the next batch; the first of a round comes when the time of the last round is over."""
        questions = [question for session in self._next_batch() if (question := self._question(session))]
        if not questions:
            self._wait_for_next()
            return
        self._is_looking = True
        self._reactor.start_thread(partial(self._run, questions), on_failed=self._on_no_thread)

    def _next_batch(self) -> list[str]:
        if self._urgent:
            batch = list(islice(self._urgent, BATCH))
            for session in batch:
                del self._urgent[session]
            return batch
        if not self._waiting:
            self._waiting = self._registry.sessions()
            self._pause = self._seconds / max(1, -(-len(self._waiting) // BATCH))
        self._next_at = self._reactor.now() + self._pause
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        return batch

    def _wait_for_next(self) -> None:
        self._wait(0.0 if self._urgent else max(0.0, self._next_at - self._reactor.now()))

    def _on_no_thread(self, reason: str) -> None:
        self._on_looked([], [RuntimeError(reason)])

    def _question(self, session: str) -> Question | None:
        found = self._registry.of(sessions=(session,))
        with_groups = self._follows_groups and any(groups_of(connection) for connection in found)
        return next((Question(session, connection.visitor, with_groups) for connection in found), None)

    def _run(self, questions: Sequence[Question]) -> None:
        found: Answers = []
        problems: list[Exception] = [RuntimeError("the thread ended")]
        try:
            found, problems = look(questions)
        finally:  # whatever was raised: it goes on
            self._reactor.run(self._on_looked, found, problems)
            connections.close_all()  # this thread ends, and would take them with it

    def _on_looked(self, found: Answers, problems: Sequence[Exception]) -> None:
        for question, standing in found:
            for connection in self._registry.of(sessions=(question.session,)):
                self._compare(connection, standing)
        if problems and not self._has_failed:
            logger.error("Some open sockets' sessions cannot be checked, so those stay open: %r", problems[0])
        elif self._has_failed and not problems:
            logger.info("The sessions of open sockets are checked again.")
        self._has_failed = bool(problems)
        self._is_looking = False
        self._wait_for_next()

    def _compare(self, connection: Connection, standing: Standing) -> None:
        if closing := close_code(connection.peer, standing, in_cookies=sessions.are_in_cookies()):
            connection.close(*closing)
        elif standing.groups is not None and groups_of(connection) - {standing.groups}:
            self._regroup(connection)


def look(questions: Sequence[Question]) -> tuple[Answers, list[Exception]]:
    """Return who the visitors are now, and what kept Django from knowing it of the others. Blocks."""
    found, problems = ask(questions)
    gone = [question for question, standing in found if not standing.session]
    if gone:
        found = [(question, standing) for question, standing in found if standing.session]
        try:
            sessions.prove_store()
        except Exception as error:
            problems.append(error)
        else:
            again, more = ask(gone)
            found, problems = found + again, problems + more
    return found, problems


def ask(questions: Sequence[Question]) -> tuple[Answers, list[Exception]]:
    """Ask Django, once; after a few errors no more, as each may take long."""
    from ..handshake import standing_of  # has models: not before Django is set up

    found: Answers = []
    problems: list[Exception] = []
    for question in questions:
        try:
            found.append((question, standing_of(question.visitor, with_groups=question.with_groups)))
        except Exception as error:  # of the database, of what keeps sessions, or of the project's code
            problems.append(error)
            if len(problems) == MAX_PROBLEMS:
                break
    return found, problems


def close_code(peer: Peer, standing: Standing, *, in_cookies: bool) -> tuple[int, str] | None:
    """Return the close code and the reason for a socket whose visitor is somebody else now, or nobody."""
    if (standing.user, standing.session) == (peer.user, peer.session):
        return None
    # a cookie that holds the session itself grows old on the socket, while the browser has got newer ones
    is_known = bool(standing.session) or not in_cookies
    if peer.user and not standing.user and is_known:
        return NOT_LOGGED_IN, "no longer logged in"
    return COME_BACK, "the session has changed"


def groups_of(connection: Connection) -> set[str]:
    """Return what the user's groups were when they were last asked for, for each facility that wants them."""
    found = {connection.groups} if connection.dialogue is None else connection.dialogue.groups
    return {groups for groups in found if groups is not None}
