"""A kit for the tests of projects that use django_wsredis: docs/testing.rst shows how.

Importing it imports neither Django's settings nor anything heavy: what a name needs comes when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cases import PublishAssertions, WebSocketLiveServerTestCase
    from .client import HandshakeRefused, SocketClosed, WebSocketClient
    from .recorder import Publication, PublishRecorder
    from .server import LiveServer

__all__ = [
    "HandshakeRefused",
    "LiveServer",
    "Publication",
    "PublishAssertions",
    "PublishRecorder",
    "SocketClosed",
    "WebSocketClient",
    "WebSocketLiveServerTestCase",
]

_MODULES = {
    "HandshakeRefused": "client",
    "LiveServer": "server",
    "Publication": "recorder",
    "PublishAssertions": "cases",
    "PublishRecorder": "recorder",
    "SocketClosed": "client",
    "WebSocketClient": "client",
    "WebSocketLiveServerTestCase": "cases",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
