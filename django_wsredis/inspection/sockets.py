"""Live sockets, one by one."""

from __future__ import annotations

from .. import live
from ..control import Filter
from .reports import SocketList
from .times import now


def inspect_sockets(which: Filter, *, sort: str, limit: int) -> SocketList:
    """Return the sockets that are meant; `sort` is one of `live.SORTS`. Raises BrokerUnavailable."""
    found = live.sockets(which, sort=sort, limit=limit)
    return SocketList(time=now(), sockets=found.sockets, total=found.total, silent=found.silent)
