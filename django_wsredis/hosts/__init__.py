"""How each WSGI server, the host, gives up the socket of a request: one module for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from . import detach, gunicorn, uwsgi

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment


class Host(Protocol):
    """A server that is not ours, as the application sees it."""

    is_gevent: bool  # whether its requests are greenlets of the main thread's hub
    needs_threads: bool  # whether blocking code would stop that hub: it would not where the project has it patched

    def introduce(self, environ: WSGIEnvironment) -> None:
        """Say what this process is a worker of; see `introduction`. To be called where the server called us."""

    def offer(self, environ: WSGIEnvironment) -> detach.Offer:
        """Return how to take this request's socket, or why that cannot be. To be called where the server called us."""

    def on_end(self, stop: Callable[[], None], expect_restart: Callable[[], None]) -> None:
        """Have `stop` called when the process ends, after `expect_restart` where another takes its place."""


def find(environ: WSGIEnvironment) -> Host | None:
    """Return the host that runs this process; None for our own servers, and for those that we do not know."""
    return uwsgi.find() or gunicorn.find(environ)
