"""runwsserver's worker: serve pages and websockets on one gevent hub, and end well."""

from __future__ import annotations

import logging
import resource
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from gevent.ssl import SSLContext

from . import loop
from .hosts.pywsgi import DetachingServer
from .hosts.threaded import ThreadedApplication

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from .conf import Settings
    from .worker import Parent

logger = logging.getLogger("django_wsredis.server")


class Server:
    """One worker. `serve()` returns when `stop()` has been called, or its parent, or the parent's end, says so.

    is_shared: whether other workers accept from the listener, too.
    """

    def __init__(
        self,
        listener: socket.socket,
        application: WSGIApplication,
        settings: Settings,
        *,
        tls: SSLContext | None = None,
        is_shared: bool = False,
    ) -> None:
        raise_file_limit()
        self._settings = settings
        self._hub = gevent.get_hub()
        loop.adopt_hub(settings)
        self._stop = Event()
        self._is_replaced = False
        self._has_ended = threading.Event()
        options: dict[str, Any] = {"ssl_context": tls} if tls else {}
        # where the listener is shared gevent accepts one connection at a time, so that the others get theirs
        self._http = DetachingServer(
            listener, ThreadedApplication(application), environ={"wsgi.multiprocess": is_shared}, **options
        )

    def serve(self, parent: Parent | None = None) -> None:
        """Serve until stopped; then finish what has begun, close all sockets, and return.

        parent: whose signals we obey: SIGTERM before a stop, SIGHUP where another worker takes our place.
        """
        self._http.start()
        watcher = parent and self._obey(parent)
        try:
            self._stop.wait()
            self._drain()
        finally:
            if watcher:
                watcher.close()
            self._has_ended.set()

    def stop(self) -> None:
        """From another thread: end `serve()`; waits until that is done."""
        self._hub.loop.run_callback_threadsafe(self._stop.set)
        self._has_ended.wait(self._settings.drain_seconds + loop.STOP_SECONDS + 0.5)

    def _obey(self, parent: Parent) -> Any:
        gevent.signal_handler(signal.SIGTERM, self._stop.set)
        gevent.signal_handler(signal.SIGHUP, self._end_replaced)
        watcher = self._hub.loop.io(parent.fileno(), 1)
        watcher.start(self._stop.set)  # it says nothing before its end
        parent.ready(self._settings.drain_seconds)
        return watcher

    def _end_replaced(self) -> None:
        if not self._stop.is_set():
            loop.expect_restart()
            self._is_replaced = True
            self._stop.set()

    def _drain(self) -> None:
        """Accept nothing more; finish requests and close sockets, both within the drain time and a bit."""
        began_at = time.monotonic()
        drain_seconds = self._settings.drain_seconds
        # Who uses an idle connection meanwhile gets its answer, and "Connection: close" with it; to close it ourselves
        # could lose a request that is on its way. Where the server stops, that is as good as lost anyway.
        idle_until = began_at + (drain_seconds if self._is_replaced else 0)
        self._http.drain()
        loop.stop()
        while self._http.handlers and (now := time.monotonic()) < began_at + drain_seconds + loop.STOP_SECONDS:
            if now >= idle_until:
                self._http.close_idle()
            gevent.sleep(0.01)
        if unfinished := len(self._http.handlers):
            logger.warning("%d requests are cut off: they took too long to finish.", unfinished)


def raise_file_limit() -> None:
    """Allow this process as many descriptors as the system lets it: each socket is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
