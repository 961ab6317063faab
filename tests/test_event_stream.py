"""One event stream on a real socket, with a clock that the test moves."""

from __future__ import annotations

import _socket
import math
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from django_wsredis.loop.event_stream import EventStream
from django_wsredis.messages import EVENT

from .test_connection import Clock, Owner
from .test_events import parse


class Line:
    """A stream and its browser, over TCP."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.browser = socket.create_connection(server.getsockname(), timeout=5)
            ours, _ = server.accept()
        ours.setblocking(False)
        self.ours = _socket.socket(fileno=ours.detach())
        self.clock, self.owner = Clock(), Owner()
        self.stream = EventStream(self.clock, self.owner, framing=EVENT)

    def heard(self) -> Any:
        """Return the events that came up to the end."""
        data = b""
        while more := self.browser.recv(65536):
            data += more
        return parse(data)


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    line.stream.attach(line.ours)
    yield line
    line.stream.abort()
    line.browser.close()


def test_the_kernel_is_told_for_how_long_a_browser_may_acknowledge_nothing(line: Line) -> None:
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("this system has no TCP_USER_TIMEOUT")
    assert line.ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
    assert line.stream.last_received == math.inf  # it owes no answer to a ping


def test_a_close_is_the_last_event_and_the_end_of_the_stream(line: Line) -> None:
    line.stream.close(1012, "the server restarts")
    line.stream.close(1001)
    assert not line.stream.is_open
    assert [kind for kind, _, _ in line.heard()] == ["hello", "close"]
    assert line.owner.told == ["left"]
    line.browser.close()
    line.stream._on_readable()
    assert line.owner.told == ["left", "gone"]
    assert line.clock.closes == {1012: 1}


def test_a_browser_that_goes_is_gone(line: Line) -> None:
    line.browser.sendall(b"GET / HTTP/1.1\r\n\r\n")
    line.stream._on_readable()
    assert line.stream.is_open
    line.browser.shutdown(socket.SHUT_WR)
    line.stream._on_readable()
    assert line.owner.told == ["left", "gone"]
    assert line.clock.closes == {1006: 1}


def test_a_ping_is_a_comment_and_what_is_said_on_a_plain_stream_is_none_of_its(line: Line) -> None:
    line.stream.ping(b"heartbeat")
    line.stream.hear(b'{"type":"ping"}')
    assert line.stream.received == 0
    line.stream.close(1000)
    assert [kind for kind, _, _ in line.heard()] == ["hello", "close"]


def test_what_is_said_by_v1_and_is_none_of_it_ends_the_stream(line: Line) -> None:
    from django_wsredis.channels import Wish
    from django_wsredis.handshake import Granted
    from django_wsredis.loop.dialogue import Dialogue

    desk: Any = SimpleNamespace(names=lambda granted: (), target=lambda granted: None, settings=line.clock.settings)
    line.stream.dialogue = Dialogue(desk, line.stream, Granted("chat", (), (), Wish((), (), False)))
    line.stream.hear(b'{"type":"ping"}')
    line.stream.hear(b"no header")
    line.stream.hear(b'{"type":"ping"}')
    _, pong, close = line.heard()
    assert pong == ("message", '{"type":"pong"}', "")
    assert '"code":1008' in close[1]
