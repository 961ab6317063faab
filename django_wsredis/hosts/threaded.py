"""A WSGI application in native threads, for hosts whose requests are greenlets of one hub.

A greenlet reads the request and writes the response, so a slow or idle browser costs no thread; Django's code runs in
a thread of a pool from its first line to the response's `close()`, so it may block, and keeps its database connection.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

import gevent
from gevent.queue import Queue
from gevent.threadpool import ThreadPool

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

THREADS = 16
BODY_IN_MEMORY_BYTES = 1024 * 1024  # a larger request body waits in a temporary file
BODY_CHUNK_BYTES = 64 * 1024
CHUNKS_AHEAD = 16  # of a response, between the thread that makes them and the browser that reads

_END = object()


class ThreadedApplication:
    """Runs a WSGI application in native threads, for a server whose requests are greenlets."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application
        self._pool = ThreadPool(THREADS)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        environ["wsgi.multithread"] = True
        environ["wsgi.input"] = _read_body(environ["wsgi.input"])
        environ.pop("wsgi.file_wrapper", None)  # the server's own would be called in a thread that it does not know
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
