"""Connections without a network: their sockets write down what a client would read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from websockets.frames import Opcode
from websockets.protocol import CLIENT, Protocol

from django_wsredis.channels import Wish
from django_wsredis.handshake import Granted
from django_wsredis.loop.dialogue import Dialogue
from django_wsredis.loop.websocket import WebSocketConnection
from django_wsredis.messages import UNCOMPRESSED, V1, Message


def text(payload: str, **options: Any) -> Message:
    return Message(payload.encode(), True, **options)


def listening(*names: bytes, positions: Any = None) -> Any:
    """Return a desk that grants each facility the same channels, and nothing to publish."""
    return SimpleNamespace(names=lambda granted: names, target=lambda granted: None, positions=positions)


class Watcher:
    """What gevent gives for a socket or a timer; here the test says when it fires."""

    def __init__(self) -> None:
        self.fire: Callable[[], None] | None = None

    def start(self, callback: Callable[[], None]) -> None:
        self.fire = callback

    def stop(self) -> None:
        self.fire = None

    def close(self) -> None:
        pass


class Ear(WebSocketConnection):
    """A connection whose socket takes everything, but while it is blocked.

    is_attached: whether the socket is there, else it waits for `be_attached()`.
    desk: that of its dialogue, if it speaks wsredis.v1; it is granted the facility "chat".
    heard: the payloads. told: of a socket that speaks wsredis.v1 all headers, each as (header, payload).
    """

    def __init__(
        self,
        key: bytes | None = None,
        echo: bool = False,
        *,
        v1: bool = False,
        is_attached: bool = True,
        desk: Any = None,
    ) -> None:
        settings = SimpleNamespace(max_message_bytes=1024, compression=0, max_outbox_bytes=10**9)
        self.writable: list[Watcher] = []
        reactor: Any = SimpleNamespace(
            settings=settings,
            now=lambda: 0.0,
            io=self._io,
            timer=lambda seconds: Watcher(),
            dropped=0,
            closes=Counter(),
        )
        owner: Any = SimpleNamespace(on_leave=self._on_leave, on_waiting=lambda connection: None)
        super().__init__(reactor, owner, framing=V1 if v1 else UNCOMPRESSED, echo=echo)
        self.key = key
        self.line: Any = SimpleNamespace(send=self._send, sendmsg=self._sendmsg, fileno=lambda: 1)
        if is_attached:
            self.sock, self.outbox = self.line, None
        self.is_blocked = self.has_left = False
        self.when_left: Callable[[WebSocketConnection], None] = lambda connection: None
        self.heard: list[str] = []
        self.told: list[tuple[dict[str, Any], str]] = []
        self.close_code: int | None = None
        self._client = Protocol(CLIENT)
        if v1:
            granted = Granted("chat", (), (), Wish((), (), echo))
            self.dialogue = Dialogue(desk or listening(), self, granted)

    def be_attached(self) -> None:
        """Get the socket, whose handshake is answered."""
        if self.sock is None:
            self.sock = self.line
            self.flush()

    def unblock(self) -> None:
        """Take what waits."""
        self.is_blocked = False
        for watcher in self.writable:
            if watcher.fire is not None:
                watcher.fire()

    @property
    def notices(self) -> list[dict[str, Any]]:
        """What it was told beside messages."""
        return [header for header, _ in self.told if "type" in header]

    def _on_leave(self, connection: WebSocketConnection) -> None:
        self.when_left(connection)
        self.has_left = True

    def _io(self, fileno: int, events: int) -> Watcher:
        self.writable.append(Watcher())
        return self.writable[-1]

    def _send(self, data: bytes) -> int:
        assert not self.has_left, "it is written to after it left"
        if self.is_blocked:
            raise BlockingIOError
        return self._take(data)

    def _sendmsg(self, buffers: list[bytes | memoryview]) -> int:
        if self.is_blocked:
            raise BlockingIOError
        return self._take(b"".join(buffers))

    def _take(self, data: bytes) -> int:
        self._client.receive_data(data)
        for frame in self._client.events_received():
            if frame.opcode is Opcode.CLOSE:
                self.close_code = int.from_bytes(frame.data[:2], "big")
                continue
            payload = bytes(frame.data).decode()
            if self.dialogue is not None:
                line, _, payload = payload.partition("\n")
                header = json.loads(line)
                self.told.append((header, payload))
                if "type" in header:
                    continue
            self.heard.append(payload)
        return len(data)
