"""Whether a handshake began before something changed for its visitor."""

from __future__ import annotations

import pytest

from django_wsredis.control import Filter
from django_wsredis.loop.changes import MAX_CHANGES, MAX_SECONDS, Changes
from django_wsredis.peer import Peer


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("peer", "since", "is_concerned"),
    [
        (Peer("al", "s1"), 99.0, True),
        (Peer("al", "other"), 99.0, True),
        (Peer("other", "s1"), 99.0, True),
        (Peer("", "s1"), 99.0, True),
        (Peer("al", "s1"), 101.0, False),
        (Peer("other", "other"), 99.0, False),
        (Peer("s1", "al"), 99.0, False),  # a user is no session
        (Peer("", ""), 99.0, False),
    ],
)
def test_a_change_concerns_those_who_began_before_it(peer: Peer, since: float, is_concerned: bool) -> None:
    changes = Changes(Clock())
    changes.note(Filter(users=("al", "bo"), sessions=("s1",)))
    assert changes.concern(peer, since) == is_concerned


def test_the_latest_change_counts() -> None:
    changes = Changes(clock := Clock())
    changes.note(Filter(users=("al",)))
    clock.now = 102.0
    changes.note(Filter(users=("al",)))
    assert changes.concern(Peer("al"), 101.0)


def test_what_is_forgotten_concerns_whoever_began_before_it() -> None:
    changes = Changes(clock := Clock())
    changes.note(Filter(sessions=("s0",)))
    clock.now += MAX_SECONDS
    changes.note(Filter(sessions=("s1",)))
    assert len(changes._changed) == 1
    assert changes.concern(Peer("somebody"), 99.0)
    assert not changes.concern(Peer("somebody"), 101.0)
    clock.now += 1
    changes.note(Filter(sessions=tuple(map(str, range(MAX_CHANGES)))))
    assert len(changes._changed) == MAX_CHANGES
    assert changes.concern(Peer("somebody"), clock.now - 2)
    assert not changes.concern(Peer("somebody"), clock.now)
    assert not changes.concern(Peer(), 99.0)
