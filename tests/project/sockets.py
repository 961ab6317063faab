"""Websocket views, each for what a test asks of views."""

from __future__ import annotations

import threading
import time
from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required, permission_required, user_passes_test
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.messages import get_messages
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.translation import get_language

from django_wsredis import SELF, publish
from django_wsredis.views import Published, WebSocket, WebSocketView, websocket, websocket_loop, websocket_url


@websocket
def echo(request: HttpRequest, websocket: WebSocket) -> None:
    for message in websocket:
        websocket.send(message)


@websocket_loop
def ping(request: HttpRequest, websocket: WebSocket) -> None:
    message = websocket.receive()
    if message in ("ping", "pong"):
        websocket.send("pong" if message == "ping" else "ping")


@websocket_loop
def deaf(request: HttpRequest, websocket: WebSocket) -> None:
    websocket.send("called")


@websocket
def tell(request: HttpRequest, websocket: WebSocket, **kwargs: Any) -> None:
    """Tell what the handshake, and Django around it, have left."""
    websocket.send_json(
        {
            "kwargs": kwargs,
            "query": request.GET.dict(),
            "user": request.user.get_username(),
            "visits": request.session.get("visits", 0),
            "language": get_language(),
            "added": getattr(request, "added", None),
            "room": reverse("tell", args=["x"]),
            "page": reverse("hello"),
            "url": websocket_url(request, "tell", room="x"),
            "subprotocol": websocket.subprotocol,
            "thread": threading.current_thread() is threading.main_thread(),
        }
    )
    websocket.receive()


@websocket
def tell_messages(request: HttpRequest, websocket: WebSocket) -> None:
    websocket.send_json([str(message) for message in get_messages(request)])


@websocket
def visits(request: HttpRequest, websocket: WebSocket) -> None:
    """Count in the session: when it waits, and once more when it ends."""
    for number in (1, 2):
        request.session["visits"] = number
        websocket.send(str(number))
        websocket.receive()
    request.session["visits"] = 3


@websocket
def timeouts(request: HttpRequest, websocket: WebSocket) -> None:
    try:
        websocket.receive(timeout=0.05)
    except TimeoutError as error:
        websocket.send(str(error))
    websocket.send(websocket.receive())


@websocket
def leave(request: HttpRequest, websocket: WebSocket) -> None:
    """Close as the browser asks: "1000", "4001 bye", "return", "raise"."""
    word = websocket.receive()
    if word == "raise":
        raise ValueError("a mistake of the view's")
    if word != "return":
        code, _, reason = word.partition(" ")
        websocket.close(int(code), reason)
        publish(repr([websocket.receive(), websocket.closed, websocket.close_code]), facility="left", broadcast=True)


@websocket
def flood(request: HttpRequest, websocket: WebSocket) -> None:
    """Send more than an outbox holds."""
    for _ in range(200):
        websocket.send(bytes(100_000))
    websocket.send("end")


@websocket
def sleep(request: HttpRequest, websocket: WebSocket, milliseconds: int) -> None:
    time.sleep(milliseconds / 1000)
    websocket.send("slept")


@websocket
def listen(request: HttpRequest, websocket: WebSocket) -> None:
    """Hear channels, some of them by a callback; "stop" unsubscribes from all."""
    websocket.subscribe(facility="news", broadcast=True, groups=["staff"])
    websocket.subscribe(facility="mail", users=[SELF], callback=lambda message: websocket.send(f"mail {message.data}"))
    websocket.send("listening")
    for message in websocket:
        if isinstance(message, Published):
            websocket.send(f"{message.channel} {message.data}")
        elif message == "stop":
            websocket.unsubscribe()
            websocket.send("stopped")
        else:
            publish(message, facility="news", broadcast=True)


@websocket
def remember(request: HttpRequest, websocket: WebSocket, facility: str, count: int) -> None:
    """Hear a facility, and what is kept there."""
    websocket.subscribe(facility=facility, broadcast=True, history=count)
    websocket.send("subscribed")
    for message in websocket:
        assert isinstance(message, Published)
        websocket.send_json([message.data, message.id is not None])


@websocket
def queries(request: HttpRequest, websocket: WebSocket) -> None:
    """Ask the database for each message; "atomic" waits inside a transaction."""
    for message in websocket:
        if message == "atomic":
            with transaction.atomic():
                websocket.receive()
        websocket.send_json([get_user_model().objects.count(), connection.in_atomic_block])


class Queries(WebSocketView):
    """Asks the database when it is opened, and for each message."""

    def on_open(self) -> None:
        get_user_model().objects.count()

    def on_message(self, message: str | bytes) -> None:
        self.websocket.send_json([get_user_model().objects.count(), connection.in_atomic_block])


def notes_transaction(view: Any) -> Any:
    def noting(request: HttpRequest) -> Any:
        request.was_atomic = connection.in_atomic_block
        return view(request)

    return noting


@notes_transaction
@websocket
def atomic_admission(request: HttpRequest, websocket: WebSocket) -> None:
    websocket.send_json([request.was_atomic, connection.in_atomic_block])
    websocket.receive()


@websocket
def missing(request: HttpRequest, websocket: WebSocket) -> None:
    raise AssertionError("it is never reached")


@websocket
@login_required
def wrong_order(request: HttpRequest, websocket: WebSocket) -> None:
    raise AssertionError("nobody is logged in")


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("a page")


def not_there(request: HttpRequest) -> HttpResponse:
    raise Http404


def breaks(request: HttpRequest) -> HttpResponse:
    raise ValueError("a mistake before the upgrade")


class Calls(WebSocketView):
    """Says what is called, in order; what it closes with is published."""

    def on_open(self) -> None:
        self.count = 0
        self.websocket.subscribe(facility="news", broadcast=True)
        self.websocket.send(f"open {self.kwargs.get('name', '')} {self.request.user.get_username()}")

    def on_message(self, message: str | bytes) -> None:
        self.count += 1
        if message == "raise":
            raise ValueError("a mistake of the view's")
        if message == "hang":
            self.websocket.send("hanging")
            while not self.websocket.closed:
                time.sleep(0.01)
        if message == "sleep":
            time.sleep(0.3)
        if message == "save":
            self.request.session["visits"] = self.request.session.get("visits", 0) + 1
        if message == "who":
            self.websocket.send_json([self.request.user.get_username(), self.request.session.get("visits", 0)])
        elif message == "request":
            self.websocket.send_json([self.request.META["HTTP_HOST"], self.request.GET.dict(), self.request.path])
        else:
            self.websocket.send(message if isinstance(message, bytes) else f"{self.count} {message}")

    def on_close(self, code: int) -> None:
        publish(f"closed {self.kwargs.get('name', '')} {code}", facility="closes", broadcast=True)


class Limited(WebSocketView):
    allowed_origins = ["https://partner.example.net"]
    subprotocols = ["view.v1"]
    max_message_bytes = 1000
    messages_per_second = 1
    burst = 5

    def on_open(self) -> None:
        self.websocket.send(self.websocket.subprotocol or "none")

    def on_message(self, message: str | bytes) -> None:
        self.websocket.send("heard")


class Members(WebSocketView):
    login_required = True

    def on_open(self) -> None:
        self.websocket.send("welcome")


class MixedMembers(LoginRequiredMixin, Members):
    login_required = False


class Post(forms.Form):
    text = forms.CharField(max_length=10)
    number = forms.IntegerField(required=False)


class Room(WebSocketView):
    form_class = Post

    def form_valid(self, form: forms.Form) -> None:
        self.websocket.send_json(form.cleaned_data)


class Idle(WebSocketView):
    """Nothing but a socket."""

    def on_message(self, message: str | bytes) -> None:
        self.websocket.send(message)


def refuse(user: Any) -> bool:
    raise PermissionDenied


urlpatterns = [
    path("view/echo/", echo),
    path("view/ping/", ping),
    path("view/deaf/", deaf),
    path("view/tell/<room>/", tell, name="tell"),
    path("view/messages/", tell_messages),
    path("view/visits/", visits),
    path("view/timeouts/", timeouts),
    path("view/leave/", leave),
    path("view/flood/", flood),
    path("view/sleep/<int:milliseconds>/", sleep),
    path("view/listen/", listen),
    path("view/remember/<facility>/<int:count>/", remember),
    path("view/queries/", queries),
    path("view/atomic/", atomic_admission),
    path("view/members/", login_required(missing)),
    path("view/permitted/", permission_required("auth.add_user", raise_exception=True)(missing)),
    path("view/staff/", user_passes_test(lambda user: user.is_staff)(missing)),
    path("view/denied/", user_passes_test(refuse)(missing)),
    path("view/order/", wrong_order),
    path("view/page/", page),
    path("view/404/", not_there),
    path("view/breaks/", breaks),
    path("class/calls/<name>/", Calls.as_view()),
    path("class/limited/", Limited.as_view()),
    path("class/members/", Members.as_view()),
    path("class/mixed/", MixedMembers.as_view()),
    path("class/room/", Room.as_view()),
    path("class/queries/", Queries.as_view()),
    path("class/idle/", Idle.as_view()),
]
