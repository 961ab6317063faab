"""Test cases: with a server of websockets, or with no server at all."""

from __future__ import annotations

import unittest
from typing import Any, Unpack

from django.test import LiveServerTestCase

from . import broker, server
from .client import ClientOptions, WebSocketClient
from .recorder import ANY, Names, Publication, PublishRecorder, Special


class PublishAssertions(unittest.TestCase):
    """Assertions on what a test publishes, to be mixed into a test case: no Redis is needed, and none is used.

    `self.published` is the PublishRecorder, which has all that was published.
    """

    publishes_for_real = False

    def setUp(self) -> None:
        super().setUp()
        self.published = PublishRecorder(publishes_for_real=self.publishes_for_real)
        self.published.start()
        self.addCleanup(self.published.stop)

    def assertPublished(  # noqa: N802  as those of unittest
        self,
        message: Any = ANY,
        *,
        facility: str | Special | None = None,
        broadcast: bool | None = None,
        groups: Names | None = None,
        users: Names | None = None,
        sessions: Names | None = None,
        count: int | None = None,
    ) -> list[Publication]:
        """As `PublishRecorder.assert_published()`."""
        return self.published.assert_published(
            message,
            facility=facility,
            broadcast=broadcast,
            groups=groups,
            users=users,
            sessions=sessions,
            count=count,
        )

    def assertNothingPublished(self) -> None:  # noqa: N802
        """As `PublishRecorder.assert_nothing_published()`."""
        self.published.assert_nothing_published()


class WebSocketLiveServerTestCase(PublishAssertions, LiveServerTestCase):
    """Django's LiveServerTestCase, whose server takes websockets below `WEBSOCKET_URL`, too.

    It has a Redis of its own, which is empty when a test begins. Each test has its own loop: it begins with the first
    websocket, by the settings of then, and ends with the test, as all sockets do; or, with 1012, when those change.
    """

    server_thread_class = server.WebSocketServerThread
    publishes_for_real = True
    live_server: server.LiveServer

    @classmethod
    def setUpClass(cls) -> None:
        cls.enterClassContext(broker.own_redis())
        super().setUpClass()
        cls.live_server = cls.enterClassContext(server.attended(cls.server_thread))

    def setUp(self) -> None:
        super().setUp()
        broker.empty()
        self.addCleanup(self.live_server.end_sockets)

    def websocket_url(self, path: str) -> str:
        """Return the URL of a path: one that begins with a slash is whole, any other follows `WEBSOCKET_URL`."""
        return self.live_server.websocket_url(path)

    def connect(self, path: str, **options: Unpack[ClientOptions]) -> WebSocketClient:
        """Return an open websocket, which is closed when the test ends. options: those of `WebSocketClient`."""
        return self.live_server.connect(path, **options)
