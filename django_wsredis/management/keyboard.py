"""Keys, as they are pressed: the terminal hands them over one by one, and gets its own ways back."""

from __future__ import annotations

import os
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_SECONDS = 0.1  # for a key


class Keyboard:
    """Without a terminal as standard input no key is ever pressed."""

    def __init__(self, fileno: int | None) -> None:
        self._fileno = fileno

    def wait(self) -> str:
        """Return what was pressed, "" if nothing was for a moment."""
        began_at = time.monotonic()
        pressed = b"" if self._fileno is None else os.read(self._fileno, 64)
        if not pressed:  # of a terminal that is gone a read returns at once
            time.sleep(max(0.0, WAIT_SECONDS - (time.monotonic() - began_at)))
        return "" if pressed.startswith(b"\x1b") else pressed.decode("ascii", "replace")  # no arrows and the like


@contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Take keys from standard input without echo, and without Ctrl-Z, which would leave the screen as it is."""
    if not sys.stdin.isatty():
        yield Keyboard(None)
        return
    fileno = sys.stdin.fileno()
    before = termios.tcgetattr(fileno)
    try:
        tty.setcbreak(fileno)
        ours = termios.tcgetattr(fileno)
        ours[6][termios.VMIN], ours[6][termios.VTIME] = 0, round(WAIT_SECONDS * 10)
        ours[6][termios.VSUSP] = ours[6][termios.VQUIT] = os.fpathconf(fileno, "PC_VDISABLE").to_bytes()
        termios.tcsetattr(fileno, termios.TCSADRAIN, ours)
        yield Keyboard(fileno)
    finally:
        termios.tcsetattr(fileno, termios.TCSAFLUSH, before)
