"""How long a certificate is good, as `SSLSocket.getpeercert()` tells it."""

from __future__ import annotations

import ssl
import time
from typing import Any

# What renews certificates by itself has done so long before: one of 90 days when 30 are left, one of 6 when 3 are.
SOON_DAYS = 14
SOON_PART = 0.25  # of the days for which it was made, if that is less
DAY_SECONDS = 86400


def days_left(told: dict[str, Any]) -> float:
    """Return how many days it is still good; below 0 it has expired."""
    return (ssl.cert_time_to_seconds(told["notAfter"]) - time.time()) / DAY_SECONDS


def days_in_all(told: dict[str, Any]) -> float:
    """Return for how many days it was made."""
    begins, ends = (ssl.cert_time_to_seconds(told[name]) for name in ("notBefore", "notAfter"))
    return (ends - begins) / DAY_SECONDS


def ends_soon(told: dict[str, Any]) -> bool:
    """Tell whether it should have been renewed by now."""
    return days_left(told) < min(SOON_DAYS, SOON_PART * days_in_all(told))
