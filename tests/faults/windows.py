"""Windows of a real browser, whose pages use wsredis.js and write down what they see."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..servers import wait_until
from ..test_browser import Browser
from . import plan
from .plan import Event

WINDOWS = 2


class Windows:
    """Two windows of one Chromium, each at a facility of its own."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._facilities = plan.FACILITIES[:WINDOWS]
        chrome = browser.chrome
        while len(chrome.window_handles) < WINDOWS:
            chrome.switch_to.new_window("window")
        self._handles = chrome.window_handles

    def _each(self) -> Iterator[str]:
        for handle, facility in zip(self._handles, self._facilities, strict=True):
            self._browser.chrome.switch_to.window(handle)
            yield facility

    @contextmanager
    def at(self, port: int) -> Iterator[None]:
        """Open the pages; they are gone afterwards."""
        for facility in self._each():
            self._browser.open(f"http://127.0.0.1:{port}/page/{facility}")
        try:
            for _ in self._each():
                self._browser.wait_for("window.events.some((event) => event[0] === 'message')")
            yield
        finally:
            for _ in self._each():
                self._browser.open("about:blank")

    def have(self, last: dict[str, str], seconds: float) -> bool:
        """Wait until each has the last message of its channel; tell whether they have."""
        deadline = time.monotonic() + seconds
        for facility in self._each():
            id = last[plan.channel_of(facility)]
            while not self._browser.run("return window.events.some((event) => event[2] === arguments[0])", id):
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.05)
        return True

    def events(self) -> list[list[Event]]:
        """Return what each has seen."""
        return [plan.events(self._browser.run("return window.events")) for _ in self._each()]


def open_windows(browser: Browser) -> Windows:
    windows = Windows(browser)
    wait_until(lambda: len(browser.chrome.window_handles) == WINDOWS, what="the second window")
    return windows
