"""What wsinspect shows: Redis, its workers, sockets, channels and messages. Synchronous; knows no gevent."""

from __future__ import annotations

from .overview import Inspector
from .page import inspect_channel
from .sockets import inspect_sockets
from .tail import Tail

__all__ = ["Inspector", "Tail", "inspect_channel", "inspect_sockets"]
