"""What a socket that speaks wsredis.v1 says, and is answered; with a desk that the test answers for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from django_wsredis import subprotocol
from django_wsredis.channels import Channel, Wish
from django_wsredis.conf import Settings
from django_wsredis.exceptions import ConnectionClosed, Unavailable
from django_wsredis.handshake import Granted
from django_wsredis.loop.connection import Connection
from django_wsredis.loop.dialogue import MAX_WISHES, Dialogue
from django_wsredis.loop.outgoing import Target

from .ears import Ear

VISITOR = b"the visitor"


def granted(facility: str, *, publishes: bool = False) -> Granted:
    channel = Channel("broadcast", "", facility)
    return Granted(facility, (channel,), (channel,) if publishes else (), Wish(("broadcast",), (), False))


MAX_FACILITIES = 5


class Desk:
    """Remembers what it is asked for; the test decides by `answers`, each of which can be called once."""

    def __init__(self) -> None:
        self.published: list[tuple[Target, bytes, bool]] = []
        self.asked: list[tuple[str, str]] = []
        self.answers: list[Callable[[Granted | int], None]] = []
        self.joined: list[str] = []
        self.left: list[bytes] = []
        self.arrived: set[bytes] = set()
        self.is_away = False
        self.settings = Settings(websocket_url="/ws/", url="redis://", max_facilities=MAX_FACILITIES)

    def publish(self, connection: Connection, target: Target, payload: bytes, is_text: bool) -> None:
        self.published.append((target, payload, is_text))

    def decide(self, visitor: bytes, facility: str, query: str, on_decided: Callable[[Granted | int], None]) -> None:
        assert visitor == VISITOR
        self.asked.append((facility, query))
        self.answers.append(on_decided)

    def answer(self, given: Granted | int) -> None:
        self.answers.pop(0)(given)

    def join(self, connection: Connection, granted: Granted) -> Any:
        done: Future[None] = Future()
        if self.is_away:
            done.set_exception(Unavailable("Redis is away"))
        else:
            self.joined.append(granted.facility)
        return SimpleNamespace(done=done)

    def leave_channels(self, connection: Connection, names: Sequence[bytes]) -> None:
        self.left += names

    def names(self, granted: Granted) -> Sequence[bytes]:
        return [channel.facility.encode() for channel in granted.subscribe]

    def positions(self, connection: Connection, names: Sequence[bytes]) -> dict[bytes, bytes | None] | None:
        return dict.fromkeys(names, b"1-0") if self.arrived.issuperset(names) else None

    def target(self, granted: Granted) -> Target | None:
        return Target(self.names(granted), None) if granted.publish else None


class Talk:
    """A dialogue, its peer and its desk."""

    def __init__(self, *, publishes: bool = False) -> None:
        self.desk, self.ear = Desk(), Ear(v1=True)
        self.ear.visitor = VISITOR
        self.dialogue = Dialogue(self.desk, self.ear, granted("chat", publishes=publishes))
        self.ear.dialogue = self.dialogue

    def says(self, payload: bytes = b"", *, is_text: bool = True, **header: str) -> None:
        data = json.dumps(header).encode()
        self.dialogue.on_message(data + b"\n" + payload if payload else data, is_text)

    def told(self) -> list[dict[str, Any]]:
        """Return what it was told since the last time."""
        told = [header for header, _ in self.ear.told]
        self.ear.told.clear()
        return told


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"hello",
        b"{",
        b"[]\npayload",
        b'"publish"\npayload',
        b"null",
        b"{}",
        b'{"type":"nonsense"}',
        b'{"type":1}',
        b'{"type":null}',
        b'{"type":"publish","facility":1}\nx',
        b'{"type":"subscribe","facility":{"a":"b"}}',
        b'{"channel":"broadcast:chat"}\nx',
        b'\n{"type":"ping"}',
        b'{"type":"ping"\n}',
        b'\xff{"type":"ping"}',
        b"[" * 5000,
        b'{"type":"ping","x":"' + b"x" * subprotocol.MAX_HEADER_BYTES + b'"}',
    ],
)
@pytest.mark.parametrize("is_text", [True, False])
def test_what_has_no_header_is_closed_with_1008(talk: Talk, data: bytes, is_text: bool) -> None:
    with pytest.raises(ConnectionClosed) as raised:
        talk.dialogue.on_message(data, is_text)
    assert raised.value.code == 1008
    assert talk.told() == []
    assert talk.desk.asked == talk.desk.published == []


def test_a_ping_gets_a_pong(talk: Talk) -> None:
    talk.says(type="ping")
    talk.says(type="ping", b="what is not known is ignored")
    assert talk.told() == [{"type": "pong"}, {"type": "pong"}]


def test_a_message_goes_to_the_facility_of_the_url_or_to_another_one_that_is_granted() -> None:
    talk = Talk(publishes=True)
    talk.says(b"one\ntwo", type="publish")
    talk.says(b"\xff\n", is_text=False, type="publish", facility="chat")
    talk.says(type="subscribe", facility="more", query="x")
    talk.desk.answer(granted("more", publishes=True))
    talk.says(type="publish", facility="more")
    assert talk.desk.published == [
        (Target([b"chat"], None), b"one\ntwo", True),
        (Target([b"chat"], None), b"\xff\n", False),
        (Target([b"more"], None), b"", True),
    ]


@pytest.mark.parametrize("facility", ["chat", "listening", "unknown"])
def test_who_publishes_without_a_grant_is_closed_with_1003(facility: str, caplog: pytest.LogCaptureFixture) -> None:
    talk = Talk()
    talk.says(type="subscribe", facility="listening", query="x")
    talk.desk.answer(granted("listening"))
    talk.says(b"x", type="publish", facility=facility)
    talk.says(b"y", type="publish", facility=facility)
    assert talk.ear.close_code == 1003
    assert talk.desk.published == []
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().endswith(
        "is closed (1003): this socket may not publish there: no publish-... was granted"
    )


def test_after_an_unsubscribe_its_grant_to_publish_is_gone_too() -> None:
    talk = Talk(publishes=True)
    talk.says(type="unsubscribe", facility="chat")
    talk.says(b"x", type="publish")
    assert talk.ear.close_code == 1003


def test_wishes_are_decided_one_after_another_in_their_order(talk: Talk) -> None:
    for name in ("a", "b", "c"):
        talk.says(type="subscribe", facility=name, query=f"query of {name}")
    assert talk.desk.asked == [("a", "query of a")]
    talk.desk.answer(granted("a"))
    assert talk.desk.asked[1:] == [("b", "query of b")]
    talk.desk.answer(403)
    talk.desk.answer(granted("c"))
    assert talk.desk.joined == ["a", "c"]
    assert talk.told() == [{"type": "error", "status": 403, "facility": "b"}]
    talk.says(type="subscribe", facility="d")
    assert talk.desk.asked[-1] == ("d", "")


def test_a_facility_that_is_there_is_refused_with_409(talk: Talk) -> None:
    talk.says(type="subscribe", facility="chat", query="x")
    talk.says(type="subscribe", facility="a", query="x")
    talk.says(type="subscribe", facility="a", query="x")
    talk.desk.answer(granted("a"))
    assert talk.told() == [
        {"type": "error", "status": 409, "facility": "chat"},
        {"type": "error", "status": 409, "facility": "a"},
    ]
    assert talk.desk.asked == [("a", "x")]


def test_more_facilities_than_a_socket_may_have_are_refused_with_429(talk: Talk) -> None:
    for number in range(MAX_FACILITIES - 1):
        talk.says(type="subscribe", facility=f"f{number}", query="x")
        talk.desk.answer(granted(f"f{number}"))
    talk.says(type="subscribe", facility="one more", query="x")
    assert talk.told() == [{"type": "error", "status": 429, "facility": "one more"}]
    talk.says(type="unsubscribe", facility="f0")
    talk.says(type="subscribe", facility="one more", query="x")
    talk.desk.answer(granted("one more"))
    assert talk.desk.joined[-1] == "one more"


def test_more_wishes_than_may_wait_are_closed_with_1008(talk: Talk) -> None:
    for number in range(MAX_WISHES + 1):
        talk.says(type="subscribe", facility=f"f{number}", query="x")
    with pytest.raises(ConnectionClosed) as raised:
        talk.says(type="subscribe", facility="one more", query="x")
    assert raised.value.code == 1008


def test_many_refusals_at_once_are_no_deep_recursion(talk: Talk) -> None:
    talk.says(type="subscribe", facility="slow", query="x")
    for _ in range(MAX_FACILITIES):
        talk.says(type="subscribe", facility="chat", query="x")
    talk.desk.answer(403)
    assert len(talk.told()) == MAX_FACILITIES + 1


def test_while_redis_is_away_a_facility_is_refused_with_503_and_can_be_asked_for_again(talk: Talk) -> None:
    talk.desk.is_away = True
    talk.says(type="subscribe", facility="a", query="x")
    talk.desk.answer(granted("a"))
    assert talk.told() == [{"type": "error", "status": 503, "facility": "a"}]
    talk.desk.is_away = False
    talk.says(type="subscribe", facility="a", query="x")
    talk.desk.answer(granted("a"))
    assert (talk.desk.joined, talk.told()) == (["a"], [])


def test_an_unsubscribe_is_confirmed_and_leaves_the_channels_that_no_other_facility_has(talk: Talk) -> None:
    shared = Granted("a", (Channel("broadcast", "", "chat"), Channel("user", "al", "a")), (), Wish((), (), False))
    talk.says(type="subscribe", facility="a", query="x")
    talk.desk.answer(shared)
    talk.says(type="unsubscribe", facility="a")
    assert (talk.desk.left, talk.told()) == ([b"a"], [{"type": "unsubscribed", "facility": "a"}])
    talk.says(type="unsubscribe")
    assert (talk.desk.left, talk.told()) == ([b"a", b"chat"], [{"type": "unsubscribed", "facility": "chat"}])
    talk.says(type="unsubscribe", facility="never there")
    assert talk.told() == [{"type": "unsubscribed", "facility": "never there"}]
    assert talk.desk.left == [b"a", b"chat"]


def test_who_unsubscribes_before_the_decision_is_not_subscribed_in_the_end(talk: Talk) -> None:
    talk.says(type="subscribe", facility="a", query="x")
    talk.says(type="subscribe", facility="b", query="x")
    talk.says(type="unsubscribe", facility="a")
    talk.says(type="unsubscribe", facility="b")
    while talk.desk.answers:
        talk.desk.answer(granted(talk.desk.asked[-1][0]))
    still_there = set(talk.desk.joined) - {name.decode() for name in talk.desk.left}
    assert still_there == set()
    assert talk.told()[-2:] == [{"type": "unsubscribed", "facility": "a"}, {"type": "unsubscribed", "facility": "b"}]


def test_a_decision_for_a_socket_that_has_gone_comes_to_nothing(talk: Talk) -> None:
    talk.says(type="subscribe", facility="a", query="x")
    talk.says(type="subscribe", facility="b", query="x")
    talk.ear.close(1000)
    talk.desk.answer(granted("a"))
    assert talk.desk.joined == []
    assert talk.desk.asked == [("a", "x")]


def granted_shared(facility: str) -> Granted:
    """Return a facility that has a channel of its own, and another one's."""
    channels = (Channel("broadcast", "", facility), Channel("broadcast", "", "shared"))
    return Granted(facility, channels, (), Wish((), (), False))


def arrive(talk: Talk, *names: bytes) -> list[dict[str, Any]]:
    """Let channels arrive, with which a join is done; return what is told."""
    talk.desk.arrived.update(names)
    talk.dialogue.tell_joined()
    return talk.told()


def acked(facility: str, *channels: str) -> dict[str, Any]:
    return {"type": "ack", "facility": facility, "channels": dict.fromkeys(channels, "1-0")}


def test_an_ack_names_all_channels_of_a_facility_as_soon_as_the_last_of_them_has_arrived(talk: Talk) -> None:
    assert arrive(talk, b"chat") == [acked("chat", "chat")]
    for name in ("a", "b"):
        talk.says(type="subscribe", facility=name, query="x")
        talk.desk.answer(granted_shared(name))
    assert arrive(talk, b"b") == []  # "shared" is under way for both
    assert arrive(talk, b"shared") == [acked("b", "b", "shared")]
    assert arrive(talk, b"a") == [acked("a", "a", "shared")]
    assert arrive(talk) == []  # each once


def test_a_facility_that_waits_for_the_channel_of_another_one_is_acked_when_that_is_left(talk: Talk) -> None:
    for name in ("a", "b"):
        talk.says(type="subscribe", facility=name, query="x")
        talk.desk.answer(granted_shared(name))
    talk.desk.arrived.update([b"b", b"shared"])  # but a's own has not, so its join is not done
    talk.says(type="unsubscribe", facility="a")
    assert talk.told() == [{"type": "unsubscribed", "facility": "a"}, acked("b", "b", "shared")]
    assert arrive(talk, b"a") == []
    assert talk.desk.left == [b"a"]


def test_what_is_refused_is_never_acked(talk: Talk) -> None:
    talk.desk.is_away = True
    talk.says(type="subscribe", facility="a", query="x")
    talk.desk.answer(granted("a"))
    talk.told()
    assert arrive(talk, b"a") == []


def test_a_gap_says_since_when_or_how_many(talk: Talk) -> None:
    topic: Any = SimpleNamespace(name=b"chat", channel=b"user:al:chat", position=b"7-0")
    talk.dialogue.tell_position(topic)  # the ack that is due will tell
    assert arrive(talk, b"chat") == [acked("chat", "chat")]
    talk.dialogue.tell_gap(topic, b"5-1")
    talk.dialogue.tell_gap(topic, None)
    talk.dialogue.tell_position(topic)
    talk.ear._send(talk.dialogue.missed(topic, 12))
    assert talk.told() == [
        {"type": "gap", "channel": "user:al:chat", "since": "5-1"},
        {"type": "gap", "channel": "user:al:chat"},
        {"type": "ack", "facility": "chat", "channels": {"user:al:chat": "7-0"}},
        {"type": "gap", "channel": "user:al:chat", "missed": 12},
    ]


def test_after_a_gap_the_ack_is_that_of_a_facility_that_the_socket_has(talk: Talk) -> None:
    talk.says(type="subscribe", facility="a", query="x")
    talk.desk.answer(granted_shared("a"))
    arrive(talk, b"chat", b"a", b"shared")
    topic: Any = SimpleNamespace(name=b"shared", channel=b"broadcast:shared", position=b"7-0")
    talk.dialogue.tell_position(topic)
    assert talk.told() == [{"type": "ack", "facility": "a", "channels": {"broadcast:shared": "7-0"}}]
