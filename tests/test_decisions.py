"""Decisions on further facilities: each is told, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from django_wsredis.exceptions import NotAuthorized
from django_wsredis.loop.decisions import MAX_THREADS, Decisions

GRANTED: Any = object()


class Desk:
    """Decisions in threads that the test runs, and their outcomes in the order in which they were told."""

    def __init__(self) -> None:
        self.threads: list[Callable[[], None]] = []
        self.has_room = True
        self.told: list[Any] = []
        self._soon: list[Callable[[], None]] = []
        reactor: Any = SimpleNamespace(settings=None, run=self._run, start_thread=self._start_thread)
        self._decisions = Decisions(reactor)

    def _start_thread(self, function: Callable[[], None], on_failed: Callable[[str], None]) -> None:
        if self.has_room:
            self.threads.append(function)
        else:
            self._run(on_failed, "can't start new thread")

    def _run(self, function: Callable[..., None], *arguments: Any) -> None:
        self._soon.append(lambda: function(*arguments))

    def ask(self, facility: str) -> None:
        self._decisions.decide(b"", facility, "subscribe-broadcast", self.told.append)

    def turn(self) -> None:
        """Call what is due in the loop."""
        while self._soon:
            self._soon.pop(0)()


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr("django_wsredis.handshake.decide_more", lambda *_: GRANTED)
    return Desk()


def test_a_few_are_decided_at_a_time(desk: Desk) -> None:
    for _ in range(MAX_THREADS + 1):
        desk.ask("chat")
    assert len(desk.threads) == MAX_THREADS
    desk.threads.pop()()
    desk.turn()
    assert len(desk.threads) == MAX_THREADS
    assert desk.told == [GRANTED]


def test_without_a_thread_it_is_503_and_the_next_may_have_one(desk: Desk) -> None:
    desk.has_room = False
    for _ in range(MAX_THREADS + 1):  # none of them takes a place
        desk.ask("chat")
    assert desk.told == []  # not before decide() has returned
    desk.turn()
    assert desk.told == [503] * (MAX_THREADS + 1)
    desk.has_room = True
    desk.ask("chat")
    desk.threads.pop()()
    desk.turn()
    assert desk.told[-1] is GRANTED


@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit()])
def test_whatever_is_raised_it_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("django_wsredis.handshake.decide_more", fail)
    desk.ask("chat")
    try:
        desk.threads.pop()()
    except SystemExit:
        pass
    desk.turn()
    assert desk.told == [403]


def test_when_the_database_cannot_be_closed_it_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("gone")

    monkeypatch.setattr("django_wsredis.loop.decisions.connections", SimpleNamespace(close_all=fail))
    desk.ask("chat")
    with pytest.raises(OSError, match="gone"):
        desk.threads.pop()()
    desk.turn()
    assert desk.told == [403]


def test_a_facility_cannot_forge_lines_of_the_log(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise NotAuthorized("no channel")

    monkeypatch.setattr("django_wsredis.handshake.decide_more", refuse)
    desk.ask("chat\nERROR all is lost")
    desk.threads.pop()()
    desk.turn()
    assert desk.told == [403]
    assert "\n" not in caplog.records[0].getMessage()
