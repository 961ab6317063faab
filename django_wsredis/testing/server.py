"""A server of pages and websockets in this process, for tests: Django's live server, which detaches sockets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from django.core.exceptions import ImproperlyConfigured
from django.core.servers.basehttp import ThreadedWSGIServer
from django.core.signals import setting_changed
from django.db import connections
from django.test.testcases import LiveServerTestCase, LiveServerThread
from django.test.utils import modify_settings

from .. import loop
from ..conf import get_settings
from ..hosts.runserver import DetachingRequestHandler, DetachingServer
from ..wsgi import WebSocketApplication
from .client import ClientOptions, WebSocketClient

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

POLL_SECONDS = 0.02  # until a server that is told to end notices; Django's own need half a second


class WebSocketRequestHandler(DetachingRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Keep requests out of the tests' output, as Django's live server does."""


class WebSocketServer(ThreadedWSGIServer, DetachingServer):
    """Django's threaded server, with websockets."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.RequestHandlerClass = WebSocketRequestHandler

    def set_app(self, application: Any) -> None:
        super().set_app(WebSocketApplication(application))

    def serve_forever(self, poll_interval: float = POLL_SECONDS) -> None:
        super().serve_forever(poll_interval)


class WebSocketServerThread(LiveServerThread):
    server_class = WebSocketServer


class LiveServer:
    """A live server's address, and websockets to it. The last one that was started is `current()`."""

    _running: ClassVar[list[LiveServer]] = []

    def __init__(self, thread: LiveServerThread) -> None:
        self.url = f"http://{thread.host}:{thread.port}"
        self._sockets: list[WebSocketClient] = []

    @classmethod
    def current(cls) -> LiveServer:
        """Return the live server that runs in this process. Raises ValueError if there is none."""
        if not cls._running:
            raise ValueError("no live server runs in this process: give a whole URL, ws://…")
        return cls._running[-1]

    def websocket_url(self, path: str) -> str:
        """Return the URL of a path: one that begins with a slash is whole, any other follows `WEBSOCKET_URL`."""
        whole = path if path.startswith("/") else get_settings().websocket_url + path
        return self.url.replace("http", "ws", 1) + whole

    def connect(self, path: str, **options: Unpack[ClientOptions]) -> WebSocketClient:
        """Return an open websocket, which is closed when the test ends. options: those of `WebSocketClient`."""
        socket = WebSocketClient(self.websocket_url(path), **options)
        self._sockets.append(socket)
        return socket

    def end_sockets(self) -> None:
        """Close all sockets, by whomever they were opened; the next one begins a new loop, by the settings of then."""
        with ExitStack() as stack:
            stack.callback(loop.give_up, 1001, "the test is over")
            while self._sockets:
                stack.callback(self._sockets.pop().close)


@contextmanager
def attended(thread: LiveServerThread) -> Iterator[LiveServer]:
    """Do what websockets need besides a live server that runs.

    Its loop goes by the settings with which it began, so a change of them ends it: sockets are closed with 1012, as
    by a restart.
    """
    server = LiveServer(thread)

    def on_setting_changed(**_: Any) -> None:
        try:
            settings = get_settings()
        except ImproperlyConfigured:  # each handshake will say so
            return
        if loop.has_begun_with_other(settings):
            loop.give_up(1012, "the settings have changed")

    server.end_sockets()  # of whoever was there before
    with shared_by_all_threads(thread.connections_override or {}):
        setting_changed.connect(on_setting_changed, weak=False)
        LiveServer._running.append(server)
        try:
            yield server
        finally:
            LiveServer._running.remove(server)
            setting_changed.disconnect(on_setting_changed)
            server.end_sockets()


@contextmanager
def shared_by_all_threads(shared: Mapping[str, BaseDatabaseWrapper]) -> Iterator[None]:
    """Let each thread that needs a connection to one of these databases get the given one.

    Django gives those in memory, which have but one, to its threads of requests; these are for those of the loop.
    """
    create = connections.create_connection

    def create_connection(alias: str) -> Any:
        return shared[alias] if alias in shared else create(alias)

    connections.create_connection = create_connection  # type: ignore[method-assign]
    try:
        yield
    finally:
        connections.create_connection = create  # type: ignore[method-assign]


@contextmanager
def serving() -> Iterator[LiveServer]:
    """Run a live server on a free port, where no test case of Django's does."""
    with modify_settings(ALLOWED_HOSTS={"append": LiveServerTestCase.host}):
        shared = LiveServerTestCase._make_connections_override()  # type: ignore[attr-defined]  # not in the stubs
        for connection in shared.values():
            connection.inc_thread_sharing()
        thread = WebSocketServerThread(
            LiveServerTestCase.host, LiveServerTestCase.static_handler, connections_override=shared
        )
        thread.daemon = True
        thread.start()
        try:
            thread.is_ready.wait()
            if thread.error:
                raise thread.error
            with attended(thread) as server:
                yield server
        finally:
            thread.terminate()
            for connection in shared.values():
                connection.dec_thread_sharing()
