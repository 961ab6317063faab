"""What waits for a socket: in which order it goes, and what is left when it is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from django_wsredis.loop.outbox import WRITE_BUFFERS, Outbox


class Kernel:
    """A socket that takes `room` bytes in all; `first_only`: as TLS does, of the first buffer alone."""

    def __init__(self, room: int, *, first_only: bool = False) -> None:
        self.room = room
        self.first_only = first_only
        self.taken = b""
        self.offered: list[list[bytes]] = []

    def sendmsg(self, buffers: Sequence[bytes | memoryview]) -> int:
        self.offered.append([bytes(buffer) for buffer in buffers])
        data = b"".join(self.offered[-1][: 1 if self.first_only else None])[: self.room]
        if not data:
            raise BlockingIOError
        self.room -= len(data)
        self.taken += data
        return len(data)


def holding(*frames: bytes, sent: int = 0) -> Outbox:
    outbox = Outbox(0.0)
    for frame in frames:
        outbox.add(frame, sent)
        sent = 0
    return outbox


def send(outbox: Outbox, kernel: Any, now: float = 1.0) -> None:
    outbox.send(kernel, now)


@pytest.mark.parametrize("first_only", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("room", range(10))
def test_what_the_kernel_does_not_take_goes_later_in_the_same_order(room: int, first_only: bool) -> None:
    outbox = holding(b"one", b"two", b"three", sent=1)
    kernel = Kernel(room, first_only=first_only)
    with pytest.raises(BlockingIOError):
        send(outbox, kernel)
    assert outbox.bytes == 10 - room
    kernel.room = 100
    send(outbox, kernel)
    assert kernel.taken == b"netwothree"
    assert outbox.bytes == 0


def test_a_buffer_that_was_refused_is_offered_again_as_it_was() -> None:
    outbox = holding(b"one", b"two")
    kernel = Kernel(0, first_only=True)
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            send(outbox, kernel)
        outbox.add(b"more")
    assert [buffers[0] for buffers in kernel.offered] == [b"one", b"one"]


def test_few_frames_go_in_one_call() -> None:
    kernel = Kernel(10_000)
    send(holding(*[b"x"] * (WRITE_BUFFERS + 1)), kernel)
    assert [len(buffers) for buffers in kernel.offered] == [WRITE_BUFFERS, 1]


def test_it_knows_when_the_kernel_last_took_something() -> None:
    outbox, kernel = holding(b"one", b"two"), Kernel(0)
    with pytest.raises(BlockingIOError):
        send(outbox, kernel, 7.0)
    assert outbox.progressed_at == 0.0
    kernel.room = 1
    with pytest.raises(BlockingIOError):
        send(outbox, kernel, 9.0)
    assert outbox.progressed_at == 9.0


@pytest.mark.parametrize(("room", "left"), [(0, b"one"), (1, b"ne"), (3, b"two"), (5, b"o")])
def test_dropping_keeps_the_first_frame_which_may_have_begun(room: int, left: bytes) -> None:
    outbox, kernel = holding(b"one", b"two", b"three"), Kernel(room)
    with pytest.raises(BlockingIOError):
        send(outbox, kernel)
    outbox.drop()
    assert outbox.bytes == len(left)
    outbox.add(b"goodbye")
    kernel.room, kernel.taken = 100, b""
    send(outbox, kernel)
    assert kernel.taken == left + b"goodbye"


def test_an_empty_outbox_can_be_dropped() -> None:
    outbox = holding()
    outbox.drop()
    assert outbox.bytes == 0
