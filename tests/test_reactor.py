"""Native threads for what blocks, and what is done where there is no room for one."""

from __future__ import annotations

import _thread
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from django_wsredis.loop.reactor import Reactor


def test_a_thread_of_its_own_runs_what_blocks() -> None:
    ran: list[int] = []
    done = threading.Event()

    def run() -> None:
        ran.append(threading.get_ident())
        done.set()

    hub: Any = SimpleNamespace(loop=None)
    settings: Any = None
    Reactor(hub, settings).start_thread(run, on_failed=ran.append)
    assert done.wait(10)
    assert ran != [threading.get_ident()]


def test_without_room_for_a_thread_that_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    soon: list[tuple[Any, ...]] = []
    told: list[str] = []
    hub: Any = SimpleNamespace(loop=SimpleNamespace(run_callback=lambda *call: soon.append(call)))
    settings: Any = None
    Reactor(hub, settings).start_thread(lambda: None, on_failed=told.append)
    assert told == []  # not before the caller has returned
    ((function, reason),) = soon
    function(reason)
    assert told == ["can't start new thread"]
