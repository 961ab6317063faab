"""A websocket client of raw bytes: it sends what no decent client sends, and sees every byte that comes back."""

from __future__ import annotations

import socket
import ssl
import struct
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Self

from websockets.extensions import Extension
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader
from websockets.typing import ExtensionName

KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3
HEADERS = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


class Answer(NamedTuple):
    """A server's answer to a handshake."""

    version: str
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def shown(self) -> str:
        """All that the client gets to see."""
        return f"{self.version} {self.status} {self.headers} {self.body!r}"


RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10


def masked(opcode: Opcode, data: bytes = b"", fin: bool = True, reserved: int = 0) -> bytes:
    """Return a client's frame, with reserved bits set."""
    first, *rest = Frame(opcode, data, fin).serialize(mask=True)
    return bytes([first | reserved, *rest])


def text(data: str | bytes, fin: bool = True) -> bytes:
    return masked(Opcode.TEXT, data.encode() if isinstance(data, str) else data, fin)


def more(data: bytes, fin: bool = False) -> bytes:
    """Return a fragment that continues a message."""
    return masked(Opcode.CONT, data, fin)


def ping(data: bytes = b"") -> bytes:
    return masked(Opcode.PING, data)


def close(code: int, reason: bytes = b"") -> bytes:
    return masked(Opcode.CLOSE, struct.pack("!H", code) + reason)


class Inflater(Extension):
    """permessage-deflate without context takeover, by zlib alone; remembers how many bytes each message had."""

    name = ExtensionName("permessage-deflate")

    def __init__(self, window_bits: int) -> None:
        self.window_bits = window_bits
        self.sizes: list[int] = []

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        if not frame.rsv1:
            return frame
        self.sizes.append(len(frame.data))
        data = zlib.decompressobj(-self.window_bits).decompress(bytes(frame.data) + b"\x00\x00\xff\xff")
        return replace(frame, data=data, rsv1=False)


def reset(sock: socket.socket) -> None:
    """Close a socket with an RST instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class RawSocket:
    """One connection: the handshake is sent at once, `answer` is what came back. A header of None is left out."""

    def __init__(
        self,
        port: int,
        path: str = "news?subscribe-broadcast",
        headers: Mapping[str, str | None] | None = None,
        *,
        target: str | None = None,
        method: str = "GET",
        version: str = "HTTP/1.1",
        body: bytes = b"",
        inflater: Inflater | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        wanted = {"Host": f"127.0.0.1:{port}", **HEADERS, **(headers or {})}
        lines = [f"{method} {target or '/ws/' + path} {version}"]
        lines += [f"{name}: {value}" for name, value in wanted.items() if value is not None]
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=15)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self._reader = StreamReader()
        self._parser: Any = None
        self._extensions = [inflater] if inflater else []
        try:
            self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            self.answer = self._read_answer()
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *frames: bytes) -> None:
        """Send all frames in one piece."""
        self.socket.sendall(b"".join(frames))

    def abort(self) -> None:
        """Reset the connection, as when the client's machine has forgotten it."""
        reset(self.socket)

    def frame(self, seconds: float = 15) -> Frame | None:
        """Return the next frame, None at the end of the stream. Raises TimeoutError; EOFError for half a frame."""
        self.socket.settimeout(seconds)
        if self._parser is None:
            if not self._reader.buffer and not self._receive():
                return None
            self._parser = Frame.parse(self._reader.read_exact, mask=False, extensions=self._extensions)
        while True:
            try:
                next(self._parser)
            except StopIteration as end:
                self._parser = None
                return end.value
            if not self._receive():
                self._reader.feed_eof()

    def message(self, seconds: float = 15) -> str | bytes:
        """Return the next message; pings are answered on the way."""
        while (frame := self.frame(seconds)) is not None and frame.opcode in (Opcode.PING, Opcode.PONG):
            if frame.opcode is Opcode.PING:
                self.send(masked(Opcode.PONG, frame.data))
        assert frame is not None, "the stream ended"
        assert frame.opcode in (Opcode.TEXT, Opcode.BINARY), frame
        assert frame.fin
        return bytes(frame.data).decode() if frame.opcode is Opcode.TEXT else bytes(frame.data)

    def pong(self) -> bytes:
        """Return the payload of the next pong; pings may come before it."""
        while (frame := self.frame()) is not None and frame.opcode is Opcode.PING:
            pass
        assert frame is not None
        assert frame.opcode is Opcode.PONG
        return bytes(frame.data)

    def frames_until_fin(self) -> list[Frame]:
        """Return all that comes until the server ends the stream; anything but frames, or a reset, is an error."""
        frames = []
        while (frame := self.frame()) is not None:
            frames.append(frame)
        return frames

    def closed_with(self) -> Close:
        """Return the close frame that ends the stream; nothing may come after it."""
        *before, last = self.frames_until_fin()
        assert last.opcode is Opcode.CLOSE, last
        assert all(frame.opcode is Opcode.PING for frame in before), before
        return Close.parse(last.data)

    def _receive(self) -> bool:
        data = self.socket.recv(64 * 1024)
        self._reader.feed_data(data)
        return data != b""

    def _read_answer(self) -> Answer:
        head = b""
        while not head.endswith(b"\r\n\r\n"):  # byte by byte, so that frames behind a 101 stay in the socket
            byte = self.socket.recv(1)
            assert byte, f"the answer ended early: {head!r}"
            head += byte
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        version, status, _ = first.split(" ", 2)
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"{name} comes twice"
            headers[name.lower()] = value
        body = b""
        while len(body) < int(headers.get("content-length", 0)):
            data = self.socket.recv(1024)
            assert data, f"the answer ended early: {body!r}"
            body += data
        return Answer(version, int(status), headers, body)
