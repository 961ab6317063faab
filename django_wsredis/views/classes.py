"""Views that are classes: a call for each thing that happens, and no thread in between."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.utils.translation import gettext as _
from django.views.generic.base import View

from ..exceptions import BrokerUnavailable, ConnectionClosed
from ..messages import Message
from .admission import OPTIONS, Upgrading
from .functions import describe
from .handler import MAX_UNREAD_BYTES, Handler, Options, Wire, event_bytes
from .resting import PackedEnviron, rest, take_over
from .sockets import Published, ViewSocket
from .surroundings import Surroundings

if TYPE_CHECKING:
    from django.forms import BaseForm
    from django.http import HttpRequest, HttpResponseBase

CALLED = ("on_open", "on_message", "on_published", "on_close", "form_valid", "form_invalid")
OPTION_NAMES = tuple(field.name for field in fields(Options))

logger = logging.getLogger("django_wsredis.views")


class WebSocketView(View):
    """A websocket view; `Chat.as_view()` goes into `WEBSOCKET_URLCONF`. There is one object for each socket.

    It has `self.websocket`, `self.request`, `self.args` and `self.kwargs`, and whatever you keep on it. Override
    `on_open()`, `on_message()`, `on_published()` and `on_close()`: each call runs in a thread of a pool, so it may
    block; those of one socket keep their order and never overlap. `self.request.user` and its session are read anew in
    each call that asks for them, and the session is saved after it. A call that raises closes the socket with 1011;
    BrokerUnavailable with 1013.

    form_class: a form; then each message is to be JSON, and one that the form finds valid goes to `form_valid()`.
    login_required: refuse (403) who is not logged in. Django's mixins, as PermissionRequiredMixin, work, too.
    allowed_origins, subprotocols, max_message_bytes: instead of what the project's settings say.
    messages_per_second, burst: how often a browser may send, and how many at once; past it the socket is closed (1008).
    """

    form_class: type[BaseForm] | None = None
    login_required: bool = False
    allowed_origins: Sequence[str] | None = None
    subprotocols: Sequence[str] | None = None
    max_message_bytes: int | None = None
    messages_per_second: float | None = None
    burst: int = 10

    websocket: ViewSocket

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """Return the view for a URLconf. initkwargs: class attributes to replace."""
        for name in CALLED:
            if inspect.iscoroutinefunction(getattr(cls, name)):
                raise TypeError(f"{cls.__qualname__}.{name}() is async; it is a plain function, and may block.")
        view = super().as_view(**initkwargs)
        setattr(view, OPTIONS, options_of(cls, **initkwargs))  # decorators copy it, as functools.wraps does
        return view

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer the handshake: accept it, or raise PermissionDenied. What a mixin of Django's overrides."""
        if self.login_required and not request.user.is_authenticated:
            raise PermissionDenied("The view has login_required.")
        self.websocket = ViewSocket(request)
        return Upgrading(CallHandler(self), self.websocket)

    # What may be overridden

    def on_open(self) -> None:
        """The socket is open."""

    def on_message(self, message: str | bytes) -> None:
        """The browser sent a message. As it is here: it goes through the form, if there is a `form_class`."""
        if self.form_class is None:
            return
        try:
            data = json.loads(message)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            self.send_errors({"__all__": [{"message": _("This is no JSON object."), "code": "invalid_json"}]})
            return
        form = self.get_form(data)
        if form.is_valid():
            self.form_valid(form)
        else:
            self.form_invalid(form)

    def on_published(self, message: Published) -> None:
        """A message came on a channel to which the view has subscribed. As it is here: it goes to the browser."""
        self.websocket.send(message.data)

    def on_close(self, code: int) -> None:
        """The socket is closed. Called for each one that was opened, also if its peer has just vanished (1006)."""

    def get_form(self, data: dict[str, Any]) -> BaseForm:
        """Return the form for a message."""
        assert self.form_class is not None
        return self.form_class(data)

    def form_valid(self, form: BaseForm) -> None:
        """A message was valid: `form.cleaned_data` has it."""
        raise NotImplementedError(f"{type(self).__qualname__} has a form_class, and no form_valid()")

    def form_invalid(self, form: BaseForm) -> None:
        """A message was not valid: tell the browser why."""
        self.send_errors(form.errors.get_json_data())

    def send_errors(self, errors: dict[str, Any]) -> None:
        """Send `{"errors": {field: [{"message": …, "code": …}]}}`."""
        self.websocket.send_json({"errors": errors})


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
        return options_of(self._view)

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
        except BrokerUnavailable as error:
            logger.warning("A websocket view needs Redis, which is away: %s: %s", describe(self._view), error)
            self._is_failed = True
            self._wire.close(1013, "")
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


def options_of(view: WebSocketView | type[WebSocketView], **replaced: Any) -> Options:
    """Return what a view says of its sockets."""
    return Options(**{name: replaced.get(name, getattr(view, name)) for name in OPTION_NAMES})
