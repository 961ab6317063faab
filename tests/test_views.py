"""Websocket views, over every host."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.contrib.auth import logout
from django.contrib.auth.models import Group, User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from django.test import override_settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from django_wsredis import live, publish
from django_wsredis.control import COME_BACK, Filter
from django_wsredis.inspection import Inspector

from .conftest import DATABASE, login
from .rawsocket import RawSocket, text
from .servers import Listener, RedisServer, Site, stopping, wait_until
from .test_sites import HOSTS, MIDDLEWARE, start_site

HISTORY = {"kept-*": {"messages": 100, "seconds": 600}}
SETTINGS = {
    "WEBSOCKET_URLCONF": "tests.project.sockets",
    "DATABASES": {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(DATABASE),
            "OPTIONS": {"timeout": 20},
            "ATOMIC_REQUESTS": True,
        }
    },
    "LANGUAGES": [["en", "English"], ["de", "Deutsch"]],
    "LANGUAGE_CODE": "en",
    "MESSAGE_STORAGE": "django.contrib.messages.storage.session.SessionStorage",
    "USE_I18N": True,
    "MIDDLEWARE": [
        *MIDDLEWARE,
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.locale.LocaleMiddleware",
        "tests.project.middleware.adds_something",
    ],
    "WSREDIS": {"VIEW_THREADS": 20, "PING_INTERVAL": 5, "SUBPROTOCOLS": ["chat.v1"], "HISTORY": HISTORY},
}


@pytest.fixture(scope="module", params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def site(host: str, shared_redis: RedisServer, database: object) -> Iterator[Site]:
    site = start_site(host, shared_redis, SETTINGS)
    with override_settings(WSREDIS={"URL": shared_redis.url, "HISTORY": HISTORY}):
        yield site
    assert site.stop() in (0, -15)


def said(socket: ClientConnection) -> Any:
    """Return the next message, as JSON if it is that."""
    message = socket.recv(15)
    return json.loads(message) if isinstance(message, str) and message.startswith(("{", "[")) else message


def closed_with(socket: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        socket.recv(15)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def closes(listener: ClientConnection, name: str) -> str:
    """Return the next close of a socket; those of others, of earlier tests, may come between."""
    return next(str(message) for message in listener if str(message).startswith(f"closed {name} "))


# Functions


def test_a_function_receives_and_sends_texts_and_bytes(site: Site) -> None:
    with site.connect("view/echo/") as socket:
        for message in ("hello", "", "käse 🧀", b"\x00\xff", b"", "x" * 200_000):
            socket.send(message)
            assert said(socket) == message


def test_messages_of_one_segment_are_received_one_by_one(site: Site) -> None:
    with RawSocket(site.port, "view/echo/") as raw:
        raw.send(text("a") + text("b") + text("c"))
        assert [raw.frame().data for _ in range(3)] == [b"a", b"b", b"c"]


def test_a_loop_is_called_once_for_each_message(site: Site) -> None:
    with site.connect("view/ping/") as socket:
        for message in ("ping", "silence", "pong"):
            socket.send(message)
        assert [said(socket), said(socket)] == ["pong", "ping"]


def test_a_loop_that_does_not_receive_is_called_once_for_each_message_too(site: Site) -> None:
    with site.connect("view/deaf/") as socket:
        socket.send("one")
        socket.send("two")
        assert [said(socket), said(socket)] == ["called", "called"]
        with pytest.raises(TimeoutError):
            socket.recv(0.2)


def test_a_view_has_all_that_django_made_of_the_handshake(site: Site) -> None:
    headers = {"Accept-Language": "de"}
    path = "view/tell/lobby/?a=1&b="
    with site.connect(path, cookie=login("alice"), headers=headers, subprotocols=["chat.v1"]) as socket:
        assert said(socket) == {
            "kwargs": {"room": "lobby"},
            "query": {"a": "1", "b": ""},
            "user": "alice",
            "visits": 0,
            "language": "de",
            "added": "something",
            "room": "/ws/view/tell/x/",
            "page": "/",
            "url": f"ws://127.0.0.1:{site.port}/ws/view/tell/x/",
            "subprotocol": "chat.v1",
            "thread": False,
        }


def test_a_view_gets_the_messages_of_the_pages_before(site: Site) -> None:
    cookie = login("alice")
    session = SessionStore(cookie)
    session["_messages"] = '[["__json_message", 0, 20, "saved"]]'  # as django.contrib.messages keeps them
    session.save()
    with site.connect("view/messages/", cookie=cookie) as socket:
        assert said(socket) == ["saved"]


def test_the_next_view_in_the_same_thread_has_nothing_of_the_last_one(site: Site) -> None:
    with site.connect("view/tell/lobby/", headers={"Accept-Language": "de"}) as socket:
        assert said(socket)["language"] == "de"
    with site.connect("view/tell/hall/") as socket:
        answer = said(socket)
    assert (answer["language"], answer["user"], answer["kwargs"]) == ("en", "", {"room": "hall"})


def test_cookies_that_middleware_sets_come_with_the_101(site: Site) -> None:
    with site.connect("view/echo/?cookie") as socket:
        assert socket.response is not None
        assert socket.response.headers["Set-Cookie"] == "seen=yes; HttpOnly; Path=/"


def test_the_session_is_saved_when_a_function_waits_and_when_it_ends(site: Site) -> None:
    cookie = login("alice")
    with site.connect("view/visits/", cookie=cookie) as socket:
        for number in (1, 2):
            assert said(socket) == str(number)
            wait_until(lambda number=number: SessionStore(cookie).get("visits") == number)
            socket.send("go on")
        assert closed_with(socket) == (1000, "")
    wait_until(lambda: SessionStore(cookie).get("visits") == 3)


def test_a_wait_that_is_over_leaves_the_socket_as_it_was(site: Site) -> None:
    with site.connect("view/timeouts/") as socket:
        assert said(socket) == "nothing came in time"
        socket.send("late")
        assert said(socket) == "late"


@pytest.mark.parametrize(
    ("word", "closing"),
    [("return", (1000, "")), ("1000", (1000, "")), ("4001 bye", (4001, "bye")), ("raise", (1011, ""))],
)
def test_a_view_closes_its_socket(site: Site, word: str, closing: tuple[int, str]) -> None:
    start = len(site.lines)
    with site.connect("view/leave/") as socket:
        socket.send(word)
        assert closed_with(socket) == closing
    if word == "raise":
        site.wait_for(r"ValueError: a mistake of the view's", start=start)
        output = "\n".join(site.lines[start:])
        assert output.count("Traceback") == 1
        assert "A websocket view failed: tests.project.sockets.leave" in output


@pytest.mark.parametrize("word", ["4001 bye", "1000"])
def test_a_view_that_has_closed_its_socket_receives_none(site: Site, word: str) -> None:
    with site.connect("left?subscribe-broadcast") as listener, site.connect("view/leave/") as socket:
        socket.send(word)
        closed_with(socket)
        assert listener.recv(15) == repr([None, True, int(word[:4])])


def test_a_view_whose_browser_has_vanished_ends_in_silence(site: Site) -> None:
    start = len(site.lines)
    before = site.threads()
    with RawSocket(site.port, "view/flood/") as raw:
        raw.frame()
        raw.abort()
    wait_until(lambda: site.threads() <= before, what="the end of the view")
    assert not [line for line in site.lines[start:] if line.startswith(("WARNING", "ERROR", "Traceback"))]


def test_a_view_that_sends_more_than_its_browser_takes_waits_for_it(site: Site) -> None:
    with site.connect("view/flood/", max_size=None) as socket:
        assert [len(socket.recv(15)) for _ in range(200)] == [100_000] * 200
        assert said(socket) == "end"


def test_a_browser_that_sends_more_than_its_view_takes_waits_for_it(site: Site) -> None:
    with site.connect("view/sleep/300/") as other, site.connect("view/echo/") as socket:
        for number in range(5000):
            socket.send(f"{number} " + "x" * 100)
        assert [int(str(socket.recv(15)).split()[0]) for _ in range(5000)] == list(range(5000))
        assert said(other) == "slept"


# The way in


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("view/members/", 403),
        ("view/permitted/", 403),
        ("view/staff/", 403),
        ("view/denied/", 403),
        ("view/404/", 404),
        ("view/page/", 500),
        ("view/breaks/", 500),
        ("class/members/", 403),
        ("class/mixed/", 403),
        ("view/echo", 404),  # there is one with a slash
    ],
)
def test_what_guards_a_view_refuses_before_the_upgrade(site: Site, path: str, status: int) -> None:
    with RawSocket(site.port, path) as raw:
        assert raw.answer.status == status
        assert b"Traceback" not in raw.answer.body


def test_a_guard_in_the_wrong_place_is_told(site: Site) -> None:
    start = len(site.lines)
    with site.connect("view/order/") as socket:
        assert closed_with(socket) == (1011, "")
    site.wait_for("returned a page, which no browser gets: .* login_required, stands above @websocket", start=start)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("view/ecko/", 400, "no view has this path"),
        ("view/echo", 404, "only the view hears it: /view/echo/, with a slash"),
        ("view/breaks/", 500, "is it one of django_wsredis.views"),
    ],
)
def test_a_mistaken_path_is_told(site: Site, path: str, status: int, said: str) -> None:
    start = len(site.lines)
    with RawSocket(site.port, path) as raw:
        assert raw.answer.status == status
    site.wait_for(said, start=start)


def test_a_view_has_no_event_stream(site: Site) -> None:
    start = len(site.lines)
    stream = {"Accept": "text/event-stream", "Upgrade": None, "Connection": None}
    with RawSocket(site.port, "view/echo/", headers=stream) as raw:
        assert raw.answer.status == 426
    site.wait_for("a view takes websockets alone", start=start)


def test_members_are_let_in(site: Site) -> None:
    for path in ("class/members/", "class/mixed/"):
        with site.connect(path, cookie=login("alice")) as socket:
            assert said(socket) == "welcome"


def test_a_plain_request_for_a_view_is_told_to_upgrade(site: Site) -> None:
    assert site.get("ws/view/echo/")[0] == 426


def test_other_paths_stay_facilities(site: Site) -> None:
    with site.connect("news?subscribe-broadcast") as socket:
        assert publish("hello", facility="news", broadcast=True) == 1
        assert said(socket) == "hello"


def test_what_a_view_is_there_for_is_heard_through_it_alone(site: Site) -> None:
    for path in ("view/echo?subscribe-broadcast", "class/members?subscribe-broadcast"):
        with RawSocket(site.port, path) as raw:
            assert raw.answer.status == 404
    with site.connect("news?subscribe-broadcast", subprotocols=["wsredis.v1"]) as socket:
        assert said(socket)["type"] == "ack"
        for facility in ("class/members", "class/members/"):
            wanted = {"type": "subscribe", "facility": facility, "query": "subscribe-broadcast"}
            socket.send(json.dumps(wanted))
            assert said(socket) == {"type": "error", "status": 404, "facility": facility}


def test_a_view_does_not_speak_wsredis_v1(site: Site) -> None:
    for offered, status in (("wsredis.v1", 400), ("wsredis.v1, chat.v1", 101), ("other", 101)):
        with RawSocket(site.port, "view/echo/", headers={"Sec-WebSocket-Protocol": offered}) as raw:
            assert raw.answer.status == status


def test_a_page_of_another_site_cannot_connect(site: Site) -> None:
    with RawSocket(site.port, "view/echo/", headers={"Origin": "https://evil.example"}) as raw:
        assert raw.answer.status == 403


def test_a_view_may_name_the_origins_of_its_pages(site: Site) -> None:
    own = f"http://127.0.0.1:{site.port}"
    for origin, status in (("https://partner.example.net", 101), (own, 403)):
        with RawSocket(site.port, "class/limited/", headers={"Origin": origin}) as raw:
            assert raw.answer.status == status


def test_atomic_requests_span_the_handshake_alone(site: Site) -> None:
    with site.connect("view/atomic/") as socket:
        assert said(socket) == [True, False]


def test_one_cannot_wait_inside_a_transaction(site: Site) -> None:
    start = len(site.lines)
    with site.connect("view/queries/") as socket:
        socket.send("count")
        assert said(socket)[1] is False
        socket.send("atomic")
        assert closed_with(socket) == (1011, "")
    site.wait_for("leave the atomic", start=start)


def test_when_all_threads_are_taken_a_view_that_is_a_function_is_refused(site: Site) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(site.connect("view/echo/")) for _ in range(20)]
        with RawSocket(site.port, "view/echo/") as raw:
            assert (raw.answer.status, raw.answer.headers["retry-after"]) == (503, "5")
        with site.connect("class/idle/") as idle:  # which needs one only while it works
            idle.send("hello")
            assert said(idle) == "hello"
        sockets[0].close()
        wait_until(lambda: _is_accepted(site), what="a thread that is free again")


def _is_accepted(site: Site) -> bool:
    with RawSocket(site.port, "view/echo/") as raw:
        return raw.answer.status == 101


# Channels


def test_what_is_published_arrives_in_the_same_receive(site: Site) -> None:
    with site.connect("view/listen/", cookie=login("alice")) as socket:
        assert said(socket) == "listening"
        publish("for all", facility="news", broadcast=True)
        assert said(socket) == "broadcast:news for all"
        publish("for staff", facility="news", groups=["staff"])
        assert said(socket) == "group:staff:news for staff"
        publish("for alice", facility="mail", users=["alice"])
        assert said(socket) == "mail for alice"
        socket.send("own")
        assert said(socket) == "broadcast:news own"
        socket.send("stop")
        assert said(socket) == "stopped"
        wait_until(lambda: publish("unheard", facility="news", broadcast=True) == 0, what="the last subscription's end")


def test_a_thousand_messages_arrive_in_order(site: Site) -> None:
    with site.connect("view/listen/") as socket, site.connect("news?subscribe-broadcast") as plain:
        assert said(socket) == "listening"
        for number in range(1000):
            publish(str(number), facility="news", broadcast=True)
        assert [said(socket) for _ in range(1000)] == [f"broadcast:news {number}" for number in range(1000)]
        assert [said(plain) for _ in range(1000)] == [str(number) for number in range(1000)]


@pytest.mark.parametrize("count", [0, 2, 10])
def test_what_is_kept_comes_first_if_the_view_wants_it(site: Site, count: int) -> None:
    facility = f"kept-{secrets.token_hex(4)}"
    for number in range(3):
        publish(str(number), facility=facility, broadcast=True)
    with site.connect(f"view/remember/{facility}/{count}/") as socket:
        assert said(socket) == "subscribed"
        publish("live", facility=facility, broadcast=True)
        found = list(iter(lambda: said(socket), ["live", True]))
    assert found == [[str(number), True] for number in range(3 - min(count, 3), 3)]


def test_a_view_that_does_not_keep_up_with_its_channels_is_closed(site: Site) -> None:
    with site.connect("class/calls/slow/") as socket:
        said(socket)
        socket.send("hang")
        assert said(socket) == "hanging"
        for _ in range(50):  # together more than MAX_OUTBOX_BYTES
            publish(bytes(100_000), facility="news", broadcast=True)
        assert closed_with(socket) == (1013, "the view is too slow")


# Classes


def test_the_calls_of_a_class_come_in_order_and_do_not_overlap(site: Site) -> None:
    with site.connect("class/calls/a/", cookie=login("alice")) as socket:
        assert said(socket) == "open a alice"
        for number in range(1, 200):
            socket.send("sleep" if number == 3 else "x")
        assert [said(socket) for _ in range(1, 200)] == [
            f"{number} sleep" if number == 3 else f"{number} x" for number in range(1, 200)
        ]
        publish("hello", facility="news", broadcast=True)
        assert said(socket) == "hello"


@pytest.mark.parametrize("how", ["close", "reset", "raise", "logout"])
def test_on_close_is_always_called(site: Site, how: str) -> None:
    codes = {"close": 1000, "reset": 1006, "raise": 1011, "logout": 4401}
    cookie = login("alice")
    with site.connect("closes?subscribe-broadcast") as listener:
        if how == "reset":
            with RawSocket(site.port, "class/calls/b/") as raw:
                raw.frame()
                raw.abort()
        else:
            with site.connect("class/calls/b/", cookie=cookie) as socket:
                said(socket)
                if how == "raise":
                    socket.send("raise")
                    assert closed_with(socket) == (1011, "")
                if how == "logout":
                    from django_wsredis.live import disconnect

                    disconnect(users=["alice"], code=4401)
                    assert closed_with(socket)[0] == 4401
        assert closes(listener, "b") == f"closed b {codes[how]}"
        publish("closed b marker", facility="closes", broadcast=True)
        assert closes(listener, "b") == "closed b marker"


def test_on_close_is_called_for_a_peer_that_is_silent_for_too_long(shared_redis: RedisServer, database: object) -> None:
    pings = {"WSREDIS": {"PING_INTERVAL": 1, "PING_TIMEOUT": 1}}
    site = start_site("runwsserver", shared_redis, {**SETTINGS, **pings})
    with stopping(site), site.connect("closes?subscribe-broadcast") as listener:
        with RawSocket(site.port, "class/calls/silent/"):
            assert closes(listener, "silent") == "closed silent 1011"


def test_the_session_is_saved_after_a_call_and_read_anew_in_the_next_one(site: Site) -> None:
    cookie = login("alice")
    with (
        site.connect("class/calls/c/", cookie=cookie) as socket,
        site.connect("class/calls/d/", cookie=cookie) as other,
    ):
        assert [said(socket), said(other)] == ["open c alice", "open d alice"]
        socket.send("save")
        assert said(socket) == "1 save"
        wait_until(lambda: _visits(other) == 1, what="the other socket's view of the session")


def test_a_view_is_seen_by_operators_and_ends_with_the_login(site: Site) -> None:
    cookie = login("alice")
    with site.connect("class/calls/i/", cookie=cookie) as socket, site.connect("view/listen/", cookie=cookie) as other:
        said(socket), said(other)
        found = live.connections(users=["alice"], facility="class/calls/*").sockets
        assert [(one.user, one.facilities, one.channels, one.sent) for one in found] == [
            ("alice", ["class/calls/i/"], ["broadcast:news"], 1)
        ]
        publish("hello", facility="news", broadcast=True)
        said(socket), said(other)
        channels = Inspector(Filter(), limit=20).look().channels
        assert [row.sockets for row in channels if row.channel == "broadcast:news"] == [2]
        (one,) = live.connections(users=["alice"], facility="class/calls/*").sockets
        assert one.sent == 3  # to the view, and what the view sent of it
        request = HttpRequest()
        request.session = SessionStore(cookie)
        request.user = User.objects.get(username="alice")
        logout(request)
        assert [closed_with(socket)[0], closed_with(other)[0]] == [4401, 4401]


def test_a_view_begins_anew_when_the_groups_of_its_user_have_changed(site: Site) -> None:
    with site.connect("class/calls/g/", cookie=login("alice")) as socket:
        said(socket)
        group = Group.objects.create(name=f"new-{secrets.token_hex(4)}")
        User.objects.get(username="alice").groups.add(group)
        assert closed_with(socket) == (COME_BACK, "the user's groups have changed")
    group.delete()


def _visits(socket: ClientConnection) -> int:
    socket.send("who")
    user, visits = said(socket)
    assert user == "alice"
    return int(visits)


def test_the_request_stays_what_it_was(site: Site) -> None:
    with site.connect("class/calls/e/?x=1") as socket:
        said(socket)
        for _ in range(2):
            socket.send("request")
            assert said(socket) == [f"127.0.0.1:{site.port}", {"x": "1"}, "/ws/class/calls/e/"]


def test_a_class_limits_its_sockets(site: Site) -> None:
    origin = "https://partner.example.net"
    with site.connect("class/limited/", origin=origin, subprotocols=["view.v1"]) as socket:
        assert said(socket) == "view.v1"
        socket.send("x" * 1001)
        assert closed_with(socket)[0] == 1009
    with site.connect("class/limited/", origin=origin) as socket:
        assert said(socket) == "none"
        for _ in range(5):
            socket.send("x")
        assert [said(socket) for _ in range(5)] == ["heard"] * 5
        socket.send("x")
        assert closed_with(socket) == (1008, "too many messages")


def test_a_form_validates_each_message(site: Site) -> None:
    with site.connect("class/room/") as socket:
        socket.send(json.dumps({"text": "hello", "number": 3}))
        assert said(socket) == {"text": "hello", "number": 3}
        socket.send(json.dumps({"text": "much too long", "number": "x"}))
        errors = said(socket)["errors"]
        assert {name: [error["code"] for error in found] for name, found in errors.items()} == {
            "text": ["max_length"],
            "number": ["invalid"],
        }
        for message in ("no JSON", "[1]", b"\xff"):
            socket.send(message)
            assert said(socket)["errors"]["__all__"][0]["code"] == "invalid_json"


def test_a_view_that_sleeps_delays_nobody(site: Site) -> None:
    with ExitStack() as stack:
        sleepers = [stack.enter_context(site.connect("class/calls/s/")) for _ in range(15)]
        idle = stack.enter_context(site.connect("class/idle/"))
        for sleeper in sleepers:
            said(sleeper)
            sleeper.send("sleep")
        idle.send("hello")
        assert said(idle) == "hello"
        with pytest.raises(TimeoutError):
            sleepers[-1].recv(0)  # it still sleeps
        assert [said(sleeper) for sleeper in sleepers] == ["1 sleep"] * 15


def test_one_flood_does_not_starve_others(site: Site) -> None:
    with RawSocket(site.port, "class/calls/f/") as flood, site.connect("class/idle/") as idle:
        flood.send(*[text("sleep" if number == 0 else "x" * 100) for number in range(5000)])
        for number in range(10):
            idle.send(str(number))
            assert said(idle) == str(number)


# The end


def test_a_server_that_stops_tells_its_views(host: str, shared_redis: RedisServer, database: object) -> None:
    with shared_redis.client() as client:
        listener = Listener(client)
        site = start_site(host, shared_redis, SETTINGS)
        with site.connect("class/calls/t/") as socket, site.connect("view/echo/") as blocked:
            said(socket)
            assert site.stop() in (0, -15)
            assert closed_with(socket)[0] == closed_with(blocked)[0] == 1001
        assert "closed t 1001" in [data for _, data in listener.all()]
        listener.close()
    assert "Traceback" not in site.output
