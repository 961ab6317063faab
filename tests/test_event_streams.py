"""Event streams, over every host: the same messages by the same rules as websockets, and what pages post beside."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import override_settings

from django_wsredis import publish
from django_wsredis.live import connections

from .conftest import login
from .event_source import TOKEN, EventSource, connection, post
from .servers import RedisServer, Site, wait_until
from .test_sites import SETTINGS, host, new_user, start_site  # noqa: F401  one is a fixture

LISTEN = "?subscribe-broadcast"
TALK = "?subscribe-broadcast&publish-broadcast"
V1 = "&wsredis.v1"
OURS = {
    **SETTINGS,
    "WSREDIS": {
        **SETTINGS["WSREDIS"],
        "PING_INTERVAL": 1,
        "MAX_MESSAGE_BYTES": 1000,
        "MAX_OUTBOX_BYTES": 100_000,
        "HISTORY": {"f*": {"messages": 100, "seconds": 100}},
        "SLOW": {"drop/*": "drop"},
    },
}


@pytest.fixture(scope="module")
def site(host: str, shared_redis: RedisServer, database: object) -> Iterator[Site]:  # noqa: F811
    site = start_site(host, shared_redis, OURS)
    with override_settings(WSREDIS={"URL": shared_redis.url, "HISTORY": OURS["WSREDIS"]["HISTORY"]}):
        yield site
    assert site.stop() in (0, -15)
    assert "Traceback" not in site.output


_numbers = count()


@pytest.fixture
def facility() -> str:
    """A facility that no other test uses, whose messages are kept."""
    return f"f-{next(_numbers)}"


def sockets_of(facility: str) -> int:
    return connections(facility=facility).total


# Messages


def test_a_stream_begins_with_its_key_and_a_time_to_come_back_of_its_own(site: Site, facility: str) -> None:
    with EventSource(site.port, facility + LISTEN) as one, EventSource(site.port, facility + LISTEN) as two:
        assert (one.status, one.headers) == (
            200,
            {
                "content-type": "text/event-stream",
                "cache-control": "no-store, no-transform",
                "x-accel-buffering": "no",
                "connection": "close",
            },
        )
        assert one.key != two.key
        for source in (one, two):
            assert source.retry is not None
            assert 1000 <= source.retry <= 5000


TEXTS = [
    "hello",
    "",
    " ",
    "two\nlines",
    "\n",
    "ends\n\n",
    "id: 1\ndata: 2",
    ":",
    "grüße 😀 \0",
    "\ufeffBOM",
    "x" * 50_000,
]


def test_a_message_from_django_arrives_as_it_was(site: Site, facility: str) -> None:
    with EventSource(site.port, facility + LISTEN) as source:
        for message in [*TEXTS, b"", b"\x00\r\n\xff", {"a": [1, None]}]:
            publish(message, facility=facility, broadcast=True)
            assert source.message() == (json.dumps(message) if isinstance(message, dict) else message)


def test_what_ends_a_line_in_an_event_becomes_a_newline_but_is_exact_with_v1(site: Site, facility: str) -> None:
    with EventSource(site.port, facility + LISTEN) as plain, EventSource(site.port, facility + LISTEN + V1) as v1:
        assert v1.header()[0]["type"] == "ack"
        for message in [*TEXTS, b"", b"\x00\r\n\xff", "a\rb\r\nc\r"]:
            publish(message, facility=facility, broadcast=True, expire=0)
            assert v1.header() == ({"channel": f"broadcast:{facility}"}, message)
        for message in [*TEXTS, b"", b"\x00\r\n\xff"]:
            assert plain.message() == message
        assert plain.message() == "a\nb\nc\n"


def test_websockets_and_streams_get_the_same(site: Site, facility: str) -> None:
    with site.connect(facility + TALK) as browser, EventSource(site.port, facility + LISTEN) as source:
        assert publish("from django", facility=facility, broadcast=True) == 1
        browser.send("from a browser")
        assert [browser.recv(15), source.message(), source.message()] == [
            "from django",
            "from django",
            "from a browser",
        ]
        shown = connections(facility=facility)
        assert (shown.total, sorted(shown.sockets, key=lambda s: s.sent)[-1].sent) == (2, 2)


def test_what_is_kept_comes_first_and_a_stream_goes_on_after_the_last_event(site: Site, facility: str) -> None:
    for number in range(5):
        publish(f"{number}", facility=facility, broadcast=True)
    with EventSource(site.port, facility + LISTEN + "&history=2") as source:
        assert [source.message(), source.message()] == ["3", "4"]
        last_id = source.last_id
    assert last_id.startswith(f"broadcast:{facility}=1")
    publish("5", facility=facility, broadcast=True)
    publish("not kept", facility=facility, broadcast=True, expire=0)
    publish("6", facility=facility, broadcast=True)
    # the browser asks with the URL of the beginning
    with EventSource(site.port, facility + LISTEN + "&history=2", {"Last-Event-ID": last_id}) as source:
        assert [source.message(), source.message()] == ["5", "6"]
        publish("7", facility=facility, broadcast=True)
        assert source.message() == "7"


def test_no_channel_misses_anything_where_another_ones_event_was_the_last(
    site: Site, facility: str, alice: str
) -> None:
    path = facility + "?subscribe-broadcast&subscribe-user&history=100"
    seen: list[str | bytes] = []
    headers: dict[str, str] = {}
    for round_number in range(3):
        with EventSource(site.port, path, headers, cookie=alice) as source:
            for number in range(10):  # some within one millisecond
                options: dict[str, Any] = {"users": ["alice"]} if number % 2 else {"broadcast": True}
                publish(f"{round_number}{number}", facility=facility, **options)
            last = f"{round_number}9"
            while not seen or seen[-1] != last:
                seen.append(source.message())
            headers["Last-Event-ID"] = source.last_id
        publish(f"{round_number} between", facility=facility, broadcast=True)
    expected = [f"{r}{n}" for r in range(3) for n in range(10)] + ["0 between", "1 between"]
    assert set(seen) == set(expected)


def test_a_stream_that_is_cut_before_it_got_what_several_channels_hold_begins_again(
    site: Site, facility: str, alice: str
) -> None:
    for number in range(3):
        publish(f"b{number}", facility=facility, broadcast=True)
        publish(f"u{number}", facility=facility, users=["alice"])
    path = facility + "?subscribe-broadcast&subscribe-user&history=10"
    with EventSource(site.port, path, cookie=alice) as source:
        held = [source.message() for _ in range(6)]
        assert sorted(map(str, held)) == ["b0", "b1", "b2", "u0", "u1", "u2"]
        assert source.last_id == ""
        publish("live", facility=facility, broadcast=True)
        lines = [source.line() for _ in range(3)]
        assert [lines[1], lines[2].partition(b"=")[0]] == [b"", f"id: broadcast:{facility}".encode()]
        last_id = lines[0].removeprefix(b"id: ").decode()
    assert [part.partition("=")[0] for part in last_id.split(",")] == [
        f"broadcast:{facility}",
        f"user:alice:{facility}",
    ]
    publish("missed", facility=facility, users=["alice"])
    with EventSource(site.port, path, {"Last-Event-ID": last_id}, cookie=alice) as source:
        assert {source.message(), source.message()} == {"live", "missed"}


def test_a_stream_of_v1_gets_what_it_missed_or_is_told_of_a_gap(site: Site, facility: str) -> None:
    publish("1", facility=facility, broadcast=True)
    with EventSource(site.port, facility + LISTEN + V1) as source:
        header, payload = source.header()
        assert (header["channel"], payload) == (f"broadcast:{facility}", "1")
        assert source.last_id == f"broadcast:{facility}={header['id']}"
        ack, _ = source.header()
        assert ack == {"type": "ack", "facility": facility, "channels": {header["channel"]: header["id"]}}
    publish("2", facility=facility, broadcast=True)
    with EventSource(site.port, f"{facility}{LISTEN}{V1}&since={header['id']}") as source:
        assert [source.header()[1], source.header()[0]["type"]] == ["2", "ack"]
    with EventSource(site.port, f"{facility}{LISTEN}{V1}&since=1-1") as source:
        assert [source.header()[0].get("type") for _ in range(4)] == ["gap", None, None, "ack"]


# Who may


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        pytest.param(LISTEN, {"Accept": "*/*"}, 426, id="no event stream"),
        pytest.param(LISTEN, {"Accept": "text/html, text/event-stream;q=0.5"}, 200, id="among others"),
        pytest.param(LISTEN, {"Upgrade": "h2c"}, 426, id="another upgrade"),
        pytest.param(LISTEN, {"Origin": "http://127.0.0.1:{port}"}, 200, id="own Origin"),
        pytest.param(LISTEN, {"Origin": "https://evil.net"}, 403, id="foreign Origin"),
        pytest.param(LISTEN, {"Sec-Fetch-Site": "same-origin"}, 200, id="own page"),
        pytest.param(LISTEN, {"Sec-Fetch-Site": "cross-site"}, 403, id="foreign page that does not say which"),
        pytest.param(LISTEN, {"Host": "stranger.example.net"}, 400, id="Host"),
        pytest.param("", {}, 400, id="nothing asked"),
        pytest.param("?subscribe-user", {}, 403, id="nobody's"),
        pytest.param(TALK + "&callback=broadcast-only", {}, 403, id="publishing is not granted"),
        pytest.param(LISTEN + "&callback=deny", {}, 403, id="denied"),
        pytest.param(LISTEN + "&since=x", {}, 400, id="since"),
        pytest.param(LISTEN, {"Last-Event-ID": "7"}, 400, id="Last-Event-ID"),
        pytest.param("x" * 200 + LISTEN, {}, 404, id="facility too long"),
    ],
)
def test_a_stream_is_decided_as_a_handshake(
    site: Site, facility: str, path: str, headers: dict[str, str], status: int
) -> None:
    given = {name: value.format(port=site.port) for name, value in headers.items()}
    with EventSource(site.port, facility + path, given) as source:
        assert source.status == status
        assert "access-control-allow-origin" not in source.headers
        if status == 200:
            assert len(source.key) == 24
        else:
            assert source.headers["cache-control"] == "no-store"


def test_the_user_of_the_session_is_known_and_a_logout_ends_the_stream(site: Site, facility: str) -> None:
    name = f"user-{facility}"
    new_user(name)
    cookie = login(name)
    path = facility + "?subscribe-user"
    with EventSource(site.port, path, cookie=cookie) as source:
        assert source.status == 200
        publish("for one", facility=facility, users=[name])
        assert source.message() == "for one"
        Session.objects.filter(session_key=cookie).delete()
        assert source.closed_with() == 4401
    with EventSource(site.port, path, cookie=cookie) as source:  # as the browser comes back, and then no more
        assert source.status == 403


# What pages post


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        pytest.param(TALK, "grüße", {}, 204, id="text"),
        pytest.param(TALK, b"\x00\xff", {}, 204, id="binary"),
        pytest.param("?publish-broadcast", "", {}, 204, id="no text"),
        pytest.param(TALK, '{"a": 1}', {"Content-Type": "application/json"}, 204, id="JSON"),
        pytest.param(TALK, "x" * 1000, {}, 204, id="as large as may be"),
        pytest.param(TALK, "x" * 1001, {}, 413, id="too large"),
        pytest.param(TALK, b"\xff", {"Content-Type": "text/plain"}, 400, id="no UTF-8"),
        pytest.param(TALK, "a=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415, id="form"),
        pytest.param(TALK, "x", {"X-CSRFToken": None}, 403, id="no token"),
        pytest.param(TALK, "x", {"X-CSRFToken": "x" * 32}, 403, id="wrong token"),
        pytest.param(TALK, "x", {"Cookie": None}, 403, id="no cookie"),
        pytest.param(TALK, "x", {"Origin": "https://evil.net"}, 403, id="foreign Origin"),
        pytest.param(TALK, "x", {"Origin": "http://127.0.0.1:{port}"}, 204, id="own Origin"),
        pytest.param(LISTEN, "x", {}, 403, id="publishing is not asked for"),
        pytest.param(TALK + "&callback=broadcast-only", "x", {}, 403, id="not granted"),
        pytest.param("?publish-user", "x", {}, 403, id="nobody's"),
        pytest.param("", "x", {}, 400, id="nothing asked"),
        pytest.param(TALK + "&stream=<>", "x", {}, 400, id="no key"),
        pytest.param("x" * 200 + TALK, "x", {}, 404, id="facility too long"),
        pytest.param(TALK, '{"type":"ping"}', {"Content-Type": "application/wsredis.v1"}, 400, id="whose stream"),
    ],
)
def test_what_is_posted_is_published_or_refused_with_its_status(
    site: Site, facility: str, path: str, body: str | bytes, headers: dict[str, str | None], status: int
) -> None:
    given = {name: value and value.format(port=site.port) for name, value in headers.items()}
    with EventSource(site.port, facility + LISTEN) as source:
        assert post(site.port, facility + path, body, given) == status
        publish("end", facility=facility, broadcast=True)
        assert [source.message(), *([source.message()] if status == 204 else [])] == [
            *([body] if status == 204 else []),
            "end",
        ]


def test_a_body_without_its_length_is_refused(site: Site, facility: str) -> None:
    http = connection(site.port)
    headers = {"Content-Type": "text/plain", "X-CSRFToken": TOKEN, "Cookie": f"csrftoken={TOKEN}"}
    http.putrequest("POST", f"/ws/{facility}{TALK}")
    for name, value in headers.items():
        http.putheader(name, value)
    http.endheaders()
    assert http.getresponse().status == 411
    http.close()


@pytest.mark.parametrize("echo", [False, True])
def test_what_a_page_posts_comes_back_to_its_stream_with_echo_alone(site: Site, facility: str, echo: bool) -> None:
    talk = TALK + "&echo" * echo
    with EventSource(site.port, facility + talk) as own, EventSource(site.port, facility + LISTEN) as other:
        assert post(site.port, f"{facility}{talk}&stream={own.key}", "mine") == 204
        assert post(site.port, f"{facility}{talk}&stream={'0' * 24}", "theirs") == 204
        assert [other.message(), other.message()] == ["mine", "theirs"]
        assert own.message() == ("mine" if echo else "theirs")
        assert other.last_id.startswith(f"broadcast:{facility}=")  # it is kept, too


def test_a_stream_says_by_post_what_a_websocket_says_itself(site: Site, facility: str) -> None:
    more = f"{facility}/more"
    with EventSource(site.port, facility + LISTEN + V1) as source:
        key = source.key
        assert source.header()[0]["type"] == "ack"

        def say(**header: str) -> int:
            kind = {"Content-Type": "application/wsredis.v1"}
            return post(site.port, f"{facility}{LISTEN}&stream={key}", json.dumps(header), kind)

        assert say(type="ping") == 204
        assert source.header()[0] == {"type": "pong"}
        assert say(type="subscribe", facility=more, query="subscribe-broadcast") == 204
        assert next_but_pongs(source)["facility"] == more
        publish("more", facility=more, broadcast=True)
        assert next_but_pongs(source)["channel"] == f"broadcast:{more}"
        assert say(type="subscribe", facility="f/denied", query="subscribe-broadcast&callback=deny") == 204
        assert next_but_pongs(source) == {"type": "error", "status": 403, "facility": "f/denied"}
        assert say(type="unsubscribe", facility=more) == 204
        assert next_but_pongs(source) == {"type": "unsubscribed", "facility": more}
        assert say(type="subscribe", facility="x" * 9000) == 413
        assert say(type="nonsense") == 204
        assert source.closed_with() == 1008


def next_but_pongs(source: EventSource) -> dict[str, Any]:
    while (header := source.header()[0]).get("type") == "pong":
        pass
    return header


# Their lives


def test_an_idle_stream_gets_comments_and_one_of_v1_pongs(site: Site, facility: str) -> None:
    with EventSource(site.port, facility + LISTEN) as plain, EventSource(site.port, facility + LISTEN + V1) as v1:
        assert [v1.header()[0]["type"] for _ in range(3)] == ["ack", "pong", "pong"]
        assert plain.key
        assert [plain.line() for _ in range(4)] == [b":", b"", b":", b""]


def test_a_browser_that_goes_is_forgotten_and_a_stream_needs_no_thread(site: Site, facility: str) -> None:
    with EventSource(site.port, facility + LISTEN) as source:
        assert source.key
        wait_until(lambda: sockets_of(facility) == 1, what="one socket")
        threads, files = site.threads(), site.descriptors()
        sources = [EventSource(site.port, facility + LISTEN) for _ in range(30)]
        assert all(len(source.key) == 24 for source in sources)
        assert sockets_of(facility) == 31
        assert site.descriptors() <= files + 31 + 16  # the threads that served them may have a few files of their own
        assert site.threads() <= threads + 16
        for source in sources:
            source.close()
    wait_until(lambda: sockets_of(facility) == 0, what="no socket")


def test_a_stream_that_does_not_keep_up_is_closed_and_costs_others_nothing(site: Site, facility: str) -> None:
    with EventSource(site.port, facility + LISTEN) as source, EventSource(site.port, facility + LISTEN) as quick:
        assert source.key
        while "(1013): it is too slow" not in site.output:
            publish(b"x" * 30_000, facility=facility, broadcast=True)
            assert len(quick.message()) == 30_000
        assert source.closed_with() == 1013


def test_what_a_browser_sends_after_its_request_does_no_harm(site: Site, facility: str) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=15) as raw:
        request = f"GET /ws/{facility}{LISTEN} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
        raw.sendall(request.encode())
        received = b""
        while b"hello" not in received:
            received += raw.recv(1000)
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 10_000)
        publish("still here", facility=facility, broadcast=True)
        while b"data: still here\n\n" not in received:
            received += raw.recv(1000)
        assert received.count(b"HTTP/1.1") == 1
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(1000) == b""


def test_a_server_that_stops_ends_each_stream_with_a_word(host: str, redis_server: RedisServer, facility: str) -> None:  # noqa: F811
    site = start_site(host, redis_server, OURS)
    try:
        with EventSource(site.port, facility + LISTEN) as source:
            assert source.key
            site.popen.terminate()
            assert source.closed_with() in (1001, 1012)
    finally:
        site.stop()
