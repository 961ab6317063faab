from django_wsredis.loop.allowance import Allowance


def test_a_burst_is_allowed_and_then_so_many_per_second() -> None:
    allowance = Allowance(2, 3, now=0)
    assert [allowance.take(0) for _ in range(4)] == [True, True, True, False]
    assert [allowance.take(0.4), allowance.take(0.5), allowance.take(0.5)] == [False, True, False]


def test_a_long_silence_allows_no_more_than_a_burst() -> None:
    allowance = Allowance(2, 3, now=0)
    assert [allowance.take(1000) for _ in range(4)] == [True, True, True, False]
