"""Django's development server as a host: a thread for each request, from which the socket is detached."""

from __future__ import annotations

import _socket
import socket
from collections.abc import Iterable
from typing import Any

from django.core.servers.basehttp import WSGIRequestHandler, WSGIServer

from ..introduction import introduce
from . import detach


class DetachingServer(WSGIServer):
    """Django's own server, but for requests whose socket has been detached: those it drops without a word."""

    def __init__(self, address: Any, handler_class: Any, **options: Any) -> None:
        super().__init__(
            address, DetachingRequestHandler, **options
        )  # django.core.servers.basehttp.run() names its own
        self.detached: set[socket.socket] = set()
        introduce("runserver", self.socket.getsockname())

    def get_app(self) -> Any:
        application: Any = super().get_app()

        def ending(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            response: Iterable[bytes] = application(environ, start_response)
            if environ[detach.ENVIRON_KEY].__self__.is_detached:
                # wsgiref ends a request on this error without a response, as for a browser that went away
                raise ConnectionAbortedError("the socket was detached")
            return response

        return ending

    def shutdown_request(self, request: Any) -> None:
        if request in self.detached:
            self.detached.discard(request)
            self.close_request(request)
        else:
            super().shutdown_request(request)


class DetachingRequestHandler(WSGIRequestHandler):
    """Django's own request handler, which offers the application to detach the socket."""

    server: DetachingServer
    request: Any  # a socket, and None in `connection` once that is detached; the stubs say something else
    connection: Any
    is_detached = False

    def get_environ(self) -> dict[str, Any]:
        return {**super().get_environ(), detach.ENVIRON_KEY: self.detach}

    def detach(self) -> _socket.socket:
        self.is_detached = True
        self.server.detached.add(self.request)
        self.connection = None  # its shutdown() would end the duplicate too
        self.close_connection = True  # else it reads on, and so steals what the websocket sends first
        self.log_request(101 if "Upgrade" in self.headers else 200)
        return detach.duplicate(self.request.fileno())
