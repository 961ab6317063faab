"""One connection on a real socket, with a clock that the test moves: what would take minutes through a server."""

from __future__ import annotations

import _socket
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CLIENT, Protocol

from django_wsredis.exceptions import ConnectionClosed
from django_wsredis.loop.assembler import seconds_allowed
from django_wsredis.loop.websocket import WebSocketConnection
from django_wsredis.messages import V1, Message

from .ears import Watcher

MAX_MESSAGE_BYTES = 1024 * 1024


class Clock:
    """A reactor without a loop."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.settings = SimpleNamespace(
            max_message_bytes=MAX_MESSAGE_BYTES, max_outbox_bytes=1000, ping_timeout=20.0, compression=0
        )
        self.soon: list[Callable[[], None]] = []
        self.closes: Counter[int] = Counter()

    def now(self) -> float:
        return self.time

    def io(self, fileno: int, events: int) -> Watcher:
        return Watcher()

    def timer(self, seconds: float, repeat: float = 0.0) -> Watcher:
        return Watcher()

    def call_soon(self, function: Callable[[], None]) -> None:
        self.soon.append(function)


class Owner:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bool]] = []
        self.told: list[str] = []
        self.error: Exception | None = None

    def on_message(self, connection: WebSocketConnection, payload: bytes, is_text: bool) -> None:
        if self.error:
            raise self.error
        self.messages.append((payload, is_text))

    def on_waiting(self, connection: WebSocketConnection) -> None:
        self.told.append("waiting")

    def on_leave(self, connection: WebSocketConnection) -> None:
        self.told.append("left")

    def on_gone(self, connection: WebSocketConnection) -> None:
        self.told.append("gone")


class Line:
    """A connection and its peer."""

    def __init__(self, *, is_attached: bool = True) -> None:
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        self.peer.settimeout(5)
        self.clock, self.owner = Clock(), Owner()
        self.connection = WebSocketConnection(self.clock, self.owner)  # type: ignore[arg-type]
        self.ours = _socket.socket(fileno=ours.detach())
        if is_attached:
            self.connection.attach(self.ours)

    def sends(self, data: bytes) -> None:
        self.peer.sendall(data)
        self.connection._on_readable()

    def heard(self) -> list[Any]:
        """Return the frames that the peer got, until nothing more is there."""
        self.peer.settimeout(0.2)
        protocol = Protocol(CLIENT, max_size=None)
        while True:
            try:
                data = self.peer.recv(2**20)
            except TimeoutError:
                break
            if not data:
                break
            protocol.receive_data(data)
        return protocol.events_received()

    def close_code(self) -> int:
        *_, last = self.heard()
        assert last.opcode is Opcode.CLOSE
        return int(Close.parse(last.data).code)


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.connection.abort()
    line.peer.close()


@pytest.fixture
def early() -> Iterator[Line]:
    """A connection whose socket is not there yet."""
    line = Line(is_attached=False)
    yield line
    line.connection.abort()
    line.ours.close()
    line.peer.close()


def frame(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


@pytest.mark.parametrize(
    "begun",
    [frame(Opcode.TEXT, b"begun", fin=False), frame(Opcode.BINARY, b"x" * 1000)[:500]],
    ids=["fragments", "half a frame"],
)
def test_a_message_that_never_ends_is_closed_with_1008(line: Line, begun: bytes) -> None:
    line.sends(begun)
    assert line.owner.told == ["waiting"]
    line.clock.time += seconds_allowed(MAX_MESSAGE_BYTES) - 1
    line.sends(frame(Opcode.PING, b"") if b"begun" in begun else b"x")  # life, but no end
    assert line.connection.check(line.clock.time) is True
    line.clock.time += 2
    line.connection.check(line.clock.time)
    assert line.close_code() == 1008


def test_a_message_that_ends_in_time_is_no_longer_looked_at(line: Line) -> None:
    line.sends(frame(Opcode.TEXT, b"be", fin=False))
    line.sends(frame(Opcode.CONT, b"gun"))
    assert line.owner.messages == [(b"begun", True)]
    line.clock.time += 10_000
    assert line.connection.check(line.clock.time) is False
    assert line.connection.is_open


def test_an_error_of_ours_is_closed_with_1011_and_says_nothing_of_itself(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    line.owner.error = RuntimeError("the secret reason")
    line.sends(frame(Opcode.TEXT, b"x"))
    (close,) = line.heard()
    assert Close.parse(close.data) == Close(1011, "")
    assert "the secret reason" in caplog.text


def test_whoever_gets_a_message_may_end_the_connection_with_a_code(line: Line) -> None:
    line.owner.error = ConnectionClosed(4000, "enough")
    line.sends(frame(Opcode.TEXT, b"x"))
    (close,) = line.heard()
    assert Close.parse(close.data) == Close(4000, "enough")
    assert line.owner.told == ["left"]


def test_a_slow_peer_gets_the_rest_of_a_begun_frame_and_then_1013(line: Line) -> None:
    big = Message(b"x" * 5_000_000, False)
    line.connection.send(big)  # the kernel takes a part
    for _ in range(100):
        line.connection.send(Message(b"y" * 100, True))
    assert line.clock.soon  # nothing is closed amid a fan-out, but soon
    line.clock.soon[0]()
    received = b""
    while line.connection.outbox is not None:
        received += line.peer.recv(2**20)
        line.connection.flush()
    line.peer.settimeout(0.2)
    while True:
        try:
            data = line.peer.recv(2**20)
        except TimeoutError:
            break
        received += data
    protocol = Protocol(CLIENT, max_size=None)
    protocol.receive_data(received)
    first, *others = protocol.events_received()
    assert bytes(first.data) == big.payload
    assert [Close.parse(other.data).code for other in others] == [1013]


def test_a_peer_that_takes_nothing_is_closed_after_the_ping_timeout(line: Line) -> None:
    line.connection.send(Message(b"x" * 5_000_000, False))
    assert line.owner.told == ["waiting"]
    line.clock.time += 19
    assert line.connection.check(line.clock.time) is True
    assert line.connection.is_open
    line.clock.time += 2
    line.connection.check(line.clock.time)
    assert not line.connection.is_open
    assert line.owner.told == ["waiting", "left"]


def test_a_peer_that_has_gone_is_noticed_soon_and_everything_is_free(line: Line) -> None:
    line.peer.close()
    line.connection.send(Message(b"x", True))
    assert line.owner.told == []
    line.clock.soon[0]()
    assert line.owner.told == ["left", "gone"]
    assert line.connection.sock is None


def test_a_socket_that_has_gone_is_not_open_any_more(line: Line) -> None:
    """It went without a close frame, so the protocol does not know."""
    line.peer.close()
    line.connection._on_readable()
    assert line.owner.told == ["left", "gone"]
    assert not line.connection.is_open
    line.connection.close(1000)
    line.connection.abort()
    assert line.owner.told == ["left", "gone"]


def test_what_is_written_before_the_socket_is_there_goes_first(early: Line) -> None:
    done = []
    early.connection.send(Message(b"one", True))
    early.connection.when_flushed = lambda: done.append(True)
    early.connection.attach(early.ours)
    early.connection.send(Message(b"two", True))
    assert [bytes(frame.data) for frame in early.heard()] == [b"one", b"two"]
    assert done == [True]


def test_a_close_before_the_socket_is_there_is_said_when_it_comes(early: Line) -> None:
    early.connection.send(Message(b"one", True))
    early.connection.close(1013, "Redis went away")
    assert early.owner.told == ["left"]
    early.connection.attach(early.ours)
    one, close = early.heard()
    assert bytes(one.data) == b"one"
    assert Close.parse(close.data) == Close(1013, "Redis went away")


def test_a_socket_that_comes_after_the_end_is_closed(early: Line) -> None:
    early.connection.abort()
    early.connection.attach(early.ours)
    assert early.peer.recv(1) == b""


def test_frames_are_made_as_the_socket_wants_them(line: Line) -> None:
    line.connection.framing = V1
    line.connection.send(Message(b"hello", True, id=b"1-0"))
    (frame,) = line.heard()
    assert bytes(frame.data) == b'{"channel":"everywhere","id":"1-0"}\nhello'
