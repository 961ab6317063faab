"""A websocket whose other end is a view: what the peer sends goes to the view, and what is published, too.

A handler (`views.handler`) runs the view, in other threads; its wire is the way back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..messages import Message
from .websocket import WebSocketConnection
from .wire import ViewWire

if TYPE_CHECKING:
    from ..views.handler import Handler
    from .desk import Desk
    from .pool import Pool


class ViewConnection(WebSocketConnection):
    """Made as any other one. Its `wire` is also its `dialogue`: what it is told beside the messages of its channels."""

    __slots__ = ("wire",)

    takes_frames = False

    def __init__(self, *arguments: Any, desk: Desk, pool: Pool, handler: Handler, **options: Any) -> None:
        super().__init__(*arguments, max_message_bytes=handler.options.max_message_bytes, **options)
        self.dialogue = self.wire = ViewWire(self, desk, pool, handler)

    def send(self, message: Message) -> None:
        """A message came on a channel."""
        if self.is_open:
            self.wire.hear(message)

    def attach(self, sock: Any) -> None:
        super().attach(sock)
        self.wire.begin()

    def _leave(self) -> None:
        if not self._has_left:
            super()._leave()
            self.wire.close_code = self.protocol.first_close_code
            self.resume()  # its answer to the close is to be read
            # soon: what the peer sent before its close may be on its way through us
            self.reactor.call_soon(self.wire.end)

    def on_flushed(self) -> None:
        super().on_flushed()
        self.wire.tell_flushed()

    def write_message(self, frame: bytes) -> None:
        """Write a message of the view's."""
        if self.is_open:
            self.sent_apart += 1
            self.write(frame)

    def pause(self) -> None:
        """Read no more: the view has enough to do. Its peer is not silent meanwhile, but unheard."""
        if self._reader is not None:
            self._reader.stop()
            self.last_received = float("inf")

    def resume(self) -> None:
        """Read again."""
        if self._reader is not None:
            self.last_received = self.reactor.now()
            self._reader.start(self._on_readable)
