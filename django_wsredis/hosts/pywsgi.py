"""Our own server as a host: gevent's HTTP server, with or without TLS."""

from __future__ import annotations

import logging
import socket
from typing import Any

from gevent.pywsgi import WSGIHandler, WSGIServer
from gevent.ssl import SSLSocket

from . import detach
from .tls import TlsSocket

# For the next bytes of a request, for the next request, and for a browser to read on. Longer than a proxy keeps an idle
# connection (NGiNX: 60): who closes first cannot lose a request that is on its way.
IDLE_SECONDS = 75
HANDSHAKE_SECONDS = 15  # of TLS

logger = logging.getLogger("django_wsredis.server")
access_logger = logging.getLogger("django.server")


class DetachingServer(WSGIServer):
    """gevent's server, which can end without losing a request that has begun."""

    def __init__(self, listener: socket.socket, application: Any, **options: Any) -> None:
        errors = logging.getLogger("django.server")
        super().__init__(listener, application, handler_class=DetachingHandler, log=None, error_log=errors, **options)
        self.is_draining = False
        self.handlers: set[DetachingHandler] = set()  # one for each connection

    def handle(self, sock: Any, address: Any) -> None:
        handler = DetachingHandler(sock, address, self)
        self.handlers.add(handler)
        try:
            handler.handle()
        finally:
            self.handlers.discard(handler)

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> None:
        # gevent's own waits for ever, has a traceback for whoever speaks no TLS, and closes what we detached
        client_socket.settimeout(HANDSHAKE_SECONDS)
        try:
            tls: Any = self.wrap_socket(client_socket, **self.ssl_args)  # type: ignore[misc, arg-type]  # its stubs err
        except OSError as error:
            logger.debug("No TLS with %s: %s", address, error)
            return
        self.handle(tls, address)

    def drain(self) -> None:
        """Accept nothing more; every connection ends after its next response, which says so."""
        self.is_draining = True
        self.close()

    def close_idle(self) -> None:
        """End the connections on which no request has come, or has begun to come."""
        for handler in self.handlers.copy():
            handler.close_if_idle()


class DetachingHandler(WSGIHandler):
    """gevent's request handler, which offers the application to detach the socket."""

    server: DetachingServer
    is_detached = False
    is_idle = False

    def handle(self) -> None:
        self.socket.settimeout(IDLE_SECONDS)
        super().handle()

    def read_requestline(self) -> Any:
        self.is_idle = True
        try:
            self.rfile.peek(1)  # waits for the first byte
        finally:
            self.is_idle = False
        return super().read_requestline()

    def close_if_idle(self) -> None:
        """End the connection if it waits for a request, and nothing of one is here."""
        if not self.is_idle:
            return
        # the C socket: with TLS gevent's own methods would read the plain text, or forget the keys
        sock = self.socket._sock  # type: ignore[attr-defined]  # as gevent's handler itself does
        try:
            sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            # Linux still gives what comes until the handler has seen the end, and that it serves
            sock.shutdown(socket.SHUT_RD)
        except OSError:  # the peer has gone, as the handler is about to see
            pass

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ[detach.ENVIRON_KEY] = self.detach
        environ["wsgi.input"] = self.wsgi_input  # gevent's own choice for an upgrade never ends
        environ.setdefault("REMOTE_ADDR", "")  # a unix socket has none, and Django's code expects one
        return environ

    def detach(self) -> Any:
        self.is_detached = True
        if isinstance(self.socket, SSLSocket):
            return TlsSocket(self.socket)
        return detach.duplicate(self.socket.fileno(), self.server.loop)

    def process_result(self) -> None:
        super().process_result()  # runs the application
        if self.is_detached:
            self.close_connection = True

    def write(self, data: bytes) -> None:
        if not self.is_detached:
            super().write(data)

    def finalize_headers(self) -> None:
        if self.server.is_draining and not self.close_connection:
            self.close_connection = True
            headers: Any = self.response_headers  # bytes by now, whatever the stubs say
            headers[:] = [header for header in headers if header[0].lower() != b"connection"]
            headers.append((b"Connection", b"close"))
        super().finalize_headers()

    def handle_one_request(self) -> Any:
        result = super().handle_one_request()
        if self.is_detached:
            # before the handler's own end, which would read, and so steal, what the websocket sends
            self.rfile.close()  # else the descriptor of a TLS socket stays open for as long as this is there
            if not isinstance(self.socket, SSLSocket):
                self.socket.close()
            self.socket = None  # type: ignore[assignment]
        return result

    def _handle_client_error(self, ex: Exception) -> Any:
        if isinstance(ex, (ConnectionError, TimeoutError)):  # it went away amid its headers: no traceback for that
            return None
        return super()._handle_client_error(ex)  # type: ignore[misc]  # not in the stubs

    def log_request(self) -> None:
        """Log as Django's development server does."""
        code = abs(self.code or 0) or int(self.status or 0)  # gevent's is negative where the peer has gone
        level = logging.ERROR if code >= 500 else logging.WARNING if code >= 400 else logging.INFO
        line = (self.requestline or "").rstrip()
        access_logger.log(level, '"%s" %s %s', line, code, self.response_length, extra={"status_code": code})
