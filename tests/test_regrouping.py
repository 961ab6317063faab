"""Sockets whose users' groups have changed: what Django decides anew is what they have, in the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from django_wsredis.channels import Channel, Wish
from django_wsredis.conf import Settings
from django_wsredis.exceptions import Unavailable
from django_wsredis.handshake import Granted
from django_wsredis.loop.dialogue import Dialogue
from django_wsredis.loop.outgoing import Target
from django_wsredis.loop.regrouping import Regrouping

from .ears import Ear


def granted(facility: str, *groups: str, publishes: bool = False) -> Granted:
    """Return what members of some groups get of a facility: these, and what everybody gets."""
    channels = tuple(Channel("group", group, facility) for group in groups)
    subscribe = (Channel("broadcast", "", facility), *channels)
    return Granted(
        facility, subscribe, channels if publishes else (), Wish((), (), False, {"": b"1-0"}), "\0".join(groups)
    )


def name_of(channel: Channel) -> bytes:
    return f"{channel.name or 'all'} {channel.facility}".encode()


class Desk:
    """Remembers what it is asked for; the test decides, and lets time pass."""

    def __init__(self) -> None:
        self.reactor: Any = SimpleNamespace(call_later=lambda seconds, function: self.later.append(function))
        self.settings = Settings(websocket_url="/ws/", url="redis://")
        self.later: list[Callable[[], None]] = []
        self.asked: list[tuple[str, str | None]] = []
        self.urgent: list[bool] = []
        self.answers: list[Callable[[Granted | int], None]] = []
        self.sinces: list[dict[str, bytes]] = []  # of the joins
        self.is_away = False

    def decide(
        self,
        visitor: bytes,
        facility: str,
        query: str | None,
        on_decided: Callable[[Granted | int], None],
        *,
        is_urgent: bool = True,
    ) -> None:
        self.asked.append((facility, query))
        self.urgent.append(is_urgent)
        self.answers.append(on_decided)

    def answer(self, given: Granted | int) -> None:
        self.answers.pop(0)(given)

    def join(self, connection: Ear, granted: Granted) -> Any:
        self.sinces.append(dict(granted.wish.since))
        done: Future[None] = Future()
        if self.is_away:
            done.set_exception(Unavailable("Redis is away"))
        else:
            done.set_result(None)
            connection.channels += tuple(name for name in self.names(granted) if name not in connection.channels)
            connection.key = connection.key or (b"key" if granted.publish else None)
        return SimpleNamespace(done=done)

    def leave_channels(self, connection: Ear, names: Sequence[bytes]) -> None:
        connection.channels = tuple(name for name in connection.channels if name not in names)

    def names(self, granted: Granted) -> list[bytes]:
        return [name_of(channel) for channel in granted.subscribe]

    def positions(self, connection: Ear, names: Sequence[bytes]) -> dict[bytes, bytes | None]:
        assert set(names) <= set(connection.channels)
        return dict.fromkeys(names)

    def target(self, granted: Granted) -> Target | None:
        return Target([name_of(channel) for channel in granted.publish], None) if granted.publish else None


# Sockets that speak no subprotocol


class Plain:
    """A socket on "chat", whose user is in the group "one" at first."""

    def __init__(self, *, is_attached: bool = True) -> None:
        self.desk = Desk()
        self.regrouping = Regrouping(self.desk)
        self.ear = Ear(is_attached=is_attached)
        self.ear.visitor = b"the visitor"
        self.ear.channels = (b"all chat", b"one chat")

    def regroup(self) -> None:
        self.regrouping.regroup(self.ear)


@pytest.fixture
def plain() -> Plain:
    return Plain()


def test_a_socket_leaves_what_it_may_hear_no_more_and_joins_what_is_new(plain: Plain) -> None:
    plain.regroup()
    assert (len(plain.desk.asked), plain.desk.urgent) == (1, [False])
    plain.desk.answer(granted("chat", "two", "three", publishes=True))
    assert plain.ear.channels == (b"all chat", b"two chat", b"three chat")
    assert plain.ear.publish_to == Target([b"two chat", b"three chat"], None)
    assert plain.ear.groups == "two\0three"
    assert plain.desk.sinces == [{}]  # the URL's positions are of another time


def test_where_nothing_is_new_nothing_is_joined(plain: Plain) -> None:
    plain.regroup()
    plain.desk.answer(granted("chat", "one"))
    plain.regroup()
    plain.desk.answer(granted("chat"))
    assert plain.ear.channels == (b"all chat",)
    assert plain.desk.sinces == []


def test_who_may_publish_from_now_on_gets_a_key_so_that_its_messages_do_not_come_back(plain: Plain) -> None:
    plain.regroup()
    plain.desk.answer(granted("chat", "one", publishes=True))
    assert plain.ear.key is not None


@pytest.mark.parametrize(("status", "code"), [(403, 4403), (400, 4403), (503, 1013)])
def test_a_refusal_closes_it(plain: Plain, status: int, code: int) -> None:
    plain.regroup()
    plain.desk.answer(status)
    assert plain.ear.close_code == code


def test_while_redis_is_away_it_is_to_come_back(plain: Plain) -> None:
    plain.desk.is_away = True
    plain.regroup()
    plain.desk.answer(granted("chat", "two"))
    assert plain.ear.close_code == 1013


def test_what_is_asked_for_while_it_is_decided_is_decided_once_more(plain: Plain) -> None:
    for _ in range(3):
        plain.regroup()
    assert len(plain.desk.answers) == 1
    plain.desk.answer(granted("chat", "old"))
    assert len(plain.desk.answers) == 1
    plain.desk.answer(granted("chat", "new"))
    assert plain.desk.answers == []
    assert plain.ear.channels == (b"all chat", b"new chat")
    plain.regroup()
    assert len(plain.desk.answers) == 1


def test_a_socket_that_has_gone_is_left_alone(plain: Plain) -> None:
    plain.regroup()
    plain.regroup()
    plain.ear.close(1000)
    plain.desk.answer(granted("chat", "two"))
    plain.regroup()
    assert plain.desk.answers == plain.desk.sinces == []
    assert not plain.regrouping._under_way
    assert not plain.regrouping._again


def test_who_is_nobody_has_no_groups(plain: Plain) -> None:
    plain.ear.visitor = b""
    plain.regroup()
    assert plain.desk.answers == []


def test_a_socket_whose_handshake_is_not_answered_yet_waits_for_that() -> None:
    plain = Plain(is_attached=False)
    plain.regroup()
    plain.regroup()
    for _ in range(3):
        assert plain.desk.answers == []
        plain.desk.later.pop()()
    plain.ear.be_attached()
    plain.desk.later.pop()()
    plain.desk.answer(granted("chat", "two"))
    plain.desk.answer(granted("chat", "two"))
    assert (plain.desk.answers, plain.desk.later) == ([], [])
    assert b"two chat" in plain.ear.channels


def test_a_handshake_that_fails_ends_the_waiting() -> None:
    plain = Plain(is_attached=False)
    plain.regroup()
    plain.ear.close(1000)
    plain.desk.later.pop()()
    assert (plain.desk.answers, plain.desk.later) == ([], [])


# Sockets that speak wsredis.v1


class Talk:
    """A socket on "chat", whose user is in the group "one" at first, and which may ask for more."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.regrouping = Regrouping(self.desk)
        self.ear = Ear(v1=True)
        self.ear.visitor = b"the visitor"
        self.ear.channels = (b"all chat", b"one chat")
        self.dialogue = self.ear.dialogue = Dialogue(self.desk, self.ear, granted("chat", "one"))
        self.dialogue.tell_joined()
        self.told()

    def says(self, **header: str) -> None:
        self.dialogue.on_message(json.dumps(header).encode(), True)

    def subscribes(self, facility: str, given: Granted) -> None:
        self.says(type="subscribe", facility=facility, query=f"of {facility}")
        self.desk.answer(given)
        self.dialogue.tell_joined()
        self.told()
        self.desk.asked.clear()

    def regroup(self) -> None:
        self.regrouping.regroup(self.ear)

    def told(self) -> list[tuple[str, str, list[str]]]:
        """Return what it was told since the last time: type, facility, and the channels of an ack."""
        told = [(header["type"], header["facility"], list(header.get("channels", []))) for header, _ in self.ear.told]
        self.ear.told.clear()
        return told


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_every_facility_is_decided_again_with_its_own_query_and_acked_if_it_changed(talk: Talk) -> None:
    talk.subscribes("more", granted("more", "one"))
    talk.subscribes("same", granted("same"))
    talk.regroup()
    talk.desk.answer(granted("chat", "two"))
    talk.desk.answer(granted("more"))
    talk.desk.answer(granted("same"))
    assert talk.desk.asked == [("chat", None), ("more", "of more"), ("same", "of same")]
    assert set(talk.ear.channels) == {b"all chat", b"two chat", b"all more", b"all same"}
    assert talk.told() == [("ack", "chat", ["all chat", "two chat"]), ("ack", "more", ["all more"])]
    assert talk.dialogue.groups == {"two", ""}


def test_a_channel_that_another_facility_has_is_not_left(talk: Talk) -> None:
    talk.subscribes("more", replace(granted("chat", "one"), facility="more"))
    talk.regroup()
    talk.desk.answer(granted("chat"))
    assert b"one chat" in talk.ear.channels
    assert talk.told() == [("ack", "chat", ["all chat"])]
    talk.desk.answer(replace(granted("chat"), facility="more"))
    assert talk.ear.channels == (b"all chat",)


def test_it_has_its_turn_among_the_wishes(talk: Talk) -> None:
    talk.says(type="subscribe", facility="a", query="of a")
    talk.regroup()
    talk.regroup()
    talk.says(type="unsubscribe", facility="chat")
    talk.says(type="subscribe", facility="b", query="of b")
    talk.desk.answer(granted("a", "old"))
    talk.desk.answer(granted("chat", "new"))
    talk.desk.answer(granted("a", "new"))
    talk.desk.answer(granted("b", "new"))
    assert talk.desk.asked == [("a", "of a"), ("chat", None), ("a", "of a"), ("b", "of b")]
    assert talk.desk.urgent == [True, False, False, True]
    assert set(talk.ear.channels) == {b"all a", b"new a", b"all b", b"new b"}


def test_what_changes_while_it_is_decided_is_decided_once_more(talk: Talk) -> None:
    talk.regroup()
    talk.regroup()
    talk.desk.answer(granted("chat", "old"))
    talk.desk.answer(granted("chat", "new"))
    assert talk.desk.answers == []
    assert talk.ear.channels == (b"all chat", b"new chat")


def test_a_facility_that_is_left_before_its_turn_is_not_decided(talk: Talk) -> None:
    talk.subscribes("more", granted("more"))
    talk.says(type="subscribe", facility="a", query="of a")
    talk.says(type="unsubscribe", facility="more")
    talk.regroup()
    talk.desk.answer(403)
    talk.desk.answer(granted("chat", "one"))
    assert talk.desk.asked == [("a", "of a"), ("chat", None)]


@pytest.mark.parametrize("lost", ["chat", "more"])
def test_a_facility_that_is_refused_now_is_told_and_the_others_stay(talk: Talk, lost: str) -> None:
    talk.subscribes("more", granted("more", "one"))
    talk.regroup()
    for facility in ("chat", "more"):
        talk.desk.answer(403 if facility == lost else granted(facility, "one"))
    (kept,) = talk.dialogue.facilities
    assert {kept, lost} == {"chat", "more"}
    assert talk.told() == [("error", lost, [])]
    assert set(talk.ear.channels) == {f"all {kept}".encode(), f"one {kept}".encode()}
    talk.regroup()
    talk.desk.answer(403)
    assert talk.ear.close_code == 4403


@pytest.mark.parametrize("is_away", [False, True])
def test_what_cannot_be_decided_or_done_now_closes_it_to_come_back(talk: Talk, is_away: bool) -> None:
    talk.subscribes("more", granted("more"))
    talk.desk.is_away = is_away
    talk.regroup()
    talk.desk.answer(granted("chat", "two") if is_away else 503)
    assert talk.ear.close_code == 1013
    assert talk.desk.answers == []


def test_a_decision_for_a_socket_that_has_gone_changes_nothing(talk: Talk) -> None:
    talk.regroup()
    talk.ear.close(1000)
    talk.desk.answer(granted("chat", "two"))
    assert talk.desk.sinces == []


def test_where_its_messages_go_changes_too(talk: Talk) -> None:
    talk.regroup()
    talk.desk.answer(granted("chat", "one", publishes=True))
    assert talk.dialogue._facilities["chat"].target == Target([b"one chat"], None)
    assert talk.ear.key is not None
