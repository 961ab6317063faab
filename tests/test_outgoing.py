"""What browsers send on its way to Redis: in its order, once, and not lost with a link."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hiredis import ReplyError

from django_wsredis import commands
from django_wsredis.conf import Keep
from django_wsredis.loop.outgoing import (
    ENTRY_BYTES,
    MAX_HELD_BYTES,
    MAX_RESEND_SECONDS,
    RETRY_SECONDS,
    Outgoing,
    Target,
)
from django_wsredis.messages import decode

from .ears import text

PLAIN = Target([b"a"], None)
KEPT = Target([b"a"], Keep(5, 60))
HALF = "x" * (MAX_HELD_BYTES // 2 - ENTRY_BYTES)  # of what may be held


class Link:
    """A connection to Redis, which the test answers for."""

    def __init__(self) -> None:
        self.is_closed = False
        self.calls: list[tuple[tuple[Any, ...], Callable[[Any], None]]] = []
        self.sent: list[str] = []  # channel and payload
        self.keys: list[bytes] = []

    def call(self, *command: Any, on_reply: Callable[[Any], None]) -> None:
        self.calls.append((command, on_reply))
        if command[0] == "EVAL":
            assert command[1] == commands.PUBLISH_SCRIPT
            names, rest = command[3 : 3 + command[2]], command[3 + command[2] :]
            self.keys.append(names[1])
            self.sent.append(f"{names[0].decode()} {decode(rest[1] + rest[3]).data}")
        else:
            assert command[0] in ("PUBLISH", "SPUBLISH")
            self.sent.append(f"{command[1].decode()} {decode(command[2]).data}")

    def answer(self, *replies: Any) -> None:
        """Answer so many of the first calls."""
        answered, self.calls = self.calls[: len(replies)], self.calls[len(replies) :]
        for (_, on_reply), reply in zip(answered, replies, strict=True):
            on_reply(reply)


class Links:
    """Links by channel."""

    is_sharded = False

    def __init__(self) -> None:
        self.has_tried = threading.Event()
        self.by_name: dict[bytes, Link] = {}
        self.was_moved: list[Any] = []
        self.all_up = True

    def link(self, name: bytes) -> Any:
        return self.by_name.get(name)

    def moved(self, link: Any = None) -> None:
        self.was_moved.append(link)

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Clock:
    """A reactor: the time, which the test sets, and what is to be called later."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.later: list[Callable[[], None]] = []

    def now(self) -> float:
        return self.seconds

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        assert seconds == RETRY_SECONDS
        self.later.append(function)

    def retry(self) -> None:
        """Let the time pass until what was refused is sent again."""
        (function,) = self.later
        self.later.clear()
        function()


@pytest.fixture
def links() -> Links:
    return Links()


@pytest.fixture
def clock() -> Any:
    return Clock()


@pytest.fixture
def outgoing(links: Links, clock: Any) -> Outgoing:
    return Outgoing(clock, links)


refused: list[str] = []  # the payloads that were refused for good


@pytest.fixture(autouse=True)
def _none_is_refused() -> None:
    refused.clear()


def publish(outgoing: Outgoing, target: Target, *payloads: str) -> list[bool]:
    return [outgoing.publish(target, text(payload), partial(refused.append, payload)) for payload in payloads]


def lose(links: Links, outgoing: Outgoing, name: bytes = b"a") -> Link:
    """Lose a link; return it."""
    link = links.by_name.pop(name)
    link.is_closed = True
    outgoing.on_changed()
    return link


def connect(links: Links, outgoing: Outgoing, *names: bytes) -> Link:
    link = Link()
    links.by_name.update(dict.fromkeys(names or (b"a",), link))
    outgoing.on_changed()
    return link


def test_a_message_goes_at_once_to_each_channel(links: Links, outgoing: Outgoing) -> None:
    one, two = connect(links, outgoing, b"a"), connect(links, outgoing, b"b")
    assert publish(outgoing, Target([b"a", b"b"], None), "1", "2") == [True, True]
    assert one.sent == ["a 1", "a 2"]
    assert two.sent == ["b 1", "b 2"]
    one.answer(1, 1)


@pytest.mark.parametrize("target", [PLAIN, KEPT])
def test_without_a_link_it_waits_and_keeps_its_order(links: Links, outgoing: Outgoing, target: Target) -> None:
    assert publish(outgoing, target, "1", "2") == [True, True]
    outgoing.on_changed()  # a try was in vain
    link = connect(links, outgoing)
    publish(outgoing, target, "3")
    assert link.sent == ["a 1", "a 2", "a 3"]
    outgoing.on_changed()
    assert len(link.sent) == 3


def test_what_waits_for_one_shard_does_not_hold_up_another(links: Links, outgoing: Outgoing) -> None:
    link = connect(links, outgoing, b"b")
    publish(outgoing, PLAIN, "1")
    publish(outgoing, Target([b"b"], None), "2")
    publish(outgoing, Target([b"a", b"b"], None), "3")
    assert link.sent == ["b 2", "b 3"]
    assert connect(links, outgoing, b"a").sent == ["a 1", "a 3"]


def test_a_full_shard_that_is_away_does_not_stop_another(links: Links, outgoing: Outgoing) -> None:
    link = connect(links, outgoing, b"b")
    assert publish(outgoing, PLAIN, HALF, HALF, "1") == [True, True, False]
    assert publish(outgoing, Target([b"b"], None), "2", "3") == [True, True]
    assert publish(outgoing, Target([b"a", b"b"], None), "4") == [False]
    assert link.sent == ["b 2", "b 3"]


def test_only_what_came_before_it_on_its_channel_holds_a_message_up(links: Links, outgoing: Outgoing) -> None:
    link = connect(links, outgoing, b"a", b"b")
    publish(outgoing, PLAIN, "1")
    link.answer(ReplyError("TRYAGAIN Multiple keys request during rehashing of slot"))
    publish(outgoing, PLAIN, "2")
    publish(outgoing, Target([b"b"], None), "3")
    assert link.sent == ["a 1", "b 3"]
    outgoing.on_changed()
    assert link.sent == ["a 1", "b 3", "a 1", "a 2"]


def test_so_much_may_wait_and_no_more(links: Links, outgoing: Outgoing) -> None:
    assert publish(outgoing, PLAIN, HALF, HALF, "") == [True, True, False]
    assert publish(outgoing, Target([b"a", b"b"], None), "x") == [False]
    link = connect(links, outgoing)
    assert len(link.sent) == 2
    link.answer(1, 1)
    lose(links, outgoing)
    assert publish(outgoing, PLAIN, HALF, HALF, "") == [True, True, False]


def test_so_much_may_be_unanswered_and_no_more(links: Links, outgoing: Outgoing) -> None:
    """As when Redis hangs, until its silence is noticed."""
    silent, other = connect(links, outgoing, b"a"), connect(links, outgoing, b"b")
    assert publish(outgoing, PLAIN, HALF, HALF, "") == [True, True, False]
    assert publish(outgoing, Target([b"b"], None), HALF, HALF) == [True, True]
    silent.answer(1)
    assert publish(outgoing, PLAIN, HALF, "") == [True, False]
    lose(links, outgoing)  # what was unanswered and is plain is over
    assert publish(outgoing, PLAIN, HALF, HALF, "") == [True, True, False]
    other.answer(1, ReplyError("NOPERM no permissions"))
    assert publish(outgoing, Target([b"b"], None), HALF, HALF, "") == [True, True, False]


def test_what_comes_back_from_a_lost_link_counts_again(links: Links, outgoing: Outgoing) -> None:
    connect(links, outgoing)
    assert publish(outgoing, KEPT, HALF, HALF) == [True, True]
    lose(links, outgoing)
    assert publish(outgoing, KEPT, "") == [False]
    connect(links, outgoing).answer(1, 1)
    assert publish(outgoing, KEPT, "") == [True]


@pytest.mark.parametrize("is_connected", [False, True])
def test_one_message_may_be_as_large_as_it_likes(links: Links, outgoing: Outgoing, is_connected: bool) -> None:
    if is_connected:
        connect(links, outgoing)
    assert publish(outgoing, PLAIN, HALF * 3, "") == [True, False]


def test_a_message_to_several_channels_counts_for_each(links: Links, outgoing: Outgoing) -> None:
    two = Target([b"a", b"b"], None)
    third = "x" * (MAX_HELD_BYTES // 3)
    assert publish(outgoing, two, third, third) == [True, False]


def test_what_is_kept_is_sent_again_with_the_same_key_when_its_answer_was_lost(
    links: Links, outgoing: Outgoing
) -> None:
    link = connect(links, outgoing)
    publish(outgoing, KEPT, "1", "2", "3")
    link.answer(1)
    lose(links, outgoing)
    publish(outgoing, KEPT, "4")
    again = connect(links, outgoing)
    assert again.sent == ["a 2", "a 3", "a 4"]
    assert again.keys[:2] == link.keys[1:]
    assert len({*link.keys, *again.keys}) == 4
    again.answer(0, 1, 1)
    lose(links, outgoing)
    assert connect(links, outgoing).sent == []


def test_two_channels_and_two_workers_never_share_a_key(links: Links, outgoing: Outgoing) -> None:
    link = connect(links, outgoing, b"a", b"b")
    publish(outgoing, Target([b"a", b"b"], Keep(5, 60)), "1", "2")
    other_worker: Any = Clock()
    publish(Outgoing(other_worker, links), KEPT, "1")
    assert len(set(link.keys)) == 5


def test_what_is_not_kept_is_not_sent_again_but_logged(
    links: Links, outgoing: Outgoing, caplog: pytest.LogCaptureFixture
) -> None:
    link = connect(links, outgoing)
    publish(outgoing, PLAIN, "1", "2")
    publish(outgoing, KEPT, "3")
    lose(links, outgoing)
    (record,) = caplog.records
    assert "2 messages" in record.getMessage()
    assert connect(links, outgoing).sent == ["a 3"]
    assert link.sent == ["a 1", "a 2", "a 3"]


def test_what_is_kept_is_not_sent_again_when_redis_may_have_forgotten_its_key(
    links: Links, outgoing: Outgoing, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    connect(links, outgoing)
    publish(outgoing, KEPT, "1")
    clock.seconds += 1
    publish(outgoing, KEPT, "2")
    lose(links, outgoing)
    publish(outgoing, KEPT, "3")  # it was never sent
    clock.seconds += MAX_RESEND_SECONDS
    again = connect(links, outgoing)
    assert again.sent == ["a 2", "a 3"]
    (record,) = caplog.records
    assert "1 messages" in record.getMessage()
    clock.seconds += 1
    lose(links, outgoing)  # the first time that it was sent counts
    assert connect(links, outgoing).sent == ["a 3"]


def test_what_waits_too_long_makes_room(links: Links, outgoing: Outgoing, clock: Clock) -> None:
    connect(links, outgoing)
    publish(outgoing, KEPT, HALF, HALF)
    lose(links, outgoing)
    clock.seconds += MAX_RESEND_SECONDS + 1
    outgoing.on_changed()  # a try was in vain
    assert publish(outgoing, KEPT, HALF, HALF, "") == [True, True, False]


def test_what_redis_did_not_carry_out_may_be_sent_however_late(
    links: Links, outgoing: Outgoing, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    link = connect(links, outgoing)
    publish(outgoing, KEPT, "1")
    link.answer(ReplyError("CLUSTERDOWN The cluster is down"))
    clock.seconds += MAX_RESEND_SECONDS + 1
    outgoing.on_changed()
    assert link.sent == ["a 1", "a 1"]
    assert caplog.records == []


def test_a_late_refusal_does_not_tell_of_the_first_try(links: Links, outgoing: Outgoing, clock: Clock) -> None:
    connect(links, outgoing)
    publish(outgoing, KEPT, "1")
    lose(links, outgoing)
    connect(links, outgoing).answer(ReplyError("LOADING Redis is loading the dataset in memory"))
    clock.seconds += MAX_RESEND_SECONDS + 1
    assert connect(links, outgoing).sent == []


@pytest.mark.parametrize("target", [PLAIN, KEPT])
def test_what_belongs_elsewhere_goes_there_in_its_order(
    links: Links, outgoing: Outgoing, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis did not carry it out, so it is sent again in any case."""
    old = connect(links, outgoing)
    publish(outgoing, target, "1", "2", "3")
    old.answer(*[ReplyError("MOVED 1 127.0.0.1:7001")] * 3)
    assert old in links.was_moved
    links.by_name.clear()
    publish(outgoing, target, "4")
    assert connect(links, outgoing).sent == ["a 1", "a 2", "a 3", "a 4"]
    assert caplog.records == []


def test_what_belongs_elsewhere_when_its_link_is_lost_keeps_its_order(links: Links, outgoing: Outgoing) -> None:
    old = connect(links, outgoing)
    publish(outgoing, KEPT, "1", "2", "3", "4")
    old.answer(*[ReplyError("READONLY You can't write against a read only replica.")] * 2)
    lose(links, outgoing)
    assert connect(links, outgoing).sent == ["a 1", "a 2", "a 3", "a 4"]


# Refusals


OOM = ReplyError("OOM command not allowed when used memory > 'maxmemory'.")


@pytest.mark.parametrize(
    "reply", ["NOPERM No permissions to run", "WRONGTYPE Operation against a key", "ERR unknown command"]
)
def test_what_redis_refuses_for_good_is_logged_and_told_and_not_sent_again(
    links: Links, outgoing: Outgoing, clock: Any, caplog: pytest.LogCaptureFixture, reply: str
) -> None:
    link = connect(links, outgoing)
    publish(outgoing, KEPT, "the secret payload", "2")
    link.answer(ReplyError(reply), 1)
    (record,) = caplog.records
    assert reply in record.getMessage()
    assert "secret" not in record.getMessage()
    assert refused == ["the secret payload"]
    assert (outgoing.is_empty, clock.later) == (True, [])
    lose(links, outgoing)
    assert connect(links, outgoing).sent == []


@pytest.mark.parametrize("target", [PLAIN, KEPT])
@pytest.mark.parametrize("word", ["OOM", "NOREPLICAS", "MISCONF", "BUSY"])
def test_what_redis_refuses_for_now_is_sent_again_with_its_key_until_it_is_taken(
    links: Links, outgoing: Outgoing, clock: Any, caplog: pytest.LogCaptureFixture, target: Target, word: str
) -> None:
    link = connect(links, outgoing)
    publish(outgoing, target, "secret 1")
    for _ in range(3):
        link.answer(ReplyError(f"{word} not now"))
        assert link.calls == []  # not at once
        clock.seconds += MAX_RESEND_SECONDS  # however late: it was never carried out
        clock.retry()
    link.answer(1)
    assert link.sent == ["a secret 1"] * 4
    assert len(set(link.keys)) == len(set(link.keys[:1]))
    assert (outgoing.is_empty, clock.later, refused) == (True, [], [])
    (record,) = caplog.records  # once, however often it is refused
    assert f"{word} not now" in record.getMessage()
    assert "secret" not in record.getMessage()


def test_what_is_refused_for_now_keeps_its_order_by_going_one_after_the_other(
    links: Links, outgoing: Outgoing, clock: Any
) -> None:
    link = connect(links, outgoing)
    publish(outgoing, PLAIN, "1", "2")
    link.answer(OOM, OOM)
    publish(outgoing, PLAIN, "3")
    clock.retry()
    publish(outgoing, PLAIN, "4")
    assert link.sent == ["a 1", "a 2", "a 1"]  # the others wait for what becomes of the first
    link.answer(OOM)
    clock.retry()
    link.answer(1)
    assert link.sent[3:] == ["a 1", "a 2", "a 3", "a 4"]
    link.answer(1, 1, 1)
    publish(outgoing, PLAIN, "5", "6")
    assert link.sent[7:] == ["a 5", "a 6"]


def test_what_is_refused_on_one_channel_does_not_hold_up_another(links: Links, outgoing: Outgoing, clock: Any) -> None:
    link = connect(links, outgoing, b"a", b"b")
    publish(outgoing, KEPT, "1")
    link.answer(OOM)
    publish(outgoing, Target([b"b"], None), "2")
    assert link.sent == ["a 1", "b 2"]
    link.answer(1)
    clock.retry()
    assert link.sent == ["a 1", "b 2", "a 1"]


def test_what_is_refused_for_now_counts_as_what_waits(links: Links, outgoing: Outgoing, clock: Any) -> None:
    link = connect(links, outgoing)
    publish(outgoing, PLAIN, HALF, HALF)
    link.answer(OOM, OOM)
    assert publish(outgoing, PLAIN, "") == [False]
    clock.retry()
    link.answer(1)
    link.answer(1)
    assert publish(outgoing, PLAIN, HALF, HALF, "") == [True, True, False]


def test_what_is_refused_for_now_goes_to_a_new_master_at_once(links: Links, outgoing: Outgoing, clock: Any) -> None:
    link = connect(links, outgoing)
    publish(outgoing, PLAIN, "1", "2")
    link.answer(OOM, OOM)
    lose(links, outgoing)
    again = connect(links, outgoing)
    again.answer(1)
    assert again.sent == ["a 1", "a 2"]
    clock.retry()
    assert again.sent == ["a 1", "a 2"]


# A slot that moves


def test_a_message_waits_for_those_before_it_that_another_live_link_has_not_answered(
    links: Links, outgoing: Outgoing
) -> None:
    old = connect(links, outgoing)
    publish(outgoing, KEPT, "1", "2")
    new = connect(links, outgoing)  # the map says so
    publish(outgoing, KEPT, "3")
    assert new.sent == []
    moved = ReplyError("MOVED 1 127.0.0.1:7001")
    old.answer(moved)
    outgoing.on_changed()  # as it was told that it moved
    assert new.sent == []
    old.answer(moved)
    outgoing.on_changed()
    assert new.sent == ["a 1", "a 2", "a 3"]
    publish(outgoing, KEPT, "4")
    assert new.sent == ["a 1", "a 2", "a 3", "a 4"]


def test_what_waits_for_another_link_goes_when_that_has_answered_or_is_lost(links: Links, outgoing: Outgoing) -> None:
    old = connect(links, outgoing)
    publish(outgoing, KEPT, "1")
    new = connect(links, outgoing)
    publish(outgoing, KEPT, "2")
    old.answer(1)
    assert new.sent == ["a 2"]
    newer = connect(links, outgoing)
    publish(outgoing, KEPT, "3")
    new.is_closed = True
    outgoing.on_changed()
    assert newer.sent == ["a 2", "a 3"]


# The end


def test_what_is_lost_with_the_worker_is_logged(
    links: Links, outgoing: Outgoing, caplog: pytest.LogCaptureFixture
) -> None:
    assert outgoing.is_empty
    outgoing.stop()
    assert caplog.records == []
    link = connect(links, outgoing, b"a")
    publish(outgoing, Target([b"a", b"b"], None), "1", "2")
    link.answer(1)
    assert not outgoing.is_empty
    outgoing.stop()
    (record,) = caplog.records
    assert "3 messages" in record.getMessage()


def test_in_a_cluster_it_goes_to_the_channels_shard_alone(links: Links, outgoing: Outgoing) -> None:
    links.is_sharded = True
    link = connect(links, outgoing)
    publish(outgoing, PLAIN, "1")
    publish(outgoing, KEPT, "2")
    words = [command[0] if command[0] != "EVAL" else command[5] for command, _ in link.calls]
    assert words == ["SPUBLISH", "SPUBLISH"]
    assert link.sent == ["a 1", "a 2"]
