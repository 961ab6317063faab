"""What wsinspect shows once, or again and again: the overview, or sockets one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from django_wsredis.control import Filter
from django_wsredis.inspection import Inspector, inspect_sockets
from django_wsredis.inspection.overview import shown_worker
from django_wsredis.inspection.reports import Overview, SocketList

from .display import overview
from .display.sockets import socket_lines
from .orders import CHANNELS, OVERVIEW_KEYS, SOCKET_KEYS, SOCKETS, WORKERS, Order

Lines = list[RenderableType]


class View(ABC):
    """What is looked at, and how it is shown: the overview, unless a subclass says otherwise.

    keys: of the live view, each with the word that it sorts by. narrowed: what is meant, in words.
    """

    keys: Mapping[str, str]

    def __init__(self, narrowed: str, order: Order, limit: int) -> None:
        self.narrowed = narrowed
        self.order = order
        self.limit = limit

    @abstractmethod
    def look(self) -> Any:
        """Return how it is now. Raises BrokerUnavailable."""

    @abstractmethod
    def is_empty(self, report: Any) -> bool:
        """Tell whether nothing is there of what was asked for."""

    @abstractmethod
    def told(self, report: Any) -> dict[str, Any]:
        """Return what a program is told."""

    @abstractmethod
    def lines(self, report: Any, width: int) -> Lines:
        """Return it as it is shown once."""

    @abstractmethod
    def head(self, report: Any, width: int) -> Lines:
        """Return what a frame begins with."""

    @abstractmethod
    def body(self, report: Any, width: int, height: int) -> Lines:
        """Return what follows there, in so many lines."""


class OverviewView(View):
    """Redis, workers and channels."""

    keys = OVERVIEW_KEYS

    def __init__(self, inspector: Inspector, narrowed: str, order: Order, limit: int) -> None:
        super().__init__(narrowed, order, limit)
        self._inspector = inspector

    def look(self) -> Overview:
        return self._inspector.look()

    def is_empty(self, report: Overview) -> bool:
        return not report.channels

    def told(self, report: Overview) -> dict[str, Any]:
        workers = self.order.of(report.workers, WORKERS)
        channels = self.order.of(report.channels, CHANNELS)[: self.limit]
        return asdict(replace(report, workers=workers, channels=channels))

    def lines(self, report: Overview, width: int) -> Lines:
        return overview.overview(report, self.narrowed, self.order, self.limit, width)

    def head(self, report: Overview, width: int) -> Lines:
        return overview.head(report, self.narrowed, width)

    def body(self, report: Overview, width: int, height: int) -> Lines:
        return overview.body(report, self.order, self.limit, width, height)


class SocketsView(View):
    """A row for each socket: the workers themselves choose those that come first."""

    keys = SOCKET_KEYS

    def __init__(self, which: Filter, narrowed: str, order: Order, limit: int) -> None:
        super().__init__(narrowed, order, limit)
        self._which = which

    def look(self) -> SocketList:
        return inspect_sockets(self._which, sort=SOCKETS[self.order.word], limit=self.limit)

    def is_empty(self, report: SocketList) -> bool:
        return not report.sockets

    def told(self, report: SocketList) -> dict[str, Any]:
        return asdict(report)

    def lines(self, report: SocketList, width: int) -> Lines:
        return [*self.head(report, width), *socket_lines(report, width, self.order)]

    def head(self, report: SocketList, width: int) -> Lines:
        lines: Lines = [Text(f"{shown_worker(id)} does not answer.", style="bold red") for id in report.silent]
        return [*lines, Text(f"Only {self.narrowed}", style="magenta"), Text()] if self.narrowed else lines

    def body(self, report: SocketList, width: int, height: int) -> Lines:
        return socket_lines(report, width, self.order, max(1, (height - 3) // 2))
