"""The testing kit's assertions on what is published: without a server, and without a Redis."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import ANY

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import Client, TestCase, override_settings

from django_wsredis import (
    EVERYWHERE,
    SELF,
    BrokerUnavailable,
    Publisher,
    connections,
    fetch_message,
    history,
    publish,
    redis,
)
from django_wsredis.testing import PublishAssertions, PublishRecorder


class Unexpected(Exception):
    """What a test raises."""


@contextmanager
def rolled_back() -> Iterator[None]:
    try:
        with transaction.atomic():
            yield
            raise Unexpected
    except Unexpected:
        pass


def say(message: Any = "hello", facility: str = "news", **options: Any) -> Any:
    return publish(message, facility=facility, **options or {"broadcast": True})


def problem(published: PublishRecorder, *arguments: Any, **criteria: Any) -> str:
    """Return what an assertion that fails says."""
    with pytest.raises(AssertionError) as failed:
        published.assert_published(*arguments, **criteria)
    return str(failed.value)


# What fits


@pytest.mark.parametrize(
    "criteria",
    [
        {},
        {"message": {"id": 1, "text": "ü"}},
        {"message": {"text": "ü", "id": 1}},
        {"message": {"text": "ü", "id": ANY}},
        {"message": ANY, "facility": "news"},
        {"broadcast": True},
        {"groups": ["staff", "chatters"]},
        {"groups": ("chatters", "staff")},
        {"users": "alice"},
        {"sessions": ["key"]},
        {"users": ["alice"], "count": 1},
    ],
)
def test_what_was_published_fits(published: PublishRecorder, criteria: dict[str, Any]) -> None:
    audiences = {"groups": ["staff", "chatters"], "users": ["alice"], "sessions": ["key"]}
    assert say({"id": 1, "text": "ü"}, broadcast=True, **audiences) == 0
    (found,) = published.assert_published(**criteria)
    assert (found.message, found.facility, found.broadcast) == ({"id": 1, "text": "ü"}, "news", True)
    assert (found.groups, found.users, found.waits_for_commit) == (["staff", "chatters"], ["alice"], False)


@pytest.mark.parametrize(
    "criteria",
    [
        {"message": {"id": 1}},
        {"message": '{"id": 2}'},
        {"message": b"hello"},
        {"facility": "other"},
        {"facility": EVERYWHERE},
        {"broadcast": True},
        {"groups": ["staff"]},
        {"groups": []},
        {"groups": ["staff", "chatters", "others"]},
        {"users": ["alice"]},
        {"sessions": ["other"]},
        {"count": 2},
        {"count": 0},
    ],
)
def test_anything_else_does_not(published: PublishRecorder, criteria: dict[str, Any]) -> None:
    say({"id": 2}, groups=["staff", "chatters"], sessions=["key"])
    problem(published, **criteria)


@pytest.mark.parametrize(
    ("given", "expected", "fits"),
    [
        ("hello", "hello", True),
        (b"hello", b"hello", True),
        ("1", 1, False),
        (1, "1", False),
        ("hello", b"hello", False),
        ({1: (2, 3)}, {"1": [2, 3]}, True),
        ({"a": [1]}, {"a": [ANY]}, True),
        ({"a": [1]}, {"a": [ANY, ANY]}, False),
        (None, None, True),
        ([], None, False),
        (None, {1, 2}, False),
    ],
)
def test_messages_are_equal_as_they_are_or_as_json(
    published: PublishRecorder, given: Any, expected: Any, fits: bool
) -> None:
    say(given)
    if fits:
        published.assert_published(expected)
    else:
        problem(published, expected)


def test_django_s_own_objects_are_names(published: PublishRecorder, alice: str) -> None:
    user, group = User.objects.get(username="alice"), Group.objects.get(name="staff")
    client = Client()
    client.force_login(user)
    say(users=[user], groups=[group], sessions=[client.session.session_key])
    published.assert_published(users=["alice"], groups=["staff"], sessions=[client.session])
    published.assert_published(users=[user], groups=[group])


def test_a_publisher_everywhere_and_self_are_recorded(published: PublishRecorder) -> None:
    Publisher(facility=EVERYWHERE, users=["alice"]).publish_message("hello", expire=0)
    (found,) = published.assert_published("hello", facility=EVERYWHERE, users=["alice"])
    assert found.options["expire"] == 0
    with pytest.raises(TypeError, match=r"users=\[SELF\] needs request"):
        published.assert_published(users=[SELF])


def test_what_cannot_be_published_is_none(published: PublishRecorder) -> None:
    with pytest.raises(TypeError):
        publish("hello", facility="news")
    with pytest.raises(TypeError):
        say({1, 2})
    say(users=[])  # is nobody
    published.assert_nothing_published()
    assert "'hello' on news to nobody" in problem(published)


def test_every_thread_is_recorded_and_told_its_receipt(published: PublishRecorder) -> None:
    thread = threading.Thread(target=say, kwargs={"receipt": True, "broadcast": True})
    thread.start()
    thread.join()
    published.assert_published("hello", count=1)
    assert say(receipt=True, broadcast=True).sockets == 0
    assert len(published) == 2
    published.clear()
    published.assert_nothing_published()


def test_recorders_within_each_other_have_all_of_it(published: PublishRecorder) -> None:
    with PublishRecorder() as inner:
        with transaction.atomic():
            say()
            assert inner.publications[0].waits_for_commit
        say()
    say()
    assert (len(inner), len(published)) == (2, 3)


# Transactions


def test_what_waits_for_a_commit_counts_and_is_marked(published: PublishRecorder) -> None:
    with transaction.atomic():
        assert say() is None
        (found,) = published.assert_published("hello")
        assert found.waits_for_commit
        assert "'hello' on news to everybody, waits for a commit" in problem(published, "other")
    assert not found.waits_for_commit
    published.assert_published("hello", count=1)


def test_what_is_rolled_back_does_not_count(published: PublishRecorder) -> None:
    with rolled_back():
        say()
        published.assert_published("hello")
    published.assert_nothing_published()
    assert "'hello' on news to everybody, rolled back" in problem(published)
    with transaction.atomic():
        with rolled_back():
            say("inner")
        say("outer")
        published.assert_published("outer")
        problem(published, "inner")
        with rolled_back():
            say("at once", on_commit=False, broadcast=True)
    assert [found.message for found in published.publications] == ["outer", "at once"]


# What a failure says


def test_a_failure_lists_what_was_published_and_the_nearest(published: PublishRecorder) -> None:
    assert problem(published) == "No message was published.\nNothing was published."
    say("hello", groups=["staff"])
    say({"text": "hello"}, facility="chat", users=["alice", "bob"], sessions=["secret"])
    assert problem(published, "hello", facility="news", groups=["chatters"]) == (
        "No message was published that fits message='hello', facility='news', groups=['chatters'].\n"
        "Published:\n"
        "  'hello' on news to group staff  <- nearest, but for groups\n"
        "  {'text': 'hello'} on chat to user alice, user bob, a session"
    )
    assert problem(published, facility="chat", count=2).startswith(
        "1 were published that fits facility='chat', and not 2.\n"
    )
    with pytest.raises(AssertionError, match=r"Something was published.\nPublished:\n  'hello' on news to group staff"):
        published.assert_nothing_published()
    assert "nearest" not in problem(published, facility="elsewhere")


def test_a_failure_is_of_bounded_length(published: PublishRecorder) -> None:
    for _ in range(100):
        say("x" * 1000)
    text = problem(published, "hello")
    assert text.endswith("  and 80 more")
    assert len(text) < 20 * 300


# Without a Redis


def test_what_reads_says_that_this_test_has_no_redis(published: PublishRecorder) -> None:
    say(expire=60, key="once", broadcast=True)
    for read in (lambda: history(facility="news", broadcast=True), lambda: fetch_message(None, "news"), connections):
        with pytest.raises(BrokerUnavailable, match="This test only records what is published"):
            read()


def test_a_logout_needs_no_redis(published: PublishRecorder, caplog: pytest.LogCaptureFixture) -> None:
    client = Client()
    client.force_login(User.objects.get(username="alice"))
    client.logout()
    assert caplog.records == []
    published.assert_nothing_published()


def test_afterwards_it_is_as_before() -> None:
    before = Publisher.publish_message
    with PublishRecorder():
        say()
    assert Publisher.publish_message is before
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        say()


def test_with_a_redis_it_is_recorded_and_goes_out(published: PublishRecorder, wsredis_broker: str) -> None:
    with transaction.atomic():
        say(expire=60, broadcast=True)
    assert fetch_message(None, "news") == "hello"
    published.assert_published("hello", count=1)


def test_with_a_server_pages_are_recorded(published: PublishRecorder, websocket_client: Any) -> None:
    socket = websocket_client("news?subscribe-broadcast")
    say()
    assert socket.receive() == "hello"
    published.assert_published("hello")


# In test cases


class Case(PublishAssertions, TestCase):
    def test_it(self) -> None:
        say()
        self.assertPublished("hello", facility="news", broadcast=True, count=1)
        with self.assertRaisesMessage(AssertionError, "Something was published."):
            self.assertNothingPublished()
        assert self.published.publications[0].waits_for_commit
        with self.captureOnCommitCallbacks(execute=True):
            say("again")
        assert [found.waits_for_commit for found in self.published.publications] == [True, False]

    def test_a_logout_is_told_at_the_commit(self) -> None:
        self.client.force_login(User.objects.create_user("carol"))
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            self.client.logout()
        assert callbacks

    def test_each_test_begins_with_nothing(self) -> None:
        self.assertNothingPublished()

    @override_settings(WSREDIS={"HISTORY": {"news": {"messages": 1, "seconds": 1}}})
    def test_with_a_history(self) -> None:
        say(on_commit=False, broadcast=True)
        self.assertPublished("hello", users=[], groups=[], sessions=[])


class Plain(PublishAssertions):
    def test_it(self) -> None:
        say()
        self.assertPublished("hello")


def test_it_is_recorded_before_a_socket_can_hear_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def execute(commands: Any) -> list[int]:
        seen.append(len(recorder.all))
        return [0] * len(commands)

    monkeypatch.setattr(redis, "execute", execute)
    recorder = PublishRecorder(publishes_for_real=True)
    recorder.start()
    publish("hello", facility="news", broadcast=True)
    recorder.stop()
    assert seen == [1]


def test_what_could_not_be_published_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(commands: Any) -> list[int]:
        raise BrokerUnavailable("it is away")

    monkeypatch.setattr(redis, "execute", execute)
    recorder = PublishRecorder(publishes_for_real=True)
    recorder.start()
    with pytest.raises(BrokerUnavailable):
        publish("hello", facility="news", broadcast=True)
    recorder.stop()
    assert recorder.all == []
