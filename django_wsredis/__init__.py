"""Websockets for Django: publish a message to Redis, and every subscribed browser gets it.

Importing this package opens nothing and needs neither a Redis server nor configured settings.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exceptions import BrokerUnavailable
    from .live import connections, count, disconnect, is_online
    from .publisher import Publisher, publish
    from .reader import cursor, fetch_message, history
    from .recipients import EVERYWHERE, SELF

__version__ = "0.1.0"
__all__ = [
    "EVERYWHERE",
    "SELF",
    "BrokerUnavailable",
    "Publisher",
    "connections",
    "count",
    "cursor",
    "disconnect",
    "fetch_message",
    "history",
    "is_online",
    "publish",
]

_MODULES = {
    "EVERYWHERE": "recipients",
    "SELF": "recipients",
    "BrokerUnavailable": "exceptions",
    "Publisher": "publisher",
    "publish": "publisher",
    "connections": "live",
    "count": "live",
    "cursor": "reader",
    "disconnect": "live",
    "fetch_message": "reader",
    "history": "reader",
    "is_online": "live",
}


def __getattr__(name: str) -> Any:
    # Django imports this package before its settings are ready, so what needs them comes when it is asked for.
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
