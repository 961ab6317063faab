"""Our own server as a host: gevent's HTTP server."""

from __future__ import annotations

import _socket
import logging
from typing import Any

from gevent.pywsgi import WSGIHandler

from . import detach

IDLE_SECONDS = 60  # for the next bytes of a request, for the next request, and for a browser to read on

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
        super().process_result()  # runs the application
        if self.is_detached:
            self.close_connection = True

    def write(self, data: bytes) -> None:
        if not self.is_detached:
            super().write(data)

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
