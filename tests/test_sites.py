"""The main job, over every host: a message from Django reaches every browser that should see it."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import override_settings
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection

from django_wsredis import EVERYWHERE, Publisher, publish
from django_wsredis.channels import Channel, redis_name

from . import hosted
from .conftest import DATABASE, login
from .rawsocket import ACCEPT, HEADERS, RSV1, RSV2, RSV3, Inflater, RawSocket, close, masked, more, ping, reset, text
from .servers import RedisServer, Site, wait_until

HOSTS = ["runwsserver", "runserver", *hosted.OPTIONS]
MIB = 1024 * 1024
TALK = "?subscribe-broadcast&publish-broadcast"

MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",  # gives pages their Content-Length
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
SETTINGS = {
    "CSRF_TRUSTED_ORIGINS": ["https://*.example.com", "https://partner.example.org"],
    "DATA_UPLOAD_MAX_MEMORY_SIZE": 4 * MIB,
    "MIDDLEWARE": MIDDLEWARE,
    "WSREDIS": {
        "ALLOWED_CHANNELS": "tests.project.callbacks.by_query",
        "PING_INTERVAL": 5,
        "SUBPROTOCOLS": ["chat.v2", "chat.v1"],
    },
}


def start_site(host: str, redis_server: RedisServer, settings: dict[str, Any]) -> Site:
    if host in hosted.OPTIONS:
        return hosted.HostedSite(host, redis_server, DATABASE, settings)
    return Site(host, "--noreload", database=DATABASE, redis_url=redis_server.url, settings=settings)


@pytest.fixture(scope="module", params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def site(host: str, shared_redis: RedisServer, database: object) -> Iterator[Site]:
    site = start_site(host, shared_redis, SETTINGS)
    with override_settings(WSREDIS={"URL": shared_redis.url}):
        yield site
    assert site.stop() in (0, -15)
    assert "Traceback" not in site.output


@pytest.fixture(scope="module")
def other_site(host: str, site: Site, shared_redis: RedisServer) -> Iterator[Callable[..., Site]]:
    """Return a server of the same host and Redis with a WSREDIS of its own; each is started once."""
    sites: dict[str, Site] = {}

    def get(*, silenced: Sequence[str] = (), **wsredis: Any) -> Site:
        settings = {"MIDDLEWARE": MIDDLEWARE, "SILENCED_SYSTEM_CHECKS": silenced, "WSREDIS": wsredis}
        key = json.dumps(settings)
        if key not in sites:
            sites[key] = start_site(host, shared_redis, settings)
        return sites[key]

    yield get
    for other in sites.values():
        other.stop()


_numbers = count()


@pytest.fixture
def facility() -> str:
    """A facility that no other test uses."""
    return f"f{next(_numbers)}"


def refused(site: Site, path: str, **options: Any) -> int:
    """Return the status with which a handshake is refused."""
    with RawSocket(site.port, path, **options) as raw:
        assert raw.answer.body == f"{raw.answer.status} {http.client.responses[raw.answer.status]}\n".encode()
        return raw.answer.status


def with_cookie(session_key: str) -> dict[str, str]:
    return {"Cookie": f"sessionid={session_key}"}


def until_end(socket: ClientConnection) -> list[Any]:
    """Return all messages before "end"."""
    return list(iter(lambda: socket.recv(15), "end"))


def listeners(redis_server: RedisServer, facility: str) -> int:
    """Return how many workers are subscribed to a facility's broadcast."""
    name = redis_name("wsredis", Channel("broadcast", "", facility))
    with redis_server.client() as client:
        return client.pubsub_numsub(name)[0][1]


def new_user(name: str, *groups: str) -> User:
    user = User.objects.create_user(name, password="demo")
    user.groups.set(Group.objects.get_or_create(name=group)[0] for group in groups)
    return user


# The handshake


def test_an_accepted_handshake_is_answered_with_the_101_of_the_rfc_and_nothing_more(site: Site) -> None:
    with RawSocket(site.port) as raw:
        version, status, headers, body = raw.answer
    assert (version, status, body) == ("HTTP/1.1", 101, b"")
    assert headers == {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": ACCEPT}


@pytest.mark.parametrize(
    "headers",
    [
        {"Connection": "keep-alive, Upgrade"},  # as Firefox says it
        {"Connection": "upgrade", "Upgrade": "WebSocket"},
        {"Content-Length": "0"},
        {"Cookie": "sessionid=stale; ;=;\xff"},
        {"Sec-WebSocket-Extensions": "x-unknown; a=1, permessage-deflate; server_max_window_bits=77"},
    ],
)
def test_an_unusual_but_sound_handshake_is_accepted(site: Site, headers: dict[str, str]) -> None:
    with RawSocket(site.port, headers=headers) as raw:
        assert raw.answer.status == 101
        assert raw.answer.headers.keys() == {"upgrade", "connection", "sec-websocket-accept"}


def nothing_but_a_host() -> dict[str, None]:
    return dict.fromkeys(HEADERS)


@pytest.mark.parametrize(
    ("headers", "options", "status"),
    [
        pytest.param(nothing_but_a_host(), {}, 426, id="plain GET"),
        pytest.param({"Upgrade": "h2c"}, {}, 426, id="another upgrade"),
        pytest.param({"Connection": None}, {}, 426, id="Upgrade without Connection"),
        pytest.param({"Connection": "close"}, {}, 426, id="Connection: close"),
        pytest.param({"Sec-WebSocket-Version": "8"}, {}, 426, id="version 8"),
        pytest.param({"Sec-WebSocket-Version": "13, 8"}, {}, 426, id="two versions"),
        pytest.param({"Sec-WebSocket-Version": None}, {}, 400, id="no version"),
        pytest.param({"Sec-WebSocket-Key": None}, {}, 400, id="no key"),
        pytest.param({"Sec-WebSocket-Key": ""}, {}, 400, id="empty key"),
        pytest.param({"Sec-WebSocket-Key": "c2hvcnQ="}, {}, 400, id="short key"),
        pytest.param({"Sec-WebSocket-Key": "not base64 at all!"}, {}, 400, id="key that is no base64"),
        pytest.param({"Sec-WebSocket-Key": "\xfc\xe9" * 12}, {}, 400, id="key that is no ASCII"),
        pytest.param({"Sec-WebSocket-Extensions": "permessage-deflate; ="}, {}, 400, id="malformed extensions"),
        pytest.param({"Sec-WebSocket-Protocol": "chat.v1,;"}, {}, 400, id="malformed subprotocol"),
        pytest.param({}, {"method": "POST"}, 400, id="POST"),
        pytest.param({}, {"method": "PUT"}, 400, id="PUT"),
        pytest.param({}, {"version": "HTTP/1.0"}, 400, id="HTTP/1.0"),
        pytest.param({"Content-Length": "5"}, {"body": b"12345"}, 400, id="body"),
        pytest.param({}, {"target": "/ws/%ff%fe?subscribe-broadcast"}, 400, id="path that is not UTF-8"),
        pytest.param({}, {"path": "news?subscribe-everything"}, 400, id="unknown audience"),
        pytest.param({}, {"path": "news?subscribe-broadcast&publish-"}, 400, id="publish to no audience"),
        pytest.param({}, {"path": "news?subscribe"}, 400, id="subscribe to no audience"),
        pytest.param({}, {"path": "news"}, 400, id="nothing asked"),
        pytest.param({}, {"path": "news?echo"}, 400, id="echo alone"),
        pytest.param({"Host": "stranger.example.net", "Origin": "http://stranger.example.net"}, {}, 400, id="Host"),
        pytest.param({}, {"path": "?subscribe-broadcast"}, 404, id="no facility"),
        pytest.param({}, {"path": "x" * 201 + "?subscribe-broadcast"}, 404, id="facility too long"),
    ],
)
def test_a_handshake_that_is_wrong_gets_its_status(
    site: Site, headers: dict[str, str | None], options: dict[str, Any], status: int
) -> None:
    with RawSocket(site.port, headers=headers, **options) as raw:
        assert raw.answer.status == status
        assert raw.answer.headers.get("sec-websocket-version") == ("13" if status == 426 else None)
        assert raw.answer.body == f"{status} {http.client.responses[status]}\n".encode()


@pytest.mark.parametrize(
    "target", ["/nowhere/", "/ws", "/WS/news?subscribe-broadcast", "/nowhere/ws/news?subscribe-user"]
)
def test_outside_of_websocket_url_the_pages_answer(site: Site, target: str) -> None:
    with RawSocket(site.port, target=target) as raw:
        assert raw.answer.status == 404


@pytest.mark.parametrize("name", ["x" * 200, "ü" * 100, "a/b/../c", "café/☕", "100%", "a:b", "*", "a b\n\0", "?#"])
def test_any_path_of_up_to_200_characters_is_a_facility(site: Site, name: str) -> None:
    quoted = "".join(f"%{byte:02x}" for byte in name.encode())
    with site.connect(f"{quoted}?subscribe-broadcast") as one:
        assert publish("hello", facility=name, broadcast=True) == 1
        assert one.recv(15) == "hello"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (None, None),
        ("chat.v1", "chat.v1"),
        ("chat.v1, chat.v2", "chat.v2"),  # ours, best first
        ("chat.v3, chat.v1", "chat.v1"),
        ("chat.v3", None),
    ],
)
def test_at_most_one_subprotocol_is_chosen_of_those_offered(
    site: Site, offered: str | None, chosen: str | None
) -> None:
    with RawSocket(site.port, headers={"Sec-WebSocket-Protocol": offered}) as raw:
        assert raw.answer.status == 101
        assert raw.answer.headers.get("sec-websocket-protocol") == chosen


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101),
        ("http://127.0.0.1:{port}", 101),
        ("https://127.0.0.1:{port}", 101),  # a proxy may speak TLS with the browser
        ("https://shop.example.com", 101),
        ("https://partner.example.org", 101),
        ("http://127.0.0.1", 403),
        ("http://localhost:{port}", 403),
        ("http://shop.example.com", 403),
        ("https://shop.example.com.evil.net", 403),
        ("https://evilexample.com", 403),
        ("https://sub.partner.example.org", 403),
        ("https://evil.net", 403),
        ("http://127.0.0.1:{port}.evil.net", 403),
        ("http://127.0.0.1:{port}@evil.net", 403),
        ("http://[", 403),
        ("http://\xff", 403),
        ("127.0.0.1:{port}", 403),
        ("file://", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_pages_of_other_sites_are_refused(site: Site, origin: str | None, status: int) -> None:
    origin = origin and origin.format(port=site.port)
    with RawSocket(site.port, headers={"Origin": origin}) as raw:
        assert raw.answer.status == status


def test_a_foreign_origin_is_logged_with_the_origin_the_rule_and_the_setting(site: Site, facility: str) -> None:
    start = len(site.lines)
    assert refused(site, f"{facility}?subscribe-broadcast", headers={"Origin": "https://evil.net"}) == 403
    line = site.wait_for(f"WARNING .*403 /ws/{facility}", start=start).string
    assert "'https://evil.net' is neither of the host" in line
    assert f"'127.0.0.1:{site.port}'" in line
    assert "CSRF_TRUSTED_ORIGINS" in line


def test_an_origin_can_be_required_of_everybody(other_site: Callable[..., Site]) -> None:
    strict = other_site(REQUIRE_ORIGIN=True)
    assert refused(strict, "news?subscribe-broadcast") == 403
    with RawSocket(strict.port, headers={"Origin": f"http://127.0.0.1:{strict.port}"}) as raw:
        assert raw.answer.status == 101


@pytest.mark.parametrize("failure", ["deny", "raise", "none", "text", "numbers", "nothing", "late"])
def test_a_callback_that_cannot_decide_refuses_and_its_reason_stays_here(
    other_site: Callable[..., Site], facility: str, failure: str
) -> None:
    careless = other_site(ALLOWED_CHANNELS="tests.project.callbacks.by_query")
    start = len(careless.lines)
    with RawSocket(careless.port, f"{facility}{TALK}&callback={failure}") as raw:
        assert raw.answer.status == 403
        assert "secret" not in raw.answer.shown
        assert raw.answer.body == b"403 Forbidden\n"
    assert "ALLOWED_CHANNELS" in careless.wait_for(f"WARNING .*403 /ws/{facility}", start=start).string
    if failure in ("deny", "raise"):
        careless.wait_for("the secret reason", start=start)


@pytest.mark.parametrize("setting", ["ALLOWED_CHANNELS", "PROCESS_REQUEST", "SUBSCRIBER"])
def test_what_cannot_be_imported_refuses_everything(
    other_site: Callable[..., Site], facility: str, setting: str
) -> None:
    misspelt = other_site(silenced=["wsredis.E002"], **{setting: "tests.project.callbacks.everythin"})
    for wish in ("subscribe-broadcast", "publish-broadcast"):
        with RawSocket(misspelt.port, f"{facility}?{wish}") as raw:
            assert raw.answer.status == 403
            assert "everythin" not in raw.answer.shown
    assert setting in misspelt.wait_for(f"WARNING .*403 /ws/{facility}").string


def test_a_refusal_is_not_the_end_of_its_connection(site: Site) -> None:
    """A browser may use one connection for a page, a refused handshake and a websocket, one after another."""
    with closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=15)) as connection:
        connection.connect()
        before = connection.sock
        for path, status in (("/", 200), ("/ws/news", 426), ("/whoami/", 200)):
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            assert response.status == status
            if not site.keeps_alive:
                connection.close()
            else:
                assert connection.sock is before
        connection.request("GET", "/ws/news?subscribe-broadcast", headers=HEADERS)
        before = connection.sock
        response = connection.getresponse()
        assert (response.status, response.headers["Sec-WebSocket-Accept"]) == (101, ACCEPT)
        response.close()
        before.sendall(close(1000))
        assert before.recv(100) == Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False)
        assert before.recv(100) == b""


# Compression


def test_deflate_is_agreed_on_without_context_takeover(site: Site) -> None:
    with RawSocket(
        site.port, headers={"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
    ) as raw:
        agreed = raw.answer.headers["sec-websocket-extensions"].split("; ")
    assert agreed[0] == "permessage-deflate"
    assert {"server_no_context_takeover", "client_no_context_takeover"} <= set(agreed)


@pytest.mark.parametrize(
    ("offer", "window_bits", "compressed"),
    [
        ("permessage-deflate", 15, 2),
        ("permessage-deflate; server_max_window_bits=9", 9, 2),
        ("permessage-deflate; server_max_window_bits=8", 15, 0),  # zlib cannot do that one
    ],
)
def test_a_deflating_and_a_plain_client_get_the_same_broadcast(
    site: Site, facility: str, offer: str, window_bits: int, compressed: int
) -> None:
    long, path, inflater = "all work and no play " * 100, f"{facility}?subscribe-broadcast", Inflater(window_bits)
    with (
        RawSocket(site.port, path, {"Sec-WebSocket-Extensions": offer}, inflater=inflater) as raw,
        site.connect(path, compression="deflate") as deflating,
        site.connect(path) as plain,
    ):
        for message in (long, long, "short"):  # twice the same: the second knows nothing of the first
            publish(message, facility=facility, broadcast=True)
            assert plain.recv(15) == deflating.recv(15) == raw.message() == message
    assert len(inflater.sizes) == compressed
    assert all(size < len(long) / 10 for size in inflater.sizes)


def test_a_compressed_message_of_a_browser_reaches_the_others(site: Site, facility: str) -> None:
    long = "all work and no play " * 1000
    with site.connect(facility + TALK, compression="deflate") as one, site.connect(facility + TALK) as two:
        one.send(long)
        assert two.recv(15) == long
        one.send([long, long, "end"])  # in compressed fragments
        assert two.recv(15) == long + long + "end"


# Audiences


def test_a_broadcast_reaches_everybody_and_only_on_its_facility(site: Site) -> None:
    with (
        site.connect("news?subscribe-broadcast") as one,
        site.connect("news?subscribe-broadcast") as two,
        site.connect("other?subscribe-broadcast") as other,
    ):
        assert publish("hello", facility="news", broadcast=True) == 1
        assert one.recv(15) == two.recv(15) == "hello"
        publish("end", facility="other", broadcast=True)
        assert until_end(other) == []


def test_a_user_a_group_and_a_session_get_what_is_theirs_and_nothing_else(
    site: Site, facility: str, alice: str, bob: str
) -> None:
    def address(audience: str, whose: str) -> dict[str, Any]:
        name = {"user": whose, "group": {"alice": "staff", "bob": "chatters"}[whose]}
        return {f"{audience}s": [name.get(audience, alice if whose == "alice" else bob)]}

    with ExitStack() as stack:
        sockets = {
            (audience, whose): stack.enter_context(site.connect(f"{facility}?subscribe-{audience}", cookie=cookie))
            for audience in ("user", "group", "session")
            for whose, cookie in (("alice", alice), ("bob", bob))
        }
        publish("for nobody", facility=facility, users=["carol"], groups=["Staff"], sessions=["unknown"])
        for key in sockets:
            assert publish(f"for {key}", facility=facility, **address(*key)) == 1
        for key in sockets:
            publish("end", facility=facility, **address(*key))
        assert {key: until_end(one) for key, one in sockets.items()} == {key: [f"for {key}"] for key in sockets}


def test_one_socket_hears_all_its_audiences(site: Site, facility: str, alice: str) -> None:
    query = "?subscribe-broadcast&subscribe-user&subscribe-group&subscribe-session"
    with site.connect(facility + query, cookie=alice) as one:
        everybody = Publisher(
            facility=facility, broadcast=True, users=["alice"], groups=["staff", "chatters"], sessions=[alice]
        )
        assert everybody.publish_message("hello") == 4
        publish("end", facility=facility, broadcast=True)
        assert until_end(one) == ["hello"] * 4


def test_two_sockets_of_one_session_are_one_user(site: Site, facility: str, alice: str) -> None:
    path = f"{facility}?subscribe-user"
    with site.connect(path, cookie=alice) as one, site.connect(path, cookie=login("alice")) as two:
        assert publish("hello", facility=facility, users=["alice"]) == 1
        assert one.recv(15) == two.recv(15) == "hello"


def test_the_session_key_never_appears_in_redis(
    site: Site, shared_redis: RedisServer, facility: str, alice: str
) -> None:
    with site.connect(f"{facility}?subscribe-session", cookie=alice) as one, shared_redis.client() as client:
        publish("hello", facility=facility, sessions=[alice], expire=60)
        assert one.recv(15) == "hello"
        names = [name.decode() for name in client.pubsub_channels() + client.keys()]
        assert len([name for name in names if name.endswith(f":{facility}")]) == 2
        assert alice not in "".join(names)


@pytest.mark.parametrize("audience", ["user", "group", "session"])
@pytest.mark.parametrize("cookie", [None, "unknown", "x" * 4000])
def test_an_anonymous_visitor_has_no_user_no_group_and_no_session(
    site: Site, facility: str, audience: str, cookie: str | None
) -> None:
    headers = with_cookie(cookie) if cookie else {}
    assert refused(site, f"{facility}?subscribe-{audience}", headers=headers) == 403
    with site.connect(f"{facility}?subscribe-broadcast&subscribe-{audience}", cookie=cookie) as one:
        publish("hello", facility=facility, broadcast=True)
        assert one.recv(15) == "hello"


def test_a_session_from_before_a_new_password_is_no_login(site: Site, facility: str) -> None:
    user = new_user(facility)
    cookie = login(facility)
    with site.connect(f"{facility}?subscribe-user", cookie=cookie):
        pass
    user.set_password("other")
    user.save()
    assert refused(site, f"{facility}?subscribe-user", headers=with_cookie(cookie)) == 403


def test_groups_are_those_of_the_database_when_the_socket_connects(site: Site, facility: str) -> None:
    user, path = new_user(facility, "old"), f"{facility}?subscribe-group"
    cookie = login(facility)
    user.groups.set([Group.objects.create(name=f"new-{facility}")])
    with site.connect(path, cookie=cookie) as one:
        publish("to the old", facility=facility, groups=["old"])
        publish("to the new", facility=facility, groups=[f"new-{facility}"])
        assert one.recv(15) == "to the new"
    user.groups.clear()
    assert refused(site, path, headers=with_cookie(cookie)) == 403


def test_what_is_published_everywhere_reaches_its_audience_on_each_facility_once(
    site: Site, facility: str, alice: str, bob: str
) -> None:
    both = "?subscribe-broadcast&subscribe-group&subscribe-user"
    with (
        site.connect(f"{facility}/a{both}", cookie=alice) as one,
        site.connect(f"{facility}/b?subscribe-group", cookie=alice) as two,
        site.connect(f"{facility}/b?subscribe-broadcast") as three,
        site.connect(f"{facility}/b?subscribe-group", cookie=bob) as four,
    ):
        publish("all", facility=EVERYWHERE, broadcast=True, groups=["staff"], users=["alice"])
        publish("staff", facility=EVERYWHERE, groups=["staff"])
        publish("end", facility=EVERYWHERE, broadcast=True, groups=["staff", "chatters"])
        assert [until_end(socket) for socket in (one, two, three, four)] == [
            ["all", "staff"],
            ["all", "staff"],
            ["all"],
            [],
        ]


# Permissions


@pytest.mark.parametrize("audience", ["broadcast", "user", "group", "session"])
def test_what_a_browser_publishes_reaches_the_others_of_its_audience(
    site: Site, facility: str, alice: str, audience: str
) -> None:
    with (
        site.connect(f"{facility}?publish-{audience}", cookie=alice) as sender,
        site.connect(f"{facility}?subscribe-{audience}", cookie=alice) as receiver,
    ):
        sender.send("hello")
        assert receiver.recv(15) == "hello"


def test_publishing_is_refused_unless_a_callback_grants_it(
    other_site: Callable[..., Site], facility: str, alice: str
) -> None:
    quiet = other_site()
    start = len(quiet.lines)
    for audience in ("broadcast", "user", "group", "session"):
        for path in (f"{facility}?publish-{audience}", f"{facility}?subscribe-{audience}&publish-{audience}"):
            assert refused(quiet, path, headers=with_cookie(alice)) == 403
    assert "ALLOWED_CHANNELS" in quiet.wait_for(f"WARNING .*403 /ws/{facility}", start=start).string
    with quiet.connect(f"{facility}?subscribe-broadcast&subscribe-user", cookie=alice) as one:
        publish("hello", facility=facility, users=["alice"])
        assert one.recv(15) == "hello"


def test_a_callback_grants_a_part_of_what_is_asked(site: Site, facility: str, alice: str) -> None:
    path = f"{facility}?subscribe-broadcast&subscribe-user&callback=broadcast-only"
    with site.connect(path, cookie=alice) as one:
        publish("for alice", facility=facility, users=["alice"])
        publish("for all", facility=facility, broadcast=True)
        assert one.recv(15) == "for all"
    assert refused(site, f"{path}&publish-user", headers=with_cookie(alice)) == 403


def test_a_callback_cannot_grant_what_was_not_asked_for(site: Site, facility: str, alice: str) -> None:
    with RawSocket(site.port, f"{facility}?subscribe-broadcast&callback=more", with_cookie(alice)) as raw:
        publish("for alice", facility=facility, users=["alice"])
        publish("for all", facility=facility, broadcast=True)
        assert raw.message() == "for all"
        raw.send(text("hello"))
        assert raw.closed_with().code == 1003


def test_a_callback_may_ask_the_database(site: Site, facility: str) -> None:
    with site.connect(f"{facility}?subscribe-broadcast&callback=database") as one:
        publish("hello", facility=facility, broadcast=True)
        assert one.recv(15) == "hello"


def test_process_request_tells_who_connects_by_a_token(other_site: Callable[..., Site], facility: str) -> None:
    tokens = other_site(PROCESS_REQUEST="tests.project.callbacks.by_token")
    with tokens.connect(f"{facility}?subscribe-user&subscribe-group&token=alice") as one:
        publish("for bob", facility=facility, users=["bob"])
        publish("for alice", facility=facility, users=["alice"])
        publish("for staff", facility=facility, groups=["staff"])
        assert [one.recv(15), one.recv(15)] == ["for alice", "for staff"]
    for token in ("bad", "broken", "unknown", ""):
        with RawSocket(tokens.port, f"{facility}?subscribe-user&token={token}") as raw:
            assert raw.answer.status == 403
            assert "secret" not in raw.answer.shown
    assert refused(tokens, f"{facility}?subscribe-session&token=alice", headers=with_cookie(login("alice"))) == 403
    with tokens.connect(f"{facility}?subscribe-broadcast"):
        pass


def test_a_subscriber_class_may_add_channels(other_site: Callable[..., Site], facility: str) -> None:
    rooms = other_site(SUBSCRIBER="tests.project.callbacks.Rooms")
    with rooms.connect(f"{facility}?subscribe-broadcast") as one:
        publish("in the lobby", facility=facility, groups=["lobby"])
        publish("for all", facility=facility, broadcast=True)
        assert [one.recv(15), one.recv(15)] == ["in the lobby", "for all"]


# Messages


@pytest.mark.parametrize(
    ("message", "arrives"),
    [
        ("hello", "hello"),
        ("", ""),
        (b"", b""),
        (b"\x00\xff\xfe", b"\x00\xff\xfe"),
        (b"plain text, as bytes", b"plain text, as bytes"),
        (b"\xffW\x00", b"\xffW\x00"),  # as an envelope begins
        ("ÿW\0 grüße 😀 \u2028", "ÿW\0 grüße 😀 \u2028"),
        ({"text": "ü", "n": [1, 2.5, None, True]}, '{"text": "ü", "n": [1, 2.5, null, true]}'),
        (["a"], '["a"]'),
        (None, "null"),
        ("x" * MIB, "x" * MIB),
        (random.Random(4).randbytes(MIB), None),
    ],
    ids=lambda value: repr(value)[:20],
)
@pytest.mark.parametrize("expire", [0, 60])
def test_a_message_from_django_arrives_as_it_was(
    site: Site, facility: str, message: Any, arrives: Any, expire: int
) -> None:
    with site.connect(f"{facility}?subscribe-broadcast") as one:
        publish(message, facility=facility, broadcast=True, expire=expire)
        assert one.recv(15) == (message if arrives is None else arrives)


@pytest.mark.parametrize(
    "message",
    ["hello", "", b"", b"\x00\xff", b"\xffW\x00", "grüße 😀", "x" * MIB, random.Random(4).randbytes(MIB)],
    ids=lambda value: repr(value)[:20],
)
def test_a_message_from_a_browser_arrives_as_it_was(site: Site, facility: str, message: str | bytes) -> None:
    with site.connect(facility + TALK) as one, site.connect(facility + TALK) as two:
        one.send(message)
        assert two.recv(15) == message


def test_any_program_may_publish_a_bare_text(site: Site, shared_redis: RedisServer, facility: str) -> None:
    with site.connect(f"{facility}?subscribe-broadcast") as one, shared_redis.client() as client:
        client.publish(f"wsredis:broadcast:{facility}", "grüße")
        client.publish(f"wsredis:broadcast:{facility}", b"\x80\x81")
        assert [one.recv(15), one.recv(15)] == ["grüße", b"\x80\x81"]


def test_a_thousand_messages_arrive_in_the_order_of_publishing(
    site: Site, shared_redis: RedisServer, facility: str
) -> None:
    name = redis_name("wsredis", Channel("broadcast", "", facility))
    with site.connect(f"{facility}?subscribe-broadcast") as one, site.connect(f"{facility}?subscribe-broadcast") as two:
        with shared_redis.client() as client, client.pipeline(transaction=False) as pipeline:
            for number in range(1000):
                pipeline.publish(name, str(number))
            pipeline.execute()
        publish("end", facility=facility, broadcast=True)
        assert until_end(one) == until_end(two) == [str(number) for number in range(1000)]


def test_a_thousand_messages_of_a_browser_arrive_in_order(site: Site, facility: str) -> None:
    with RawSocket(site.port, facility + TALK) as raw, site.connect(f"{facility}?subscribe-broadcast") as one:
        raw.send(*(text(str(number)) for number in range(1000)), text("end"))
        assert until_end(one) == [str(number) for number in range(1000)]


def test_three_frames_in_one_segment_are_three_messages(site: Site, facility: str) -> None:
    with RawSocket(site.port, facility + TALK) as raw, site.connect(f"{facility}?subscribe-broadcast") as one:
        raw.send(text("one"), masked(Opcode.BINARY, b"two"), text("three"))
        assert [one.recv(15) for _ in range(3)] == ["one", b"two", "three"]


def test_what_a_browser_sends_right_after_the_101_arrives(site: Site, facility: str) -> None:
    with site.connect(f"{facility}?subscribe-broadcast") as one:
        for number in range(60):
            with RawSocket(site.port, f"{facility}?publish-broadcast") as raw:
                raw.send(text(str(number)))
                assert one.recv(15) == str(number)
                raw.send(close(1000))
                assert raw.closed_with().code == 1000


def test_a_frame_may_come_byte_by_byte(site: Site, facility: str) -> None:
    with RawSocket(site.port, facility + TALK) as raw, site.connect(f"{facility}?subscribe-broadcast") as one:
        for byte in text("grüße") + text("end"):
            raw.send(bytes([byte]))
        assert until_end(one) == ["grüße"]


def test_a_message_before_a_close_in_one_segment_is_still_published(site: Site, facility: str) -> None:
    with RawSocket(site.port, facility + TALK) as raw, site.connect(f"{facility}?subscribe-broadcast") as one:
        raw.send(text("last words"), close(1000, b"bye"))
        assert raw.closed_with().code == 1000
        assert one.recv(15) == "last words"


@pytest.mark.parametrize("fragments", [1, 2, 10_000])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY], ids=["text", "binary"])
def test_fragments_become_one_message(site: Site, facility: str, fragments: int, opcode: Opcode) -> None:
    letters = [b"%c" % (97 + number % 26) for number in range(fragments)]
    with RawSocket(site.port, facility + TALK) as raw, site.connect(f"{facility}?subscribe-broadcast") as one:
        raw.send(masked(opcode, letters[0], fin=False), *map(more, letters[1:]), more(b"", fin=True))
        whole = b"".join(letters)
        assert one.recv(15) == (whole.decode() if opcode is Opcode.TEXT else whole)


def test_pings_between_fragments_are_answered_at_once(site: Site, facility: str) -> None:
    with RawSocket(site.port, facility + TALK) as raw, site.connect(f"{facility}?subscribe-broadcast") as one:
        raw.send(text(b"gr\xc3", fin=False))  # a letter is cut in two
        for fragment in (b"\xbc\xc3", b"\x9f", b""):
            raw.send(ping(fragment))
            assert raw.pong() == fragment
            raw.send(more(fragment))
        raw.send(more(b"e", fin=True))
        assert one.recv(15) == "grüße"


def test_two_sockets_that_send_fragments_in_turn_are_never_mixed(site: Site, facility: str) -> None:
    with (
        RawSocket(site.port, facility + TALK) as one,
        RawSocket(site.port, facility + TALK) as two,
        site.connect(f"{facility}?subscribe-broadcast") as listener,
    ):
        for number in range(3):
            one.send(text("a", fin=False))
            two.send(text("b", fin=False))
            for _ in range(20):
                one.send(more(b"a"), ping(b"a"))
                assert one.pong() == b"a"  # so it is read before the other's
                two.send(more(b"b"), ping(b"b"))
                assert two.pong() == b"b"
            one.send(more(b"", fin=True))
            assert listener.recv(15) == "a" * 21
            assert two.message() == "a" * 21
            two.send(more(str(number).encode(), fin=True))
            assert listener.recv(15) == "b" * 21 + str(number)
            assert one.message() == "b" * 21 + str(number)


# Echo


def test_without_echo_my_own_message_does_not_come_back_but_the_same_of_another_does(site: Site, facility: str) -> None:
    with ExitStack() as stack:
        one, two, three = (stack.enter_context(site.connect(facility + TALK)) for _ in range(3))
        one.send("hi")
        assert two.recv(15) == three.recv(15) == "hi"
        two.send("hi")
        assert one.recv(15) == three.recv(15) == "hi"
        publish("end", facility=facility, broadcast=True)
        assert [until_end(socket) for socket in (one, two, three)] == [[], [], []]


def test_with_echo_my_own_message_comes_back(site: Site, facility: str) -> None:
    with site.connect(f"{facility}{TALK}&echo") as one, site.connect(facility + TALK) as two:
        one.send("hi")
        assert one.recv(15) == two.recv(15) == "hi"
        two.send("ho")
        assert one.recv(15) == "ho"
        publish("end", facility=facility, broadcast=True)
        assert until_end(one) == until_end(two) == []


def test_echo_is_decided_for_each_socket_of_a_user(site: Site, facility: str, alice: str) -> None:
    path = f"{facility}?subscribe-user&publish-user"
    with site.connect(path, cookie=alice) as phone, site.connect(path, cookie=alice) as laptop:
        phone.send("hi")
        assert laptop.recv(15) == "hi"
        publish("end", facility=facility, users=["alice"])
        assert until_end(phone) == []


# Joining


def test_who_joins_gets_the_last_message_first_and_once(site: Site, facility: str, alice: str) -> None:
    publish("older", facility=facility, broadcast=True, expire=60)
    publish("last", facility=facility, broadcast=True, expire=60)
    publish("not kept", facility=facility, broadcast=True)
    publish(b"\x00\xff", facility=facility, users=["alice"], expire=60)
    with (
        site.connect(f"{facility}?subscribe-broadcast") as one,
        site.connect(f"{facility}?subscribe-broadcast&subscribe-user", cookie=alice) as two,
    ):
        publish("live", facility=facility, broadcast=True, expire=60)
        publish("end", facility=facility, broadcast=True)
        assert until_end(one) == ["last", "live"]
        first, second, *rest = until_end(two)
        assert {first, second} == {"last", b"\x00\xff"}
        assert rest == ["live"]


def test_what_a_browser_sent_is_kept_where_expire_is_set(other_site: Callable[..., Site], facility: str) -> None:
    keeping = other_site(ALLOWED_CHANNELS="tests.project.callbacks.everything", EXPIRE=60)
    with keeping.connect(facility + TALK) as one, keeping.connect(facility + TALK) as two:
        one.send("kept")
        assert two.recv(15) == "kept"
        with keeping.connect(facility + TALK) as three:
            publish("end", facility=facility, broadcast=True, expire=0)
            assert until_end(three) == ["kept"]
        assert until_end(one) == until_end(two) == []


def test_a_kept_message_expires(site: Site, shared_redis: RedisServer, facility: str) -> None:
    publish("hello", facility=facility, broadcast=True, expire=1)
    with shared_redis.client() as client:
        wait_until(lambda: not client.exists(redis_name("wsredis", Channel("broadcast", "", facility))))
    with site.connect(f"{facility}?subscribe-broadcast") as one:
        publish("end", facility=facility, broadcast=True)
        assert until_end(one) == []


@pytest.mark.parametrize("at_once", [1, 4], ids=["alone", "four at once"])
def test_who_joins_while_messages_flow_loses_nothing_and_gets_nothing_twice(
    site: Site, facility: str, at_once: int
) -> None:
    published, kept_each = -1, 3
    is_over = threading.Event()
    publisher = Publisher(facility=facility, broadcast=True)

    def publish_all() -> None:
        nonlocal published
        while not is_over.is_set():
            number = published + 1
            publisher.publish_message(str(number), expire=0 if number % kept_each else 60)
            published = number

    def join(_: int) -> tuple[int, list[int]]:
        time.sleep(random.uniform(0, 0.005))  # at any moment between two messages
        with RawSocket(site.port, f"{facility}?subscribe-broadcast") as raw:
            before = published
            return before, [int(raw.message()) for _ in range(20)]

    thread = threading.Thread(target=publish_all)
    thread.start()
    try:
        wait_until(lambda: published >= kept_each)
        with ThreadPoolExecutor(at_once) as pool:
            joined = list(pool.map(join, range(120)))
    finally:
        is_over.set()
        thread.join()
    for before, (first, *rest) in joined:
        assert rest == list(range(rest[0], rest[0] + 19)), "consecutive"
        assert rest[0] <= before + 2, "nothing after the handshake is missed"
        if first != rest[0] - 1:
            assert first == (rest[0] - 1) // kept_each * kept_each, "the stored message is the last one kept"


@pytest.mark.parametrize("expire", [0, 60], ids=["nothing is kept", "a message is kept"])
def test_a_handshake_that_redis_keeps_waiting_is_answered_and_disturbs_no_other(
    host: str, own_redis: RedisServer, facility: str, expire: int
) -> None:
    settings = {"WSREDIS": {"PING_INTERVAL": 60}}  # so that the link is not taken for a broken one
    site = start_site(host, own_redis, settings)
    try:
        with (
            override_settings(WSREDIS={"URL": own_redis.url}),
            site.connect("other?subscribe-broadcast") as other,
        ):
            publish("hello", facility=facility, broadcast=True, expire=expire)
            own_redis.process.popen.send_signal(signal.SIGSTOP)
            with RawSocket(site.port, f"{facility}?subscribe-broadcast") as raw:
                assert raw.answer.status == 503
                assert "retry-after" in raw.answer.headers
            own_redis.process.popen.send_signal(signal.SIGCONT)
            with site.connect(f"{facility}?subscribe-broadcast") as one:
                publish("end", facility=facility, broadcast=True)
                assert until_end(one) == (["hello"] if expire else [])
            publish("end", facility="other", broadcast=True)
            assert until_end(other) == []
    finally:
        own_redis.process.popen.send_signal(signal.SIGCONT)
        site.stop()
    assert "Traceback" not in site.output


# Close codes, as the client sees them


@pytest.mark.parametrize(
    "payload", [b"", *(code.to_bytes(2, "big") for code in (1000, 1001, 3000, 4999)), b"\x03\xe8bye"]
)
def test_a_clients_close_is_echoed(site: Site, payload: bytes) -> None:
    with RawSocket(site.port) as raw:
        raw.send(masked(Opcode.CLOSE, payload))
        assert [(frame.opcode, frame.data) for frame in raw.frames_until_fin()] == [(Opcode.CLOSE, payload)]


def deflated(opcode: Opcode, data: bytes) -> bytes:
    return Frame(opcode, data).serialize(mask=True, extensions=[PerMessageDeflate(True, True, 15, 15)])


NO_CLOSE_CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)  # RFC 6455, 7.4

WRONG = [
    pytest.param(1002, [masked(Opcode.TEXT, b"x", reserved=RSV1)], id="RSV1"),
    pytest.param(1002, [masked(Opcode.TEXT, b"x", reserved=RSV2)], id="RSV2"),
    pytest.param(1002, [masked(Opcode.PING, b"x", reserved=RSV3)], id="RSV3"),
    pytest.param(1002, [Frame(Opcode.TEXT, b"x").serialize(mask=False)], id="unmasked"),
    pytest.param(1002, [b"\x83\x80abcd"], id="opcode 3"),
    pytest.param(1002, [b"\x8f\x80abcd"], id="opcode 15"),
    pytest.param(1002, [more(b"x", fin=True)], id="continuation of nothing"),
    pytest.param(1002, [text("x"), more(b"x")], id="continuation of a whole message"),
    pytest.param(1002, [text("x", fin=False), text("y")], id="message within a message"),
    pytest.param(1002, [b"\x09\x80abcd"], id="ping in fragments"),
    pytest.param(1002, [b"\x89\xfe\x00\x7eabcd" + bytes(126)], id="ping of 126 bytes"),
    pytest.param(1002, [masked(Opcode.CLOSE, b"\x03")], id="close of one byte"),
    *(pytest.param(1002, [close(code)], id=f"close {code}") for code in NO_CLOSE_CODES),
    pytest.param(1007, [text(b"gr\xfc\xdf")], id="text that is Latin-1"),
    pytest.param(1007, [text(b"\xed\xa0\x80")], id="text with a surrogate"),
    pytest.param(1007, [text(b"a\xc3")], id="text that ends in a letter"),
    pytest.param(1007, [text(b"a", fin=False), more(b"\xff")], id="bad text in a fragment, before the last"),
    pytest.param(1007, [text(b"\xc3", fin=False), more(b"", fin=True)], id="fragments that end in a letter"),
    pytest.param(1007, [close(1000, b"\xff")], id="bad text in the reason"),
    pytest.param(1009, [b"\x82\xff" + (MIB + 1).to_bytes(8, "big") + b"abcd"], id="too big"),
    pytest.param(1009, [b"\x82\xff" + (2**62).to_bytes(8, "big") + b"abcd"], id="too big for any memory"),
    pytest.param(
        1009, [masked(Opcode.BINARY, bytes(MIB), fin=False), more(b"x", fin=True)], id="fragments that are too big"
    ),
    pytest.param(1009, [text("", fin=False), more(b"") * 20_000], id="too many empty fragments"),
    pytest.param(1009, [text("x", fin=False), more(b"x") * 20_000], id="too many fragments of a byte"),
]


@pytest.mark.parametrize(("code", "frames"), WRONG)
def test_what_breaks_the_protocol_is_closed_with_its_code(site: Site, code: int, frames: list[bytes]) -> None:
    with RawSocket(site.port, "wrong?publish-broadcast") as raw:
        raw.send(*frames)
        assert raw.closed_with().code == code


@pytest.mark.parametrize(
    ("code", "frame"),
    [
        pytest.param(1009, deflated(Opcode.TEXT, bytes(50 * MIB)), id="bomb"),
        pytest.param(1009, deflated(Opcode.BINARY, bytes(MIB + 1)), id="a byte too much"),
        pytest.param(1007, deflated(Opcode.TEXT, b"\xff"), id="text that is none"),
        pytest.param(1002, masked(Opcode.TEXT, b"\xff\xff\xff\xff", reserved=RSV1), id="no deflated data"),
        pytest.param(1002, masked(Opcode.PING, b"", reserved=RSV1), id="a compressed ping"),
    ],
)
def test_what_is_wrong_inside_a_compressed_message_is_closed_with_its_code(site: Site, code: int, frame: bytes) -> None:
    headers = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    with RawSocket(site.port, "wrong?publish-broadcast", headers) as raw:
        raw.send(frame)
        assert raw.closed_with().code == code


def test_what_came_before_an_error_is_published_and_what_comes_after_is_not(site: Site, facility: str) -> None:
    with RawSocket(site.port, facility + TALK) as raw, site.connect(f"{facility}?subscribe-broadcast") as one:
        raw.send(text("before"), b"\x83\x80abcd", text("after"))
        assert raw.closed_with().code == 1002
        assert one.recv(15) == "before"
        publish("end", facility=facility, broadcast=True)
        assert until_end(one) == []


@pytest.mark.parametrize(
    "frame",
    [text("hello"), masked(Opcode.BINARY), text("a", fin=False) + more(b"b", fin=True)],
    ids=["text", "binary", "fragments"],
)
def test_a_message_where_nothing_may_be_published_is_closed_with_1003(site: Site, facility: str, frame: bytes) -> None:
    with RawSocket(site.port, f"{facility}?subscribe-broadcast") as raw:
        raw.send(frame)
        assert raw.closed_with().code == 1003
    site.wait_for(rf"The socket of an anonymous visitor on '{facility}' is closed \(1003\): this socket only listens")


def test_after_the_101_there_is_nothing_but_frames_until_the_end(site: Site, facility: str) -> None:
    with RawSocket(site.port, f"{facility}{TALK}&echo") as raw:
        publish("one", facility=facility, broadcast=True)
        assert raw.frame().data == b"one"
        raw.send(ping(b"two"), text("three"))
        frames = [raw.frame(), raw.frame()]
        assert {(frame.opcode, bytes(frame.data)) for frame in frames} == {
            (Opcode.PONG, b"two"),
            (Opcode.TEXT, b"three"),
        }
        raw.send(close(1000, b"four"), text("too late"))
        assert [frame.data for frame in raw.frames_until_fin()] == [b"\x03\xe8four"]


def test_a_client_that_does_not_answer_a_close_is_let_go(site: Site, shared_redis: RedisServer, facility: str) -> None:
    with RawSocket(site.port, f"{facility}?subscribe-broadcast") as raw:
        raw.send(text("hello"))
        assert raw.frame().opcode is Opcode.CLOSE
        wait_until(lambda: not listeners(shared_redis, facility))
        # it neither answers nor hangs up: after a while the server does
        assert raw.frames_until_fin() == []


# Ping and pong


@pytest.mark.parametrize("size", [0, 1, 124, 125])
def test_a_pings_payload_comes_back(site: Site, size: int) -> None:
    with RawSocket(site.port) as raw:
        payload = os.urandom(size)
        raw.send(ping(payload))
        assert raw.pong() == payload


HASTY = {
    "ALLOWED_CHANNELS": "tests.project.callbacks.everything",
    "HEARTBEAT": "--heartbeat--",
    "PING_INTERVAL": 1,
    "PING_TIMEOUT": 1,
}
SLOW_MACHINE_SECONDS = 3


def test_a_silent_peer_gets_a_ping_and_is_closed_in_time(other_site: Callable[..., Site]) -> None:
    with RawSocket(other_site(**HASTY).port) as raw:
        began_at = time.monotonic()
        first, heartbeat = raw.frame(), raw.frame()
        pinged_at = time.monotonic()
        assert (first.opcode, heartbeat.opcode, heartbeat.data) == (Opcode.PING, Opcode.TEXT, b"--heartbeat--")
        *_, last = raw.frames_until_fin()
        closed_at = time.monotonic()
    assert (last.opcode, last.data[:2]) == (Opcode.CLOSE, (1011).to_bytes(2, "big"))
    assert pinged_at - began_at < HASTY["PING_INTERVAL"] + SLOW_MACHINE_SECONDS
    assert 0.5 < closed_at - pinged_at < HASTY["PING_TIMEOUT"] + SLOW_MACHINE_SECONDS


@pytest.mark.parametrize(
    "chat",
    [
        pytest.param([text("hello")], id="messages"),
        pytest.param([ping()], id="pings"),
        pytest.param([bytes([byte]) for byte in text("x" * 100)], id="the bytes of one frame"),
    ],
)
def test_a_chatty_peer_that_never_answers_a_ping_stays(
    other_site: Callable[..., Site], facility: str, chat: list[bytes]
) -> None:
    pings = 0
    with RawSocket(other_site(**HASTY).port, facility + TALK) as raw:
        for number in count():
            raw.send(chat[number % len(chat)])
            try:
                frame = raw.frame(0.1)
            except TimeoutError:
                continue
            assert frame is not None
            assert frame.opcode is not Opcode.CLOSE, frame
            pings += frame.opcode is Opcode.PING
            if pings == 3:
                break


def test_the_heartbeat_is_answered_and_never_published(
    other_site: Callable[..., Site], shared_redis: RedisServer, facility: str
) -> None:
    hasty = other_site(**HASTY)
    with shared_redis.client() as client, closing(client.pubsub(ignore_subscribe_messages=True)) as redis:
        redis.subscribe(redis_name("wsredis", Channel("broadcast", "", facility)))
        with (
            RawSocket(hasty.port, f"{facility}{TALK}&echo") as talker,
            RawSocket(hasty.port, f"{facility}?subscribe-broadcast") as listener,
        ):
            for _ in range(3):
                talker.send(text("--heartbeat--"))
                assert talker.message() == "--heartbeat--"
            listener.send(text("--heartbeat--"))
            assert listener.message() == "--heartbeat--"  # where to send any other message is an error
            talker.send(masked(Opcode.BINARY, b"--heartbeat--"), text("--heartbeat--!"))
            heard = [wait_until(lambda: redis.get_message(timeout=1))["data"] for _ in range(2)]
            assert heard[0].endswith(b"--heartbeat--")
            assert heard[1] == b"--heartbeat--!"


@pytest.mark.parametrize("last", [close(1000), b"\x83\x80abcd"], ids=["close", "error"])
def test_after_a_close_not_even_a_heartbeat_is_answered(other_site: Callable[..., Site], last: bytes) -> None:
    with RawSocket(other_site(**HASTY).port) as raw:
        raw.send(text("--heartbeat--"), text("--heartbeat--"), last)
        opcodes = [frame.opcode for frame in raw.frames_until_fin()]
        assert opcodes.index(Opcode.CLOSE) == len(opcodes) - 1


# Disconnects


def leave_with_a_close(raw: RawSocket) -> None:
    raw.send(close(1001))
    assert raw.closed_with().code == 1001


def leave_with_a_close_and_no_look_back(raw: RawSocket) -> None:
    raw.send(close(1001))


def leave_with_a_reset(raw: RawSocket) -> None:
    raw.abort()


def leave_with_a_fin(raw: RawSocket) -> None:
    raw.socket.shutdown(socket.SHUT_WR)
    assert raw.frames_until_fin() == []


def leave_in_the_middle_of_a_frame(raw: RawSocket) -> None:
    raw.send(text("hello")[:4])


def leave_in_the_middle_of_a_message(raw: RawSocket) -> None:
    raw.send(text("hello", fin=False))
    raw.abort()


def leave_with_unread_messages(raw: RawSocket) -> None:
    raw.send(text("x" * MIB), text("y" * MIB))
    raw.frame()
    raw.abort()


@pytest.mark.parametrize(
    "leave",
    [
        leave_with_a_close,
        leave_with_a_close_and_no_look_back,
        leave_with_a_reset,
        leave_with_a_fin,
        leave_in_the_middle_of_a_frame,
        leave_in_the_middle_of_a_message,
        leave_with_unread_messages,
    ],
)
def test_an_ordinary_disconnect_frees_everything_and_is_no_news(
    site: Site, shared_redis: RedisServer, facility: str, leave: Callable[[RawSocket], None]
) -> None:
    with RawSocket(site.port, "warm?subscribe-broadcast"):
        pass
    wait_until(lambda: not listeners(shared_redis, "warm"))
    start, descriptors = len(site.lines), site.descriptors()
    with RawSocket(site.port, f"{facility}{TALK}&echo") as raw:
        assert listeners(shared_redis, facility) == 1
        leave(raw)
    wait_until(lambda: not listeners(shared_redis, facility), what="the end of the subscription")
    wait_until(lambda: site.descriptors() <= descriptors, what="the end of the descriptor")
    assert_no_news(site, start)


def assert_no_news(site: Site, start: int) -> None:
    with RawSocket(site.port, f"news-{start}"):  # its line comes after all others
        site.wait_for(f"/ws/news-{start}", start=start)
    lines = [line for line in site.lines[start:] if f"news-{start}" not in line]
    assert [line for line in lines if re.search("WARN|ERROR|CRITICAL|Traceback|Exception", line)] == []


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /half HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgr"])
@pytest.mark.parametrize("is_reset", [False, True], ids=["FIN", "RST"])
def test_a_client_that_leaves_before_it_has_asked_is_no_news(site: Site, sent: bytes, is_reset: bool) -> None:
    start = len(site.lines)
    with closing(socket.create_connection(("127.0.0.1", site.port))) as client:
        client.sendall(sent)
        if is_reset:
            reset(client)
    assert_no_news(site, start)


def test_a_client_that_leaves_before_the_answer_is_no_news(
    site: Site, shared_redis: RedisServer, facility: str
) -> None:
    start, descriptors = len(site.lines), site.descriptors()
    head = f"GET /ws/{facility}?subscribe-broadcast&callback=sleep HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items()) + "\r\n"
    with closing(socket.create_connection(("127.0.0.1", site.port))) as client:
        client.sendall(head.encode())
    site.wait_for(f"/ws/{facility}.* 101", start=start)
    wait_until(lambda: not listeners(shared_redis, facility))
    wait_until(lambda: site.descriptors() <= descriptors, what="the end of the descriptor")
    assert_no_news(site, start)


def test_a_listener_that_is_gone_costs_the_others_nothing(site: Site, facility: str) -> None:
    path = f"{facility}?subscribe-broadcast"
    with site.connect(path) as one, ExitStack() as stack:
        gone = [stack.enter_context(RawSocket(site.port, path)) for _ in range(10)]
        for number in range(10):
            gone[number].abort()
            publish(str(number), facility=facility, broadcast=True)
        publish("end", facility=facility, broadcast=True)
        assert until_end(one) == [str(number) for number in range(10)]


def test_a_closed_client_sees_the_code_and_the_reason(site: Site) -> None:
    with site.connect("news?subscribe-broadcast") as one:
        one.send("hello")
        with pytest.raises(ConnectionClosed) as closed:
            one.recv(15)
        assert closed.value.rcvd.code == 1003
        assert "publish" in closed.value.rcvd.reason


# Django's pages, and what user code may do


@pytest.fixture
def browser(site: Site) -> Iterator[Callable[..., tuple[int, bytes]]]:
    """Fetch pages of the site, all on one connection while the server keeps it open."""
    with closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=15)) as connection:

        def fetch(path: str, method: str = "GET", **options: Any) -> tuple[int, bytes]:
            connection.request(method, path, **options)
            response = connection.getresponse()
            try:
                return response.status, response.read()
            finally:
                if not site.keeps_alive:
                    connection.close()

        yield fetch


def test_pages_are_served_on_the_same_port(
    site: Site, browser: Callable[..., tuple[int, bytes]], facility: str, alice: str
) -> None:
    with site.connect(f"{facility}?subscribe-broadcast"):
        assert browser("/") == (200, b"hello")
        assert json.loads(browser("/whoami/", headers=with_cookie(alice))[1])["user"] == "alice"
        assert browser("/nowhere/")[0] == 404


def test_a_view_publishes(site: Site, browser: Callable[..., tuple[int, bytes]], facility: str) -> None:
    with site.connect(f"{facility}?subscribe-broadcast") as one:
        assert browser(f"/publish/?message=hello&facility={facility}") == (200, b"published")
        assert one.recv(15) == "hello"


def test_a_view_in_a_transaction_publishes_when_it_commits_and_not_when_it_rolls_back(
    site: Site, browser: Callable[..., tuple[int, bytes]], facility: str
) -> None:
    with site.connect(f"{facility}?subscribe-broadcast") as one:
        assert browser(f"/atomic/rollback/?message=lost&facility={facility}") == (200, b"rollback")
        assert browser(f"/atomic/commit/?message=kept&facility={facility}") == (200, b"commit")
        assert one.recv(15) == "kept"


def test_an_upload_of_3_megabytes_arrives(browser: Callable[..., tuple[int, bytes]]) -> None:
    assert browser("/upload/", "POST", body=bytes(3_000_000)) == (200, b"3000000")


def test_a_streaming_response_arrives_whole(browser: Callable[..., tuple[int, bytes]]) -> None:
    assert browser("/stream/") == (200, b"".join(b"line %d\n" % number for number in range(1000)))


def test_a_callback_that_sleeps_delays_no_message(site: Site, facility: str) -> None:
    path, rounds = f"{facility}?subscribe-broadcast", 0
    with site.connect(path) as one, ThreadPoolExecutor(3) as pool, ExitStack() as stack:
        asleep = [pool.submit(site.connect, f"{path}&callback=sleep") for _ in range(3)]
        while not any(future.done() for future in asleep):
            publish(str(rounds), facility=facility, broadcast=True)
            assert one.recv(1) == str(rounds)  # the callback sleeps for two seconds
            rounds += 1
        for future in asleep:
            stack.enter_context(future.result())
    assert rounds > 10


def test_a_page_that_sleeps_delays_no_message_and_no_handshake(
    site: Site, browser: Callable[..., tuple[int, bytes]], facility: str
) -> None:
    path, rounds = f"{facility}?subscribe-broadcast", 0
    with ThreadPoolExecutor(1) as pool:
        asleep = pool.submit(browser, "/slow/2000/")
        while not asleep.done():
            with site.connect(path, open_timeout=1) as one:
                publish(str(rounds), facility=facility, broadcast=True)
                assert one.recv(1) == str(rounds)
            rounds += 1
        assert asleep.result() == (200, b"slow")
    assert rounds > 3


def test_idle_sockets_hold_no_database_connection(site: Site, facility: str, alice: str, bob: str) -> None:
    def open_databases() -> list[str]:
        folder, found = f"/proc/{site.pid}/fd", []
        for name in os.listdir(folder):
            try:
                found.append(os.readlink(f"{folder}/{name}"))
            except FileNotFoundError:  # closed meanwhile
                continue
        return [path for path in found if path.startswith(str(DATABASE))]

    with ExitStack() as stack:
        for number in range(30):
            cookie = (alice, bob)[number % 2]
            path = f"{facility}?subscribe-user&subscribe-group&publish-broadcast&callback=database"
            stack.enter_context(RawSocket(site.port, path, with_cookie(cookie)))
        wait_until(lambda: not open_databases(), what="an end of the database connections")


def test_what_is_stored_and_cannot_be_read_is_left_out(site: Site, shared_redis: RedisServer) -> None:
    with shared_redis.client() as client:
        client.xadd("wsredis:broadcast:garbled", {"m": b"\xffW\xff"})
        client.publish("wsredis:broadcast:garbled", b"\xffW\xff")
    with site.connect("garbled?subscribe-broadcast") as websocket:
        publish("after", facility="garbled", broadcast=True)
        assert websocket.recv(5) == "after"
