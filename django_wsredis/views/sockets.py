"""A view's socket, as the view sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ..channels import Channel, channel_name
from ..exceptions import BrokerUnavailable, Unavailable
from ..live import is_close_code, is_close_reason
from ..messages import Message, to_payload
from ..recipients import Names, read_audiences, require_facility
from .database import release_database
from .handler import MAX_UNREAD_BYTES, Wire, event_bytes
from .resting import save_session

if TYPE_CHECKING:
    from django.http import HttpRequest

JOIN_SECONDS = 5.0  # for Redis to confirm a subscription


class Published(NamedTuple):
    """A message that came on a channel.

    channel: the name that clients know it by: `broadcast:news`, `user:alice:news`; `everywhere` of a message for all
    facilities. id: its position, None if it is not kept.
    """

    channel: str
    data: str | bytes
    id: str | None = None


Callback: TypeAlias = Callable[[Published], object]


class ViewSocket:
    """What all views may do with their socket, from any thread."""

    __slots__ = ("_callbacks", "_request", "_wire", "subprotocol")

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._wire: Wire | None = None
        self._callbacks: dict[str, Callback] | None = None
        self.subprotocol: str | None = None  # that both sides agreed on

    def attach(self, wire: Wire) -> None:
        """Begin; for handlers."""
        self._wire = wire

    @property
    def wire(self) -> Wire:
        """The loop's end; for handlers."""
        if self._wire is None:
            raise RuntimeError("The websocket is not open yet: its handshake is still being answered.")
        return self._wire

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.close_code is not None

    @property
    def close_code(self) -> int | None:
        """The code of the close (RFC 6455, 7.1.5), 1006 if the peer went without one; None while it is open."""
        return self.wire.close_code

    def send(self, message: str | bytes) -> None:
        """Send a message; blocks while the peer does not keep up.

        Raises ConnectionClosed, which a view need not catch: it ends there, in silence.
        """
        if not isinstance(message, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"A message is str or bytes, not {type(message).__name__}: send_json() sends the rest.")
        self.wire.send(*to_payload(message))

    def send_json(self, message: Any) -> None:
        """Send what JSON can hold, as a text; dates and the like as Django writes them. Raises as `send()` does."""
        payload, _ = to_payload([message])  # alone a str would go as it is, and bytes as binary data
        self.wire.send(payload[1:-1], True)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket, after what was sent. code, reason: as of `django_wsredis.live.disconnect()`, and 1011."""
        if code != 1011 and not is_close_code(code):
            raise ValueError(f"code is {code!r}; it is 1000, 1001, 1008, 1011, 1012, 1013, or 3000 to 4999")
        if not is_close_reason(reason):
            raise ValueError(f"reason is {reason!r}; it is a text of up to 123 bytes of UTF-8")
        self.wire.close(code, reason)

    def subscribe(
        self,
        *,
        facility: str,
        broadcast: bool = False,
        groups: Names = (),
        users: Names = (),
        sessions: Names = (),
        history: int = 0,
        callback: Callback | None = None,
    ) -> None:
        """Hear what is published on a facility, to audiences as of `publish()`; SELF is the socket's visitor.

        The view may hear whatever it asks for: what a visitor may see is for the view to decide. Blocks until Redis
        has confirmed it, so whatever is published from then on comes.

        history: how many of the newest messages that are kept come first. callback: gets these messages, instead of
        `receive()` or `on_published()`; it is called in the view's thread, while that waits in `receive()`.

        Raises TypeError, ConnectionClosed, and BrokerUnavailable.
        """
        channels = self._channels(facility, broadcast=broadcast, groups=groups, users=users, sessions=sessions)
        if callback is not None:
            self._callbacks = self._callbacks or {}
            self._callbacks.update(dict.fromkeys(map(channel_name, channels), callback))
        try:
            self.wire.subscribe(channels, history).result(JOIN_SECONDS)
        except (Unavailable, FutureTimeoutError) as error:
            raise BrokerUnavailable(str(error) or "Redis did not confirm the subscriptions in time") from error

    def unsubscribe(
        self,
        *,
        facility: str | None = None,
        broadcast: bool = False,
        groups: Names = (),
        users: Names = (),
        sessions: Names = (),
    ) -> None:
        """Hear channels no more, without arguments none. What has come already may still arrive."""
        if facility is None:
            self.wire.unsubscribe(None)
        else:
            self.wire.unsubscribe(
                self._channels(facility, broadcast=broadcast, groups=groups, users=users, sessions=sessions)
            )

    def _channels(self, facility: str, **audiences: Any) -> list[Channel]:
        require_facility(facility)
        found = read_audiences(**audiences, request=self._request)
        return [Channel(audience, name, facility) for audience, name in found]

    def published(self, message: Message) -> Published | None:
        """Return what came on a channel, None if a callback has taken it; for handlers."""
        found = Published(
            message.channel.decode(), message.data, None if message.id is None else message.id.decode("ascii")
        )
        callback = (self._callbacks or {}).get(found.channel)
        if callback is None:
            return found
        callback(found)
        return None


class WebSocket(ViewSocket):
    """The socket of a function: `receive()` waits for what comes."""

    __slots__ = ("_events", "_is_over", "_is_paused", "_kept", "_taken", "_told")

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request)
        self._events: SimpleQueue[str | bytes | Message | None] = SimpleQueue()
        self._kept: tuple[str | bytes | Published, ...] = ()  # of `peek()`
        self._is_over = self._is_paused = False
        self._told = self._taken = 0  # bytes; the loop counts the one, the view the other

    def receive(self, timeout: float | None = None) -> str | bytes | Published | None:
        """Return the next message: str or bytes of the browser, Published of a channel; None when the socket is closed.

        Before it waits the session is saved, if it was changed, and connections to the database are closed.

        timeout: in seconds; then it raises TimeoutError, and the socket is as it was.

        Raises django.db.transaction.TransactionManagementError where it would wait inside a transaction.
        """
        if self._kept:
            (message,), self._kept = self._kept, ()
            return message
        until = None if timeout is None else time.monotonic() + timeout
        while not self._is_over:
            event = self._next(until)
            self._is_over = event is None
            found = self.published(event) if isinstance(event, Message) else event
            if found is not None:
                return found
        return None

    def __iter__(self) -> Iterator[str | bytes | Published]:
        """Yield messages until the socket is closed."""
        while (message := self.receive()) is not None:
            yield message

    def peek(self) -> bool:
        """Wait for a message, which the next `receive()` returns; False when the socket is closed."""
        message = self.receive()
        self._kept = () if message is None else (message,)
        return message is not None

    def forget(self) -> None:
        """Forget a message that was looked at and is still there."""
        self._kept = ()

    def _next(self, until: float | None) -> str | bytes | Message | None:
        if self._events.empty():
            save_session(self._request)
            release_database()
        try:
            event = self._events.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
        except Empty:
            raise TimeoutError("nothing came in time") from None
        if event is not None:
            self._taken += event_bytes(event)
            if self._is_paused and self.unread_bytes < MAX_UNREAD_BYTES // 2:
                self._is_paused = False
                self.wire.resume()
        return event

    # In the loop's thread

    @property
    def unread_bytes(self) -> int:
        """How much waits for `receive()`."""
        return self._told - self._taken

    def tell(self, event: str | bytes | Message | None) -> None:
        """Let `receive()` return an event; None is the end."""
        if event is not None:
            self._told += event_bytes(event)
        self._events.put(event)
        if self.unread_bytes > MAX_UNREAD_BYTES and not self._is_paused:
            self.wire.pause()
            self._is_paused = True
            if self.unread_bytes < MAX_UNREAD_BYTES // 2:  # it was all taken before it could see that
                self._is_paused = False
                self.wire.resume()
