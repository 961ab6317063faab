"""What a worker does for operators; `..control` has the requests as they travel."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from ..control import ANSWER_SECONDS, COME_BACK, NOT_LOGGED_IN, Request, decode_request
from ..messages import Message
from . import survey
from .changes import Changes
from .connection import Connection
from .event_stream import EventStream
from .recheck import Recheck
from .replies import ignore
from .selection import Selection, walk
from .survey import Survey

COOKIE_SECONDS = 0.5  # in which a browser gets the response that ends its session, or logs it in
RECEIPT_SECONDS = 5.0  # in which all messages of one publication come: each socket is counted once

logger = logging.getLogger("django_wsredis.loop")

Verb = Callable[[Request], None]


class Worker(survey.Worker, Protocol):
    """What there is of a worker: its loop."""

    changes: Changes
    recheck: Recheck
    streams: dict[bytes | None, EventStream]

    def regroup(self, connection: Connection) -> None:
        """Decide again what a connection may."""


class Control:
    """Receives requests, and does what they order; `survey` answers those that ask."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._reactor = worker.reactor
        self._selection = Selection(worker.reactor, worker.hub, worker.connections)
        self._receipts: dict[bytes, set[Connection]] = {}
        self.survey = Survey(worker, self._selection, self._answer)
        self._questions: dict[str, Verb] = {
            "report": self.survey.report,
            "names": self.survey.names,
            "sockets": self.survey.sockets,
            "count": self.survey.count,
            "say": self._say,
            "canary": lambda request: self._worker.canary.on_returned(request.reply),
        }
        self._orders: dict[str, Verb] = {
            "close": self._close,
            "end": self._end,
            "regroup": self._regroup,
            "recheck": self._recheck,
        }

    def on_request(self, payload: bytes) -> None:
        """Do what is asked for, if it concerns this worker."""
        try:
            request = decode_request(payload)
        except ValueError as error:
            logger.error("A request cannot be read and is ignored: %s", error)
            return
        if request.verb not in self._questions and request.verb not in self._orders:
            logger.warning("A request for %r is ignored: a newer version must have sent it.", request.verb)
        elif not self._worker.announcement.id.startswith(request.which.worker):
            self._answer(request.reply, {"is_other": True})  # whoever asked counts answers
        elif request.verb in self._orders:
            self._worker.changes.note(request.which)
            self._orders[request.verb](request)
        else:
            self._questions[request.verb](request)

    def on_receipt(self, name: bytes, message: Message) -> None:
        """Tell to how many sockets a message goes that came on a channel, and whose they are."""
        assert message.reply is not None
        if message.reply not in self._receipts:
            self._receipts[message.reply] = set()
            self._reactor.call_later(RECEIPT_SECONDS, lambda: self._receipts.pop(message.reply, None))  # type: ignore[arg-type]
        fresh = self._worker.hub.sockets_of(message, name) - self._receipts[message.reply]
        self._receipts[message.reply] |= fresh
        users = {connection.peer.user for connection in fresh} - {""}
        self._answer(message.reply.decode(), {"sockets": len(fresh), "users": sorted(users)})

    def _say(self, request: Request) -> None:
        """Hand an event stream, if it is here, what its browser has posted."""
        if stream := self._worker.streams.get(request.stream.encode()):
            stream.hear(request.text.encode())

    # Orders

    def _close(self, request: Request) -> None:
        """Close the sockets that are meant; tell how many."""
        closed = Counter[str]()

        def close(connection: Connection) -> None:
            if connection.is_open:
                closed[connection.peer.user] += 1
                connection.close(request.code, request.reason)

        def tell() -> None:
            self._answer(request.reply, {"sockets": closed.total(), "users": sorted(filter(None, closed))})

        self._selection.visit(request.which, close, tell)

    def _end(self, request: Request) -> None:
        """Close the sockets of sessions that have ended: for good (4401) where they are a user's.

        All others that are meant come back (1012), a moment later, when the browser has its new cookie: those that
        nobody was logged in on, and those of users whose session may be the one that has ended.
        """
        sessions, others = set(request.which.sessions), list[Connection]()

        def end(connection: Connection) -> None:
            if connection.peer.user and connection.peer.session in sessions:
                connection.close(NOT_LOGGED_IN, request.reason)
            else:
                others.append(connection)

        def come_back(connection: Connection) -> None:
            connection.close(COME_BACK, "the session has changed")

        def tell() -> None:
            if others:
                self._reactor.call_later(COOKIE_SECONDS, lambda: walk(self._reactor, others, come_back))

        self._selection.visit(request.which, end, tell)

    def _regroup(self, request: Request) -> None:
        """Decide again what the sockets that are meant may: their users' groups have changed."""
        self._selection.visit(request.which, self._worker.regroup, lambda: None)

    def _recheck(self, request: Request) -> None:
        """Look at the sessions of the sockets that are meant, now: their users may have another password."""
        sessions: dict[str, None] = {}

        def see(connection: Connection) -> None:
            if connection.peer.session:
                sessions[connection.peer.session] = None

        self._selection.visit(request.which, see, lambda: self._worker.recheck.hurry(sessions))

    def _answer(self, reply: str, answer: dict[str, Any]) -> None:
        link = self._worker.links.link(reply.encode()) if reply else None
        if link is not None:
            data = json.dumps({"worker": self._worker.announcement.id, **answer}, separators=(",", ":"))
            link.call("RPUSH", reply, data.encode(), on_reply=ignore)
            link.call("EXPIRE", reply, ANSWER_SECONDS, on_reply=ignore)
