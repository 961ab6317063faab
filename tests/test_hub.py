"""Fan-out: who hears what, and what a joining or a recovering subscription hears first.

test_joins.py has the property.
"""

from __future__ import annotations

from typing import Any

import pytest

from django_wsredis.channels import Channel, address, redis_name
from django_wsredis.commands import Stored
from django_wsredis.conf import Keep
from django_wsredis.loop.hub import Hub
from django_wsredis.loop.topic import Arrival, Join, Topic
from django_wsredis.messages import Message

from .ears import Ear, listening, text

KEEP = Keep(100, 60)


def place(hub: Hub, name: bytes, history: Keep | None = None) -> Topic:
    """Return the hub's topic of a name, or a new one."""
    facility = name.rpartition(b":")[2].decode()
    return hub.topics.get(name) or Topic(name, Channel("broadcast", "", facility), history=history, slow="close")


def begun(hub: Hub, ear: Ear, *names: bytes, history: Keep | None = None, since: bytes | None = None) -> Join:
    """Let an ear begin to join channels, which Redis has confirmed."""
    join = Join(ear)
    for name in names:
        arrival = Arrival(join, place(hub, name, history), since, 1)
        hub.begin(arrival)
        arrival.topic.is_subscribed = True
        join.arrivals.append(arrival)
    return join


def stored(*messages: Message, end: bytes | None = None, is_whole: bool = True) -> Stored:
    return Stored(list(messages), end or (messages[-1].id if messages else None), is_whole)


def complete(hub: Hub, join: Join, *messages: Message) -> None:
    for arrival in join.arrivals:
        hub.complete(arrival, stored(*messages))


def joined(hub: Hub, ear: Ear, *names: bytes, history: Keep | None = None) -> Join:
    """Let an ear listen at once, as if Redis had confirmed everything."""
    join = begun(hub, ear, *names, history=history)
    complete(hub, join)
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
    hub.forget(one)
    one.has_left = True
    hub.publish(b"a", text("3"))
    hub.flush()
    assert (one.heard, two.heard) == (["1", "2"], ["2", "3"])


def test_a_channel_that_redis_has_not_confirmed_is_silent() -> None:
    """What arrives before that belongs to an earlier subscription, whose end Redis did not hear of yet."""
    hub = Hub()
    ear = Ear()
    join = begun(hub, ear, b"a")
    hub.topics[b"a"].is_subscribed = False
    deliver(hub, b"a", text("old"))
    complete(hub, join)
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
    join = begun(hub, second, b"a")
    deliver(hub, b"a", text("mine", sender=b"second"))
    deliver(hub, b"a", text("other", sender=b"first"))
    complete(hub, join, text("stored", id=b"1-0", sender=b"second"))
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
    join = begun(hub, late, names["news"], names["chat"])

    hub.publish_everywhere(text("all", addresses=[address("p", "group", "staff")]))
    complete(hub, join)

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
    assert [topic.name for topic in hub.forget(one)] == [b"a"]
    one.has_left = True
    deliver(hub, b"a", text("a"))
    deliver(hub, b"b", text("b"))
    assert two.heard == ["b"]
    assert set(hub.topics) == {b"b"}
    assert hub.forget(one) == []
    assert [topic.name for topic in hub.forget(two)] == [b"b"]
    assert hub.topics == {}


def test_who_leaves_a_channel_hears_its_others() -> None:
    hub = Hub()
    ear, other = Ear(), Ear()
    joined(hub, ear, b"a", b"b", b"c")
    joined(hub, other, b"b")
    assert [topic.name for topic in hub.remove(ear, [b"a", b"b", b"never joined"])] == [b"a"]
    assert (ear.channels, set(hub.topics)) == ((b"c",), {b"b", b"c"})
    for name in (b"a", b"b", b"c"):
        deliver(hub, name, text(name.decode()))
    assert (ear.heard, other.heard) == (["c"], ["b"])


def test_who_leaves_while_it_joins_has_no_arrival_any_more() -> None:
    hub = Hub()
    ear, other = Ear(), Ear()
    join, others = begun(hub, ear, b"a", b"b"), begun(hub, other, b"b")
    hub.remove(ear, [b"a", b"b"])
    assert [arrival.is_over for arrival in join.arrivals + others.arrivals] == [True, True, False]
    deliver(hub, b"b", text("b"))
    complete(hub, others)
    assert (ear.heard, other.heard) == ([], ["b"])


# What comes first

Payloads = list[tuple[str, bytes | None]]


def texts(payloads: Payloads) -> list[Message]:
    return [text(payload, id=id) for payload, id in payloads]


@pytest.mark.parametrize("v1", [False, True])
@pytest.mark.parametrize(
    ("kept", "live", "heard"),
    [
        ([], [], []),
        ([("s", b"1-0")], [], ["s"]),
        ([], [("l", None)], ["l"]),
        ([("s", b"1-0")], [("l", None)], ["s", "l"]),
        ([("k", b"5-0")], [("k", b"5-0")], ["k"]),
        ([("k", b"5-0")], [("l", None), ("k", b"5-0"), ("m", None)], ["l", "k", "m"]),
        ([("k2", b"6-0")], [("k1", b"5-0"), ("k2", b"6-0")], ["k1", "k2"]),
        ([("s", b"1-0")], [("same", None), ("same", None)], ["s", "same", "same"]),
        ([("s1", b"1-0"), ("s2", b"2-0"), ("k", b"5-0")], [("k", b"5-0")], ["s1", "s2", "k"]),
    ],
)
def test_a_joining_connection_gets_what_is_stored_then_what_came_live_each_once(
    kept: Payloads, live: Payloads, heard: list[str], v1: bool
) -> None:
    hub, ear = Hub(), Ear(v1=v1)
    join = begun(hub, ear, b"a")
    deliver(hub, b"a", *texts(live))
    assert ear.heard == []
    complete(hub, join, *texts(kept))
    assert ear.heard == heard
    deliver(hub, b"a", text("next"))
    assert ear.heard == [*heard, "next"]


@pytest.mark.parametrize("is_whole", [True, False])
def test_what_a_connection_saw_before_it_joined_is_not_sent_to_it_when_it_comes_late(is_whole: bool) -> None:
    """It saw it on another worker, which was faster than this one."""
    hub, ear = Hub(), Ear(v1=True)
    join = begun(hub, ear, b"a", history=KEEP, since=b"10-0")
    deliver(hub, b"a", text("late", id=b"9-5"), text("seen", id=b"10-0"), text("l"), text("new", id=b"11-0"))
    hub.complete(join.arrivals[0], stored(text("new", id=b"11-0"), is_whole=is_whole))
    assert ear.heard == ["l", "new"]


def test_two_channels_may_have_messages_of_the_same_id() -> None:
    hub, ear = Hub(), Ear()
    join = begun(hub, ear, b"a", b"b")
    deliver(hub, b"b", text("b", id=b"1-0"))
    a, b = join.arrivals
    hub.complete(a, stored(text("a", id=b"1-0")))
    hub.complete(b, stored(text("b", id=b"1-0")))
    assert ear.heard == ["a", "b"]


@pytest.mark.parametrize(("v1", "notices"), [(False, []), (True, [{"type": "gap", "channel": "broadcast:a"}])])
def test_what_is_stored_may_come_in_parts_and_live_messages_wait_for_the_last(v1: bool, notices: list[Any]) -> None:
    hub, ear = Hub(), Ear(v1=v1)
    join = begun(hub, ear, b"a", history=KEEP, since=b"0-5")
    (arrival,) = join.arrivals
    deliver(hub, b"a", text("p1"), text("k3", id=b"3-0"))
    hub.send_stored(arrival, stored(text("k1", id=b"1-0"), text("k2", id=b"2-0"), end=b"3-0", is_whole=False))
    assert ear.heard == ["k1", "k2"]
    deliver(hub, b"a", text("p2"), text("k4", id=b"4-0"))
    arrival.since = b"2-0"
    hub.complete(arrival, stored(text("k3", id=b"3-0"), text("k4", id=b"4-0")))
    assert ear.heard == ["k1", "k2", "k3", "p1", "p2", "k4"]
    assert ear.notices == [{**notice, "since": "0-5"} for notice in notices]
    assert hub.topics[b"a"].position == b"4-0"


@pytest.mark.parametrize(("history", "told"), [(None, []), (KEEP, ["gap"])])
def test_only_a_channel_with_a_history_tells_of_gaps(history: Keep | None, told: list[str]) -> None:
    hub, ear = Hub(), Ear(v1=True)
    join = begun(hub, ear, b"a", history=history, since=b"1-0")
    hub.complete(join.arrivals[0], stored(text("k", id=b"5-0"), is_whole=False))
    assert [notice["type"] for notice in ear.notices] == told
    assert [header.get("type", "message") for header, _ in ear.told] == [*told, "message"]


def test_the_positions_of_a_connection_are_those_up_to_which_it_has_been_sent_all() -> None:
    hub, ear = Hub(), Ear()
    joined(hub, ear, b"a", history=KEEP)
    (arrival,) = begun(hub, ear, b"b", history=KEEP).arrivals
    hub.publish(b"a", text("k1", id=b"1-0"))
    assert hub.positions(ear, [b"a", b"b"]) is None
    assert hub.positions(ear, [b"a"]) == {b"broadcast:a": b"1-0"}
    assert ear.heard == ["k1"]
    hub.complete(arrival, stored(end=b"2-0"))
    assert hub.positions(ear, [b"b", b"a"]) == {b"broadcast:a": b"1-0", b"broadcast:b": b"2-0"}
    assert hub.positions(ear, []) == {}


# After a break


@pytest.mark.parametrize("is_break", [True, False])
def test_after_redis_lost_a_channel_lower_ids_are_no_old_ones(is_break: bool) -> None:
    """Its clock may be behind, or that of the replica that took its place."""
    hub, ear, newcomer = Hub(), Ear(), Ear()
    joined(hub, ear, b"a")
    deliver(hub, b"a", text("before", id=b"9-0"))
    topic = hub.topics[b"a"]
    if is_break:
        hub.hold(topic)
        deliver(hub, b"a", text("held", id=b"4-0"))
        hub.release(topic, stored())
    else:
        complete(hub, begun(hub, newcomer, b"a"))
        deliver(hub, b"a", text("held", id=b"4-0"))
    deliver(hub, b"a", text("after", id=b"5-0"))
    assert ear.heard == ["before", "held", "after"]
    assert topic.position == b"5-0"


@pytest.mark.parametrize(
    ("seen", "kept", "held", "heard"),
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
    seen: bytes | None, kept: Payloads, held: Payloads, heard: list[str]
) -> None:
    hub, ear = Hub(), Ear()
    joined(hub, ear, b"a")
    topic = hub.topics[b"a"]
    if seen:
        deliver(hub, b"a", text("seen", id=seen))
        ear.heard.clear()
    hub.hold(topic)
    deliver(hub, b"a", *texts(held))
    assert ear.heard == []
    hub.release(topic, stored(*texts(kept)))
    hub.flush()
    assert ear.heard == heard
    deliver(hub, b"a", text("next"))
    assert ear.heard == [*heard, "next"]


def test_a_last_message_that_was_no_news_to_who_joined_is_none_after_a_break() -> None:
    hub, ear = Hub(), Ear()
    join = begun(hub, ear, b"a", since=b"5-0")
    hub.complete(join.arrivals[0], stored(end=b"5-0"))
    topic = hub.topics[b"a"]
    hub.hold(topic)
    hub.release(topic, stored(text("k", id=b"5-0")))
    assert ear.heard == []
    hub.hold(topic)
    hub.release(topic, stored(text("l", id=b"6-0")))
    assert ear.heard == ["l"]


def test_what_was_missed_may_come_in_parts_and_each_message_comes_once() -> None:
    hub, ear = Hub(), Ear(v1=True)
    joined(hub, ear, b"a", history=KEEP)
    topic = hub.topics[b"a"]
    hub.hold(topic)
    deliver(hub, b"a", text("p1"), text("k2", id=b"2-0"))
    hub.catch_up(topic, stored(text("k1", id=b"1-0"), text("k2", id=b"2-0"), end=b"4-0"))
    assert (ear.heard, topic.position) == (["k1", "k2"], b"2-0")
    deliver(hub, b"a", text("p2"), text("k4", id=b"4-0"))
    hub.release(topic, stored(text("k3", id=b"3-0"), text("k4", id=b"4-0")))
    hub.flush()
    assert ear.heard == ["k1", "k2", "k3", "p1", "p2", "k4"]
    assert ear.notices == []
    assert topic.position == b"4-0"


@pytest.mark.parametrize("v1", [True, False])
def test_who_cannot_be_told_what_it_missed_is_told_so_and_where_it_is_now(v1: bool) -> None:
    hub = Hub()
    ear = Ear(v1=v1, desk=listening(b"a", positions=hub.positions))
    joined(hub, ear, b"a", history=KEEP)
    if v1:
        ear.dialogue.tell_joined()
        ear.told.clear()
    topic = hub.topics[b"a"]
    deliver(hub, b"a", text("k1", id=b"1-0"))
    hub.hold(topic)
    hub.release(topic, stored(text("k8", id=b"8-0"), text("k9", id=b"9-0"), is_whole=False))
    assert ear.heard == ["k1", "k8", "k9"]
    assert ear.notices == (
        [
            {"type": "gap", "channel": "broadcast:a", "since": "1-0"},
            {"type": "ack", "facility": "chat", "channels": {"broadcast:a": "9-0"}},
        ]
        if v1
        else []
    )
    assert [payload for _, payload in ear.told] == (["k1", "", "k8", "k9", ""] if v1 else [])


def test_of_a_second_break_while_it_catches_up_what_is_kept_is_read_again() -> None:
    hub, ear = Hub(), Ear()
    joined(hub, ear, b"a", history=KEEP)
    topic = hub.topics[b"a"]
    hub.hold(topic)
    deliver(hub, b"a", text("plain"), text("k1", id=b"1-0"))
    hub.hold(topic)
    hub.release(topic, stored(text("k1", id=b"1-0"), text("k2", id=b"2-0")))
    hub.flush()
    assert ear.heard == ["k1", "k2", "plain"]
