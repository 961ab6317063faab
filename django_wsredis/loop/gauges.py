"""How a worker does: how fast messages come and go, how late its loop is, how much memory it has."""

from __future__ import annotations

import logging
import os
import re
import resource
import sys
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

from .hub import Hub
from .reactor import Reactor

SAMPLE_SECONDS = 0.25
RATE_SAMPLES = 20  # over which a rate is told: 5 seconds
LAG_SAMPLES = 240  # of which the 99th percentile is told: a minute


class Rates(NamedTuple):
    """Messages per second: from browsers, and to browsers."""

    received: float
    delivered: float


class Gauges:
    """Samples, taken by a timer. Its lateness is the loop's: for so long a socket that is ready waits at least.

    received: messages from browsers, since the worker began.
    """

    def __init__(self, reactor: Reactor, hub: Hub) -> None:
        self._reactor = reactor
        self._hub = hub
        self.received = 0
        self._lags: deque[float] = deque([0.0], LAG_SAMPLES)
        self._counts: deque[tuple[float, int, int]] = deque([(reactor.now(), 0, 0)], RATE_SAMPLES + 1)
        self._due_at = reactor.now() + SAMPLE_SECONDS
        self._timer = reactor.timer(SAMPLE_SECONDS, SAMPLE_SECONDS)
        self._timer.again(self._sample)

    def stop(self) -> None:
        """Take no more samples."""
        self._timer.stop()
        self._timer.close()

    def rates(self) -> Rates:
        """Return the rates of the last seconds."""
        then, received, delivered = self._counts[0]
        seconds = max(self._reactor.now() - then, SAMPLE_SECONDS)
        return Rates((self.received - received) / seconds, (self._hub.delivered - delivered) / seconds)

    def lag(self) -> float:
        """Return the 99th percentile of the loop's lateness in the last minute, in seconds."""
        lags = sorted(self._lags)
        return lags[int(0.99 * (len(lags) - 1) + 0.5)]

    def _sample(self) -> None:
        now = self._reactor.now()
        self._lags.append(max(0.0, now - self._due_at))
        self._counts.append((now, self.received, self._hub.delivered))
        self._due_at = now + SAMPLE_SECONDS
        self._timer.again(self._sample)


_SESSION = re.compile(":session:[0-9a-f]{32}")  # in the names of channels


class LastError(logging.Handler):
    """Remembers the last error that the package logged in this process, without sessions' digests."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.at: float | None = None  # in seconds since 1970
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" {record.exc_info[1]!r}"
        self.at, self.text = record.created, _SESSION.sub(":session:…", text)


_last_error = LastError()


def last_error() -> LastError:
    """Return what remembers this process's last error, which hears it from now on."""
    logging.getLogger("django_wsredis").addHandler(_last_error)  # a logger takes the same one once
    return _last_error


def memory_bytes() -> int:
    """Return what this process has in memory; where the system does not tell, the most that it ever had."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):  # no Linux
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def uptime_seconds(started_at: float) -> float:
    """Return for how long the worker has lived; `started_at` is in seconds since 1970."""
    return max(0.0, time.time() - started_at)
