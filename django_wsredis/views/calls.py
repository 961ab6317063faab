"""Runs a view that is a class: a call for each thing that happens, and no thread in between."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..exceptions import ConnectionClosed
from ..messages import Message
from .handler import MAX_UNREAD_BYTES, Handler, Options, Wire, describe, event_bytes
from .resting import PackedEnviron, rest, take_over
from .surroundings import Surroundings

if TYPE_CHECKING:
    from .classes import WebSocketView

logger = logging.getLogger("django_wsredis.views")


class CallHandler(Handler):
    """Calls a view's methods, one after another. All but `_do()` runs in the loop's thread."""

    __slots__ = ("_is_busy", "_is_failed", "_is_paused", "_surroundings", "_unread_bytes", "_view", "_waiting", "_wire")

    needs_thread = False

    def __init__(self, view: WebSocketView) -> None:
        self._view = view
        self._surroundings = Surroundings()
        self._waiting: list[tuple[Callable[[], object], int]] | None = None  # mostly there are none
        self._unread_bytes = 0
        self._is_busy = self._is_failed = self._is_paused = False

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
        self._add(self._view.on_open)

    def hear(self, event: str | bytes | Message) -> None:
        size = event_bytes(event)
        self._unread_bytes += size
        if self._unread_bytes > MAX_UNREAD_BYTES and not self._is_paused:
            self._is_paused = True
            self._wire.pause()
        self._add(partial(self._on_event, event), size)

    def end(self, code: int) -> None:
        self._add(partial(self._on_end, code))

    def _add(self, call: Callable[[], object], size: int = 0) -> None:
        if self._is_busy:
            self._waiting = self._waiting or []
            self._waiting.append((call, size))
        else:
            self._is_busy = True
            self._wire.call(partial(self._do, call), partial(self._on_done, size))

    def _on_done(self, size: int) -> None:
        self._is_busy = False
        self._unread_bytes -= size
        if self._is_paused and self._unread_bytes < MAX_UNREAD_BYTES // 2:
            self._is_paused = False
            self._wire.resume()
        if self._waiting:
            self._add(*self._waiting.pop(0))
        else:
            self._waiting = None

    # In a thread of the pool

    def _do(self, call: Callable[[], object]) -> None:
        try:
            self._surroundings.run(self._call, call)
        except ConnectionClosed as closed:  # it sent on a socket that is closed
            self._wire.close(closed.code, closed.reason)
        except Exception:
            logger.exception("A websocket view failed: %s", describe(self._view))
            self._is_failed = True
            self._wire.close(1011, "")

    def _call(self, call: Callable[[], object]) -> None:
        call()
        rest(self._view.request)

    def _on_event(self, event: str | bytes | Message) -> None:
        if self._is_failed:
            return
        if not isinstance(event, Message):
            self._view.on_message(event)
        elif (published := self._view.websocket.published(event)) is not None:
            self._view.on_published(published)

    def _on_end(self, code: int) -> None:
        self._view.on_close(code)
