"""How this process answered handshakes: counted in any thread, told by the loop."""

from __future__ import annotations

import threading
from collections import Counter

_lock = threading.Lock()
_handshakes = Counter(dict.fromkeys((101, 200, 400, 403, 404, 426, 503), 0))  # rates need a zero to begin with


def count_handshake(status: int) -> None:
    """Count an answer to a handshake, by its status."""
    with _lock:  # += is no single step
        _handshakes[status] += 1


def handshakes() -> dict[int, int]:
    """Return how many handshakes were answered with which status."""
    with _lock:
        return dict(_handshakes)
