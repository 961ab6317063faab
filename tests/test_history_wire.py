"""History and wsredis.v1 from end to end: a server, a real Redis, and what clients read."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count, islice
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from django.test import override_settings
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from django_wsredis import EVERYWHERE, publish

from .servers import RedisServer, Site, wait_until

SERVER = "runwsserver"
V1 = "wsredis.v1"
HEARTBEAT = "--heartbeat--"
WSREDIS = {
    "HISTORY": {"chat*": {"messages": 20, "seconds": 3600}, "long": {"messages": 20_000, "seconds": 3600}},
    "SLOW": {"ticker": "latest", "log": "drop"},
    "EXPIRE": 60,
    "HEARTBEAT": HEARTBEAT,
    "ALLOWED_CHANNELS": "tests.project.callbacks.everything",
}
CHAT, LONG = "broadcast:chat", "broadcast:long"


class Got(NamedTuple):
    """A message of wsredis.v1."""

    header: dict[str, Any]
    payload: str | bytes


class Peer:
    """A client that speaks wsredis.v1."""

    def __init__(self, websocket: ClientConnection) -> None:
        assert websocket.subprotocol == V1
        self.websocket = websocket

    def next(self) -> Got:
        data = self.websocket.recv(15)
        if isinstance(data, str):
            line, _, payload = data.partition("\n")
            return Got(json.loads(line), payload)
        binary_line, _, binary = data.partition(b"\n")
        return Got(json.loads(binary_line), binary)

    def until(self, type: str) -> tuple[list[Got], dict[str, Any]]:
        """Return what comes before a notice of a type, and that."""
        before = []
        while (got := self.next()).header.get("type") != type:
            before.append(got)
        return before, got.header

    def notice(self, type: str) -> dict[str, Any]:
        """Return the next message, which is a notice of a type."""
        got = self.next()
        assert got.header.get("type") == type, got
        return got.header

    def message(self) -> Got:
        got = self.next()
        assert "type" not in got.header, got
        return got

    def says(self, payload: str | bytes = "", **header: str) -> None:
        line = json.dumps(header)
        if isinstance(payload, bytes):
            self.websocket.send(line.encode() + b"\n" + payload)
        else:
            self.websocket.send(f"{line}\n{payload}" if payload else line)

    def closed_with(self) -> int:
        """Return the code with which the server closes it."""
        try:
            while True:
                self.next()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return closed.rcvd.code


@pytest.fixture
def site(configured: RedisServer, settings_of_site: dict[str, Any], start_site: Callable[..., Site]) -> Site:
    return start_site(SERVER, redis_url=configured.url, settings={"WSREDIS": settings_of_site})


@pytest.fixture
def settings_of_site(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {**WSREDIS, **getattr(request, "param", {})}


@pytest.fixture
def configured(redis_server: RedisServer) -> Any:
    """This process's own settings are those of the site: what it publishes is kept alike."""
    with override_settings(WSREDIS={**WSREDIS, "URL": redis_server.url}):
        yield redis_server


@pytest.fixture
def connect(site: Site) -> Any:
    """Open sockets that end with the test."""
    with ExitStack() as stack:

        def connect(path: str, **options: Any) -> Peer:
            return Peer(stack.enter_context(site.connect(path, subprotocols=[V1], **options)))

        yield connect


Connect = Callable[..., Peer]


def say(*payloads: Any, facility: str = "chat", **options: Any) -> None:
    for payload in payloads:
        publish(payload, facility=facility, broadcast=True, **options)


def positions(ack: dict[str, Any]) -> Any:
    return ack["channels"]


def payloads(given: list[Got]) -> list[str | bytes]:
    return [got.payload for got in given]


# Joining


def test_a_join_gets_what_is_stored_then_an_ack_with_its_position_then_what_comes(site: Site, connect: Connect) -> None:
    say("one", "two")
    peer = connect("chat?subscribe-broadcast")
    stored = peer.message()
    assert (stored.header["channel"], stored.payload) == (CHAT, "two")
    assert peer.notice("ack") == {"type": "ack", "facility": "chat", "channels": {CHAT: stored.header["id"]}}
    say("three")
    live = peer.message()
    assert (live.header["channel"], live.payload) == (CHAT, "three")
    assert live.header["id"] > stored.header["id"]


def test_an_empty_channel_has_a_position_from_which_nothing_is_missed(site: Site, connect: Connect) -> None:
    peer = connect("chat?subscribe-broadcast")
    position = positions(peer.notice("ack"))[CHAT]
    peer.websocket.close()
    say("one", "two")
    before, ack = connect(f"chat?subscribe-broadcast&since={position}").until("ack")
    assert payloads(before) == ["one", "two"]
    assert positions(ack)[CHAT] == before[-1].header["id"]


def test_a_channel_that_keeps_nothing_has_no_position(site: Site, connect: Connect) -> None:
    peer = connect("news?subscribe-broadcast")
    assert positions(peer.notice("ack")) == {"broadcast:news": None}
    say("plain", facility="news", expire=0)
    assert peer.message() == Got({"channel": "broadcast:news"}, "plain")


def test_each_channel_of_a_facility_has_its_own_position(site: Site, connect: Connect, alice: str) -> None:
    path = "chat?subscribe-broadcast&subscribe-user&subscribe-group&subscribe-session"
    peer = connect(path, cookie=alice)
    ack = peer.notice("ack")
    assert set(positions(ack)) == {CHAT, "user:alice:chat", "group:staff:chat", "session:chat"}
    peer.websocket.close()
    say("all")
    publish("to alice", facility="chat", users=["alice"])
    publish("to staff", facility="chat", groups=["staff"])
    since = ",".join(f"{name}={id}" for name, id in positions(ack).items())
    before, _ = connect(f"{path}&since={quote(since)}", cookie=alice).until("ack")
    assert {(got.header["channel"], got.payload) for got in before} == {
        (CHAT, "all"),
        ("user:alice:chat", "to alice"),
        ("group:staff:chat", "to staff"),
    }


@pytest.mark.parametrize(
    ("query", "heard"),
    [
        ("", ["9"]),
        ("&history=0", []),
        ("&history=3", ["7", "8", "9"]),
        ("&history=1000", [str(number) for number in range(10)]),
    ],
)
def test_history_says_how_many_of_the_newest_come_first(
    site: Site, connect: Connect, query: str, heard: list[str]
) -> None:
    say(*map(str, range(10)))
    before, _ = connect("chat?subscribe-broadcast" + query).until("ack")
    assert payloads(before) == heard
    with site.connect("chat?subscribe-broadcast" + query) as plain:
        say("live", expire=0)
        assert [plain.recv(10) for _ in [*heard, "live"]] == [*heard, "live"]


def test_a_plain_socket_may_resume_too(site: Site, connect: Connect) -> None:
    say("one", "two", "three")
    before, _ = connect("chat?subscribe-broadcast&history=3").until("ack")
    with site.connect(f"chat?subscribe-broadcast&since={before[0].header['id']}") as plain:
        assert [plain.recv(10), plain.recv(10)] == ["two", "three"]
        say("four")
        assert plain.recv(10) == "four"


@pytest.mark.parametrize("query", ["since=yesterday", "since=5", "history=-1", "history=many"])
@pytest.mark.parametrize("protocols", [[V1], None])
def test_what_is_no_position_is_refused_with_400(site: Site, query: str, protocols: Any) -> None:
    with pytest.raises(InvalidStatus) as raised:
        with site.connect(f"chat?subscribe-broadcast&{query}", subprotocols=protocols):
            pass
    assert raised.value.response.status_code == 400


# Gaps


def test_who_was_away_for_too_long_is_told_of_a_gap_then_gets_what_there_is(site: Site, connect: Connect) -> None:
    say("seen")
    peer = connect("chat?subscribe-broadcast")
    position = positions(peer.until("ack")[1])[CHAT]
    peer.websocket.close()
    say(*map(str, range(20)))
    before, _ = connect(f"chat?subscribe-broadcast&since={position}").until("ack")
    assert payloads(before) == [str(number) for number in range(20)]
    say("one too many")
    peer = connect(f"chat?subscribe-broadcast&since={position}")
    assert peer.notice("gap") == {"type": "gap", "channel": CHAT, "since": position}
    before, ack = peer.until("ack")
    assert payloads(before)[-20:] == [*(str(number) for number in range(1, 20)), "one too many"]
    assert positions(ack)[CHAT] == before[-1].header["id"]


@pytest.mark.parametrize("what_follows", [[], ["new"]])
def test_a_position_of_an_older_life_is_a_gap(
    site: Site, connect: Connect, redis_server: RedisServer, what_follows: list[str]
) -> None:
    say("old")
    position = positions(connect("chat?subscribe-broadcast").until("ack")[1])[CHAT]
    with redis_server.client() as client:
        client.flushall()
    say(*what_follows)
    peer = connect(f"chat?subscribe-broadcast&since={position}")
    assert peer.notice("gap")["since"] == position
    before, ack = peer.until("ack")
    assert payloads(before) == what_follows
    peer.websocket.close()
    say("later")
    before, _ = connect(f"chat?subscribe-broadcast&since={positions(ack)[CHAT]}").until("ack")
    assert payloads(before) == ["later"]


def break_links(site: Site, redis_server: RedisServer) -> None:
    """Cut the workers off from Redis, and wait until they are back."""
    with redis_server.client() as client:
        before = {c["id"] for c in redis_server.subscriber_clients()}
        client.client_kill_filter(_type="pubsub")
        wait_until(lambda: {c["id"] for c in redis_server.subscriber_clients()} - before, what="a new link")


def test_what_was_published_while_the_link_was_down_comes_once_and_in_order(
    site: Site, connect: Connect, redis_server: RedisServer
) -> None:
    peer = connect("chat?subscribe-broadcast")
    peer.notice("ack")
    say("before")
    assert peer.message().payload == "before"
    with redis_server.client() as client:
        client.client_kill_filter(_type="pubsub")
        say("meanwhile 1", "meanwhile 2")
    assert [peer.message().payload for _ in range(2)] == ["meanwhile 1", "meanwhile 2"]
    say("after")
    assert peer.message().payload == "after"


def test_who_is_connected_is_told_of_a_gap_when_redis_comes_back_empty(
    site: Site, connect: Connect, redis_server: RedisServer
) -> None:
    peer = connect("chat?subscribe-broadcast")
    peer.notice("ack")
    say("before")
    seen = peer.message().header["id"]
    with redis_server.client() as client:
        client.flushall()
    break_links(site, redis_server)
    assert peer.notice("gap") == {"type": "gap", "channel": CHAT, "since": seen}
    position = positions(peer.notice("ack"))[CHAT]
    say("after")
    assert peer.message().payload == "after"
    before, _ = connect(f"chat?subscribe-broadcast&since={position}").until("ack")
    assert payloads(before) == ["after"]


# Much of it


@pytest.mark.parametrize("settings_of_site", [{"MAX_OUTBOX_BYTES": 300_000}], indirect=True)
@pytest.mark.parametrize("v1", [True, False])
def test_a_replay_of_much_more_than_an_outbox_closes_nobody_who_reads(site: Site, connect: Connect, v1: bool) -> None:
    filler = "x" * 10_000
    total = 1000
    say(*(f"{number} {filler}" for number in range(total)), facility="long")
    path = "long?subscribe-broadcast&history=5000"
    if v1:
        before, ack = connect(path).until("ack")
        numbers = [int(got.payload.split()[0]) for got in before]
        assert positions(ack)[LONG] == before[-1].header["id"]
    else:
        with site.connect(path) as plain:
            texts = (plain.recv(15) for _ in count())
            numbers = [int(text.split()[0]) for text in islice((t for t in texts if t != HEARTBEAT), total)]
    assert numbers == list(range(total))


def test_a_replay_while_messages_are_published_misses_and_doubles_nothing(site: Site, connect: Connect) -> None:
    filler = "x" * 2000
    say(*(f"{number} {filler}" for number in range(2000)), facility="long")
    stop = threading.Event()
    numbers = count(2000)
    last = 0

    def go_on() -> None:
        nonlocal last
        while not stop.wait(0.002):  # as fast as it can it would be too much for peers that are read one by one
            last = next(numbers)
            say(f"{last} {filler}", facility="long")

    publisher = threading.Thread(target=go_on)
    publisher.start()
    try:
        peers = [connect("long?subscribe-broadcast&history=10000") for _ in range(3)]
        before = [peer.until("ack")[0] for peer in peers]
    finally:
        stop.set()
        publisher.join()
    for peer, stored in zip(peers, before, strict=True):
        heard = [int(got.payload.split()[0]) for got in stored]
        while heard[-1] != last:
            heard.append(int(peer.message().payload.split()[0]))
        assert heard == list(range(last + 1))


# Further facilities


def test_a_further_facility_is_granted_heard_and_left(site: Site, connect: Connect) -> None:
    peer = connect("chat?subscribe-broadcast")
    peer.notice("ack")
    say("stored", facility="chat/2")
    peer.says(type="subscribe", facility="chat/2", query="subscribe-broadcast&publish-broadcast&echo")
    stored = peer.message()
    assert (stored.header["channel"], stored.payload) == ("broadcast:chat/2", "stored")
    assert peer.notice("ack") == {
        "type": "ack",
        "facility": "chat/2",
        "channels": {"broadcast:chat/2": stored.header["id"]},
    }
    with site.connect("chat/2?subscribe-broadcast&history=0") as other:
        peer.says("hello", type="publish", facility="chat/2")
        assert other.recv(10) == "hello"
        peer.says(type="unsubscribe", facility="chat/2")
        peer.until("unsubscribed")
        say("not for the one who left", facility="chat/2")
        assert other.recv(10) == "not for the one who left"
    say("one")
    assert peer.message().payload == "one"
    peer.says(type="subscribe", facility="chat/2", query=f"subscribe-broadcast&since={stored.header['id']}")
    before, _ = peer.until("ack")
    assert payloads(before)[-1] == "not for the one who left"


@pytest.mark.parametrize(
    "settings_of_site", [{"SUBSCRIBER": "tests.project.callbacks.Lobby"}], indirect=True, ids=["lobby"]
)
def test_a_channel_that_two_facilities_share_is_named_by_both_and_goes_on_when_one_is_left(
    site: Site, connect: Connect, redis_server: RedisServer
) -> None:
    lobby = "broadcast:chat/lobby"
    peer = connect("chat/1?subscribe-broadcast")
    first = positions(peer.notice("ack"))
    assert set(first) == {"broadcast:chat/1", lobby}
    say("one", facility="chat/lobby")
    seen = peer.message().header["id"]
    peer.says(type="subscribe", facility="chat/2", query="subscribe-broadcast")
    ack = peer.notice("ack")
    assert ack["facility"] == "chat/2"
    assert set(positions(ack)) == {"broadcast:chat/2", lobby}
    assert positions(ack)[lobby] == seen
    peer.says(type="unsubscribe", facility="chat/1")
    peer.notice("unsubscribed")
    say("two", facility="chat/lobby")
    got = peer.message()
    assert (got.header["channel"], got.payload) == (lobby, "two")
    with redis_server.client() as client:
        client.flushall()
    break_links(site, redis_server)
    assert peer.notice("gap")["channel"] == lobby
    ack = peer.notice("ack")
    assert (ack["facility"], set(positions(ack))) == ("chat/2", {lobby})


@pytest.mark.parametrize(
    ("facility", "query", "status"),
    [
        ("chat/2", "subscribe-broadcast&since=yesterday", 400),
        ("chat/2", "", 400),
        ("chat/2", "subscribe-user", 403),
        ("chat/2", "subscribe-broadcast&callback=deny", 403),
        ("x" * 300, "subscribe-broadcast", 404),
        ("chat", "subscribe-broadcast", 409),
    ],
)
@pytest.mark.parametrize(
    "settings_of_site", [{"ALLOWED_CHANNELS": "tests.project.callbacks.by_query"}], indirect=True, ids=["by query"]
)
def test_what_is_not_granted_is_refused_with_the_status_of_a_handshake(
    site: Site, connect: Connect, facility: str, query: str, status: int
) -> None:
    peer = connect("chat?subscribe-broadcast")
    peer.notice("ack")
    peer.says(type="subscribe", facility=facility, query=query)
    assert peer.notice("error") == {"type": "error", "status": status, "facility": facility}
    peer.says(type="ping")
    peer.notice("pong")


def test_what_has_no_header_is_closed_with_1008_and_publishing_without_a_grant_with_1003(
    site: Site, connect: Connect
) -> None:
    peer = connect("chat?subscribe-broadcast")
    peer.websocket.send("hello")
    assert peer.closed_with() == 1008
    peer = connect("chat?subscribe-broadcast")
    peer.says("hello", type="publish")
    assert peer.closed_with() == 1003


# What travels


def test_text_and_binary_travel_with_their_headers_compressed_or_not(site: Site, connect: Connect) -> None:
    path = "chat?subscribe-broadcast&publish-broadcast&echo&history=0"
    for compression in (None, "deflate"):
        peer = connect(path, compression=compression)
        peer.notice("ack")
        with site.connect("chat?subscribe-broadcast&history=0", compression=compression) as plain:
            for payload in ("text\nof lines", b"\x00\n\xff", "é" * 1000, b"\xfe" * 1000):
                peer.says(payload, type="publish")
                got = peer.message()
                assert (got.payload, got.header["channel"]) == (payload, CHAT)
                assert plain.recv(10) == payload


def test_a_sender_does_not_get_its_own_message_without_echo(site: Site, connect: Connect) -> None:
    path = "chat?subscribe-broadcast&publish-broadcast&history=0"
    alice, bob = connect(path), connect(path)
    for peer in (alice, bob):
        peer.notice("ack")
    alice.says("of alice", type="publish")
    assert bob.message().payload == "of alice"
    bob.says("of bob", type="publish")
    assert alice.message().payload == "of bob"
    say("of django")
    assert [alice.message().payload, bob.message().payload] == ["of django"] * 2


def test_messages_for_every_facility_come_once_as_everywhere(site: Site, connect: Connect) -> None:
    peer = connect("chat?subscribe-broadcast")
    peer.notice("ack")
    peer.says(type="subscribe", facility="chat/2", query="subscribe-broadcast")
    peer.notice("ack")
    publish("to all", facility=EVERYWHERE, broadcast=True)
    assert peer.message() == Got({"channel": "everywhere"}, "to all")
    say("next", expire=0)
    assert peer.message() == Got({"channel": CHAT}, "next")


@pytest.mark.parametrize("settings_of_site", [{"PING_INTERVAL": 0.2}], indirect=True)
def test_the_heartbeat_is_for_plain_sockets_alone(site: Site, connect: Connect) -> None:
    peer = connect("chat?subscribe-broadcast")
    peer.notice("ack")
    with site.connect("chat?subscribe-broadcast") as plain:
        assert [plain.recv(10) for _ in range(4)] == [HEARTBEAT] * 4
    say("first that comes")
    assert peer.message().payload == "first that comes"
    peer.says(type="ping")
    peer.notice("pong")


# Slow sockets


def narrow(site: Site) -> socket.socket:
    """Return a connection that holds little, so that the server soon has to keep what its peer does not read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", site.port))
    return sock


FILLER = "x" * 20_000
SLOW_SETTINGS = [{"MAX_OUTBOX_BYTES": 400_000, "EXPIRE": 0}]


def slow_peer(site: Site, connect: Connect, facility: str) -> Peer:
    """Return a peer that reads no more than a little ahead."""
    peer = connect(f"{facility}?subscribe-broadcast", sock=narrow(site), max_queue=1)
    peer.notice("ack")
    return peer


def flood(site: Site, facility: str, messages: int) -> list[str]:
    """Publish much, until a socket that reads has got it all."""
    sent = [f"{number} {FILLER}" for number in range(messages)]
    with site.connect(f"{facility}?subscribe-broadcast", max_queue=None) as reader:
        heard = []
        for first in range(0, messages, 10):
            say(*sent[first : first + 10], facility=facility)
            heard += [reader.recv(15) for _ in sent[first : first + 10]]
    assert heard == sent
    return sent


@pytest.mark.parametrize("settings_of_site", SLOW_SETTINGS, indirect=True)
def test_a_slow_socket_gets_the_latest_where_only_that_matters(site: Site, connect: Connect) -> None:
    peer = slow_peer(site, connect, "ticker")
    sent = flood(site, "ticker", 600)
    say("the end", facility="ticker")
    heard = [peer.message().payload]
    while heard[-1] != "the end":
        heard.append(peer.message().payload)
    assert len(heard) < len(sent)
    assert [text for text in sent if text in heard] == heard[:-1]


@pytest.mark.parametrize("settings_of_site", SLOW_SETTINGS, indirect=True)
def test_a_slow_socket_is_told_how_much_of_a_log_it_missed_where_it_did(site: Site, connect: Connect) -> None:
    peer = slow_peer(site, connect, "log")
    sent = flood(site, "log", 600)
    say("the end", facility="log")
    place = missed = 0
    while (got := peer.next()).payload != "the end":
        if got.header.get("type") == "gap":
            assert got.header["channel"] == "broadcast:log"
            missed += got.header["missed"]
            place += got.header["missed"]
        else:
            assert got.payload == sent[place]
            place += 1
    assert missed > 0
    assert place == len(sent)


@pytest.mark.parametrize("settings_of_site", SLOW_SETTINGS, indirect=True)
def test_a_slow_socket_is_closed_by_default(site: Site, connect: Connect) -> None:
    peer = slow_peer(site, connect, "news")
    flood(site, "news", 600)
    assert peer.closed_with() == 1013
