"""Runs a view that is a class: a call for each thing that happens, and no thread in between."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..messages import Message
from .handler import MAX_UNREAD_BYTES, Handler, Options, Wire, closing_for, event_bytes
from .resting import PackedEnviron, rest, take_over
from .surroundings import Surroundings

if TYPE_CHECKING:
    from .classes import WebSocketView

OPENED = 0  # what happens first to a socket; later ints are codes of its close


class CallHandler(Handler):
    """Calls a view's methods, one after another. `do()` runs in a thread of the pool, the rest in the loop's.

    An event is what the browser or a channel has said, OPENED, or the code of the close.
    """

    __slots__ = ("_events", "_is_failed", "_is_paused", "_surroundings", "_unread_bytes", "_view", "_wire")

    needs_thread = False

    def __init__(self, view: WebSocketView) -> None:
        self._view = view
        self._surroundings = Surroundings()
        self._events: deque[str | bytes | Message | int] | None = None  # the first is being done; mostly there are none
        self._unread_bytes = 0
        self._is_failed = self._is_paused = False

    @property
    def options(self) -> Options:
        """What the view says of its sockets."""
        return Options.of(self._view)

    @property
    def unread_bytes(self) -> int:
        return self._unread_bytes

    def settle(self, packed: bytes) -> None:
        rest(self._view.request)
        take_over(self._view.request, PackedEnviron(packed))

    def begin(self, wire: Wire) -> None:
        self._wire = wire
        self._view.websocket.attach(wire)
        self._add(OPENED)

    def hear(self, event: str | bytes | Message) -> None:
        self._unread_bytes += event_bytes(event)
        if self._unread_bytes > MAX_UNREAD_BYTES and not self._is_paused:
            self._is_paused = True
            self._wire.pause()
        self._add(event)

    def end(self, code: int) -> None:
        self._add(code)

    def _add(self, event: str | bytes | Message | int) -> None:
        if self._events is None:
            self._events = deque((event,))
            self._wire.call(self)
        else:
            self._events.append(event)

    def done(self) -> None:
        """Go on with what came meanwhile, after all other sockets whose turn it is."""
        assert self._events is not None
        event = self._events.popleft()
        if not isinstance(event, int):
            self._unread_bytes -= event_bytes(event)
        if self._is_paused and self._unread_bytes < MAX_UNREAD_BYTES // 2:
            self._is_paused = False
            self._wire.resume()
        if self._events:
            self._wire.call(self)
        else:
            self._events = None

    # In a thread of the pool

    def do(self) -> None:
        """Call the view for the first event."""
        assert self._events is not None
        try:
            self._surroundings.run(self._call, self._events[0])
        except Exception as error:
            self._is_failed = True
            self._wire.close(*closing_for(error, self._view))

    def _call(self, event: str | bytes | Message | int) -> None:
        view = self._view
        if isinstance(event, int):
            view.on_open() if event == OPENED else view.on_close(event)
        elif self._is_failed:
            return
        elif not isinstance(event, Message):
            view.on_message(event)
        elif (published := view.websocket.published(event)) is not None:
            view.on_published(published)
        rest(view.request)
