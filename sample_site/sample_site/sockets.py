"""The URLs of websocket views: below /ws/, and beside the facilities there. WEBSOCKET_URLCONF names this file."""

from chat import websockets
from django.urls import path, re_path

urlpatterns = [
    path("echo/", websockets.echo, name="echo-socket"),
    path("ping/", websockets.ping, name="ping-socket"),
    re_path(r"^rooms/(?P<name>[\w-]{1,40})/$", websockets.Room.as_view(), name="room-socket"),
]
