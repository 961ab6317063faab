"""Permission callbacks for the tests of `wscheck --live`, named in the settings of sites."""

from __future__ import annotations

from django.http import HttpRequest


def news_alone(request: HttpRequest, channels: list[str]) -> list[str]:
    """Grant everything on two facilities, and nothing on others."""
    return channels if request.path in ("/ws/news", "/ws/rooms/wscheck") else []


def what_is_the_users(request: HttpRequest, channels: list[str]) -> list[str]:
    """Grant everything but what is for everybody."""
    return [channel for channel in channels if channel != "subscribe-broadcast"]


def what_is_for_everybody(request: HttpRequest, channels: list[str]) -> list[str]:
    """Grant only what is for everybody."""
    return [channel for channel in channels if channel == "subscribe-broadcast"]


def nothing(request: HttpRequest, channels: list[str]) -> list[str]:
    """Grant nothing."""
    return []
