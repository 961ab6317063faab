"""Reading what is kept, from a real Redis: pages of a history, and cursors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest
from django.template import engines
from django.test import RequestFactory, override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_wsredis import SELF, BrokerUnavailable, cursor, fetch_message, history, publish, redis
from django_wsredis.channels import Channel, is_position, parse_wish, redis_name
from django_wsredis.handshake import Subscriber
from django_wsredis.messages import id_key
from django_wsredis.reader import KeptMessage, Page

from .servers import RedisServer, free_port
from .test_publisher import visitor

HISTORY = {"chat/*": {"messages": 50, "seconds": 3600}, "short": {"messages": 3, "seconds": 60}}
ROOM = "chat/1"
NAME = redis_name("wsredis", Channel("broadcast", "", ROOM))


@pytest.fixture
def kept(configured: RedisServer) -> Iterator[RedisServer]:
    """A Redis that keeps the history of chat/… and short."""
    with override_settings(WSREDIS={"URL": configured.url, "HISTORY": HISTORY}):
        yield configured


def say(*texts: Any, facility: str = ROOM, **options: Any) -> None:
    for text in texts:
        publish(text, facility=facility, broadcast=True, **options)


def page(**options: Any) -> Page:
    return history(**{"facility": ROOM, "broadcast": True, **options})


def texts(page: Page) -> list[str | bytes]:
    return [message.data for message in page.messages]


def keys(server: RedisServer) -> list[bytes]:
    with server.client() as client:
        return sorted(client.keys())


# Pages


def test_the_newest_messages_come_oldest_first(kept: RedisServer) -> None:
    say("a", b"\xff\0", {"c": 1})
    found = page()
    assert texts(found) == ["a", b"\xff\0", '{"c": 1}']
    assert (found.is_whole, found.since, found.before) == (True, None, None)
    assert found.cursor == f"broadcast:chat/1={found.messages[-1].id}"
    assert texts(page(limit=2)) == [b"\xff\0", '{"c": 1}']


def test_a_message_tells_when_it_was_stored(kept: RedisServer) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    say("a")
    (message,) = page().messages
    assert message.time.tzinfo is UTC
    assert before < message.time < datetime.now(UTC) + timedelta(seconds=1)
    assert KeptMessage("1700000000123-7", "x").time == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)


def test_what_follows_a_message_is_read_by_its_id(kept: RedisServer) -> None:
    say("a", "b", "c")
    first, second, third = page().messages
    found = page(since=first.id)
    assert texts(found) == ["b", "c"]
    assert (found.is_whole, found.since, found.before) == (True, None, second.id)
    found = page(since=first.id, limit=1)
    assert texts(found) == ["b"]
    assert (found.since, found.before) == (second.id, second.id)
    assert page(since=third.id) == Page([], True, None, None, "")


def test_what_follows_a_cursor_is_read(kept: RedisServer) -> None:
    request = visitor("alice")
    say("a")
    after_a, start = page().cursor, cursor(request, ROOM)
    say("b")
    publish("mine", facility=ROOM, users=["alice"])
    assert texts(page(since=after_a)) == texts(page(since=start)) == ["b"]
    assert texts(history(facility=ROOM, users=[SELF], request=request, since=start)) == ["mine"]


def test_what_is_in_front_of_a_message_is_read_by_its_id(kept: RedisServer) -> None:
    say("a", "b", "c")
    first, second, third = page().messages
    found = page(before=third.id, limit=1)
    assert texts(found) == ["b"]
    assert (found.since, found.before) == (second.id, second.id)
    found = page(before=third.id)
    assert texts(found) == ["a", "b"]
    assert (found.since, found.before) == (second.id, None)
    assert page(before=first.id) == Page([], True, None, None, "")


def test_what_was_trimmed_after_a_position_is_told(kept: RedisServer) -> None:
    say("seen", facility="short")
    (seen,) = page(facility="short").messages
    say("1", "2", "3", facility="short")
    assert page(facility="short", since=seen.id).is_whole
    say("4", facility="short")
    found = page(facility="short", since=seen.id)
    assert not found.is_whole
    assert texts(found) == ["1", "2", "3", "4"], "one more than is promised: what a reader saw last"
    assert found.before is None


@pytest.mark.parametrize("position", ["1-0", "1700000000000-0", "0-0"])
def test_a_position_of_another_life_is_not_whole(kept: RedisServer, position: str) -> None:
    assert not page(since=position).is_whole
    say("a")
    found = page(since=position)
    assert (texts(found), found.is_whole, found.before) == (["a"], False, None)


def test_messages_older_than_their_time_are_gone_when_the_next_is_stored(kept: RedisServer) -> None:
    with kept.client() as client:
        now = int(time.time() * 1000)
        for age in (7200, 3500):
            client.xadd(NAME, {"m": f"{age} s old"}, id=f"{now - age * 1000}-0")
        say("new")
        assert texts(page()) == ["3500 s old", "new"]
        assert 3500 < client.ttl(NAME) <= 3600


def test_reading_begins_no_stream(kept: RedisServer) -> None:
    assert page() == Page([], True, None, None, "")
    assert page(before="5-5") == Page([], True, None, None, "")
    assert page(since="5-5") == Page([], False, None, None, "")
    assert fetch_message(None, ROOM) is None
    assert keys(kept) == []


def test_a_begun_stream_has_a_position_and_no_messages(kept: RedisServer) -> None:
    position = cursor(visitor(has_session=False), ROOM).partition("=")[2]
    assert page() == Page([], True, None, None, "")
    assert page(since=position) == Page([], True, None, None, "")
    assert fetch_message(None, ROOM) is None
    say("a", "b")
    found = page(since=position)
    assert (texts(found), found.is_whole, found.before) == (["a", "b"], True, None)
    assert fetch_message(None, ROOM) == "b"


def test_a_facility_without_history_has_its_last_kept_message(kept: RedisServer) -> None:
    say("a", "b", facility="news", expire=60)
    assert texts(page(facility="news")) == ["b"]


def test_what_expire_0_left_out_is_not_in_the_history(kept: RedisServer) -> None:
    say("a")
    say("typing…", expire=0)
    assert texts(page()) == ["a"]


def test_a_page_of_large_messages_is_cut_and_goes_on(kept: RedisServer) -> None:
    say("first", *("x" * 200_000 for _ in range(4)))
    found = page(since=page().messages[0].id)
    assert len(found.messages) == 1
    assert found.since == found.messages[0].id
    assert sum(1 for _ in forward(found.messages[0].id, 100)) == 3


def test_what_cannot_be_read_is_left_out_and_paging_gets_past_it(
    kept: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    say("a")
    with kept.client() as client:
        broken = client.xadd(NAME, {"m": b"\xffW\x01"[:2]})
    say("b")
    assert texts(page()) == ["a", "b"]
    found = page(since=page().messages[0].id, limit=1)
    assert (texts(found), found.since) == ([], broken.decode())
    assert texts(page(since=found.since)) == ["b"]
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize("audience", ["broadcast", "users", "groups", "sessions"])
def test_every_audience_has_a_history_of_its_own(kept: RedisServer, audience: str) -> None:
    request = visitor("alice")
    who: dict[str, Any] = {"broadcast": True} if audience == "broadcast" else {audience: [SELF]}
    publish("mine", facility=ROOM, request=request, **who)
    found = history(facility=ROOM, request=request, **who)
    assert texts(found) == ["mine"]
    channel = {
        "broadcast": "broadcast:chat/1",
        "users": "user:alice:chat/1",
        "groups": "group:staff:chat/1",
        "sessions": "session:chat/1",
    }[audience]
    assert found.cursor == f"{channel}={found.messages[0].id}"
    assert len(keys(kept)) == 1


def test_names_and_objects_address_it_as_in_publishing(kept: RedisServer) -> None:
    publish("x", facility=ROOM, users=["alice"], groups=["staff"])
    assert texts(history(facility=ROOM, users=User.objects.get(username="alice").username)) == ["x"]
    assert texts(history(facility=ROOM, users=[User.objects.get(username="alice")])) == ["x"]
    assert texts(history(facility=ROOM, groups=[Group.objects.get(name="staff"), "staff"])) == ["x"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"facility": ""}, "facility is ''"),
        ({"facility": None}, "facility is None"),
        ({"facility": "/chat/1"}, "facility is '/chat/1'; leave out the slash in front"),
        ({"broadcast": False}, "name an audience"),
        ({"users": ["alice"]}, "name 2 channels; a history is that of one"),
        ({"broadcast": False, "users": []}, "name 0 channels"),
        ({"broadcast": False, "groups": ["a", "b"]}, "name 2 channels"),
        ({"broadcast": False, "users": 5}, "users is 5"),
        ({"broadcast": False, "users": [SELF]}, "needs request="),
        ({"since": "1-0", "before": "2-0"}, "not both"),
        ({"since": ""}, "since is ''; it is the id of a message"),
        ({"since": "1700000000000"}, "since is '1700000000000'"),
        ({"since": "user:alice:chat/1=1-0"}, "or a cursor that has broadcast:chat/1"),
        ({"since": "broadcast:chat/1=1"}, "or a cursor that has broadcast:chat/1"),
        ({"since": "1-1\n"}, "since is"),
        ({"since": "+"}, "since is '+'"),
        ({"since": "(1-1"}, "since is"),
        ({"since": "١-١"}, "since is"),
        ({"since": "9" * 20 + "-0"}, "since is"),
        ({"since": b"1-1"}, "since is b'1-1'"),
        ({"before": 5}, "before is 5"),
        ({"before": "broadcast:chat=1-0"}, "before is"),
        ({"limit": 0}, "limit is 0; it is a whole number from 1 to 500"),
        ({"limit": 501}, "limit is 501"),
        ({"limit": True}, "limit is True"),
        ({"limit": 1.5}, "limit is 1.5"),
        ({"limit": None}, "limit is None"),
    ],
)
def test_wrong_arguments_are_a_type_error_in_one_line(kept: RedisServer, arguments: Any, said: str) -> None:
    with pytest.raises(TypeError) as raised:
        page(**arguments)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_redis_away_is_unavailable() -> None:
    with override_settings(WSREDIS={"URL": f"redis://127.0.0.1:{free_port()}/0"}):
        for read in (page, lambda: page(since="1-0"), lambda: cursor(visitor(), ROOM)):
            with pytest.raises(BrokerUnavailable):
                read()


# Paging, whatever the sizes


def forward(since: str | None, limit: int) -> Iterator[KeptMessage]:
    while since is not None:
        found = page(since=since, limit=limit)
        assert found.is_whole
        yield from found.messages
        since = found.since


def backward(limit: int) -> Iterator[KeptMessage]:
    found = page(limit=limit)
    while True:
        yield from reversed(found.messages)
        if found.before is None:
            return
        found = page(before=found.before, limit=limit)
        assert found.messages, "there is always something where `before` points"
        assert found.since == found.messages[-1].id


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(total=st.integers(0, 70), limit=st.integers(1, 30), data=st.data())
def test_pages_in_both_directions_hold_each_message_once(kept: RedisServer, total: int, limit: int, data: Any) -> None:
    with kept.client() as client:
        client.delete(NAME)
    say(*range(total))
    expected = [str(number) for number in range(total)][-51:]
    assert [message.data for message in backward(limit)] == expected[::-1]
    everything = page(limit=500).messages
    assert [message.data for message in everything] == expected
    if everything:
        start = data.draw(st.integers(0, len(everything) - 1))
        assert list(forward(everything[start].id, limit)) == everything[start + 1 :]
        # what leads back from a page that was read forward is what is in front of it
        found = page(since=everything[start].id, limit=limit)
        if found.before is not None:
            older = page(before=found.before, limit=500).messages
            assert older + found.messages == everything[: len(older) + len(found.messages)]
    ids = [id_key(message.id.encode()) for message in everything]
    assert ids == sorted(set(ids))


def test_messages_that_arrive_while_paging_come_once(kept: RedisServer) -> None:
    say("0")
    read, since = [], page().messages[0].id
    for number in range(1, 20):
        say(str(number))
        if number % 3 == 0:
            found = page(since=since, limit=2)
            read += texts(found)
            since = found.messages[-1].id
    read += [message.data for message in forward(since, 2)]
    assert read == [str(number) for number in range(1, 20)]


# Cursors


def positions(text: str) -> dict[str, str]:
    return {name: id for name, _, id in (part.rpartition("=") for part in text.split(",") if part)}


def test_a_cursor_has_the_positions_of_all_the_visitors_channels(kept: RedisServer) -> None:
    request = visitor("alice")
    say("a", "b")
    publish("x", facility=ROOM, users=["alice", "bob"])
    found = positions(cursor(request, ROOM))
    assert list(found) == ["broadcast:chat/1", "user:alice:chat/1", "group:staff:chat/1", "session:chat/1"]
    assert all(is_position(id) for id in found.values())
    assert found["broadcast:chat/1"] == page().messages[-1].id
    assert request.session.session_key not in str(found)
    assert len(keys(kept)) == 5, "of the visitor's four two were begun; bob's is kept, too"
    say("c")
    assert positions(cursor(request, ROOM)) == {**found, "broadcast:chat/1": page().messages[-1].id}


def test_what_is_published_after_a_cursor_is_exactly_what_follows_it(kept: RedisServer) -> None:
    request = visitor("alice")
    found = positions(cursor(request, ROOM))
    publish("1", facility=ROOM, broadcast=True, users=["alice"], groups=["staff"], sessions=[SELF], request=request)
    for name, who in [
        ("broadcast:chat/1", {"broadcast": True}),
        ("user:alice:chat/1", {"users": [SELF]}),
        ("group:staff:chat/1", {"groups": [SELF]}),
        ("session:chat/1", {"sessions": [SELF]}),
    ]:
        after = history(facility=ROOM, request=request, since=found[name], **who)
        assert (texts(after), after.is_whole) == (["1"], True), name


def test_channels_without_history_give_what_they_keep_or_nothing(kept: RedisServer) -> None:
    assert cursor(visitor("alice"), "news") == ""
    assert keys(kept) == []
    publish("x", facility="news", users=["alice"], expire=60)
    (id,) = [message.id for message in history(facility="news", users=["alice"]).messages]
    assert cursor(visitor("alice"), "news") == f"user:alice:news={id}"


def test_a_cursor_of_an_anonymous_visitor_is_that_of_everybodys_channel(kept: RedisServer) -> None:
    assert list(positions(cursor(visitor(has_session=False), ROOM))) == ["broadcast:chat/1"]
    assert list(positions(cursor(HttpRequest(), ROOM))) == ["broadcast:chat/1"]


def test_a_cursor_needs_one_round_trip(kept: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    trips = []
    monkeypatch.setattr(redis, "execute", lambda commands, execute=redis.execute: trips.append(1) or execute(commands))
    assert len(positions(cursor(visitor("alice"), ROOM))) == 4
    assert trips == [1]


class Denying(Subscriber):
    def subscribe_channels(self, request: Any, facility: str, audiences: Any) -> Any:
        raise PermissionDenied


def test_the_channels_are_those_that_the_projects_subscriber_gives(kept: RedisServer) -> None:
    given = {"URL": kept.url, "HISTORY": HISTORY}
    with override_settings(WSREDIS={**given, "SUBSCRIBER": "tests.project.callbacks.Rooms"}):
        assert list(positions(cursor(visitor(), ROOM))) == [
            "broadcast:chat/1",
            "session:chat/1",
            "group:lobby:chat/1",
        ]
    with override_settings(WSREDIS={**given, "SUBSCRIBER": Denying}):
        assert cursor(visitor("alice"), ROOM) == ""


@pytest.mark.parametrize("name", ["a,b=c:d", "100%", "é ✓", "a/b@c.d", "a&b#c+d"])
def test_a_cursor_is_what_a_sockets_url_takes(kept: RedisServer, name: str) -> None:
    class Odd(Subscriber):
        def subscribe_channels(self, request: Any, facility: str, audiences: Any) -> Any:
            return [Channel("group", name, facility), Channel("user", name, facility)]

    with override_settings(WSREDIS={"URL": kept.url, "HISTORY": HISTORY, "SUBSCRIBER": Odd}):
        text = cursor(HttpRequest(), f"chat/{name}")
        rendered = render(facility=f"chat/{name}")
    found = {channel: id.encode() for channel, id in positions(text).items()}
    assert len(found) == 2
    assert parse_wish(f"subscribe-group&since={rendered}").since == found


@pytest.mark.parametrize("facility", ["", None, "x" * 201, "/chat/1"])
def test_a_cursor_of_no_facility_is_a_type_error(kept: RedisServer, facility: Any) -> None:
    with pytest.raises(TypeError, match="facility is"):
        cursor(HttpRequest(), facility)


# The template tag


def render(request: HttpRequest | None = None, *, facility: str = ROOM) -> str:
    template = engines["django"].from_string("{% load wsredis %}{% wsredis_cursor facility %}")
    return template.render({"facility": facility}, request or RequestFactory().get("/"))


def test_the_tag_renders_the_cursor_quoted_for_a_url(kept: RedisServer) -> None:
    request = visitor("alice")
    request.META.update(RequestFactory().get("/").META)
    rendered = render(request)
    assert unquote(rendered) == cursor(request, ROOM)
    assert not set(rendered) & set("=,:/&<>\"' ")


def test_the_tag_without_a_request_says_what_to_do(kept: RedisServer) -> None:
    template = engines["django"].from_string("{% load wsredis %}{% wsredis_cursor 'chat/1' %}")
    with pytest.raises(ImproperlyConfigured, match=r"needs the request: use render\(request"):
        template.render({})


def test_with_redis_away_the_tag_renders_nothing_and_logs_it(caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(WSREDIS={"URL": f"redis://127.0.0.1:{free_port()}/0"}):
        assert render() == ""
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "chat/1" in record.getMessage()
