"""The websocket views under test."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import path

from django_wsredis.views import WebSocket, WebSocketView, websocket


class Echo(WebSocketView):
    def on_message(self, message: str | bytes) -> None:
        self.websocket.send(message)


@websocket
def echo(request: HttpRequest, websocket: WebSocket) -> None:
    for message in websocket:
        websocket.send(message)


urlpatterns = [path("class/", Echo.as_view()), path("function/", echo)]
