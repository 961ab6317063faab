"""The loop's end of a view's socket: `views.handler.Wire`, and what a connection and the hub tell it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from ..channels import Channel, Wish, redis_name
from ..control import COME_BACK
from ..exceptions import ConnectionClosed
from ..messages import Message
from .allowance import Allowance
from .outbox import Source
from .topic import Join, Topic

if TYPE_CHECKING:
    from ..views.handler import Handler, Task
    from .desk import Desk
    from .pool import Pool
    from .view_connection import ViewConnection


class ViewWire:
    """Between a connection and its view's handler.

    close_code: of the socket, as soon as nothing can be sent on it.
    """

    __slots__ = (
        "_allowance",
        "_connection",
        "_desk",
        "_flushing",
        "_handler",
        "_has_begun",
        "_is_reserved",
        "_pool",
        "_unflushed_bytes",
        "close_code",
    )

    def __init__(self, connection: ViewConnection, desk: Desk, pool: Pool, handler: Handler) -> None:
        options = handler.options
        self.close_code: int | None = None
        self._connection = connection
        self._desk = desk
        self._pool = pool
        self._handler = handler
        self._has_begun = self._is_reserved = False
        self._unflushed_bytes = 0  # that the view has sent since it last waited until all was gone
        self._flushing: tuple[Future[None], ...] = ()  # who waits until all is gone
        rate = options.messages_per_second
        self._allowance = None if rate is None else Allowance(rate, options.burst, desk.reactor.now())

    # For the view's threads

    def send(self, payload: bytes, is_text: bool) -> None:
        """Write a message; blocks while too much waits. Raises ConnectionClosed."""
        self._require_open()
        settings, connection = self._desk.settings, self._connection
        frame = Message(payload, is_text).frames(settings.compression)[connection.framing]
        self._unflushed_bytes += len(frame)
        self._desk.reactor.run(connection.write_message, frame)
        if self._unflushed_bytes > settings.max_outbox_bytes // 2:
            flushed: Future[None] = Future()
            self._desk.reactor.run(self._flush, flushed)
            flushed.result()
            self._unflushed_bytes = 0
            self._require_open()

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake, unless it has begun."""
        self._desk.reactor.run(self._connection.close, code, reason)

    def subscribe(self, channels: Sequence[Channel], history: int) -> Future[None]:
        """Hear channels; the newest `history` messages that are kept come first."""
        done: Future[None] = Future()
        self._desk.reactor.run(self._subscribe, channels, history, done)
        return done

    def unsubscribe(self, channels: Sequence[Channel] | None) -> None:
        """Hear channels no more; None is all."""
        self._desk.reactor.run(self._unsubscribe, channels)

    def resume(self) -> None:
        """Read from the socket again."""
        self._desk.reactor.run(self._connection.resume)

    def _require_open(self) -> None:
        if self.close_code is not None:
            raise ConnectionClosed(self.close_code, "the socket is closed")

    # For the handler, in the loop's thread

    def pause(self) -> None:
        """Read no more from the socket."""
        self._connection.pause()

    def start(self, function: Callable[[], object]) -> None:
        """Run a function in the thread that is reserved."""
        self._pool.start(function, lambda reason: self._connection.close(1013, "the server has no thread for it"))

    def call(self, task: Task) -> None:
        """Let some thread do a task, soon."""
        self._pool.call(task)

    # For the connection and the hub

    def reserve(self) -> bool:
        """Reserve a thread, if the handler needs one; False if all are in use."""
        self._is_reserved = self._handler.needs_thread and self._pool.reserve()
        return self._is_reserved or not self._handler.needs_thread

    def begin(self) -> None:
        """The socket is open."""
        if self.close_code is None:
            self._has_begun = True
            self._handler.begin(self)

    def end(self) -> None:
        """The socket is closed, and the handler was told all that came before."""
        self.tell_flushed()
        if self._has_begun:
            self._has_begun = False  # what the peer still sends comes too late
            assert self.close_code is not None
            self._handler.end(self.close_code)
        elif self._is_reserved:
            self._pool.release()

    def hear(self, message: Message) -> None:
        """A message came on a channel."""
        self._handler.hear(message)
        if self._handler.unread_bytes > self._desk.settings.max_outbox_bytes:
            # soon: the hub is telling all who listen
            self._desk.reactor.call_soon(self._connection.close, 1013, "the view is too slow")

    def tell_flushed(self) -> None:
        """Nothing waits any more, or nothing will be sent."""
        flushing, self._flushing = self._flushing, ()
        for flushed in flushing:
            flushed.set_result(None)

    def _flush(self, flushed: Future[None]) -> None:
        self._flushing += (flushed,)
        if self._connection.outbox is None or self.close_code is not None:
            self.tell_flushed()

    def _subscribe(self, channels: Sequence[Channel], history: int, done: Future[None]) -> None:
        if self.close_code is not None:
            done.set_exception(ConnectionClosed(self.close_code, "the socket is closed"))
            return
        join = Join(self._connection)
        join.done.add_done_callback(lambda joined: _pass_on(joined, done))
        self._desk.listen(join, channels, Wish((), (), echo=False, history=history))

    def _unsubscribe(self, channels: Sequence[Channel] | None) -> None:
        prefix = self._desk.settings.prefix
        names = self._connection.channels if channels is None else [redis_name(prefix, channel) for channel in channels]
        self._desk.leave_channels(self._connection, names)

    # As the dialogue of its connection

    @property
    def facilities(self) -> Sequence[str]:
        """What wsinspect shows: the view's path below WEBSOCKET_URL."""
        return (self._connection.peer.facility,)

    @property
    def groups(self) -> set[str | None]:
        """Nothing was granted by groups that we know of."""
        return set()

    def regroup(self) -> None:
        """The user's groups have changed: only a new handshake can tell what the view's decorators say of that."""
        self._connection.close(COME_BACK, "the user's groups have changed")

    def on_message(self, payload: bytes, is_text: bool) -> None:
        """The peer sent a message. Raises ConnectionClosed."""
        if self._allowance is not None and not self._allowance.take(self._desk.reactor.now()):
            raise ConnectionClosed(1008, "too many messages")
        if self._has_begun:
            self._handler.hear(payload.decode() if is_text else payload)

    def missed(self, source: Source, count: int) -> bytes:
        """Views miss nothing: what is published does not go through their outbox."""
        return b""

    def tell_joined(self) -> None:
        """It waits for the join's own end."""

    def tell_position(self, topic: Topic) -> None:
        """It was told of no gap."""

    def tell_gap(self, topic: Topic, since: bytes | None) -> None:
        """A view hears what there is."""


def _pass_on(joined: Future[None], done: Future[None]) -> None:
    if error := joined.exception():
        done.set_exception(error)
    else:
        done.set_result(None)
