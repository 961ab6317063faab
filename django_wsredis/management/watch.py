"""wsinspect --watch: look again and again, and show it on the whole screen, or as one line of JSON each time."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from threading import Event, Thread
from typing import Any

from rich.console import Console
from rich.live import Live

from django_wsredis.exceptions import BrokerUnavailable
from django_wsredis.inspection.times import now

from .display.frame import Frame, footer
from .keyboard import keyboard
from .views import View


class Sampler(Thread):
    """Looks in a thread of its own, so that keys are answered while Redis is not.

    report, at: what was seen last, and when; None before. problem: why it could not look since.
    """

    def __init__(self, look: Callable[[], Any], seconds: float) -> None:
        super().__init__(daemon=True)
        self._look = look
        self._seconds = seconds
        self._is_stopped = False
        self._hurry = Event()
        self.report: Any = None
        self.at = ""
        self.problem = ""
        self.error: BaseException | None = None
        self.count = 0

    def run(self) -> None:
        """Look until it is stopped."""
        while not self._is_stopped and self.error is None:
            began_at = time.monotonic()
            self._hurry.clear()
            try:
                self.report, self.problem = self._look(), ""
                self.at = f"{datetime.now():%H:%M:%S}"
            except BrokerUnavailable as error:
                self.problem = str(error)
            except BaseException as error:
                self.error = error
            self.count += 1
            self._hurry.wait(max(0.0, self._seconds - (time.monotonic() - began_at)))

    def hurry(self) -> None:
        """Look now."""
        self._hurry.set()

    def stop(self) -> None:
        """Look no more; a look that is under way is not waited for."""
        self._is_stopped = True
        self._hurry.set()


def watch(view: View, seconds: float, console: Console) -> None:
    """Show it on the whole screen, until q or Ctrl-C is pressed."""
    sampler = Sampler(view.look, seconds)
    with ends_on_sigterm(), keyboard() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        sampler.start()
        try:
            shown: Any = None
            while True:
                if sampler.error is not None:
                    raise sampler.error
                state = (sampler.count, view.order, console.size)
                if state != shown:
                    live.update(frame(view, sampler, console), refresh=True)
                    shown = state
                for key in keys.wait():
                    if key == "q":
                        return
                    if key in view.keys:
                        view.order = view.order.pressed(view.keys[key])
                        sampler.hurry()
        finally:
            sampler.stop()


def frame(view: View, sampler: Sampler, console: Console) -> Frame:
    """Return what is on the screen now."""
    report, keys = sampler.report, footer(view.keys, view.order.word, sampler.at, console.width)
    return Frame(
        lambda width: [] if report is None else view.head(report, width),
        lambda width, height: [] if report is None else view.body(report, width, height),
        keys,
        f"{sampler.problem} Trying again." if sampler.problem else "",
    )


def watch_as_json(view: View, seconds: float, write: Callable[[str], object]) -> None:
    """Write one object each time; while Redis is away it says why."""
    while True:
        began_at = time.monotonic()
        try:
            told = {**view.told(view.look()), "problem": None}
        except BrokerUnavailable as error:
            told = {"time": now(), "problem": str(error)}
        write(json.dumps(told))
        time.sleep(max(0.0, seconds - (time.monotonic() - began_at)))


@contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """End as usual on SIGTERM, so that the terminal gets its own ways back."""

    def end(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
