"""uWSGI as a host, with its gevent loop or with threads, behind any of its sockets but those that speak TLS themselves.

uWSGI's own websockets are not used: they keep fragments in one buffer for all sockets of a process.
"""

from __future__ import annotations

import _socket
import ctypes
import functools
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from gevent import monkey

from ..introduction import introduce
from . import detach

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

UNUSABLE = (
    "https-socket",
    "suwsgi-socket",
    "ssl-socket",
    "fastcgi-socket",
    "scgi-socket",
    "puwsgi-socket",
    "raw-socket",
)

_callbacks: list[Any] = []  # that C holds on to


class UWSGI:
    """The uWSGI worker that this process is; `api` is its module."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self._options = {name.decode() if isinstance(name, bytes) else name for name in api.opt}
        self.is_gevent = "gevent" in self._options
        self.needs_threads = self.is_gevent and not monkey.is_module_patched("socket")
        self._loop = gevent.get_hub().loop if self.is_gevent else None

    def introduce(self, environ: WSGIEnvironment) -> None:
        """Say what this process is a worker of."""
        with socket.socket(fileno=os.dup(self._api.connection_fd())) as sock:
            address = sock.getsockname()
        version = self._api.version
        version = version.decode() if isinstance(version, bytes) else version
        introduce(f"uWSGI {version}", address, master=self._api.masterpid())

    def offer(self, environ: WSGIEnvironment) -> detach.Offer:
        """Return how to take this request's socket, or why that cannot be. To be called where uWSGI called us."""
        if unusable := self._options.intersection(UNUSABLE):
            return f"uWSGI's --{unusable.pop()} speaks no plain stream; use --http, --https, --http-socket or --socket"
        if not (self.is_gevent or self._options & {"enable-threads", "threads"}):
            return "uWSGI runs no Python threads, and so no event loop; use --enable-threads or --gevent 100"
        return functools.partial(self._take, self._api.connection_fd())

    def _take(self, fileno: int) -> _socket.socket:
        taken = detach.duplicate(fileno, self._loop)
        # uWSGI writes its head of the response to nowhere, logs the request, and closes what it takes for the socket
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, fileno)
        os.close(nowhere)
        return taken

    def on_end(self, stop: Callable[[], None], expect_restart: Callable[[], None]) -> None:
        """Have the sockets closed when the worker ends."""

        def tell() -> None:
            if not _is_stopping():
                expect_restart()

        if self.is_gevent:
            self._api.atexit = stop
            gevent.signal_handler(signal.SIGHUP, tell)  # beside uWSGI's own, which ends the worker
            return

        def end() -> None:
            tell()
            stop()

        try:
            _on_exit(end)
        except AttributeError:  # musl has no on_exit(); then a worker that is busy is not told
            self._api.atexit = end


def _is_stopping() -> bool:
    """Tell a stop from a reload: uWSGI stops from within its handler of INT or TERM, which blocks the signal meanwhile.

    A worker does so itself where it is stopped at once (`die-on-term`), and its master where it waits for the workers
    (`unix_signal:15 gracefully_kill_them_all`).
    """
    try:
        status = Path(f"/proc/{os.getppid()}/status").read_text()
        masters = int(status.partition("SigBlk:")[2].split()[0], 16)
    except (OSError, IndexError):  # no Linux
        masters = 0
    ours = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return any(number in ours or masters >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGTERM))


def _on_exit(function: Callable[[], None]) -> None:
    """Have C call a function when the process exits. `uwsgi.atexit` is not called while a request is being served."""
    callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p)(lambda *_: function())
    _callbacks.append(callback)
    ctypes.CDLL(None).on_exit(callback, None)


def find() -> UWSGI | None:
    """Return this process's uWSGI, None if it has none."""
    try:
        import uwsgi
    except ImportError:
        return None
    return UWSGI(uwsgi) if hasattr(uwsgi, "opt") else None  # a folder of that name is a module, too
