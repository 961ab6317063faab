"""Our own server as a host: gevent's HTTP server, with the WSGI application in native threads.

A greenlet reads the request and writes the response, so a slow or idle browser costs no thread; Django's code runs in
a thread of a pool from its first line to the response's `close()`, so it may block, and keeps its database connection.
"""

from __future__ import annotations

import _socket
import logging
import tempfile
import threading
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

import gevent
from gevent.pywsgi import WSGIHandler
from gevent.queue import Queue
from gevent.threadpool import ThreadPool

from . import detach

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

BODY_IN_MEMORY_BYTES = 1024 * 1024  # a larger request body waits in a temporary file
BODY_CHUNK_BYTES = 64 * 1024
IDLE_SECONDS = 60  # for the next bytes of a request, for the next request, and for a browser to read on
CHUNKS_AHEAD = 16  # of a response, between the thread that makes them and the browser that reads

_END = object()

access_logger = logging.getLogger("django.server")


class DetachingHandler(WSGIHandler):
    """gevent's request handler, which offers the application to detach the socket."""

    is_detached = False

    def handle(self) -> None:
        self.socket.settimeout(IDLE_SECONDS)
        super().handle()

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ[detach.ENVIRON_KEY] = self.detach
        environ["wsgi.input"] = self.wsgi_input  # gevent's own choice for an upgrade never ends
        environ.setdefault("REMOTE_ADDR", "")  # a unix socket has none, and Django's code expects one
        return environ

    def detach(self) -> _socket.socket:
        self.is_detached = True
        return detach.duplicate(self.socket.fileno())

    def process_result(self) -> None:
        super().process_result()  # runs the application; a detached one yields nothing, so nothing is written
        if self.is_detached:
            self.status = "101"  # for the log
            self.close_connection = True

    def handle_one_request(self) -> Any:
        result = super().handle_one_request()
        if self.is_detached:
            # before the handler's own end, which would read, and so steal, what the websocket sends
            self.socket.close()
            self.socket = None  # type: ignore[assignment]
        return result

    def _handle_client_error(self, ex: Exception) -> Any:
        if isinstance(ex, (ConnectionError, TimeoutError)):  # it went away amid its headers: no traceback for that
            return None
        return super()._handle_client_error(ex)  # type: ignore[misc]  # not in the stubs

    def log_request(self) -> None:
        """Log as Django's development server does."""
        code = self.code or int(self.status or 0)
        level = logging.ERROR if code >= 500 else logging.WARNING if code >= 400 else logging.INFO
        line = (self.requestline or "").rstrip()
        access_logger.log(level, '"%s" %s %s', line, code, self.response_length, extra={"status_code": code})


class ThreadedApplication:
    """Runs a WSGI application in native threads, for a server whose requests are greenlets."""

    def __init__(self, application: WSGIApplication, threads: int) -> None:
        self._application = application
        self._pool = ThreadPool(threads)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        environ["wsgi.multithread"] = True
        environ["wsgi.input"] = _read_body(environ["wsgi.input"])
        call = _Call(self._application, environ)
        self._pool.spawn(call.run)
        try:
            for item in call.items():
                if isinstance(item, tuple):
                    start_response(*item)
                else:
                    yield item
        finally:
            call.abandon()
            environ["wsgi.input"].close()


class _Call:
    """One run of the application: a thread makes the head and the chunks of a response, a greenlet takes them."""

    def __init__(self, application: WSGIApplication, environ: WSGIEnvironment) -> None:
        self._application = application
        self._environ = environ
        self._loop = gevent.get_hub().loop
        self._queue: Queue[Any] = Queue()
        self._room = threading.Semaphore(CHUNKS_AHEAD)
        self._is_abandoned = False

    def items(self) -> Iterator[Any]:
        """In the greenlet: yield (status, headers) and then chunks. Raises what the application raised."""
        while (item := self._queue.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item
            self._room.release()

    def abandon(self) -> None:
        """In the greenlet: the browser has gone, or has all; the thread must not wait for it."""
        self._is_abandoned = True
        self._room.release()

    def run(self) -> None:
        """In the thread: run the application to its end, `close()` included."""
        try:
            response: Iterable[bytes] = self._application(self._environ, self._start_response)
            try:
                for chunk in response:
                    if self._is_abandoned:
                        break
                    if chunk:
                        self._put(chunk)
            finally:
                if hasattr(response, "close"):
                    response.close()
        except BaseException as error:
            self._put(error)
        self._put(_END)

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self._put((status, headers))

    def _put(self, item: Any) -> None:
        if not self._is_abandoned:
            self._room.acquire()
        self._loop.run_callback_threadsafe(self._queue.put_nowait, item)


def _read_body(stream: Any) -> IO[bytes]:
    body = tempfile.SpooledTemporaryFile(max_size=BODY_IN_MEMORY_BYTES)  # noqa: SIM115  closed with the response
    while chunk := stream.read(BODY_CHUNK_BYTES):
        body.write(chunk)
    body.seek(0)
    return body
