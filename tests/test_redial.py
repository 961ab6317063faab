"""When a link, or a cluster's map, is tried again."""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from django_wsredis.cluster import SlotMap
from django_wsredis.exceptions import BrokerUnavailable
from django_wsredis.loop.cluster import ClusterLinks
from django_wsredis.loop.redial import Redial, next_delay


def nothing(*_: object) -> None:
    pass


class Reactor:
    """Without a loop: what is to be called is remembered."""

    def __init__(self) -> None:
        self.settings = SimpleNamespace(ping_interval=20.0, url="redis+cluster://127.0.0.1:1")
        self.soon: deque[Callable[[], Any]] = deque()
        self.later: deque[Callable[[], Any]] = deque()

    def now(self) -> float:
        return 0.0

    def timer(self, *_: float) -> Any:
        return SimpleNamespace(start=nothing, stop=nothing, close=nothing)

    def run(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.soon.append(lambda: function(*arguments))

    def call_later(self, seconds: float, function: Callable[[], Any]) -> None:
        self.later.append(function)

    def turn(self) -> None:
        """Call what was due."""
        while self.soon:
            self.soon.popleft()()


class Threads:
    """Native threads: there is room for one only when the test says so; then it runs at once."""

    has_room = False

    def start(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> int:
        if not self.has_room:
            raise RuntimeError("can't start new thread")
        function(*arguments)
        return 1


@pytest.fixture
def reactor() -> Any:
    return Reactor()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    threads = Threads()
    monkeypatch.setattr(_thread, "start_new_thread", threads.start)
    return threads


def test_delays_grow_up_to_the_longest_with_jitter() -> None:
    for attempts in range(2000):
        delays = {next_delay(attempts, 0.1, 5.0) for _ in range(20)}
        assert min(delays) >= 0.05
        assert max(delays) <= min(5.0, 0.1 * 2 ** min(attempts, 10))
        assert len(delays) > 1


def test_a_link_is_tried_again_when_there_is_no_thread_for_it(
    reactor: Any, threads: Threads, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def connect() -> None:
        tries.append(1)
        raise BrokerUnavailable("refused")

    redial = Redial(
        reactor, place="here", connect=connect, on_message=nothing, on_read=nothing, on_unsubscribed=nothing,
        on_connected=nothing, on_failed=nothing, on_tried=nothing,
    )  # fmt: skip
    redial.start()
    reactor.turn()
    reactor.later.popleft()()  # in vain again
    reactor.turn()
    assert [record.getMessage().count("can't start new thread") for record in caplog.records] == [1, 1]
    threads.has_room = True
    reactor.later.popleft()()
    assert tries == [1]


def test_a_map_is_read_again_when_there_is_no_thread_for_it(
    reactor: Any, threads: Threads, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    changes = []
    links = ClusterLinks(
        reactor, on_message=nothing, on_read=nothing, on_unsubscribed=nothing, on_changed=lambda: changes.append(1)
    )
    links.start()
    reactor.turn()
    assert "can't start new thread" in caplog.text
    assert links.has_tried.is_set()
    threads.has_room = True
    reads: list[Any] = []

    def read_slots(*arguments: Any) -> SlotMap:
        reads.append(arguments)
        return SlotMap([])

    monkeypatch.setattr("django_wsredis.redis.read_slots", read_slots)
    reactor.later.popleft()()
    reactor.turn()
    assert len(reads) == 1
    assert len(changes) == 2
