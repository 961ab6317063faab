"""Threads for views: reservations, and calls that wait for a few of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import pytest

from django_wsredis.loop import pool
from django_wsredis.loop.pool import QUICK_THREADS, Pool

from .servers import wait_until


class Call(NamedTuple):
    """A task of two functions."""

    do: Callable[[], object]
    done: Callable[[], object]


class World:
    """A loop whose turns the test takes, with threads that are real."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.has_room = True
        self.threads: list[threading.Thread] = []

    def run(self, function: Callable[..., object], *arguments: object) -> None:
        self.calls.put(lambda: function(*arguments))

    call_soon = run

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        timer = threading.Timer(seconds, self.run, [function])
        timer.daemon = True
        timer.start()
        self.threads.append(timer)

    def start_thread(self, function: Callable[[], object], on_failed: Callable[[str], object]) -> None:
        if self.has_room:
            thread = threading.Thread(target=function, daemon=True)
            thread.start()
            self.threads.append(thread)
        else:
            self.run(on_failed, "no room")

    def turn_until(self, condition: Callable[[], object]) -> None:
        def turn() -> bool:
            try:
                while True:
                    self.calls.get_nowait()()
            except Empty:
                return bool(condition())

        wait_until(turn)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.05)
    world = World()
    yield world
    for thread in world.threads:
        thread.join(10)
        assert not thread.is_alive()


def make_pool(world: World, limit: int) -> Pool:
    reactor: Any = world
    return Pool(reactor, limit)


def test_no_more_threads_are_reserved_than_there_may_be(world: World) -> None:
    pool = make_pool(world, 2)
    assert [pool.reserve() for _ in range(3)] == [True, True, False]
    pool.release()
    assert pool.reserve()


def test_a_thread_of_its_own_is_free_again_when_its_function_ends(world: World) -> None:
    pool, done = make_pool(world, 1), threading.Event()
    assert pool.reserve()
    pool.start(done.set, on_failed=lambda reason: None)
    assert done.wait(10)
    world.turn_until(lambda: pool.is_idle)
    assert pool.reserve()


def test_where_the_system_has_no_thread_the_reservation_is_given_back(world: World) -> None:
    pool, told = make_pool(world, 1), list[str]()
    world.has_room = False
    assert pool.reserve()
    pool.start(lambda: None, on_failed=told.append)
    world.turn_until(lambda: told == ["no room"])
    assert pool.is_idle


def test_calls_are_done_by_few_threads_and_then_told_of_in_the_loop(world: World) -> None:
    pool, threads, told = make_pool(world, 10), set[int](), list[int]()
    for number in range(100):
        pool.call(Call(lambda: threads.add(threading.get_ident()), lambda number=number: told.append(number)))
    assert not pool.is_idle
    world.turn_until(lambda: len(told) == 100)
    assert sorted(told) == list(range(100))
    assert len(threads) <= QUICK_THREADS
    assert pool.is_idle


def test_a_call_that_fails_is_told_of_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    pool, told = make_pool(world, 10), list[int]()
    pool.call(Call(lambda: 1 / 0, lambda: told.append(1)))
    pool.call(Call(lambda: None, lambda: told.append(2)))
    world.turn_until(lambda: sorted(told) == [1, 2])


def test_calls_that_last_delay_no_others_as_long_as_there_may_be_threads(world: World) -> None:
    pool, go, told = make_pool(world, 6), threading.Event(), list[str]()
    for _ in range(5):
        pool.call(Call(lambda: go.wait(10), lambda: told.append("lasted")))
    pool.call(Call(lambda: None, lambda: told.append("quick")))
    world.turn_until(lambda: told)
    assert told == ["quick"]
    for _ in range(3):  # one is for the sixth thread, and then there is none
        pool.call(Call(lambda: go.wait(10), lambda: told.append("lasted")))
    go.set()
    world.turn_until(lambda: told.count("lasted") == 8)


def test_threads_end_when_nothing_is_called(world: World) -> None:
    pool, told = make_pool(world, 6), list[int]()
    for number in range(10):
        pool.call(Call(lambda: None, lambda number=number: told.append(number)))
        world.turn_until(lambda number=number: number in told)
    for thread in world.threads:
        thread.join(10)
    pool.call(Call(lambda: None, lambda: told.append(10)))
    world.turn_until(lambda: 10 in told)


def test_calls_wait_while_the_system_has_no_thread(world: World) -> None:
    pool, told = make_pool(world, 6), list[int]()
    world.has_room = False
    pool.call(Call(lambda: None, lambda: told.append(1)))
    world.turn_until(lambda: world.threads)  # it will look again
    world.has_room = True
    world.turn_until(lambda: told)
