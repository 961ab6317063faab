"""The protocol of one connection: the Sans-I/O one of the websockets package, as a server of open connections."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from websockets.extensions import Extension
from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER, Protocol

logger = logging.getLogger("django_wsredis.protocol")
logger.setLevel(logging.WARNING)  # it has a line for each frame


class ServerProtocol(Protocol):
    """Answers a close frame in the middle of a fragmented message as any other.

    RFC 6455, 5.4, allows control frames there, and Autobahn's case 7.1.5 wants 1000 back; the package fails with 1002.
    """

    def __init__(self, max_message_bytes: int, extensions: Sequence[Extension]) -> None:
        super().__init__(SERVER, max_size=max_message_bytes, logger=logger)
        self.extensions = list(extensions)
        self.id: Any = None  # a UUID of 100 bytes, for logs

    @property
    def first_close_code(self) -> int:
        """The close code of who began to close (RFC 6455, 7.1.5), 1006 if nobody did."""
        ours, theirs = self.close_sent, self.close_rcvd
        first = theirs if ours is None or self.close_rcvd_then_sent else ours
        return 1006 if first is None else int(first.code)

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)
