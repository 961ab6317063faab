"""An echo server of the loop's own connections, without hub and Redis: what Autobahn|Testsuite tests.

    python -m tests.autobahn.echo

prints the port and serves until it is terminated.
"""

from __future__ import annotations

import _socket
import io
import sys
from typing import Any

import django
import gevent
from django.conf import settings as django_settings
from gevent.server import StreamServer

django_settings.configure(WSREDIS={"URL": "redis://127.0.0.1:1/0", "MAX_MESSAGE_BYTES": 16 * 2**20})
django.setup()

from wsgiref.simple_server import WSGIRequestHandler

from django_wsredis.conf import get_settings
from django_wsredis.hosts.detach import duplicate
from django_wsredis.loop.loop import Loop
from django_wsredis.loop.websocket import WebSocketConnection
from django_wsredis.messages import Message
from django_wsredis.upgrade import negotiate


class Head(WSGIRequestHandler):
    """The standard library's parser of a request's head, without its server."""

    def __init__(self, head: bytes) -> None:
        self.rfile = io.BytesIO(head)
        self.raw_requestline = self.rfile.readline()
        self.client_address = ("127.0.0.1", 0)
        self.server = type("Server", (), {"base_environ": {}})
        self.parse_request()


class Echo(Loop):
    """A loop without Redis, whose connections hear themselves alone."""

    def on_message(self, connection: WebSocketConnection, payload: bytes, is_text: bool) -> None:
        if connection.is_open:
            connection.send(Message(payload, is_text))


def serve(loop: Echo, sock: Any) -> None:
    head = b""
    while b"\r\n\r\n" not in head and (data := sock.recv(4096)):
        head += data
    upgrade = negotiate(Head(head).get_environ(), compress=True)
    detached: _socket.socket = duplicate(sock.fileno())
    detached.send(upgrade.response)
    connection = WebSocketConnection(loop.reactor, loop, extensions=upgrade.extensions, framing=upgrade.window_bits)
    loop.connections.add(connection)
    loop.keepalive.add(connection)
    connection.attach(detached)


def main() -> None:
    loop = Echo(gevent.get_hub(), get_settings())
    server = StreamServer(("127.0.0.1", 0), lambda sock, address: serve(loop, sock))
    server.start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
