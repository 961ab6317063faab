"""Permission callbacks of every kind, named by the tests in the settings."""

import sys
import time
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from django_wsredis.channels import Channel
from django_wsredis.handshake import Subscriber


def everything(request: HttpRequest, channels: list[str]) -> list[str]:
    return channels


def by_query(request: HttpRequest, channels: list[str]) -> Any:
    """Do what `?callback=…` says, so that one server shows all kinds."""
    match request.GET.get("callback"):
        case "deny":
            raise PermissionDenied("the secret reason")
        case "raise":
            raise ValueError("the secret reason")
        case "none":
            return None
        case "text":
            return "subscribe-broadcast"
        case "numbers":
            return [1, 2]
        case "nothing":
            return []
        case "late":
            return (1 // 0 if name == channels[-1] else name for name in channels)
        case "broadcast-only":
            return ["subscribe-broadcast"]
        case "more":
            return [*channels, "subscribe-user", "publish-group"]
        case "database":
            return channels if get_user_model().objects.count() > 1 else []
        case "sleep":
            print("A callback sleeps.", file=sys.stderr, flush=True)
            time.sleep(2)
            return channels
    return channels


def of_members(request: HttpRequest, channels: list[str]) -> list[str]:
    """Grant everything to the group "members", and nothing to others."""
    return channels if request.user.groups.filter(name="members").exists() else []


def by_token(request: HttpRequest) -> None:
    """A PROCESS_REQUEST: who connects is told by a token."""
    token = request.GET.get("token")
    if token == "bad":
        raise PermissionDenied
    if token == "broken":
        raise KeyError("the secret reason")
    user_model = get_user_model()
    request.user = user_model.objects.get(username=token) if token else AnonymousUser()


class Rooms(Subscriber):
    """A SUBSCRIBER: who asks for a group gets the room's channel, too."""

    def subscribe_channels(self, request, facility, audiences):
        return [*super().subscribe_channels(request, facility, audiences), Channel("group", "lobby", facility)]


class Lobby(Subscriber):
    """A SUBSCRIBER: every facility has the lobby's channel, too."""

    def subscribe_channels(self, request, facility, audiences):
        return [*super().subscribe_channels(request, facility, audiences), Channel("broadcast", "", "chat/lobby")]
