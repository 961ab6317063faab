"""What waits for a socket: in which order it goes, and what is left when it is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_wsredis.loop.outbox import WRITE_BUFFERS, Outbox, Source
from django_wsredis.loop.writer import Writer, write_all


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


# Sources whose frames a slow socket may miss


@dataclass(frozen=True)
class Topic:
    channel: bytes
    slow: str


LATEST, OTHER = Topic(b"ticker", "latest"), Topic(b"other", "latest")
LOG, LOG2 = Topic(b"log", "drop"), Topic(b"log2", "drop")


def notice(source: Source, count: int) -> bytes:
    return b"<%b missed %d>" % (source.channel, count)


def mixed(*frames: tuple[bytes, Topic | None]) -> Outbox:
    outbox = Outbox(0.0)
    for data, source in frames:
        outbox.add(data, source=source)
    return outbox


def rest(outbox: Outbox) -> bytes:
    """Return all that will be sent."""
    kernel = Kernel(1_000_000)
    send(outbox, kernel)
    assert outbox.bytes == 0
    return kernel.taken


def test_the_latest_frame_of_a_source_takes_the_place_of_the_one_before() -> None:
    outbox = mixed((b"first ", None), (b"t1 ", LATEST), (b"o1 ", OTHER), (b"x ", None))
    assert outbox.replaced_bytes(LATEST) == len(b"t1 ")
    outbox.replace(b"t2 longer ", LATEST)
    assert outbox.bytes == len(b"first t2 longer o1 x ")
    outbox.replace(b"o2 ", OTHER)
    assert outbox.replaced_bytes(LOG) == 0
    assert rest(outbox) == b"first t2 longer o2 x "


@pytest.mark.parametrize("room", [0, 1, 3])
def test_a_frame_that_may_have_begun_is_not_replaced(room: int) -> None:
    outbox, kernel = mixed((b"t1 ", LATEST), (b"x ", None)), Kernel(room)
    with pytest.raises(BlockingIOError):
        send(outbox, kernel)
    assert outbox.replaced_bytes(LATEST) == 0
    outbox.add(b"t2 ", source=LATEST)
    outbox.replace(b"t3 ", LATEST)
    assert kernel.taken + rest(outbox) == b"t1 x t3 "


def test_after_some_have_gone_it_still_knows_where_the_latest_stands() -> None:
    outbox, kernel = mixed((b"a ", None), (b"b ", None), (b"t1 ", LATEST), (b"o1 ", OTHER)), Kernel(3)
    with pytest.raises(BlockingIOError):
        send(outbox, kernel)
    outbox.replace(b"t2 ", LATEST)
    outbox.add(b"c ")
    outbox.replace(b"o2 ", OTHER)
    assert rest(outbox) == b" t2 o2 c "


def test_the_oldest_are_dropped_and_a_notice_stands_where_the_first_of_them_stood() -> None:
    outbox = mixed((b"first ", LOG), (b"x ", None), (b"l2 ", LOG), (b"m1 ", LOG2), (b"l3 ", LOG), (b"l4 ", LOG))
    assert outbox.drop_oldest(outbox.bytes - 9, notice) == 3
    assert rest(outbox) == b"first x <log missed 2><log2 missed 1>l4 "


def test_only_what_may_be_missed_is_dropped() -> None:
    outbox = mixed((b"first ", LOG), (b"x ", None), (b"t1 ", LATEST), (b"l2 ", LOG))
    assert outbox.drop_oldest(0, notice) == 1
    outbox.replace(b"t2 ", LATEST)
    assert rest(outbox) == b"first x t2 <log missed 1>"


def test_who_cannot_be_told_is_not() -> None:
    outbox = mixed((b"first ", None), (b"l2 ", LOG), (b"l3 ", LOG))
    assert outbox.drop_oldest(0, lambda source, count: b"") == 2
    assert outbox.bytes == len(b"first ")
    assert rest(outbox) == b"first "


def test_nothing_is_dropped_when_there_is_room() -> None:
    outbox = mixed((b"first ", None), (b"l2 ", LOG))
    assert outbox.drop_oldest(100, notice) == 0
    assert rest(outbox) == b"first l2 "


# A writer that is slow


@dataclass
class Reactor:
    """Without a loop: what is to be called soon is remembered."""

    max_outbox_bytes: int = 100
    dropped: int = 0
    soon: list[Any] = field(default_factory=list)
    watcher: Any = None

    @property
    def settings(self) -> Any:
        return SimpleNamespace(max_outbox_bytes=self.max_outbox_bytes, compression=0)

    def now(self) -> float:
        return 0.0

    def io(self, fileno: int, events: int) -> Any:
        self.watcher = SimpleNamespace(start=lambda callback: None, stop=lambda: None, close=lambda: None)
        return self.watcher

    def call_soon(self, function: Any) -> None:
        self.soon.append(function)


class Slow(Writer):
    """Its kernel takes `room` bytes in all."""

    def __init__(self, room: int, *, is_told: bool = True, **options: Any) -> None:
        self.clock: Any = Reactor(**options)
        super().__init__(self.clock, 0)
        self.kernel = Kernel(room)
        self.sock = SimpleNamespace(send=self.send_one, sendmsg=self.kernel.sendmsg, fileno=lambda: 1)
        self.outbox = None
        self.is_told = is_told

    def send_one(self, data: bytes) -> int:
        return self.kernel.sendmsg([data])

    is_open = True

    def abort(self) -> None:
        raise AssertionError("the peer is here")

    def close_slow(self) -> None:
        self.is_open = False

    def on_blocked(self) -> None:
        pass

    def on_flushed(self) -> None:
        pass

    def missed(self, source: Source, count: int) -> bytes:
        return notice(source, count) if self.is_told else b""

    def get(self, *frames: tuple[bytes, Topic | None]) -> None:
        for data, source in frames:
            write_all([self], {0: data}, source=source)

    def all(self) -> bytes:
        """Return what the peer reads in the end."""
        self.kernel.room = 1_000_000
        self.flush()
        assert self.outbox is None
        return self.kernel.taken


def test_a_socket_that_keeps_up_misses_nothing() -> None:
    writer = Slow(1000)
    writer.get((b"t1 ", LATEST), (b"t2 ", LATEST), (b"l1 ", LOG), (b"x ", None))
    assert (writer.all(), writer.clock.dropped) == (b"t1 t2 l1 x ", 0)


def test_a_slow_socket_gets_the_latest_alone_and_others_in_full() -> None:
    writer = Slow(4)
    writer.get(*[(b"t%d " % number, LATEST) for number in range(10)], (b"x ", None), (b"t10 ", LATEST), (b"y ", None))
    assert writer.all() == b"t0 t1 t10 x y "
    assert writer.clock.dropped == 8
    assert writer.clock.soon == []


def test_a_slow_socket_misses_the_oldest_of_a_log_and_is_told_how_many() -> None:
    writer = Slow(4)
    writer.get(*[(b"line %02d " % number, LOG) for number in range(30)])
    got = writer.all()
    lines = [b"line %02d " % number for number in range(30)]
    dropped = writer.clock.dropped
    assert dropped > 0
    assert writer.clock.soon == []
    missed = [int(part.partition(b">")[0]) for part in got.split(b"<log missed ")[1:]]
    assert sum(missed) == dropped
    # the first one had begun; then comes the notice, then all the newest
    assert got.startswith(lines[0] + b"<log missed ")
    assert got.endswith(b">" + b"".join(lines[1 + dropped :]))


def test_what_may_not_be_missed_closes_a_slow_socket() -> None:
    writer = Slow(4)
    writer.get((b"x" * 60, None), (b"l" * 30, LOG), (b"y" * 60, None))
    assert writer.clock.soon == [writer.close_slow]
    assert writer.is_open  # as whoever writes to many may be amid them
    writer.get((b"z", None))  # for which there is room
    assert writer.all() == b"x" * 60 + b"l" * 30


def test_nothing_follows_a_frame_that_found_no_room_when_the_kernel_takes_more_again() -> None:
    writer = Slow(4)
    writer.get((b"x" * 60, None), (b"y" * 60, None))
    writer.kernel.room = 1000
    writer.flush()
    assert not writer.is_open
    assert writer.kernel.taken == b"x" * 60


def test_a_frame_for_which_all_that_may_be_dropped_makes_no_room_closes_the_socket() -> None:
    writer = Slow(4)
    writer.get((b"x" * 90, None), (b"l" * 30, LOG))
    assert writer.clock.soon == [writer.close_slow]


def test_a_latest_frame_that_is_larger_than_the_one_before_needs_room_too() -> None:
    writer = Slow(4)
    writer.get((b"x" * 10, None), (b"t" * 40, LATEST), (b"o" * 40, OTHER))
    writer.get((b"t" * 54, LATEST))  # 100 in all
    assert writer.clock.soon == []
    writer.get((b"o" * 41, OTHER))
    assert writer.clock.soon == [writer.close_slow]
    assert writer.clock.dropped == 1
    assert writer.all() == b"x" * 10 + b"t" * 54 + b"o" * 40


frames_strategy = st.lists(
    st.tuples(st.sampled_from([LATEST, OTHER, LOG, LOG2, None]), st.integers(1, 30), st.integers(0, 40)), max_size=40
)


@given(frames_strategy, st.booleans())
def test_a_peer_reads_whole_frames_in_their_order_whatever_is_left_out(
    given_frames: list[tuple[Topic | None, int, int]], is_told: bool
) -> None:
    writer = Slow(0, is_told=is_told)
    closes = 0
    written: list[tuple[int, Topic | None]] = []
    for number, (source, size, room) in enumerate(given_frames):
        writer.get((b"[%d%b]" % (number, b"." * size), source))
        assert writer.outbox is None or writer.outbox.bytes <= writer.clock.max_outbox_bytes
        written += [(number, source)] if len(writer.clock.soon) == closes else []
        closes = len(writer.clock.soon)
        writer.kernel.room += room
        writer.flush()
    got = writer.all().decode()
    parts = [part for part in got.replace("<", "|<").replace("[", "|[").split("|") if part]
    numbers = []
    missed = 0
    for part in parts:
        if part[0] == "<":
            assert part[-1] == ">"
            missed += int(part[:-1].rpartition(" ")[2])
        else:
            number = int(part[1:-1].rstrip("."))
            assert part == f"[{number}{'.' * given_frames[number][1]}]", "a damaged frame"
            numbers.append(number)
    for source in (LOG, LOG2, None):
        own = [number for number in numbers if given_frames[number][0] is source]
        assert own == sorted(set(own))
    assert {number for number, source in written if source is None} == {
        number for number in numbers if given_frames[number][0] is None
    }
    for source in (LATEST, OTHER):  # the last one always comes
        own = [number for number, one in written if one is source]
        assert not own or own[-1] in numbers
    assert len(numbers) + writer.clock.dropped == len(written)
    left_out = [number for number, source in written if source in (LOG, LOG2) and number not in numbers]
    assert missed == (len(left_out) if is_told else 0)
