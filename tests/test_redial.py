"""When a link, or a cluster's map, is tried again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from django_wsredis.cluster import SlotMap
from django_wsredis.exceptions import BrokerUnavailable
from django_wsredis.loop import redial as redial_module
from django_wsredis.loop.cluster import ClusterLinks
from django_wsredis.loop.redial import Redial, next_delay


def nothing(*_: object) -> None:
    pass


INTERVAL = 20.0  # PING_INTERVAL


class Reactor:
    """Without a loop: what is to be called is remembered. There is room for a thread only when the test says so."""

    def __init__(self) -> None:
        self.settings = SimpleNamespace(ping_interval=INTERVAL, url="redis+cluster://127.0.0.1:1")
        self.soon: deque[Callable[[], Any]] = deque()
        self.later: deque[Callable[[], Any]] = deque()
        self.has_room = False
        self.tick: Callable[[], None]
        self.tick_seconds = 0.0

    def now(self) -> float:
        return 0.0

    def timer(self, seconds: float, repeat: float) -> Any:
        assert seconds == repeat
        self.tick_seconds = seconds
        return SimpleNamespace(start=partial(setattr, self, "tick"), stop=nothing, close=nothing)

    def run(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.soon.append(lambda: function(*arguments))

    def call_later(self, seconds: float, function: Callable[[], Any]) -> None:
        self.later.append(function)

    def start_thread(self, function: Callable[[], Any], on_failed: Callable[[str], Any]) -> None:
        if self.has_room:
            function()
        else:
            self.run(on_failed, "can't start new thread")

    def turn(self) -> None:
        """Call what was due."""
        while self.soon:
            self.soon.popleft()()


class Link:
    """A connection to Redis: the test says what is heard of it."""

    def __init__(self, reactor: Any, connection: Any, **callbacks: Any) -> None:
        self.has_heard = True
        self.is_closed = False
        self.pings: deque[Callable[[Any], None]] = deque()  # that are not answered

    def call(self, *command: Any, on_reply: Callable[[Any], None]) -> None:
        assert command == ("PING",)
        self.pings.append(on_reply)

    def hear(self, *, pongs: int) -> None:
        """Let something come in, the answers to so many PINGs among it."""
        self.has_heard = True
        for _ in range(pongs):
            self.pings.popleft()(b"PONG")

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def reactor() -> Any:
    return Reactor()


def new_redial(reactor: Any, connect: Callable[[], Any] = nothing, **callbacks: Any) -> Redial:
    names = ("on_message", "on_read", "on_unsubscribed", "on_connected", "on_failed", "on_tried")
    return Redial(reactor, place="here", connect=connect, **{**dict.fromkeys(names, nothing), **callbacks})


@pytest.fixture
def link(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A link that has just been connected, and answered its first PING."""
    monkeypatch.setattr(redial_module, "Link", Link)
    reactor.has_room = True
    redial = new_redial(reactor)
    redial.start()
    reactor.turn()
    link: Any = redial.link
    link.hear(pongs=1)
    return link


def test_delays_grow_up_to_the_longest_with_jitter() -> None:
    for attempts in range(2000):
        delays = {next_delay(attempts, 0.1, 5.0) for _ in range(20)}
        assert min(delays) >= 0.05
        assert max(delays) <= min(5.0, 0.1 * 2 ** min(attempts, 10))
        assert len(delays) > 1


def test_a_link_is_tried_again_when_there_is_no_thread_for_it(reactor: Any, caplog: pytest.LogCaptureFixture) -> None:
    tries = []

    def connect() -> None:
        tries.append(1)
        raise BrokerUnavailable("refused")

    redial = new_redial(reactor, connect)
    redial.start()
    reactor.turn()
    reactor.later.popleft()()  # in vain again
    reactor.turn()
    assert [record.getMessage().count("can't start new thread") for record in caplog.records] == [1, 1]
    reactor.has_room = True
    reactor.later.popleft()()
    assert tries == [1]


def test_a_map_is_read_again_when_there_is_no_thread_for_it(
    reactor: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    changes = []
    links = ClusterLinks(
        reactor, on_message=nothing, on_read=nothing, on_unsubscribed=nothing, on_changed=lambda: changes.append(1)
    )
    links.start()
    reactor.turn()
    assert "can't start new thread" in caplog.text
    assert links.has_tried.is_set()
    reactor.has_room = True
    reads: list[Any] = []

    def read_slots(*arguments: Any) -> SlotMap:
        reads.append(arguments)
        return SlotMap([])

    monkeypatch.setattr("django_wsredis.redis.read_slots", read_slots)
    reactor.later.popleft()()
    reactor.turn()
    assert len(reads) == 1
    assert len(changes) == 2


def test_that_it_has_tried_is_told_once(reactor: Any) -> None:
    told: list[bool] = []
    redial = new_redial(reactor, on_tried=lambda: told.append(redial.has_tried))
    redial.start()
    for _ in range(3):
        reactor.turn()
        reactor.later.popleft()()
    assert told == [True]


# A link that is half open


def ticks(reactor: Any, link: Link, pongs: int | None = None) -> float:
    """Let time pass until a link is closed; return how long that took.

    pongs: how many PINGs are answered before each tick; None: nothing is heard at all.
    """
    for count in range(1, 100):
        if pongs is not None:
            link.hear(pongs=min(pongs, len(link.pings)))
        reactor.tick()
        if link.is_closed:
            return count * float(reactor.tick_seconds)
    return float("inf")


@pytest.mark.parametrize("has_just_heard", [True, False])
def test_a_silent_link_is_closed_within_an_interval_and_not_before_half_of_it(
    reactor: Any, link: Any, has_just_heard: bool, caplog: pytest.LogCaptureFixture
) -> None:
    reactor.tick()
    if has_just_heard:
        link.hear(pongs=1)
    assert ticks(reactor, link) == (INTERVAL if has_just_heard else INTERVAL / 2)
    assert "Redis does not answer" in caplog.text


def test_a_link_that_hears_but_gets_no_answer_is_closed_after_two_intervals(reactor: Any, link: Any) -> None:
    reactor.tick()  # the first PING that nobody hears
    assert ticks(reactor, link, pongs=0) == 2 * INTERVAL


def test_a_link_that_answers_is_never_closed(reactor: Any, link: Any) -> None:
    assert ticks(reactor, link, pongs=1) == float("inf")


def test_a_link_that_answers_late_is_not_closed(reactor: Any, link: Any) -> None:
    for _ in range(3):
        link.hear(pongs=0)
        reactor.tick()
    assert ticks(reactor, link, pongs=1) == float("inf")


def test_a_new_link_owes_no_answers_of_the_one_before(reactor: Any, link: Any) -> None:
    ticks(reactor, link, pongs=0)
    reactor.later.popleft()()
    reactor.turn()
    redial = reactor.tick.__self__
    assert redial.link is not link
    redial.link.hear(pongs=1)
    reactor.tick()
    assert ticks(reactor, redial.link, pongs=0) == 2 * INTERVAL
