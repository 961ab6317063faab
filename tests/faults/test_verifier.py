"""The verifier finds each kind of fault where there is one, and none where there is none."""

from __future__ import annotations

import pytest

from .plan import Event, Sent
from .verifier import Result, verify

CHANNEL = "broadcast:chat/0"


def id_of(number: int) -> str:
    return f"{1000 + number}-0"


def message(number: int, at: float | None = None) -> Event:
    return Event("message", CHANNEL, id_of(number), number, float(number) if at is None else at)


def ack(id: str) -> Event:
    return Event("ack", CHANNEL, id, -1, 0.0)


GAP = Event("gap", CHANNEL, "1-0", -1, 0.0)
CLOSE = Event("close", "", "1006", -1, 0.0)


def found(
    *events: Event, sent: range = range(6), unknown: tuple[int, ...] = (), stored: tuple[int, ...] | None = None
) -> Result:
    """Verify what one client saw of messages 0 to 5, which were confirmed at those seconds."""
    messages = [Sent(n, None if n in unknown else float(n), 0.0) for n in sent]
    ids = {id_of(n): n for n in (sent if stored is None else stored)}
    return verify({CHANNEL: messages}, {CHANNEL: ids}, [events], began_at=0.0)


ALL = [message(number) for number in range(6)]


def test_all_is_well() -> None:
    result = found(ack("999-0"), *ALL)
    assert result == Result(
        sent=6, unknown=0, per_second=1.0, received=6, lost=0, doubled=0, swapped=0,
        gaps=0, untold=1, needless=0, excused=0, gone=0, gone_seconds=0.0, forgotten=0, seconds=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("events", "lost"),
    [
        (ALL[:2] + ALL[3:], 1),
        (ALL[:3] + [CLOSE, ack(id_of(4))] + ALL[5:], 2),  # an ack excuses nothing
        (ALL[:4], 2),  # the end
        ([ack("999-0")] + ALL[2:], 2),  # the beginning, after an ack
        ([ack("999-0")], 6),
        (ALL[3:], 0),  # it came later
        ([ack(id_of(2))] + ALL[3:], 0),
        ([ack(id_of(2))] + ALL[4:], 1),
    ],
)
def test_a_message_that_does_not_come_is_lost(events: list[Event], lost: int) -> None:
    result = found(*events)
    assert (result.lost, result.doubled, result.swapped, result.excused) == (lost, 0, 0, 0)


def test_a_gap_at_its_place_excuses_what_did_not_come() -> None:
    result = found(*ALL[:2], GAP, *ALL[4:])
    assert (result.lost, result.excused, result.gaps) == (0, 2, 1)
    assert result.needless == 1  # Redis has all
    assert found(*ALL[:2], GAP, *ALL[4:], stored=(4, 5)).needless == 0
    result = found(*ALL[:2], *ALL[4:], GAP)  # too late
    assert (result.lost, result.excused) == (2, 0)
    result = found(*ALL[:4], GAP)  # nothing came any more
    assert (result.lost, result.excused) == (0, 2)


def test_what_redis_confirmed_and_forgot_must_be_told() -> None:
    assert found(*ALL[:2], *ALL[4:], stored=(4, 5)).forgotten == 2
    assert found(*ALL[:4], stored=()).forgotten == 2
    result = found(*ALL[:2], GAP, *ALL[4:], stored=(4, 5))
    assert (result.lost, result.forgotten, result.excused) == (0, 0, 2)


def test_what_redis_has_no_more_is_counted_whoever_got_it() -> None:
    assert found(*ALL, stored=(4, 5)).gone == 4
    assert found(*ALL[:3], stored=(0, 1, 3), unknown=(2,)).gone == 3


def test_it_is_known_for_how_long_redis_had_confirmed_what_is_gone() -> None:
    sent = {CHANNEL: [Sent(number, float(number), 0.0) for number in range(6)]}
    assert verify(sent, {CHANNEL: {id_of(n): n for n in (0, 1, 2, 5)}}, [], began_at=4.5).gone_seconds == 1.5
    assert verify(sent, {CHANNEL: {id_of(n): n for n in range(6)}}, [], began_at=4.5).gone_seconds == 0


def test_each_client_and_channel_that_was_told_of_no_gap_is_counted() -> None:
    other = "broadcast:chat/1"
    sent = {name: [Sent(0, 0.0, 0.0)] for name in (CHANNEL, other)}
    stored: dict[str, dict[str, int]] = {name: {} for name in sent}
    told = [GAP, GAP, GAP._replace(channel=other)]
    assert verify(sent, stored, [told, told], 0.0).untold == 0
    assert verify(sent, stored, [[GAP, GAP, ack("1-0")._replace(channel=other)], told], 0.0).untold == 1


def test_the_rate_is_that_of_the_time_in_which_redis_was_there() -> None:
    times = [0.0, 0.5, 1.0, 5.0, 9.5, 10.0]  # it is away from 1.1 to 9
    sent = {CHANNEL: [Sent(number, at, 0.0) for number, at in enumerate(times)] + [Sent(6, None, 0.0)]}
    assert verify(sent, {CHANNEL: {}}, [], 1.1, 9.0).per_second == pytest.approx(5 / 2.1)
    assert verify(sent, {CHANNEL: {}}, [], 1.1).per_second == pytest.approx(6 / 10)


def test_what_was_not_confirmed_counts_if_redis_took_it() -> None:
    result = found(*ALL[:2], *ALL[3:], unknown=(2,), stored=(0, 1, 3, 4, 5))
    assert (result.sent, result.unknown, result.lost) == (5, 1, 0)
    result = found(*ALL[:2], *ALL[3:], unknown=(2,))
    assert (result.sent, result.unknown, result.lost) == (6, 0, 1)


def test_what_comes_twice_is_doubled_whatever_its_id() -> None:
    assert found(*ALL, ALL[3]).doubled == 1
    again = ALL[5]._replace(id="2000-0")
    assert found(*ALL, again).doubled == 1
    assert found(*ALL, ALL[3]).swapped == 0


def test_what_comes_late_is_swapped() -> None:
    result = found(*ALL[:2], ALL[3], ALL[2], *ALL[4:])
    assert (result.lost, result.doubled, result.swapped) == (0, 0, 1)


def test_all_are_whole_again_when_nothing_comes_late_any_more() -> None:
    assert found(*ALL[:3], message(3, at=7.5), *ALL[4:]).seconds == 7.5
    held_up = [Sent(0, 0.0, 0.0), Sent(1, 9.0, 8.0), Sent(2, 9.1, 0.1)]
    assert verify({CHANNEL: held_up}, {CHANNEL: {}}, [], began_at=1.0).seconds == 8.0
