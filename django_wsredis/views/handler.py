"""Between the loop and a view: the loop tells a handler what happens to a socket, and a handler asks its wire.

Knows neither gevent nor how a view is written.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, Self

from ..channels import Channel
from ..exceptions import BrokerUnavailable, ConnectionClosed
from ..messages import Message

MAX_UNREAD_BYTES = 64 * 1024  # that wait for a view: then its socket is not read until half of them are taken
EVENT_BYTES = 64  # that a message takes besides its payload

logger = logging.getLogger("django_wsredis.views")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a view says of its sockets; None is what the project's settings say.

    allowed_origins: of pages that may connect: `https://example.com`, `https://*.example.com`, or `*` for all.
    messages_per_second, burst: how often a browser may send, and how many at once.
    """

    allowed_origins: Sequence[str] | None = None
    subprotocols: Sequence[str] | None = None
    max_message_bytes: int | None = None
    messages_per_second: float | None = None
    burst: int = 1

    @classmethod
    def of(cls, view: object, **replaced: Any) -> Self:
        """Return what a view's attributes say, but for those that are replaced."""
        return cls(**{field.name: replaced.get(field.name, getattr(view, field.name)) for field in fields(cls)})


class Task(Protocol):
    """What the pool's threads do now and then for a socket, without a thread in between."""

    def do(self) -> None:
        """Do it; it may block. In a thread of the pool. What it raises is its own business."""

    def done(self) -> None:
        """It is done. In the loop's thread."""


class Wire(Protocol):
    """The loop's end of a view's socket. From any thread, unless it says otherwise."""

    close_code: int | None

    def send(self, payload: bytes, is_text: bool) -> None:
        """Write a message; blocks while too much waits. Raises ConnectionClosed."""

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake, unless it has begun."""

    def subscribe(self, channels: Sequence[Channel], history: int) -> Future[None]:
        """Hear channels; the newest `history` messages that are kept come first. It fails with Unavailable."""

    def unsubscribe(self, channels: Sequence[Channel] | None) -> None:
        """Hear channels no more; None is all."""

    def resume(self) -> None:
        """Read from the socket again."""

    def pause(self) -> None:
        """Read no more from the socket. In the loop's thread."""

    def start(self, function: Callable[[], object]) -> None:
        """Run a function in a thread of its own. In the loop's thread; once, for handlers that need a thread."""

    def call(self, task: Task) -> None:
        """Let some thread do a task, soon. In the loop's thread."""


class Handler(ABC):
    """Runs a view for one socket. Its methods are called in the loop's thread, but for `settle()`, and do not block.

    needs_thread: whether it needs a thread for as long as the socket lives.
    """

    __slots__ = ()

    needs_thread: ClassVar[bool]

    @property
    @abstractmethod
    def unread_bytes(self) -> int:
        """How much waits for the view."""

    @property
    @abstractmethod
    def options(self) -> Options:
        """What the view says of its sockets."""

    @abstractmethod
    def settle(self, packed: bytes) -> None:
        """The handshake is answered; packed: what it said, as `packing.pack()` has it. In the handshake's thread."""

    @abstractmethod
    def begin(self, wire: Wire) -> None:
        """The socket is open."""

    @abstractmethod
    def hear(self, event: str | bytes | Message) -> None:
        """The browser sent a message, or one came on a channel to which the view is subscribed."""

    @abstractmethod
    def end(self, code: int) -> None:
        """The socket is closed: nothing more comes. Called once, after `begin()`."""


def event_bytes(event: str | bytes | Message) -> int:
    """Return about how much memory an event takes."""
    return EVENT_BYTES + len(event.payload if isinstance(event, Message) else event)


def closing_for(error: Exception, view: object) -> tuple[int, str]:
    """Return the close code and reason for what a view raised; what is no end as any other is logged."""
    if isinstance(error, ConnectionClosed):  # it sent on a socket that is closed
        return error.code, error.reason
    if isinstance(error, BrokerUnavailable):
        logger.warning("A websocket view needs Redis, which is away: %s: %s", describe(view), error)
        return 1013, ""
    logger.error("A websocket view failed: %s", describe(view), exc_info=error)
    return 1011, ""


def describe(view: Any) -> str:
    """Return a view's dotted name, for the log."""
    return f"{view.__module__}.{getattr(view, '__qualname__', type(view).__qualname__)}"
