"""Fan-out, and what a joining or a recovering subscription gets: nothing lost, doubled or swapped.

The property test drives the hub and its subscriber against a model of Redis: one thread of execution, streams of one
message, and for each connection one queue of commands and one of replies and published messages, in one order.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from websockets.protocol import CLIENT, Protocol

from django_wsredis import redis
from django_wsredis.channels import Channel, address, redis_name
from django_wsredis.exceptions import Unavailable
from django_wsredis.loop import redial as redial_module
from django_wsredis.loop.connection import Connection
from django_wsredis.loop.hub import Hub, Join, Topic
from django_wsredis.loop.subscriber import Subscriber
from django_wsredis.messages import Message


class Ear(Connection):
    """A connection whose socket takes everything, and writes down what a client would read."""

    def __init__(self, key: bytes | None = None, echo: bool = False) -> None:
        loop: Any = SimpleNamespace(settings=SimpleNamespace(max_message_bytes=1024, compression=0), now=lambda: 0.0)
        owner: Any = SimpleNamespace(on_leave=lambda connection: None)
        super().__init__(loop, owner, echo=echo)
        self.key = key
        self.outbox = None
        self.sock: Any = SimpleNamespace(send=self.take)
        self.has_left = False
        self.heard: list[str] = []

    def take(self, data: bytes) -> int:
        assert not self.has_left, "it is written to after it left"
        client = Protocol(CLIENT)
        client.receive_data(data)
        self.heard += [bytes(frame.data).decode() for frame in client.events_received()]
        return len(data)


def text(payload: str, **options: Any) -> Message:
    return Message(payload.encode(), True, **options)


def joined(hub: Hub, ear: Ear, *names: bytes) -> Join:
    """Let an ear listen at once, as if Redis had confirmed everything."""
    join = Join(ear, names)
    for topic in hub.begin(join, names):
        topic.is_subscribed = True
    hub.complete(join)
    return join


def deliver(hub: Hub, name: bytes, *messages: Message) -> None:
    """Let messages arrive together."""
    for message in messages:
        hub.publish(name, message)
    hub.flush()


# Delivery


def test_a_message_reaches_every_connection_of_its_channel_and_no_other() -> None:
    hub = Hub()
    one, two, other = Ear(), Ear(), Ear()
    joined(hub, one, b"a")
    joined(hub, two, b"a", b"b")
    joined(hub, other, b"b")
    deliver(hub, b"a", text("hello"))
    assert (one.heard, two.heard, other.heard) == (["hello"], ["hello"], [])
    deliver(hub, b"b", text("bye"))
    assert (one.heard, two.heard, other.heard) == (["hello"], ["hello", "bye"], ["bye"])
    deliver(hub, b"nobody's", text("lost"))


def test_messages_that_arrive_together_arrive_in_their_order_whoever_they_are_from_and_for() -> None:
    hub = Hub()
    sender, ear, both = Ear(b"sender"), Ear(), Ear()
    hub.add_sender(sender)
    joined(hub, sender, b"a")
    joined(hub, ear, b"a")
    joined(hub, both, b"a", b"b")
    for number, (name, key) in enumerate(
        [
            (b"a", None),
            (b"a", None),
            (b"a", b"sender"),
            (b"a", None),
            (b"b", None),
            (b"b", None),
            (b"a", b"x"),
            (b"b", None),
        ]
    ):
        hub.publish(name, text(str(number), sender=key))
    hub.flush()
    assert sender.heard == ["0", "1", "3", "6"]
    assert ear.heard == ["0", "1", "2", "3", "6"]
    assert both.heard == ["0", "1", "2", "3", "4", "5", "6", "7"]
    hub.flush()
    assert len(both.heard) == 8


def test_who_joins_or_leaves_between_messages_that_arrive_together_gets_its_own_part() -> None:
    hub = Hub()
    one, two = Ear(), Ear()
    joined(hub, one, b"a")
    hub.publish(b"a", text("1"))
    joined(hub, two, b"a")
    hub.publish(b"a", text("2"))
    hub.remove(one)
    one.has_left = True
    hub.publish(b"a", text("3"))
    hub.flush()
    assert (one.heard, two.heard) == (["1", "2"], ["2", "3"])


def test_a_channel_that_redis_has_not_confirmed_is_silent() -> None:
    """What arrives before that belongs to an earlier subscription, whose end Redis did not hear of yet."""
    hub = Hub()
    ear = Ear()
    join = Join(ear, [b"a"])
    hub.begin(join, [b"a"])
    deliver(hub, b"a", text("old"))
    hub.complete(join)
    assert ear.heard == []


def test_a_sender_does_not_hear_its_own_message_but_others_who_say_the_same_do() -> None:
    hub = Hub()
    alice, bob, echoing = Ear(b"alice"), Ear(b"bob"), Ear(b"echoing", echo=True)
    for ear in (alice, bob, echoing):
        hub.add_sender(ear)
        joined(hub, ear, b"a")
    deliver(hub, b"a", text("hi", sender=b"alice"))
    deliver(hub, b"a", text("hi", sender=b"bob"))
    deliver(hub, b"a", text("from another worker", sender=b"elsewhere"))
    deliver(hub, b"a", text("from django"))
    assert alice.heard == bob.heard == ["hi", "from another worker", "from django"]
    assert echoing.heard == ["hi", "hi", "from another worker", "from django"]
    deliver(hub, b"a", text("mine", sender=b"echoing"))
    assert echoing.heard[-1] == "mine"


def test_a_sender_does_not_hear_its_own_message_while_it_joins() -> None:
    hub = Hub()
    first, second = Ear(b"first"), Ear(b"second")
    joined(hub, first, b"a")
    hub.add_sender(second)
    join = Join(second, [b"a"])
    hub.begin(join, [b"a"])
    join.stored[b"a"] = [text("stored", id=b"1-0", sender=b"second")]
    deliver(hub, b"a", text("mine", sender=b"second"))
    deliver(hub, b"a", text("other", sender=b"first"))
    hub.complete(join)
    assert second.heard == ["other"]
    assert first.heard == ["mine", "other"]


def test_a_message_for_every_facility_reaches_each_connection_once() -> None:
    hub = Hub()
    names = {
        facility: redis_name("p", Channel("group", "staff", facility)) for facility in ("news", "chat", "a:b", "staff")
    }
    several, one, late = Ear(), Ear(), Ear()
    other = {
        "another group": redis_name("p", Channel("group", "staff2", "news")),
        "a user of the same name": redis_name("p", Channel("user", "staff", "news")),
        "everybody": redis_name("p", Channel("broadcast", "", "staff")),
        "another prefix": redis_name("p2", Channel("group", "staff", "news")),
    }
    strangers = {what: Ear() for what in other}
    joined(hub, several, names["news"], names["chat"], names["a:b"])
    joined(hub, one, names["staff"])
    for what, ear in strangers.items():
        joined(hub, ear, other[what])
    join = Join(late, [names["news"], names["chat"]])
    hub.begin(join, [names["news"], names["chat"]])

    hub.publish_everywhere(text("all", addresses=[address("p", "group", "staff")]))
    hub.complete(join)

    assert several.heard == one.heard == late.heard == ["all"]
    assert {what: ear.heard for what, ear in strangers.items()} == {what: [] for what in other}


def test_a_connection_that_several_addresses_mean_gets_the_message_once() -> None:
    hub = Hub()
    ear = Ear()
    joined(hub, ear, redis_name("p", Channel("group", "staff", "news")), redis_name("p", Channel("user", "al", "news")))
    hub.publish_everywhere(text("all", addresses=[address("p", "group", "staff"), address("p", "user", "al")]))
    assert ear.heard == ["all"]


def test_who_has_left_hears_nothing_and_channels_without_listeners_are_forgotten() -> None:
    hub = Hub()
    one, two = Ear(b"one"), Ear()
    joined(hub, one, b"a", b"b")
    joined(hub, two, b"b")
    assert [topic.name for topic in hub.remove(one)] == [b"a"]
    one.has_left = True
    deliver(hub, b"a", text("a"))
    deliver(hub, b"b", text("b"))
    assert two.heard == ["b"]
    assert set(hub.topics) == {b"b"}
    assert hub.remove(one) == []
    assert [topic.name for topic in hub.remove(two)] == [b"b"]
    assert hub.topics == {}


# What comes first


@pytest.mark.parametrize(
    ("stored", "live", "heard"),
    [
        ([], [], []),
        ([("s", b"1-0")], [], ["s"]),
        ([], [("l", None)], ["l"]),
        ([("s", b"1-0")], [("l", None)], ["s", "l"]),
        ([("k", b"5-0")], [("k", b"5-0")], ["k"]),
        ([("k", b"5-0")], [("l", None), ("k", b"5-0"), ("m", None)], ["l", "k", "m"]),
        ([("k2", b"6-0")], [("k1", b"5-0"), ("k2", b"6-0")], ["k1", "k2"]),
        ([("s", b"1-0")], [("same", None), ("same", None)], ["s", "same", "same"]),
    ],
)
def test_a_joining_connection_gets_what_is_stored_then_what_came_live_each_once(
    stored: list[tuple[str, bytes]], live: list[tuple[str, bytes | None]], heard: list[str]
) -> None:
    join = Join(Ear(), [b"a"])
    join.stored[b"a"] = [text(payload, id=id) for payload, id in stored]
    join.live = [(b"a", text(payload, id=id)) for payload, id in live]
    assert [message.data for message in join.messages()] == heard


def test_two_channels_may_have_messages_of_the_same_id() -> None:
    join = Join(Ear(), [b"a", b"b"])
    join.stored = {b"a": [text("a", id=b"1-0")], b"b": [text("b", id=b"1-0")]}
    join.live = [(b"b", text("b", id=b"1-0"))]
    assert [message.data for message in join.messages()] == ["a", "b"]


@pytest.mark.parametrize(
    ("seen", "stored", "held", "heard"),
    [
        (None, [], [], []),
        (None, [("k", b"5-0")], [], ["k"]),
        (b"5-0", [("k", b"5-0")], [], []),
        (b"4-9", [("k", b"5-0")], [], ["k"]),
        (b"9-0", [("k", b"10-0")], [], ["k"]),
        (b"4-0", [("k", b"5-0")], [("l", None)], ["k", "l"]),
        (b"4-0", [("k", b"5-0")], [("l", None), ("k", b"5-0")], ["l", "k"]),
        (b"4-0", [("k2", b"6-0")], [("k1", b"5-0"), ("k2", b"6-0"), ("l", None)], ["k1", "k2", "l"]),
    ],
)
def test_after_a_break_what_was_missed_comes_before_what_came_meanwhile(
    seen: bytes | None, stored: list[tuple[str, bytes]], held: list[tuple[str, bytes | None]], heard: list[str]
) -> None:
    hub = Hub()
    ear = Ear()
    joined(hub, ear, b"a")
    topic: Topic = hub.topics[b"a"]
    if seen:
        topic.saw(text("seen", id=seen))
    hub.hold()
    deliver(hub, b"a", *(text(payload, id=id) for payload, id in held))
    assert ear.heard == []
    hub.release(topic, [text(payload, id=id) for payload, id in stored])
    hub.flush()
    assert ear.heard == heard
    deliver(hub, b"a", text("next"))
    assert ear.heard == [*heard, "next"]


# Against a model of Redis

NAMES = (b"a", b"b")


class Loop:
    """What the subscriber needs of its loop: here no time passes by itself, and nothing is connected by itself."""

    def __init__(self) -> None:
        self.settings = SimpleNamespace(ping_interval=20.0, prefix="p", expire=60, url="redis://model")
        self.has_tried = threading.Event()

    def timer(self, seconds: float, repeat: float = 0.0) -> Any:
        return SimpleNamespace(start=lambda callback: None, stop=lambda: None)

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        pass


class ModelLink:
    """A connection to the model: commands on their way there, replies and messages on their way back."""

    def __init__(self, loop: Any, connection: Any, *, on_message: Any, on_read: Any, on_lost: Any) -> None:
        self.on_message = on_message
        self.on_read = on_read
        self.on_lost = on_lost
        self.subscribed: set[bytes] = set()
        self.outgoing: deque[SimpleNamespace] = deque()
        self.incoming: deque[Callable[[], None]] = deque()

    def call(self, *command: Any, on_reply: Callable[[Any], None]) -> None:
        self.outgoing.append(SimpleNamespace(command=command, on_reply=on_reply, ear=None))

    def close(self) -> None:
        self.outgoing.clear()
        self.incoming.clear()


@pytest.fixture(autouse=True, scope="module")
def model_link() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(redial_module, "Link", ModelLink)
        yield


class Delivery(RuleBasedStateMachine):
    """Messages of a channel are numbered in the order of publishing, so "3" must never follow "4"."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub()
        self.subscriber = Subscriber(Loop(), self.hub)  # type: ignore[arg-type]
        self.published = dict.fromkeys(NAMES, 0)
        self.last_kept: dict[bytes, tuple[int, bytes, bytes]] = {}  # number, id, envelope
        self.clock = 0
        self.ears: list[Ear] = []
        self.joins: dict[Ear, Join] = {}
        self.reads: dict[Ear, set[bytes]] = defaultdict(set)  # the channels whose stream Redis has read for it
        self.owed: dict[Ear, set[str]] = defaultdict(set)
        self.connect()

    @property
    def link(self) -> Any:
        return self.subscriber._link

    def owe(self, ear: Ear, payload: str) -> None:
        """It has reached this process, so the ear must hear it."""
        self.owed[ear].add(payload)

    # Redis

    @rule(name=st.sampled_from(NAMES), kinds=st.lists(st.booleans(), min_size=1, max_size=3))
    def publish_some(self, name: bytes, kinds: list[bool]) -> None:
        for is_kept in kinds:
            self.publish(name, is_kept)

    def publish(self, name: bytes, is_kept: bool) -> None:
        self.published[name] += 1
        number = self.published[name]
        message = text(f"{name.decode()}{number}")
        command = redis.publish_command(name, message, 60 if is_kept else 0)
        if is_kept:
            _, _, _, key, head, head_with_id, tail, _ = command
            self.clock += 1
            id = b"%d-0" % self.clock
            self.last_kept[name] = (number, id, head + tail)
            data = head_with_id + bytes([len(id)]) + id + tail
        else:
            _, key, data = command
        assert key == name
        if self.link is None or name not in self.link.subscribed:
            return
        ears = [ear for ear in self.ears if name in self.reads[ear]]
        self.link.incoming.append(lambda: self.arrive(name, data, ears, f"{name.decode()}{number}"))

    def arrive(self, name: bytes, data: bytes, ears: list[Ear], payload: str) -> None:
        for ear in ears:
            self.owe(ear, payload)
        self.link.on_message(name, data)

    @precondition(lambda self: self.link is not None and self.link.outgoing)
    @rule(count=st.integers(1, 4))
    def redis_works(self, count: int) -> None:
        link = self.link
        for _ in range(min(count, len(link.outgoing))):
            call = link.outgoing.popleft()
            match call.command:
                case ("SUBSCRIBE", name):
                    link.subscribed.add(name)
                    reply: Any = [b"subscribe", name, 1]
                case ("UNSUBSCRIBE", name):
                    link.subscribed.discard(name)
                    reply = [b"unsubscribe", name, 0]
                case ("XREVRANGE", name, "+", "-", "COUNT", "1"):
                    link.incoming.append(self.read(name, call))
                    continue
                case ("PING",):
                    reply = b"PONG"
                case other:
                    raise AssertionError(f"the model does not know {other}")
            link.incoming.append(lambda call=call, reply=reply: call.on_reply(reply))

    def read(self, name: bytes, call: SimpleNamespace) -> Callable[[], None]:
        """Read a stream now; return what is to be done when the reply arrives."""
        if call.ear is not None:
            self.reads[call.ear].add(name)
        ears = [ear for ear in self.ears if name in self.reads[ear]] if call.ear is None else [call.ear]
        kept = self.last_kept.get(name)

        def arrive() -> None:
            for ear in ears if kept else ():
                self.owe(ear, f"{name.decode()}{kept[0]}")
            call.on_reply([[kept[1], [b"m", kept[2]]]] if kept else [])

        return arrive

    # The worker

    @precondition(lambda self: self.link is not None and self.link.incoming)
    @rule(count=st.integers(1, 6))
    def loop_works(self, count: int) -> None:
        for _ in range(count):
            if not self.link.incoming:
                break
            self.link.incoming.popleft()()
        self.link.on_read()
        self.forget_refused()

    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1))
    def join(self, names: set[bytes]) -> None:
        ear = Ear()
        join = Join(ear, sorted(names))
        self.joins[ear] = join
        self.ears.append(ear)
        sent = len(self.link.outgoing) if self.link else 0
        self.subscriber.join(join)
        for call in list(self.link.outgoing)[sent:] if self.link else ():
            call.ear = ear if call.command[0] == "XREVRANGE" else None
        self.forget_refused()

    @precondition(lambda self: self.ears)
    @rule(who=st.integers(0, 9))
    def leave(self, who: int) -> None:
        if who < len(self.ears) > 1 or who == 0:
            self.drop(self.ears[who])

    def drop(self, ear: Ear) -> None:
        self.subscriber.leave(ear)
        ear.has_left = True
        self.ears.remove(ear)
        join = self.joins[ear]
        assert join.done.done(), "whoever waits for it must not wait in vain"

    def forget_refused(self) -> None:
        for ear in list(self.ears):
            done = self.joins[ear].done
            if done.done() and (error := done.exception()):
                assert isinstance(error, Unavailable)
                assert ear.heard == []
                self.drop(ear)

    # Between them

    @precondition(lambda self: self.link is not None)
    @rule()
    def settle(self) -> None:
        while self.link.outgoing or self.link.incoming:
            if self.link.outgoing:
                self.redis_works(100)
            if self.link.incoming:
                self.loop_works(100)

    @precondition(lambda self: self.link is not None and self.subscriber.is_ready and self.ears)
    @rule()
    def break_link_when_somebody_listens(self) -> None:
        self.break_link()

    @precondition(lambda self: self.link is not None)
    @rule(chance=st.integers(0, 5))
    def break_link_at_any_time(self, chance: int) -> None:
        if chance == 0:
            self.break_link()

    def break_link(self) -> None:
        link = self.link
        link.close()
        link.on_lost("the model broke it")
        self.forget_refused()

    @precondition(lambda self: self.link is None)
    @rule()
    def connect(self) -> None:
        self.subscriber._redial._on_connected(None)

    # What must hold

    @invariant()
    def nothing_is_doubled_or_swapped(self) -> None:
        for ear in self.joins:
            for name in NAMES:
                numbers = [int(heard[1:]) for heard in ear.heard if heard[0] == name.decode()]
                assert all(one < next_one for one, next_one in pairwise(numbers)), ear.heard

    def teardown(self) -> None:
        if self.link is None:
            self.connect()
        self.settle()
        self.nothing_is_doubled_or_swapped()
        assert self.subscriber.is_ready
        for ear in self.ears:
            assert self.joins[ear].done.result(0) is None
            lost = self.owed[ear] - set(ear.heard)
            assert not lost, f"{sorted(lost)} lost, heard {ear.heard}"
            for name in self.joins[ear].connection.channels:
                if kept := self.last_kept.get(name):
                    assert f"{name.decode()}{kept[0]}" in ear.heard
        listened_to = {name for ear in self.ears for name in ear.channels}
        assert self.link.subscribed == listened_to | {b"p:everywhere"}
        assert set(self.hub.topics) == listened_to


def test_nothing_is_lost_doubled_or_swapped_by_joins_leaves_and_breaks() -> None:
    run_state_machine_as_test(Delivery, settings=settings(max_examples=300, stateful_step_count=50, deadline=None))
