"""The pytest plugin: fixtures for tests that publish, with or without a server. pytest loads it by its entry point.

In projects that do not use it, it imports nothing of Django and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .client import WebSocketClient
    from .recorder import PublishRecorder
    from .server import LiveServer

WITH_REDIS = {"wsredis_broker", "websocket_server", "websocket_client"}
WITH_SERVER = WITH_REDIS - {"wsredis_broker"}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let pytest-django know, before its own database fixtures are chosen, that a server's threads share the data."""
    names: list[str] = getattr(item, "fixturenames", [])
    if (
        not WITH_SERVER.isdisjoint(names)
        and "transactional_db" not in names
        and item.config.pluginmanager.hasplugin("django")
    ):
        names.insert(0, "transactional_db")


@pytest.fixture
def wsredis_broker() -> Iterator[str]:
    """A Redis of the test process's own, empty, in `WSREDIS["URL"]`: its URL."""
    from . import broker

    with broker.own_redis() as url:
        broker.empty()
        yield url


@pytest.fixture
def published(request: pytest.FixtureRequest) -> Iterator[PublishRecorder]:
    """What the test publishes; it goes to nobody, but in tests that have a Redis of their own by these fixtures."""
    from .recorder import PublishRecorder

    with PublishRecorder(publishes_for_real=not WITH_REDIS.isdisjoint(request.fixturenames)) as recorder:
        yield recorder


@pytest.fixture
def websocket_server(wsredis_broker: str) -> Iterator[LiveServer]:
    """A live server of pages and websockets: `url`, `websocket_url(path)`, `connect(path, client=…)`."""
    from . import server

    with server.serving() as live_server:
        yield live_server


@pytest.fixture
def websocket_client(websocket_server: LiveServer) -> Callable[..., WebSocketClient]:
    """Open websockets of `websocket_server` that are closed after the test: `websocket_client(path, client=…)`."""
    return websocket_server.connect
