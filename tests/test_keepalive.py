"""The wheel of pings, with a clock of its own."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_wsredis.loop.keepalive import MAX_TICK_SECONDS, Keepalive
from django_wsredis.loop.websocket import PING, WebSocketConnection


class Peer:
    """Stands for a connection; it answers pings for as long as it lives."""

    def __init__(self, keepalive: Keepalive, now: float = 0.0) -> None:
        self.keepalive = keepalive
        self.slot = 0
        self.is_open = True
        self.dialogue: object = None
        self.is_alive = True
        self.last_received = now
        self.now = now
        self.pinged_at: list[float] = []
        self.written: list[bytes] = []
        self.failed: list[int] = []
        self.ended_at: float | None = None
        keepalive.add(self)  # type: ignore[arg-type]

    ping = WebSocketConnection.ping

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.pinged_at.append(self.now)
        if self.is_alive:
            self.last_received = self.now

    def fail(self, code: int, reason: str) -> None:
        self.is_open = False
        self.failed.append(code)

    def abort(self) -> None:
        self.ended_at = self.now
        self.keepalive.discard(self)  # type: ignore[arg-type]


def run(keepalive: Keepalive, peers: list[Peer], start: float, seconds: float) -> float:
    """Let time pass; return the time."""
    for number in range(1, round(seconds / keepalive.tick_seconds) + 1):
        now = start + number * keepalive.tick_seconds
        for peer in peers:
            peer.now = now
        keepalive.tick(now)
    return now


intervals = st.sampled_from([0.5, 1, 3, 5, 20, 60])


@given(intervals, st.integers(1, 40))
def test_every_open_socket_is_pinged_once_each_interval(interval: float, count: int) -> None:
    keepalive = Keepalive(interval=interval, timeout=20, heartbeat=None)
    peers = [Peer(keepalive) for _ in range(count)]
    run(keepalive, peers, 0.0, interval * 5)
    for peer in peers:
        assert len(peer.pinged_at) == 5
        for one, next_one in pairwise(peer.pinged_at):
            assert next_one - one == pytest.approx(interval)
        assert set(peer.written) == {b"\x89\x00"} == {PING}
        assert peer.ended_at is None


@given(intervals, st.integers(1, 200))
def test_the_work_is_spread_evenly(interval: float, count: int) -> None:
    keepalive = Keepalive(interval=interval, timeout=20, heartbeat=None)
    peers = [Peer(keepalive) for _ in range(count)]
    run(keepalive, peers, 0.0, interval)
    ticks = round(interval / keepalive.tick_seconds)
    at_once = Counter(peer.pinged_at[0] for peer in peers)
    assert max(at_once.values()) == -(-count // ticks)


@given(intervals)
def test_a_tick_is_at_most_a_second(interval: float) -> None:
    assert 0 < Keepalive(interval=interval, timeout=20, heartbeat=None).tick_seconds <= MAX_TICK_SECONDS


@given(intervals, st.sampled_from([0.5, 2, 20, 45]), st.floats(0, 100))
def test_a_silent_peer_is_gone_within_interval_and_timeout(interval: float, timeout: float, dies_after: float) -> None:
    keepalive = Keepalive(interval=interval, timeout=timeout, heartbeat=None)
    silent, living = Peer(keepalive), Peer(keepalive)
    both = [silent, living]
    now = run(keepalive, both, 0.0, max(dies_after, keepalive.tick_seconds))
    silent.is_alive = False
    died_at = now
    run(keepalive, both, now, interval + timeout + 3 * keepalive.tick_seconds)
    assert silent.ended_at is not None
    assert silent.failed == [1011]
    first_ping_unanswered = next(at for at in silent.pinged_at if at > died_at)
    tick = keepalive.tick_seconds
    assert first_ping_unanswered + timeout <= silent.ended_at + 1e-6
    assert silent.ended_at <= first_ping_unanswered + timeout + tick + 1e-6
    assert silent.ended_at <= died_at + interval + timeout + tick + 1e-6
    assert living.ended_at is None
    assert living.failed == []


@given(intervals, st.integers(0, 10), st.integers(0, 100))
def test_a_socket_that_comes_after_a_ping_is_not_blamed_for_it(interval: float, before: int, ticks: int) -> None:
    keepalive = Keepalive(interval=interval, timeout=0.5, heartbeat=None)
    peers = [Peer(keepalive) for _ in range(before)]
    now = run(keepalive, peers, 0.0, keepalive.tick_seconds * max(ticks, 1))
    late = Peer(keepalive, now)
    peers.append(late)
    run(keepalive, peers, now, interval * 3)
    assert late.ended_at is None
    assert late.pinged_at


def test_any_byte_counts_as_life() -> None:
    keepalive = Keepalive(interval=4, timeout=2, heartbeat=None)
    chatty = Peer(keepalive)
    chatty.is_alive = False  # it answers no ping
    now = 0.0
    for _ in range(20):
        chatty.last_received = now + keepalive.tick_seconds  # but always sends something
        now = run(keepalive, [chatty], now, keepalive.tick_seconds)
    assert chatty.pinged_at
    assert chatty.ended_at is None


def test_one_that_is_closing_is_not_pinged_but_ended_if_it_is_silent() -> None:
    keepalive = Keepalive(interval=4, timeout=2, heartbeat=None)
    peer = Peer(keepalive)
    peer.is_open = False
    run(keepalive, [peer], 0.0, 3)
    assert peer.written == []
    run(keepalive, [peer], 3.0, 10)
    assert peer.ended_at is not None


def test_one_that_left_is_left_alone() -> None:
    keepalive = Keepalive(interval=4, timeout=2, heartbeat=None)
    peer, other = Peer(keepalive), Peer(keepalive)
    peer.is_alive = False
    now = run(keepalive, [peer, other], 0.0, 2)
    pings = len(peer.pinged_at)
    assert pings == 1
    keepalive.discard(peer)  # type: ignore[arg-type]
    run(keepalive, [peer, other], now, 12)
    assert len(peer.pinged_at) == pings
    assert peer.ended_at is None
    assert other.pinged_at


def test_the_heartbeat_text_goes_with_each_ping_but_not_to_sockets_that_speak_v1() -> None:
    keepalive = Keepalive(interval=1, timeout=2, heartbeat="--é--")
    peer, v1 = Peer(keepalive), Peer(keepalive)
    v1.dialogue = object()
    run(keepalive, [peer, v1], 0.0, 2)
    assert keepalive.heartbeat == b"\x81\x06--\xc3\xa9--"
    assert set(peer.written) == {PING + keepalive.heartbeat}
    assert set(v1.written) == {PING}
    assert Keepalive(interval=1, timeout=2, heartbeat=None).heartbeat == b""
