"""gunicorn as a host, with its gthread, gevent or sync worker."""

from __future__ import annotations

import _socket
import atexit
import functools
import os
import signal
import socket
import ssl
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from gevent import monkey

from ..introduction import introduce
from . import detach

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment


class Gunicorn:
    """The gunicorn worker that this process is."""

    def __init__(self) -> None:
        self.is_gevent = monkey.is_module_patched("socket")
        self.needs_threads = False
        self._loop = gevent.get_hub().loop if self.is_gevent else None

    def introduce(self, environ: WSGIEnvironment) -> None:
        """Say what this process is a worker of."""
        introduce(f"gunicorn {version('gunicorn')}", _socket_of(environ).getsockname(), master=os.getppid())

    def offer(self, environ: WSGIEnvironment) -> detach.Offer:
        """Return how to take this request's socket, or why that cannot be."""
        sock = _socket_of(environ)
        if isinstance(sock, ssl.SSLSocket):
            return "gunicorn's --certfile makes it speak TLS itself; use a proxy for that, or manage.py runwsserver"
        return functools.partial(self._take, sock.fileno())

    def _take(self, fileno: int) -> _socket.socket:
        taken = detach.duplicate(fileno, self._loop)
        # gunicorn writes its head of the response, finds its peer gone, and closes what it takes for the socket
        ours, gone = socket.socketpair()
        with ours, gone:
            os.dup2(ours.fileno(), fileno)
        return taken

    def on_end(self, stop: Callable[[], None], expect_restart: Callable[[], None]) -> None:
        """Have the sockets closed when the worker ends."""

        def end() -> None:
            if _is_replaced():
                expect_restart()
            stop()

        atexit.register(end)


def _is_replaced() -> bool:
    """Tell a reload from a stop: before gunicorn ends a worker on HUP it has started the new ones."""
    worker: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    children = Path(f"/proc/{os.getppid()}/task/{os.getppid()}/children")
    try:
        return len(children.read_text().split()) > int(worker.cfg.workers)
    except (OSError, AttributeError):  # no Linux, or another gunicorn
        return True


def _socket_of(environ: WSGIEnvironment) -> Any:
    return environ.get("gunicorn.socket") or environ.get("gunicorn.sock")  # the gevent_pywsgi worker's


def find(environ: WSGIEnvironment) -> Gunicorn | None:
    """Return this process's gunicorn, None if it has none."""
    return Gunicorn() if _socket_of(environ) else None
