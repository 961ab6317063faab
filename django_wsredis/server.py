"""runwsserver's worker: listen, serve pages and websockets on one gevent hub, and end well."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event
from gevent.pywsgi import WSGIServer

from . import loop
from .hosts.pywsgi import DetachingHandler
from .hosts.threaded import ThreadedApplication

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

BACKLOG = 1024  # connections that wait to be accepted; the kernel caps it at net.core.somaxconn

logger = logging.getLogger("django_wsredis.server")


class Server:
    """One worker. `serve()` returns when `stop()` has been called, or a SIGINT or SIGTERM has come."""

    def __init__(self, listener: socket.socket, application: WSGIApplication) -> None:
        raise_file_limit()
        self._hub = gevent.get_hub()
        loop.adopt_hub()
        self._stop = Event()
        self._has_ended = threading.Event()
        self._server = WSGIServer(
            listener,
            ThreadedApplication(application),
            handler_class=DetachingHandler,
            log=None,
            error_log=logging.getLogger("django.server"),
        )

    def serve(self) -> None:
        """Serve until stopped; then refuse new requests, close all sockets, and return."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                gevent.signal_handler(number, self._stop.set)
        self._server.start()
        try:
            self._stop.wait()
            self._server.close()
            loop.stop()
        finally:
            self._has_ended.set()

    def stop(self) -> None:
        """From another thread: end `serve()`; waits until that is done."""
        self._hub.loop.run_callback_threadsafe(self._stop.set)
        self._has_ended.wait(loop.STOP_SECONDS + 0.5)


def listen_tcp(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def listen_unix(path: Path) -> socket.socket:
    """Return a socket that listens on a path; one that a dead server left there is replaced. Raises OSError."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _is_served(path):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(os.fspath(path))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False
    return True


def raise_file_limit() -> None:
    """Allow this process as many descriptors as the system lets it: each socket is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def not_found_but_health(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Answer `/healthz` with 200 and all else with 404: the pages of a server for websockets alone."""
    is_health = environ.get("PATH_INFO") == "/healthz"
    body = b"ok\n" if is_health else b"404 Not Found\n"
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response("200 OK" if is_health else "404 Not Found", headers)
    return [body]
