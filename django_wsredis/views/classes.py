"""Views that are classes: methods for what happens to a socket."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.utils.translation import gettext as _
from django.views.generic.base import View

from .admission import OPTIONS, Upgrading
from .calls import CallHandler
from .handler import Options
from .sockets import Published, ViewSocket

if TYPE_CHECKING:
    from django.forms import BaseForm
    from django.http import HttpRequest, HttpResponseBase

CALLED = ("on_open", "on_message", "on_published", "on_close", "form_valid", "form_invalid")


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
        setattr(view, OPTIONS, Options.of(cls, **initkwargs))  # decorators copy it, as functools.wraps does
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
