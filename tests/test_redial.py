"""How long a link's next try waits."""

from __future__ import annotations

from django_wsredis.loop.redial import next_delay


def test_delays_grow_up_to_the_longest_with_jitter() -> None:
    for attempts in range(2000):
        delays = {next_delay(attempts, 0.1, 5.0) for _ in range(20)}
        assert min(delays) >= 0.05
        assert max(delays) <= min(5.0, 0.1 * 2 ** min(attempts, 10))
        assert len(delays) > 1
