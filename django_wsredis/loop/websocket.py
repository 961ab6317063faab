"""A websocket's life in the loop: reads frames, puts messages together, answers."""

from __future__ import annotations

import logging
from typing import Any

from websockets.frames import Frame, Opcode

from ..exceptions import ConnectionClosed
from ..messages import text_frame
from .assembler import Assembler, seconds_allowed, text_or_binary
from .connection import Connection
from .protocol import ServerProtocol

PING = Frame(Opcode.PING, b"").serialize(mask=False)

logger = logging.getLogger("django_wsredis.connection")


class WebSocketConnection(Connection):
    """A websocket whose handshake is accepted."""

    __slots__ = ("assembler", "message_began_at")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.assembler: Assembler | None = None
        self.message_began_at: float | None = None

    def new_protocol(self, max_message_bytes: int, extensions: Any) -> Any:
        return ServerProtocol(max_message_bytes, extensions)

    def frame_of(self, text: bytes) -> bytes:
        return text_frame(text)

    def ping(self, heartbeat: bytes) -> None:
        self.write(PING if self.dialogue is not None else PING + heartbeat)

    @property
    def max_message_bytes(self) -> int:
        """How large a message may be."""
        return int(self.protocol.max_message_size)

    def check(self, now: float) -> bool:
        """As of every connection; look for a peer that sends its bytes too slowly, too."""
        is_waiting = super().check(now)
        began_at = self.message_began_at
        if began_at is not None and now - began_at > seconds_allowed(self.max_message_bytes):
            self.fail(1008, "the message took too long")
        return is_waiting or (self.message_began_at is not None and not self._is_gone)

    def abort(self) -> None:
        super().abort()
        self.assembler = None

    def receive(self, data: bytes) -> None:
        self.last_received = self.reactor.now()
        self.protocol.receive_data(data)
        frames = self.protocol.events_received()
        self.after_protocol()  # pongs go before what a message brings about (Autobahn's 5.6)
        try:
            for frame in frames:
                self._on_frame(frame)
        except ConnectionClosed as closed:
            self.fail(closed.code, closed.reason)
        except UnicodeDecodeError as error:
            self.fail(1007, f"{error.reason} at position {error.start}")
        except Exception:
            logger.exception("A message failed; its socket is closed (1011).")
            self.fail(1011)
        self._time_message()

    def _on_frame(self, frame: Any) -> None:
        opcode = frame.opcode
        if opcode is Opcode.CONT and self.assembler is not None:
            self.assembler.add(frame)
        elif opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            if frame.fin:
                self.owner.on_message(self, *text_or_binary(frame))
                return
            self.assembler = Assembler(frame, self.max_message_bytes)
        else:  # the protocol answers control frames
            if opcode is Opcode.PONG:
                self.owner.on_pong(self)
            return
        if frame.fin:
            whole, self.assembler = self.assembler, None
            self.owner.on_message(self, bytes(whole.payload), whole.is_text)

    def _time_message(self) -> None:
        if self.assembler is None and not self.protocol.reader.buffer:
            self.message_began_at = None
        elif self.message_began_at is None:
            self.message_began_at = self.last_received
            self.owner.on_waiting(self)
