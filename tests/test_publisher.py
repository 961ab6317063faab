"""Publishing from Django, to a real Redis."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.contrib.sessions.backends.db import SessionStore
from django.db import connections, transaction
from django.http import HttpRequest
from django.test import override_settings

from django_wsredis import EVERYWHERE, SELF, BrokerUnavailable, Publisher, fetch_message, publish, redis
from django_wsredis.channels import Channel, address, everywhere_name, redis_name, session_digest
from django_wsredis.messages import Message, decode

from .conftest import DATABASE
from .servers import ROOT, Listener, RedisServer, free_port, wait_until

BOUND_SECONDS = 10.0  # the package waits 2 s for Redis; the rest is for a slow machine


def name_of(audience: str, name: str, facility: str = "news") -> bytes:
    return redis_name("wsredis", Channel(audience, name, facility))


def visitor(username: str | None = None, has_session: bool = True) -> HttpRequest:
    request = HttpRequest()
    request.user = User.objects.get(username=username) if username else AnonymousUser()
    request.session = SessionStore()
    if has_session:
        request.session.create()
    return request


# What is published, and where


@pytest.mark.parametrize(
    ("given", "received"),
    [
        ("hello", "hello"),
        ("", ""),
        (b"\xff\0", b"\xff\0"),
        (b"", b""),
        ({"a": [1, None]}, '{"a": [1, null]}'),
        (7, "7"),
    ],
)
def test_text_binary_and_json_arrive_as_what_they_are(listener: Listener, given: Any, received: str | bytes) -> None:
    publish(given, facility="news", broadcast=True)
    assert listener.all() == [(name_of("broadcast", ""), received)]


def test_a_text_in_redis_is_just_itself(configured: RedisServer) -> None:
    with configured.client() as client, client.pubsub() as pubsub:
        pubsub.subscribe("wsredis:broadcast:news")
        assert pubsub.get_message(timeout=5)["type"] == "subscribe"
        publish("héllo", facility="news", broadcast=True)
        assert pubsub.get_message(timeout=5)["data"] == "héllo".encode()


def test_all_audiences_get_the_message_once(listener: Listener, alice: str) -> None:
    group, user = Group.objects.get(name="staff"), User.objects.get(username="alice")
    publish(
        "x",
        facility="a/b",
        broadcast=True,
        groups=["staff", group, "no such: group"],
        users=[user, "alice", "bob"],
        sessions=[alice, SessionStore(alice)],
    )
    assert sorted(listener.all()) == sorted(
        (name_of(*audience, "a/b"), "x")
        for audience in [
            ("broadcast", ""),
            ("group", "staff"),
            ("group", "no such: group"),
            ("user", "alice"),
            ("user", "bob"),
            ("session", session_digest(alice)),
        ]
    )


@pytest.mark.parametrize(("argument", "audience"), [("groups", "group"), ("users", "user")])
def test_a_single_name_works_as_in_ws4redis(listener: Listener, argument: str, audience: str) -> None:
    publish("x", facility="news", **{argument: "solo"})
    assert listener.all() == [(name_of(audience, "solo"), "x")]


def test_self_is_the_requests_own(listener: Listener) -> None:
    request = visitor("alice")
    publish("x", facility="news", request=request, users=[SELF], groups=[SELF, "others"], sessions=SELF)
    assert sorted(name for name, _ in listener.all()) == sorted(
        [
            name_of("group", "staff"),
            name_of("group", "others"),
            name_of("user", "alice"),
            name_of("session", session_digest(request.session.session_key)),
        ]
    )
    publish("x", facility="news", request=request, users=True)
    assert [name for name, _ in listener.all()] == [name_of("user", "alice")]


def test_self_of_an_anonymous_visitor_is_nobody(listener: Listener) -> None:
    for request in (visitor(has_session=False), HttpRequest()):  # the latter was seen by no middleware
        assert publish("x", facility="news", request=request, users=[SELF], groups=[SELF], sessions=[SELF]) == 0
    assert listener.all() == []


def test_a_session_key_is_never_in_redis(configured: RedisServer, alice: str) -> None:
    with configured.client() as client, client.monitor() as monitor:
        publish("x", facility="news", sessions=[alice], expire=60)
        publish("x", facility=EVERYWHERE, sessions=[alice])
        publish("end", facility="news", broadcast=True)
        seen = ""
        for command in monitor.listen():
            seen += str(command)
            if "'command': 'PUBLISH wsredis:broadcast:news" in seen:
                break
    assert session_digest(alice) in seen
    assert alice not in seen


def test_everywhere_goes_to_every_worker_with_its_addresses(listener: Listener) -> None:
    assert publish("x", facility=EVERYWHERE, broadcast=True, groups=["staff"]) == 1
    name, message = listener.next() or (b"", Message(b"", True))
    assert name == everywhere_name("wsredis")
    assert message.data == "x"
    assert list(message.addresses) == [address("wsredis", "broadcast", ""), address("wsredis", "group", "staff")]
    assert listener.all() == []


def test_another_prefix_is_another_world(listener: Listener, configured: RedisServer) -> None:
    with override_settings(WSREDIS={"URL": configured.url, "PREFIX": "my:site"}):
        publish("x", facility="news", broadcast=True)
    assert listener.all() == [(b"my%3Asite:broadcast:news", "x")]


def test_the_number_of_workers_that_received_it_is_returned(configured: RedisServer) -> None:
    with configured.client() as client, client.pubsub() as one, client.pubsub() as two:
        assert publish("x", facility="news", broadcast=True) == 0
        for pubsub in (one, two):
            pubsub.subscribe(name_of("broadcast", ""))
            pubsub.get_message(timeout=5)
        assert publish("x", facility="news", broadcast=True) == 2
        assert publish("x", facility="news", broadcast=True, users=["nobody"]) == 2
        assert publish("x", facility="news", broadcast=True, expire=5) == 2
        two.subscribe(name_of("user", "alice"))
        while two.get_message(timeout=5)["type"] != "subscribe":  # what was published comes first
            pass
        assert publish("x", facility="news", broadcast=True, users=["alice"]) == 3


def test_many_channels_go_out_in_one_pipeline(configured: RedisServer, listener: Listener) -> None:
    users = [f"user{number}" for number in range(500)]
    publisher = Publisher(facility="news", users=users)
    publisher.publish_message("warm up")
    with configured.client() as client:
        before = client.info("stats")["total_reads_processed"]
        assert publisher.publish_message("x") == 500
        reads = client.info("stats")["total_reads_processed"] - before
    assert reads < 50, "500 commands came in few pieces"
    assert len(listener.all()) == 1000


def test_a_publisher_can_be_used_again(listener: Listener) -> None:
    publisher = Publisher(facility="news", broadcast=True)
    assert [publisher.publish_message(text) for text in ("a", "b")] == [1, 1]
    assert [data for _, data in listener.all()] == ["a", "b"]


# One connection


def test_a_thousand_calls_use_one_connection(configured: RedisServer) -> None:
    publish("x", facility="news", broadcast=True)
    with configured.client() as client:
        before = client.info("stats")["total_connections_received"]
        for number in range(1000):
            publish(str(number), facility="news", broadcast=True, expire=number % 2)
        assert client.info("stats")["total_connections_received"] == before


SCRIPT = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.project.settings"
import django
django.setup()
from django_wsredis import publish
for number in range(1000):
    publish(str(number), facility="news", broadcast=True)
import redis
ids = {c["id"] for c in redis.Redis.from_url(os.environ["TEST_REDIS_URL"]).client_list()}
print(len(ids), "gevent" in sys.modules, "uwsgi" in sys.modules)
"""


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "TEST_DATABASE": str(DATABASE), **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_script_publishes_on_one_connection_without_gevent(own_redis: RedisServer) -> None:
    done = run_python(SCRIPT, TEST_REDIS_URL=own_redis.url)
    assert done.stderr == ""
    assert done.stdout == "2 False False\n"  # its own, and the one that asks


def test_threads_can_publish(listener: Listener) -> None:
    errors: list[BaseException] = []

    def publish_some(thread: int) -> None:
        try:
            for number in range(50):
                publish([thread, number], facility="news", broadcast=True)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=publish_some, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    received = [data for _, data in listener.all()]
    assert len(received) == 200
    for thread_number in range(4):
        own = [data for data in received if str(data).startswith(f"[{thread_number},")]
        assert own == [f"[{thread_number}, {number}]" for number in range(50)]


FORKING = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.project.settings"
import django
django.setup()
from django_wsredis import publish
publish("before", facility="news", broadcast=True)
children = []
for child in range(3):
    pid = os.fork()
    if not pid:
        for number in range(100):
            publish(f"{child}:{number}", facility="news", broadcast=True)
        os._exit(0)
    children.append(pid)
for number in range(100):
    publish(f"parent:{number}", facility="news", broadcast=True)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
"""


def test_children_of_a_fork_publish_on_connections_of_their_own(configured: RedisServer, listener: Listener) -> None:
    done = run_python(FORKING, TEST_REDIS_URL=configured.url)
    assert (done.stdout, done.stderr) == ("[0, 0, 0]\n", "")
    received = [str(data) for _, data in listener.all()]
    for who in ("0", "1", "2", "parent"):
        assert [data for data in received if data.startswith(f"{who}:")] == [f"{who}:{n}" for n in range(100)]


def test_a_connection_that_redis_closed_is_replaced(configured: RedisServer) -> None:
    publish("x", facility="news", broadcast=True)
    with configured.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert publish("x", facility="news", broadcast=True) == 0


def test_a_redis_that_came_back_is_used_again(own_redis: RedisServer) -> None:
    with override_settings(WSREDIS={"URL": own_redis.url}):
        publish("x", facility="news", broadcast=True)
        own_redis.kill()
        with pytest.raises(BrokerUnavailable):
            publish("x", facility="news", broadcast=True)
        own_redis.start()
        assert publish("x", facility="news", broadcast=True) == 0


# Wrong arguments


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "name an audience"),
        ({"facility": "", "broadcast": True}, "facility is ''"),
        ({"facility": "x" * 201, "broadcast": True}, "1 to 200 characters"),
        ({"facility": "/news", "broadcast": True}, "facility is '/news'; leave out the slash in front"),
        ({"facility": "-/readyz", "broadcast": True}, "facility is '-/readyz'; what begins with '-/' is for operators"),
        ({"facility": None, "broadcast": True}, "facility is None; it is a text"),
        ({"facility": b"news", "broadcast": True}, "facility is b'news'"),
        ({"facility": SELF, "broadcast": True}, "facility is SELF"),
        ({"users": 5}, "users is 5; it is a list of names"),
        ({"users": None}, "users is None"),
        ({"users": b"alice"}, "users is b'alice'"),
        ({"users": {"alice": 1}}, "it is a list of names"),
        ({"users": False}, "users is False"),
        ({"users": [5]}, "users holds 5"),
        ({"users": [""]}, "users holds ''"),
        ({"users": ""}, "users holds ''"),
        ({"groups": [None]}, "groups holds None"),
        ({"groups": [b"staff"]}, "groups holds b'staff'"),
        ({"users": [AnonymousUser()]}, "users holds ''"),
        ({"sessions": [SessionStore()]}, "sessions holds None"),
        ({"users": [SELF]}, "users=[SELF] needs request="),
        ({"sessions": True}, "sessions=[SELF] needs request="),
        ({"users": EVERYWHERE}, "users holds EVERYWHERE"),
        ({"broadcast": True, "expire": -1}, "expire is -1"),
        ({"broadcast": True, "expire": 1.5}, "expire is 1.5"),
        ({"broadcast": True, "expire": "5"}, "expire is '5'"),
        ({"broadcast": True, "expire": True}, "expire is True"),
        ({"broadcast": True, "facility": EVERYWHERE, "expire": 5}, "kept on none"),
        ({"broadcast": True, "message": {1, 2}}, "what JSON can hold"),
        ({"broadcast": True, "message": "\ud800"}, "UTF-8"),
        ({"broadcast": True, "audience": "all"}, "audience"),
    ],
)
def test_wrong_types_are_a_type_error_that_says_what_is_wrong(
    listener: Listener, arguments: dict[str, Any], said: str
) -> None:
    arguments = {"message": "x", "facility": "news", **arguments}
    with pytest.raises(TypeError) as raised:
        publish(arguments.pop("message"), **arguments)
    assert said in str(raised.value)
    assert listener.all() == []


@pytest.mark.parametrize("names", [["a\ud800"], "\ud800"])
def test_a_name_that_utf8_cannot_hold_is_a_type_error(configured: RedisServer, names: Any) -> None:
    for argument in ("users", "groups", "sessions"):
        with pytest.raises(TypeError, match=argument):
            publish("x", facility="news", **{argument: names})


def test_publish_takes_its_arguments_by_name() -> None:
    with pytest.raises(TypeError):
        publish("x", "news", True)  # type: ignore[misc]


# Redis is away


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def with_url(url: str) -> Iterator[None]:
    with override_settings(WSREDIS={"URL": url}):
        yield


def unavailable() -> str:
    """Return what a publisher is told, in bounded time, with and without something to keep."""
    said = []
    for act in (
        lambda: publish("x", facility="news", broadcast=True),
        lambda: publish("x", facility="news", users=["a", "b"], expire=5),
        lambda: fetch_message(None, "news"),
    ):
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable) as raised:
            act()
        assert time.monotonic() - began < BOUND_SECONDS
        said.append(str(raised.value))
    assert all("\n" not in text for text in said)
    return " ".join(said)


def test_a_refused_port_is_unavailable() -> None:
    port = free_port()
    with with_url(f"redis://127.0.0.1:{port}/0"):
        said = unavailable()
    assert f"redis://127.0.0.1:{port}/0" in said
    assert "WSREDIS['URL']" in said


def test_a_port_that_accepts_but_never_answers_is_unavailable_in_bounded_time() -> None:
    with silent_port() as port, with_url(f"redis://127.0.0.1:{port}/0"):
        said = unavailable()
    assert "did not answer within 2 s" in said


def test_a_missing_unix_socket_is_unavailable(tmp_path: Path) -> None:
    with with_url(f"unix://{tmp_path}/missing.sock"):
        assert "missing.sock" in unavailable()


def test_an_embedded_server_that_does_not_run_says_how_to_start_it(folder: Path) -> None:
    with with_url(f"embedded://{folder}"):
        said = unavailable()
    assert "runwsserver" in said
    assert str(folder) in said


def test_a_stopped_redis_is_unavailable_in_bounded_time(own_redis: RedisServer) -> None:
    with with_url(own_redis.url):
        publish("x", facility="news", broadcast=True)
        own_redis.process.popen.send_signal(signal.SIGSTOP)
        try:
            assert "did not answer" in unavailable()
        finally:
            own_redis.process.popen.send_signal(signal.SIGCONT)
        wait_until(lambda: publish("y", facility="news", broadcast=True) == 0)


SECRET = "s3cr3t-pass"


@pytest.mark.parametrize(
    "url", ["redis://:{}@127.0.0.1:{}/0", "redis://user:{}@127.0.0.1:{}/0", "redis://127.0.0.1:{1}/0?password={0}"]
)
def test_the_password_is_never_in_the_text(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with with_url(url.format(SECRET, free_port())):
        assert SECRET not in unavailable()
    with silent_port() as port, with_url(url.format(SECRET, port)), pytest.raises(BrokerUnavailable) as raised:
        publish("x", facility="news", broadcast=True)
    assert SECRET not in str(raised.value) + caplog.text


def test_a_wrong_password_is_unavailable_and_not_shown(own_redis: RedisServer) -> None:
    with own_redis.client() as client:
        client.config_set("requirepass", "right")
        with with_url(f"unix://:{SECRET}@{own_redis.socket}"), pytest.raises(BrokerUnavailable) as raised:
            publish("x", facility="news", broadcast=True)
    assert SECRET not in str(raised.value)
    with with_url(f"unix://:right@{own_redis.socket}"):
        assert publish("x", facility="news", broadcast=True) == 0


def test_a_command_that_redis_refuses_is_unavailable(configured: RedisServer) -> None:
    with configured.client() as client:
        client.set(name_of("broadcast", ""), "not a stream")
    with pytest.raises(BrokerUnavailable, match=r"refused a command.*WRONGTYPE"):
        publish("x", facility="news", broadcast=True, expire=5)


# What is kept


def test_a_kept_message_is_one_entry_that_expires(configured: RedisServer, listener: Listener) -> None:
    name = name_of("broadcast", "")
    with configured.client() as client:
        for text in ("first", "second"):
            assert publish(text, facility="news", broadcast=True, expire=100) == 1
        (entry,) = client.xrange(name)
        assert 90 < client.ttl(name) <= 100
    arrived = [listener.next(), listener.next()]
    assert [got and got[1].data for got in arrived] == ["first", "second"]
    assert arrived[1] is not None
    assert arrived[1][1].id == entry[0], "what came live has the id of what is kept"
    assert decode(entry[1][b"m"], entry[0]).data == "second"


def test_zero_keeps_nothing_and_leaves_what_is_kept(configured: RedisServer) -> None:
    with override_settings(WSREDIS={"URL": configured.url, "EXPIRE": 100}), configured.client() as client:
        publish("x", facility="news", broadcast=True, expire=0)
        assert client.keys() == []
        publish("kept", facility="news", broadcast=True)
        assert 90 < client.ttl(name_of("broadcast", "")) <= 100
        publish("y", facility="news", broadcast=True, expire=0)
        assert fetch_message(None, "news") == "kept"
        publish("z", facility=EVERYWHERE, broadcast=True)
        assert len(client.keys()) == 1


def test_nothing_is_kept_by_default(configured: RedisServer) -> None:
    publish("x", facility="news", broadcast=True)
    with configured.client() as client:
        assert client.keys() == []
    assert fetch_message(None, "news") is None


@pytest.mark.parametrize("message", ["text", "", b"binary", b"", b"\xffW\x00envelope?", '{"a": 1}'])
def test_a_kept_message_is_fetched_as_it_was(configured: RedisServer, message: str | bytes) -> None:
    publish(message, facility="news", broadcast=True, expire=100)
    assert fetch_message(None, "news") == message
    assert fetch_message(None, "other") is None


def test_any_means_the_sessions_then_the_users_then_the_groups_then_everybodys(configured: RedisServer) -> None:
    request = visitor("alice")
    others = visitor("bob")
    for audience in ("broadcast", "group", "user", "session"):
        arguments: dict[str, Any] = {"broadcast": True} if audience == "broadcast" else {f"{audience}s": [SELF]}
        publish(f"for {audience}", facility="news", request=request, expire=100, **arguments)
        assert fetch_message(request, "news") == f"for {audience}"
    for audience in ("broadcast", "group", "user", "session"):
        assert fetch_message(request, "news", audience) == f"for {audience}"
        assert fetch_message(others, "news", audience) == ("for broadcast" if audience == "broadcast" else None)
    assert fetch_message(visitor(has_session=False), "news") == "for broadcast"


@pytest.mark.parametrize(("facility", "audience"), [("news", "groups"), ("news", ""), ("", "any"), (None, "any")])
def test_fetching_with_wrong_arguments_is_a_type_error(configured: RedisServer, facility: Any, audience: str) -> None:
    with pytest.raises(TypeError):
        fetch_message(None, facility, audience)


def test_fetching_for_who_has_none_of_the_audience_is_nothing(configured: RedisServer) -> None:
    assert fetch_message(visitor(has_session=False), "news", "user") is None


# What a facility with a history keeps

CHAT = name_of("broadcast", "", "chat/1")


@pytest.fixture
def with_history(configured: RedisServer) -> Iterator[RedisServer]:
    history = {"chat/*": {"messages": 5, "seconds": 100}, "*/1": {"messages": 2, "seconds": 7}}
    with override_settings(WSREDIS={"URL": configured.url, "EXPIRE": 50, "HISTORY": history}):
        yield configured


def entries(server: RedisServer, name: bytes = CHAT) -> list[str | bytes]:
    with server.client() as client:
        return [decode(fields[b"m"], id).data for id, fields in client.xrange(name)]


def test_everything_is_kept_where_history_says_so(with_history: RedisServer, listener: Listener) -> None:
    for number in range(7):
        assert publish(number, facility="chat/1", broadcast=True) == 1
    assert entries(with_history) == ["1", "2", "3", "4", "5", "6"], "five, and the one that a reader of five saw last"
    with with_history.client() as client:
        assert 90 < client.ttl(CHAT) <= 100
        ids = [id for id, _ in client.xrange(CHAT)]
    arrived = [message for _, message in iter(lambda: listener.next(0.1), None)]
    assert [message.data for message in arrived] == [str(number) for number in range(7)]
    assert [message.id for message in arrived][1:] == ids


def test_every_audience_keeps_a_history_of_its_own(with_history: RedisServer) -> None:
    for text in ("one", "two"):
        publish(text, facility="chat/1", users=["alice"], groups=["staff"])
    for audience, name in (("user", "alice"), ("group", "staff")):
        assert entries(with_history, name_of(audience, name, "chat/1")) == ["one", "two"]
    assert entries(with_history) == []


def test_elsewhere_the_last_message_is_kept_as_ever(with_history: RedisServer) -> None:
    for text in ("one", "two"):
        publish(text, facility="news", broadcast=True)
    assert entries(with_history, name_of("broadcast", "")) == ["two"]


def test_zero_keeps_a_message_out_of_the_history(with_history: RedisServer, listener: Listener) -> None:
    publish("kept", facility="chat/1", broadcast=True)
    publish("typing", facility="chat/1", broadcast=True, expire=0)
    assert [data for _, data in listener.all()] == ["kept", "typing"]
    assert entries(with_history) == ["kept"]


def test_another_time_for_one_message_of_a_history_is_a_type_error(with_history: RedisServer) -> None:
    with pytest.raises(TypeError) as raised:
        publish("x", facility="chat/1", broadcast=True, expire=60)
    assert str(raised.value) == (
        "expire is 60, but WSREDIS['HISTORY'] says for how long 'chat/1' keeps messages: "
        "leave it out, or give 0 to keep nothing"
    )
    assert entries(with_history) == []


def test_a_message_for_every_facility_is_in_no_history(with_history: RedisServer) -> None:
    publish("x", facility=EVERYWHERE, broadcast=True)
    with with_history.client() as client:
        assert client.keys() == []


def test_the_newest_message_of_a_history_can_be_fetched(with_history: RedisServer) -> None:
    for text in ("one", "two"):
        publish(text, facility="chat/1", broadcast=True)
    assert fetch_message(None, "chat/1") == "two"


# Once only


@pytest.mark.parametrize(
    ("facility", "expire", "count"), [("chat/1", None, 1), ("news", 60, 1), ("news", 0, 0), ("chat/1", 0, 0)]
)
def test_the_same_key_is_published_and_kept_once(
    with_history: RedisServer, listener: Listener, facility: str, expire: int | None, count: int
) -> None:
    for text in ("first", "again"):
        assert publish(text, facility=facility, broadcast=True, expire=expire, key="é 1") == (text == "first")
    assert listener.all() == [(name_of("broadcast", "", facility), "first")]
    assert entries(with_history, name_of("broadcast", "", facility)) == ["first"] * count
    assert publish("other", facility=facility, broadcast=True, expire=expire, key="2") == 1


def test_a_key_is_that_of_a_channel(listener: Listener) -> None:
    assert publish("x", facility="news", users=["alice"], key="1") == 1
    assert publish("x", facility="news", users=["alice", "bob"], key="1") == 1
    assert publish("x", facility="news2", users=["alice"], key="1") == 1
    assert [name for name, _ in listener.all()] == [
        name_of("user", "alice"),
        name_of("user", "bob"),
        name_of("user", "alice", "news2"),
    ]


def test_a_key_counts_for_a_message_to_every_facility(listener: Listener) -> None:
    assert [publish("x", facility=EVERYWHERE, broadcast=True, key="1") for _ in range(2)] == [1, 0]
    assert [data for _, data in listener.all()] == ["x"]


def test_a_key_is_remembered_as_long_as_the_message_and_five_minutes_at_least(configured: RedisServer) -> None:
    for expire, seconds in ((0, 300), (60, 300), (1000, 1000)):
        publish("x", facility="news", broadcast=True, expire=expire, key=f"{expire}")
        with configured.client() as client:
            (name,) = client.keys(f"*:key:{expire}")
            assert seconds - 10 < client.ttl(name) <= seconds


def test_threads_that_publish_the_same_key_publish_once(listener: Listener) -> None:
    results: list[int | None] = []
    threads = [
        threading.Thread(target=lambda: results.append(publish("x", facility="news", broadcast=True, key="1")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(map(int, results)) == [0] * 7 + [1]
    assert len(listener.all()) == 1


@pytest.mark.parametrize("key", ["", "x" * 201, 5, b"x", True, "\ud800"])
def test_a_key_of_another_kind_is_a_type_error(listener: Listener, key: Any) -> None:
    with pytest.raises(TypeError, match=r"^key is .*; it is a text of 1 to 200 characters$"):
        publish("x", facility="news", broadcast=True, key=key)
    assert listener.all() == []


@pytest.mark.parametrize("retry", [0, -1, 241, float("nan"), float("inf"), True, "5"])
def test_a_retry_of_another_kind_is_a_type_error(listener: Listener, retry: Any) -> None:
    with pytest.raises(TypeError, match=r"^retry is .*; it is a number of seconds above 0, up to 240$"):
        publish("x", facility="news", broadcast=True, retry=retry)
    assert listener.all() == []


# Again and again


@contextmanager
def losing_replies(monkeypatch: pytest.MonkeyPatch, times: int) -> Iterator[list[int]]:
    """Let Redis carry out what it is sent, and lose its first replies."""
    lost: list[int] = []
    execute = redis.execute

    def execute_and_lose(commands: Any) -> Any:
        replies = execute(commands)
        if len(lost) < times:
            lost.append(len(replies))
            raise BrokerUnavailable("the reply is lost")
        return replies

    with monkeypatch.context() as patch:
        patch.setattr(redis, "execute", execute_and_lose)
        yield lost


@pytest.mark.parametrize("facility", ["news", "chat/1"])
def test_a_retry_publishes_once_even_if_the_replies_were_lost(
    with_history: RedisServer, listener: Listener, monkeypatch: pytest.MonkeyPatch, facility: str
) -> None:
    with losing_replies(monkeypatch, 2) as lost:
        assert publish("x", facility=facility, broadcast=True, users=["alice"], retry=60) == 0
    assert lost == [2, 2]
    assert sorted(listener.all()) == [
        (name_of("broadcast", "", facility), "x"),
        (name_of("user", "alice", facility), "x"),
    ]
    assert entries(with_history, name_of("broadcast", "", facility)) == ["x"]


def test_two_messages_with_a_retry_are_two(listener: Listener) -> None:
    for _ in range(2):
        assert publish("x", facility="news", broadcast=True, retry=5) == 1
    assert len(listener.all()) == 2


def test_a_retry_reaches_a_redis_that_comes_back(own_redis: RedisServer) -> None:
    with with_url(own_redis.url):
        publish("x", facility="news", broadcast=True)
        own_redis.kill()
        starter = threading.Timer(0.5, own_redis.start)
        starter.start()
        try:
            assert publish("x", facility="news", broadcast=True, expire=60, retry=60) == 0
        finally:
            starter.join()
        assert fetch_message(None, "news") == "x"


def test_some_channels_may_have_a_message_whose_publishing_failed_and_the_key_mends_it(
    configured: RedisServer, listener: Listener
) -> None:
    with configured.client() as client:
        client.set(name_of("group", "b"), "not a stream")
        arguments: dict[str, Any] = {"facility": "news", "groups": ["a", "b", "c"], "expire": 60, "key": "1"}
        with pytest.raises(BrokerUnavailable):
            publish("x", **arguments)
        client.delete(name_of("group", "b"))
        assert publish("x", **arguments) == 1
    assert sorted(name for name, _ in listener.all()) == [name_of("group", name) for name in "abc"]


def test_a_retry_ends_when_its_time_is_over() -> None:
    with with_url(f"redis://127.0.0.1:{free_port()}/0"), pytest.raises(BrokerUnavailable, match="cannot be reached"):
        publish("x", facility="news", broadcast=True, retry=0.3)


def test_without_a_retry_there_is_one_try(configured: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with losing_replies(monkeypatch, 1) as lost, pytest.raises(BrokerUnavailable):
        publish("x", facility="news", broadcast=True, key="1")
    assert lost == [1]


def test_a_retry_after_a_commit_is_made_there(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    with losing_replies(monkeypatch, 1) as lost:
        with transaction.atomic():
            assert publish("x", facility="news", broadcast=True, key="1", retry=60) is None
            assert publish("x", facility="news", broadcast=True, key="1") is None
        assert lost == [1]
    assert [data for _, data in listener.all()] == ["x"]


# Transactions


@pytest.fixture
def second_database(tmp_path: Path) -> Iterator[None]:
    """A second database."""
    connections.settings["second"] = connections.configure_settings(
        {"default": {}, "second": {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "second"}}
    )["second"]
    yield
    connections["second"].close()
    del connections["second"]
    del connections.settings["second"]


def say(text: str, **options: Any) -> int | None:
    return publish(text, facility="news", broadcast=True, **options)


def heard(listener: Listener) -> list[str | bytes]:
    return [data for _, data in listener.all()]


@contextmanager
def rolled_back() -> Iterator[None]:
    with suppress(RuntimeError), transaction.atomic():
        yield
        raise RuntimeError


def test_inside_a_transaction_a_message_waits_for_the_commit(listener: Listener) -> None:
    with transaction.atomic():
        assert say("one") is None
        assert say("two") is None
        assert heard(listener) == []
    assert heard(listener) == ["one", "two"]


def test_after_a_rollback_nothing_is_sent(listener: Listener) -> None:
    with rolled_back():
        say("never")
    assert heard(listener) == []


def test_a_savepoint_that_is_rolled_back_takes_its_messages_with_it(listener: Listener) -> None:
    with transaction.atomic():
        say("one")
        with rolled_back():
            say("never")
        with transaction.atomic():
            say("two")
        assert heard(listener) == []
    assert heard(listener) == ["one", "two"]


def test_a_switch_sends_at_once(listener: Listener) -> None:
    with rolled_back():
        assert say("at once", on_commit=False) == 1
    assert heard(listener) == ["at once"]


def test_a_message_waits_for_all_databases(listener: Listener, second_database: None) -> None:
    with transaction.atomic(using="second"):
        with transaction.atomic():
            assert say("x") is None
        assert heard(listener) == []
    assert heard(listener) == ["x"]
    with transaction.atomic():
        with transaction.atomic(using="second"):
            assert say("y") is None
        assert heard(listener) == []
    assert heard(listener) == ["y"]


def test_the_message_is_that_of_the_call_not_of_the_commit(listener: Listener) -> None:
    message = {"a": 1}
    with transaction.atomic():
        say(message)  # type: ignore[arg-type]
        message["a"] = 2
    assert heard(listener) == ['{"a": 1}']


def test_wrong_types_are_told_inside_a_transaction_too(configured: RedisServer) -> None:
    with transaction.atomic(), pytest.raises(TypeError):
        say({1})  # type: ignore[arg-type]


def test_a_failure_after_the_commit_is_logged_and_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    with with_url(f"redis://127.0.0.1:{free_port()}/0"), transaction.atomic():
        say("lost")
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "was not sent after its transaction" in record.getMessage()


def test_another_threads_transaction_does_not_matter(listener: Listener) -> None:
    results: list[int | None] = []
    with transaction.atomic():
        thread = threading.Thread(target=lambda: results.append(say("x")))
        thread.start()
        thread.join(30)
        assert results == [1]
    assert heard(listener) == ["x"]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0?db=abc", "redis://127.0.0.1:1/0?nonsense=1"])
def test_a_url_with_a_query_that_redis_does_not_know_is_said_in_one_line(url: str) -> None:
    with override_settings(WSREDIS={"URL": url}), pytest.raises(BrokerUnavailable, match="URL"):
        publish("x", facility="news", broadcast=True)


def test_an_empty_list_is_nobody(configured: RedisServer) -> None:
    assert publish("x", facility="news", users=[]) == 0


@pytest.mark.parametrize("expire", [-1, 2**31, True, 1.5, "60"])
def test_an_expire_that_redis_would_refuse_is_a_type_error(configured: RedisServer, expire: Any) -> None:
    with pytest.raises(TypeError, match="expire"):
        publish("x", facility="news", broadcast=True, expire=expire)
    with configured.client() as client:
        assert client.keys() == []


def test_a_message_to_many_users_on_every_facility_goes_out(listener: Listener) -> None:
    assert publish("x", facility=EVERYWHERE, users=[f"user-{number}" for number in range(10_000)]) == 1
    ((_, message),) = [listener.next()]
    assert message.data == "x"
    assert len(message.addresses) == 10_000
    assert message.addresses[-1] == b"wsredis:user:user-9999:"
