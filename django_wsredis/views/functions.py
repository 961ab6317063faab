"""Views that are functions: one call for the life of a socket, in a thread of its own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..messages import Message
from ..packing import unpack
from .admission import OPTIONS, Upgrading
from .handler import Handler, Options, Wire, closing_for, describe
from .resting import save_session, take_over
from .sockets import WebSocket
from .surroundings import Surroundings


def websocket(view: Callable[..., object]) -> Callable[..., HttpResponseBase]:
    """Make a websocket view of a function: `def chat(request, websocket, room): …`, for `WEBSOCKET_URLCONF`.

    Django's decorators, as `@login_required`, stand above this one: they refuse before the socket is open. The function
    runs in a thread of its own, so it may block, query and sleep. When it returns the socket is closed with 1000, and
    when it raises with 1011 (BrokerUnavailable: 1013); what it returns does not matter.
    """

    if isinstance(view, type):
        raise TypeError(
            f"{describe(view)} is a class: derive it from WebSocketView, and write its as_view() in the URLconf."
        )
    if inspect.iscoroutinefunction(view):
        raise TypeError(f"{describe(view)} is async; a websocket view is a plain function, and may block.")

    @functools.wraps(view)
    def admit(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        socket = WebSocket(request)
        call = functools.partial(view, request, socket, *args, **kwargs)
        return Upgrading(FunctionHandler(request, call, socket), socket)

    setattr(admit, OPTIONS, Options())
    return admit


def websocket_loop(view: Callable[..., object]) -> Callable[..., HttpResponseBase]:
    """As `@websocket`, and the function is called once for each message: its `websocket.receive()` does not wait."""

    @functools.wraps(view)
    def loop(request: HttpRequest, websocket: WebSocket, *args: Any, **kwargs: Any) -> None:
        while websocket.peek():
            view(request, websocket, *args, **kwargs)
            websocket.forget()

    return websocket(loop)


class FunctionHandler(Handler):
    """Runs a view whose arguments are all there."""

    __slots__ = ("_request", "_socket", "_surroundings", "_view")

    needs_thread = True

    def __init__(self, request: HttpRequest, view: functools.partial[object], socket: WebSocket) -> None:
        self._request = request
        self._view = view
        self._socket = socket
        self._surroundings = Surroundings()

    @property
    def options(self) -> Options:
        """A function has none of its own."""
        return Options()

    def settle(self, packed: bytes) -> None:
        take_over(self._request, unpack(packed))

    def begin(self, wire: Wire) -> None:
        self._socket.attach(wire)
        wire.start(self._run)

    @property
    def unread_bytes(self) -> int:
        return self._socket.unread_bytes

    def hear(self, event: str | bytes | Message) -> None:
        self._socket.tell(event)

    def end(self, code: int) -> None:
        self._socket.tell(None)

    def _call(self) -> None:
        if isinstance(self._view(), HttpResponseBase):
            raise TypeError(
                f"{describe(self._view.func)} returned a page, which no browser gets: what may refuse a visitor, as "
                "login_required, stands above @websocket."
            )
        save_session(self._request)

    def _run(self) -> None:
        closing = 1011, ""
        try:
            self._surroundings.run(self._call)
            closing = 1000, ""
        except Exception as error:
            closing = closing_for(error, self._view.func)
        finally:
            self._socket.wire.close(*closing)
