"""The WSGI application: websockets below WEBSOCKET_URL, Django's pages everywhere else."""

from __future__ import annotations

import atexit
import functools
import logging
import threading
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

import django
from django.core.handlers.wsgi import get_path_info
from django.core.wsgi import get_wsgi_application as get_django_application

from . import operators, posting
from .conf import get_settings
from .exceptions import CannotDetach, DecisionOutdated, HandshakeError
from .log import log_to_stderr
from .responses import respond
from .tally import count_handshake

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from .handshake import Accepted

DECISIONS = 3  # about one handshake, where users, sessions or groups change meanwhile

logger = logging.getLogger("django_wsredis.handshake")


class WebSocketApplication:
    """Answers websocket handshakes and detaches their sockets into this process's loop.

    pages: the application for every path that is not below `WEBSOCKET_URL`; None answers those with 404.
    """

    def __init__(self, pages: WSGIApplication | None = None) -> None:
        # where our server runs a project whose wsgi.py has ours already, once is enough
        self.pages: WSGIApplication | None = pages.pages if isinstance(pages, WebSocketApplication) else pages
        self._lock = threading.Lock()
        self._adapted: WSGIApplication | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._adapted is None:
            with self._lock:
                self._adapted = self._adapted or adapt(self.answer, environ)
        return self._adapted(environ, start_response)

    def answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request. Blocks."""
        path, websocket_url = environ.get("PATH_INFO", ""), get_settings().websocket_url
        is_below = path.startswith(websocket_url)
        if self.pages and not is_below:
            if environ.get("HTTP_UPGRADE", "").lower() == "websocket":
                logger.warning(
                    "A websocket is asked for at %r; WEBSOCKET_URL is %r: does a proxy strip it?", path, websocket_url
                )
            return self.pages(environ, start_response)
        try:
            if is_below and (name := path[len(websocket_url) :]) in operators.PATHS:
                return operators.answer(name, environ, start_response)
            if is_below and posting.is_posted(environ):
                return posting.answer(environ, start_response)
            status = serve_websocket(environ)
        except HandshakeError as error:
            return refuse(error, environ, start_response)
        start_response(f"{status.value} {status.phrase}", [])  # for the host's log: it has been written already
        return []


def adapt(application: WSGIApplication, environ: WSGIEnvironment) -> WSGIApplication:
    """Fit an application to the server that runs it, which its first request tells."""
    from . import hosts, loop
    from .hosts import detach
    from .hosts.threaded import ThreadedApplication

    host = hosts.find(environ)
    if host is None:
        atexit.register(loop.stop)
        return application
    log_to_stderr()
    host.introduce(environ)
    if host.is_gevent:
        loop.adopt_hub()
    if host.needs_threads:
        application = ThreadedApplication(application)
    host.on_end(loop.stop, loop.expect_restart)

    def offering(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[detach.ENVIRON_KEY] = host.offer(environ)
        return application(environ, start_response)

    return offering


def serve_websocket(environ: WSGIEnvironment) -> HTTPStatus:
    """Do the handshake of one request and hand its socket to the loop; return what was answered: 101, or 200.

    Raises HandshakeError.
    """
    from . import loop, sessions  # gevent: not before a websocket comes
    from .hosts import detach

    try:
        for tries_left in reversed(range(DECISIONS)):
            accepted = decide(environ)
            try:
                loop.get_loop().serve(accepted, detach.find(environ))
                break
            except DecisionOutdated:
                # a session that is all in its cookie does not end: the browser's next request has the newest one
                if not tries_left or sessions.are_in_cookies():
                    raise
    except HandshakeError as error:
        count_handshake(error.status)
        raise
    status = HTTPStatus.OK if accepted.upgrade.is_stream else HTTPStatus.SWITCHING_PROTOCOLS
    count_handshake(status)
    return status


def decide(environ: WSGIEnvironment) -> Accepted:
    """Answer a handshake by the view of its path, or as one for a facility. Raises HandshakeError."""
    from . import handshake, routes  # models: not before Django is set up
    from .views import admission

    settings = get_settings()
    if match := routes.find(get_path_info(environ)):
        return admission.decide(environ, match, settings)
    return handshake.decide(environ, settings)


@functools.cache
def log_once(text: str) -> None:
    """Warn of what is wrong with the deployment: the same for each request."""
    logger.warning("%s", text)


def refuse(error: HandshakeError, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the error's status. Its text, which may tell too much, goes to the log alone."""
    if isinstance(error, CannotDetach):
        log_once(str(error))
    else:
        path = environ.get("PATH_INFO", "").encode("unicode_escape").decode()  # a newline in it would forge a line
        logger.warning("%d %s: %s", error.status, path, error)
    return respond(environ, start_response, error.status, headers=error.headers)


def get_wsgi_application() -> WebSocketApplication:
    """Return the application for both Django's pages and websockets, for the project's wsgi.py."""
    return WebSocketApplication(get_django_application())


def get_wsgi_websocket_application() -> WebSocketApplication:
    """Return the application for websockets alone; every other path is answered with 404."""
    django.setup(set_prefix=False)
    return WebSocketApplication()
