"""A program: publishers at a steady rate, which know what Redis has confirmed.

    python -m tests.faults.publishers RETRY_SECONDS

It publishes from its start on. What it is told: "stop", to which it answers with all that it sent, as
{facility: [Sent, …]}.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from . import plan

THREADS = 5
CATCH_UP_SECONDS = 0.25


class Publisher(threading.Thread):
    """Publishes to its facilities in turn. It catches up on what a busy machine costs, not on a Redis that was away."""

    def __init__(self, facilities: list[str], per_second: float, retry: float) -> None:
        super().__init__(daemon=True)
        self.sent: dict[str, list[plan.Sent]] = {facility: [] for facility in facilities}
        self._interval = 1 / per_second
        self._retry = retry
        self._is_over = threading.Event()

    def run(self) -> None:
        due = time.monotonic()
        number = 0
        while not self._is_over.is_set():
            for facility, sent in self.sent.items():
                due = max(due + self._interval, time.monotonic() - CATCH_UP_SECONDS)
                time.sleep(max(0.0, due - time.monotonic()))
                sent.append(self._publish(facility, number))
            number += 1

    def _publish(self, facility: str, number: int) -> plan.Sent:
        from django_wsredis import publish
        from django_wsredis.exceptions import BrokerUnavailable

        began_at = time.time()
        try:
            publish(plan.payload(facility, number), facility=facility, broadcast=True, retry=self._retry)
        except BrokerUnavailable:
            return plan.Sent(number, None, time.time() - began_at)
        now = time.time()
        return plan.Sent(number, now, now - began_at)

    def stop(self) -> dict[str, list[plan.Sent]]:
        """Return what was sent, after the message that is under way."""
        self._is_over.set()
        self.join()
        return self.sent


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.project.settings"
    import django

    django.setup()
    retry = float(sys.argv[1])
    share = plan.PER_SECOND / THREADS
    publishers = [Publisher(plan.FACILITIES[first::THREADS], share, retry) for first in range(THREADS)]
    for publisher in publishers:
        publisher.start()
    if sys.stdin.readline():  # else who asks has gone
        print(json.dumps({facility: sent for p in publishers for facility, sent in p.stop().items()}), flush=True)


if __name__ == "__main__":
    main()
