"""Asking live workers who is connected, and closing sockets: servers of two kinds on one Redis, and many sockets."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.test import override_settings
from websockets.exceptions import ConnectionClosed

from django_wsredis import (
    EVERYWHERE,
    BrokerUnavailable,
    asking,
    connections,
    control,
    count,
    disconnect,
    is_online,
    publish,
    workers,
)
from django_wsredis.control import Announcement, Filter, Request
from django_wsredis.publisher import Receipt

from .conftest import DATABASE, login
from .hosted import HostedSite
from .rawsocket import RawSocket
from .servers import RedisServer, Site, free_port, wait_until

SETTINGS = {"WSREDIS": {"PING_INTERVAL": 2, "ALLOWED_CHANNELS": "tests.project.callbacks.by_query"}}
PATIENT = {"WSREDIS": {"PING_INTERVAL": 60, "PING_TIMEOUT": 300}}


# A few sockets


@pytest.fixture
def sites(configured: RedisServer, start_site: Callable[..., Site]) -> tuple[Site, Site]:
    one = start_site("runwsserver", "--noreload", redis_url=configured.url, settings=SETTINGS)
    two = start_site("runserver", "--noreload", redis_url=configured.url, settings=SETTINGS)
    return one, two


def test_a_socket_is_told_of_with_all_that_it_is(sites: tuple[Site, Site], alice: str, bob: str) -> None:
    one, two = sites
    with (
        one.connect("chat?subscribe-broadcast&subscribe-user", cookie=alice) as first,
        two.connect("chat?subscribe-broadcast&publish-broadcast", cookie=bob) as second,
        two.connect("news?subscribe-broadcast"),
    ):
        publish("hello", facility="chat", broadcast=True)
        assert first.recv(5) == second.recv(5) == "hello"
        second.send("from bob")
        second.send("again")
        assert [first.recv(5), first.recv(5)] == ["from bob", "again"]
        wait_until(lambda: all(row.round_trip_ms is not None for row in connections().sockets), 10, "pongs")
        found = connections(sort="received")
        assert (found.total, found.silent) == (3, [])
        bobs, *_ = found.sockets
        alices = next(row for row in found.sockets if row.user == "alice")
        nobodys = next(row for row in found.sockets if row.user == "")
        assert (bobs.user, bobs.received, bobs.sent) == ("bob", 2, 1)  # without `echo` its own do not come back
        assert (alices.received, alices.sent, alices.facilities) == (0, 3, ["chat"])
        assert alices.channels == ["broadcast:chat", "user:alice:chat"]
        assert (nobodys.sent, nobodys.channels) == (0, ["broadcast:news"])
        for row in found.sockets:
            assert row.address == "127.0.0.1"
            assert 0 <= row.age_seconds < 60
            assert 0 < (row.round_trip_ms or 0) < 5000
            assert row.outbox_bytes == 0
        assert alices.worker != bobs.worker == nobodys.worker


def test_who_is_meant(sites: tuple[Site, Site], alice: str, bob: str) -> None:
    one, two = sites
    with (
        one.connect("chat/1?subscribe-broadcast&subscribe-user", cookie=alice),
        two.connect("chat/2?subscribe-broadcast&subscribe-session", cookie=alice),
        two.connect("news?subscribe-broadcast&subscribe-group", cookie=bob),
        two.connect("news?subscribe-broadcast"),
    ):
        user = User.objects.get(username="alice")
        wanted = {
            4: [{}, {"facility": "*"}, {"channel": "broadcast:*"}, {"worker": ""}],
            3: [
                {"users": ["alice", "bob"]},
                {"groups": ["staff", "chatters"]},
                {"users": [user], "groups": ["chatters"]},
            ],
            2: [
                {"users": ["alice"]},
                {"groups": [Group.objects.get(name="staff")]},
                {"sessions": [alice]},
                {"facility": "chat/*"},
                {"facility": "news"},
            ],
            1: [
                {"users": ["alice"], "facility": "chat/1"},
                {"channel": "user:alice:*"},
                {"channel": "session:*"},
                {"channel": "group:chatters:news"},
                {"users": ["alice"], "worker": connections(facility="chat/1").sockets[0].worker},
            ],
            0: [
                {"users": ["carol"]},
                {"groups": ["nobody is in it"]},
                {"users": []},
                {"users": ()},
                {"groups": (), "facility": "chat/1"},
                {"sessions": ["x"]},
                {"facility": "chat"},
                {"worker": "nonsense"},
            ],
        }
        for number, filters in wanted.items():
            for given in filters:
                assert (count(**given).sockets, given) == (number, given)
                assert len(connections(**given).sockets) == number
        assert (count().users, count().workers) == (2, 2)
        assert (is_online("alice"), is_online(user), is_online("carol")) == (True, True, False)
        assert len(connections(limit=2).sockets) == 2
        assert connections(limit=2).total == 4


def test_sockets_are_closed_with_a_code_and_a_reason(sites: tuple[Site, Site], alice: str, bob: str) -> None:
    one, two = sites
    with (
        one.connect("chat?subscribe-broadcast", cookie=alice) as first,
        two.connect("chat?subscribe-broadcast", cookie=alice) as second,
        two.connect("chat?subscribe-broadcast", cookie=bob) as third,
    ):
        done = disconnect(users=["alice"], reason="go")
        assert (done.sockets, done.users, done.workers, done.silent) == (2, 1, 2, [])
        for websocket in (first, second):
            with pytest.raises(ConnectionClosed) as error:
                websocket.recv(5)
            assert (error.value.rcvd.code, error.value.rcvd.reason) == (4403, "go")
        assert disconnect(users=["alice"]).sockets == 0
        wait_until(lambda: count().sockets == 1)
        assert disconnect(broadcast=True, code=1012).sockets == 1
        with pytest.raises(ConnectionClosed) as error:
            third.recv(5)
        assert error.value.rcvd.code == 1012
        closes = Counter[str]()
        wait_until(lambda: sum((worker.sockets or 0) for worker in workers.report(Filter(), limit=1).workers) == 0)
        for worker in workers.report(Filter(), limit=1).workers:
            closes.update(worker.closes)
        assert closes == {"4403": 2, "1012": 1}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "say whom to disconnect"),
        ({"broadcast": True, "code": 1006}, "code is 1006"),
        ({"broadcast": True, "code": True}, "code is True"),
        ({"broadcast": True, "reason": "x" * 124}, "up to 123 bytes"),
        ({"users": [3]}, "users holds 3"),
        ({"facility": None, "broadcast": True}, "facility is None"),
    ],
)
def test_what_cannot_be_disconnected_is_a_type_error(configured: RedisServer, given: dict, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        disconnect(**given)


def test_an_order_that_does_not_exist_is_a_type_error(configured: RedisServer) -> None:
    with pytest.raises(TypeError, match="sort is 'size'"):
        connections(sort="size")
    with pytest.raises(TypeError, match="limit is 0"):
        connections(limit=0)


def test_without_redis_it_says_so() -> None:
    with override_settings(WSREDIS={"URL": f"redis://127.0.0.1:{free_port()}"}), pytest.raises(BrokerUnavailable):
        count()


def test_without_workers_nobody_is_there(configured: RedisServer) -> None:
    assert (count().sockets, connections().sockets, workers.report(Filter(), limit=1).workers) == (0, [], [])


# Receipts


def test_a_receipt_says_how_many_sockets_a_message_goes_to(sites: tuple[Site, Site], alice: str, bob: str) -> None:
    one, two = sites
    both = "subscribe-broadcast&subscribe-user&subscribe-group"
    with (
        one.connect(f"chat?{both}", cookie=alice) as first,
        two.connect(f"chat?{both}", cookie=alice),
        two.connect(f"chat?{both}", cookie=bob),
        two.connect("chat?subscribe-broadcast"),
        two.connect(f"news?{both}", cookie=bob),
    ):

        def reached(**given: object) -> tuple[int, int, int, int]:
            receipt = publish("x", receipt=True, **given)  # type: ignore[call-overload]
            assert isinstance(receipt, Receipt)
            assert 0 < receipt.seconds < 1
            return receipt.sockets, receipt.users, receipt.workers, receipt.unanswered

        assert reached(facility="chat", broadcast=True) == (4, 2, 2, 0)
        assert reached(facility="chat", users=["alice"]) == (2, 1, 2, 0)
        # alice's sockets hear both channels, and count once
        assert reached(facility="chat", users=["alice"], groups=["staff", "chatters"]) == (3, 2, 2, 0)
        assert reached(facility=EVERYWHERE, broadcast=True) == (5, 2, 2, 0)
        assert reached(facility=EVERYWHERE, users=["bob"], groups=["chatters"]) == (2, 1, 1, 0)
        assert reached(facility="chat", users=["carol"]) == (0, 0, 0, 0)
        assert reached(facility="chat", users=["alice"], expire=60) == (2, 1, 2, 0)
        assert reached(facility="chat", users=["alice"], key="1") == (2, 1, 2, 0)
        assert reached(facility="chat", users=["alice"], key="1") == (0, 0, 0, 0)
        assert first.recv(5) == "x"
    said = one.manage_py("wsbroadcast", "hello", "--dry-run").stdout
    assert said == "Would send 5 bytes to everybody on every facility → no socket\n"


def test_wsbroadcast_says_whom_it_would_reach_and_did(sites: tuple[Site, Site], alice: str, bob: str) -> None:
    one, two = sites
    with (
        one.connect("chat?subscribe-broadcast&subscribe-user", cookie=alice) as first,
        two.connect("chat?subscribe-broadcast&subscribe-user", cookie=bob),
        two.connect("chat?subscribe-broadcast"),
    ):
        for options in ((), ("--facility", "chat")):
            would = one.manage_py("wsbroadcast", "hello", "--dry-run", *options).stdout
            assert "→ 3 sockets of 2 users on 2 workers in " in would
            done = one.manage_py("wsbroadcast", "hello", *options).stdout
            assert "→ 3 sockets of 2 users on 2 workers in " in done
            assert first.recv(5) == "hello"
        assert "→ 1 socket of 1 user on 1 worker in" in one.manage_py("wsbroadcast", "x", "--user", "bob").stdout
        with pytest.raises(TimeoutError):
            first.recv(0.2)


# Many sockets


USERS = [f"u{number}" for number in range(20)]
GROUPS = ["g0", "g1", "g2"]
SOCKETS = 500


# sockets by channel, of how many users, on uWSGI, of all workers, as they are counted; and how many channels
Numbers: TypeAlias = tuple[Counter[str], int, int, int, int, int]


@dataclass
class Client:
    """A socket of the test, and what the test knows of it."""

    raw: RawSocket
    number: int
    is_here: bool  # on uWSGI
    user: str
    facility: str

    @property
    def group(self) -> str:
        return GROUPS[int(self.user[1:]) % 3]


@pytest.fixture(scope="module")
def cookies(database: Path) -> dict[str, str]:
    groups = [Group.objects.create(name=name) for name in GROUPS]
    found = {}
    for number, name in enumerate(USERS):
        User.objects.create_user(name).groups.add(groups[number % 3])
        found[name] = login(name)
    return found


@pytest.fixture
def hosts(own_redis: RedisServer, start_site: Callable[..., Site]) -> Iterator[tuple[Site, Site]]:
    """uWSGI with one worker, and runwsserver with two."""
    with override_settings(WSREDIS={"URL": own_redis.url}), ExitStack() as stack:
        one = HostedSite("uwsgi gevent", own_redis, DATABASE, PATIENT)
        stack.callback(one.stop)
        yield one, start_site("runwsserver", "--workers", "2", redis_url=own_redis.url, settings=PATIENT)


def connect_all(hosts: tuple[Site, Site], cookies: dict[str, str]) -> list[Client]:
    clients = []
    for number in range(SOCKETS):
        user, facility = USERS[number % 20], "chat" if number % 2 else "news"
        is_here = number % 5 < 2
        path = f"{facility}?subscribe-broadcast&subscribe-user&subscribe-group"
        raw = RawSocket(hosts[not is_here].port, path, {"Cookie": f"sessionid={cookies[user]}"})
        clients.append(Client(raw, number, is_here, user, facility))
    return clients


def numbers(clients: list[Client]) -> Numbers:
    """Return what the test knows."""
    channels = Counter[str]()
    for client in clients:
        audiences = ("broadcast", f"user:{client.user}", f"group:{client.group}")
        channels.update(f"{audience}:{client.facility}" for audience in audiences)
    here = sum(client.is_here for client in clients)
    return channels, len({client.user for client in clients}), here, len(clients), len(clients), len(channels)


def inspected() -> dict[str, Any]:
    """Return what wsinspect shows."""
    output = io.StringIO()
    with suppress(CommandError):  # of workers that do not answer
        call_command("wsinspect", "--json", "--limit", "100", stdout=output)
    shown: dict[str, Any] = json.loads(output.getvalue())
    return shown


def told() -> Numbers:
    """Return the same, as wsinspect shows it."""
    shown = inspected()
    channels = Counter({channel["channel"]: channel["sockets"] for channel in shown["channels"]})
    here = sum(worker["sockets"] or 0 for worker in shown["workers"] if worker["server"].startswith("uWSGI"))
    found = count()
    of_all = sum(worker["sockets"] or 0 for worker in shown["workers"])
    return channels, found.users, here, of_all, found.sockets, shown["live_channels"]


def test_every_number_is_what_the_test_knows(hosts: tuple[Site, Site], cookies: dict, own_redis: RedisServer) -> None:
    clients = connect_all(hosts, cookies)
    try:
        assert told() == numbers(clients)
        check_filters(clients)
        check_messages(clients)
        clients = abort_some(clients)
        clients = kill_a_worker(clients)
        restart_redis(own_redis, clients)
        check_disconnect(clients)
    finally:
        for client in clients:
            client.raw.socket.close()


def check_filters(clients: list[Client]) -> None:
    for user in (USERS[3], USERS[4]):
        assert count(users=[user]).sockets == sum(client.user == user for client in clients)
    for group in GROUPS:
        found = count(groups=[group])
        assert found.sockets == sum(client.group == group for client in clients)
        assert found.users == len({client.user for client in clients if client.group == group})
    for facility in ("chat", "news"):
        assert count(facility=facility).sockets == sum(client.facility == facility for client in clients)
        rows = connections(facility=facility, users=USERS[:2], limit=SOCKETS).sockets
        wanted = Counter(c.user for c in clients if c.facility == facility and c.user in USERS[:2])
        assert Counter(row.user for row in rows) == wanted
    rows = connections(limit=SOCKETS).sockets
    assert Counter((row.user, *row.facilities) for row in rows) == Counter((c.user, c.facility) for c in clients)


def check_messages(clients: list[Client]) -> None:
    """Publish, and compare how many messages each socket and each worker has delivered."""
    before = sum(worker.delivered or 0 for worker in workers.report(Filter(), limit=1).workers)
    receipt = publish("to chat", facility="chat", broadcast=True, receipt=True)
    assert receipt is not None
    in_chat = [client for client in clients if client.facility == "chat"]
    assert (receipt.sockets, receipt.users) == (len(in_chat), len({client.user for client in in_chat}))
    receipt = publish("to some", facility="chat", users=[USERS[1]], groups=[GROUPS[1]], receipt=True)
    assert receipt is not None
    some = [client for client in in_chat if client.group == GROUPS[1]]  # u1 is among them, and gets it twice
    assert (receipt.sockets, receipt.users, receipt.unanswered) == (len(some), len({c.user for c in some}), 0)
    for client in in_chat:
        assert client.raw.message() == "to chat"
    delivered = sum(worker.delivered or 0 for worker in workers.report(Filter(), limit=1).workers) - before
    assert delivered == len(in_chat) + len(some) + sum(client.user == USERS[1] for client in in_chat)
    rows = connections(limit=SOCKETS).sockets
    wanted = Counter(
        (c.facility == "chat") + (c in some) + (c.facility == "chat" and c.user == USERS[1]) for c in clients
    )
    assert Counter(row.sent for row in rows) == wanted


def abort_some(clients: list[Client]) -> list[Client]:
    """Let some go without a word, by RST, and some by the end of their stream."""
    for client in clients[:60]:
        if client.number % 2:
            client.raw.abort()
        else:
            client.raw.socket.close()
    left = clients[60:]
    wait_until(lambda: told() == numbers(left), 20, "the aborted sockets to be gone")
    closes = Counter[str]()
    for worker in workers.report(Filter(), limit=1).workers:
        closes.update(worker.closes)
    assert closes == {"1006": 60}
    return left


def kill_a_worker(clients: list[Client]) -> list[Client]:
    """Kill a worker of runwsserver: its sockets are gone at once, and it, too, when its announcement ends."""
    report = workers.report(Filter(), limit=1)
    assert len(report.workers) == 3
    victim = next(worker for worker in report.workers if worker.server.startswith("runwsserver"))
    os.kill(victim.pid, signal.SIGKILL)
    killed_at = time.monotonic()
    wait_until(lambda: not Path(f"/proc/{victim.pid}").exists())
    left = [client for client in clients if client.is_here or not has_ended(client.raw)]
    assert len(clients) - len(left) == victim.sockets
    wait_until(lambda: told() == numbers(left), 20, "the killed worker's sockets to be gone")
    silent = workers.report(Filter(), limit=1).silent
    assert silent in ([victim.id], [])
    if silent:
        assert count().silent == [victim.id]
        assert count().seconds < asking.ANSWER_SECONDS / 2, "nobody waits for who is known to be dead"
    else:
        assert time.monotonic() - killed_at > control.ANNOUNCED_SECONDS - control.ANNOUNCE_SECONDS - 1
    wait_until(
        lambda: victim.id not in {worker.id for worker in workers.report(Filter(), limit=1).workers},
        control.ANNOUNCED_SECONDS + 5,
        "its announcement to end",
    )
    # the one that took its place
    wait_until(lambda: len(workers.report(Filter(), limit=1).workers) == 3, 20, "three workers")
    return left


def has_ended(raw: RawSocket) -> bool:
    """Tell whether a socket is over, which is then closed here, too."""
    try:
        while raw.frame(0.001) is not None:
            pass
    except TimeoutError:
        return False
    except ConnectionResetError:
        pass
    raw.socket.close()
    return True


def restart_redis(own_redis: RedisServer, clients: list[Client]) -> None:
    own_redis.kill()
    own_redis.start()

    def is_whole() -> bool:
        report = workers.report(Filter(), limit=1)
        return len(report.workers) == 3 and not report.silent and told() == numbers(clients)

    wait_until(is_whole, 30, "all workers to be back")


def check_disconnect(clients: list[Client]) -> None:
    some = [client for client in clients if client.user in USERS[5:8]]
    done = disconnect(users=USERS[5:8])
    assert (done.sockets, done.users) == (len(some), 3)
    for client in some:
        assert client.raw.closed_with().code == 4403
        client.raw.socket.close()
    left = [client for client in clients if client not in some]
    wait_until(lambda: told() == numbers(left), 20, "the disconnected to be gone")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "say whom to disconnect"),
        ({"broadcast": True, "users": ["alice"]}, "say whom to disconnect"),
        ({"broadcast": "yes"}, "broadcast is 'yes'; it is True or False"),
        ({"users": ["alice"], "code": 1006}, "code is 1006"),
        ({"users": ["alice"], "reason": "\udcff"}, "it is a text of up to 123 bytes of UTF-8"),
        ({"users": ["alice"], "reason": "ä" * 62}, "it is a text of up to 123 bytes of UTF-8"),
    ],
)
def test_a_mistake_closes_nothing(configured: RedisServer, given: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        disconnect(**given)


def test_no_names_are_nobody_and_never_everybody(sites: tuple[Site, Site], alice: str) -> None:
    one, _ = sites
    with one.connect("chat?subscribe-broadcast", cookie=alice) as websocket:
        for none in ((), [], set(), iter(())):
            assert disconnect(users=none, facility="chat").sockets == 0
        publish("still there", facility="chat", broadcast=True)
        assert websocket.recv(5) == "still there"


# How workers do


def test_what_is_under_way_is_told(sites: tuple[Site, Site]) -> None:
    one, _ = sites
    paths = ("chat?subscribe-broadcast", "chat?subscribe-broadcast", "chat?publish-broadcast")
    with one.connect(paths[0]) as first, one.connect(paths[1]) as second, one.connect(paths[2]) as writer:

        def rates() -> tuple[float, float]:
            for _ in range(20):
                writer.send("x")
                assert (first.recv(5), second.recv(5)) == ("x", "x")
            (worker,) = (worker for worker in inspected()["workers"] if worker["sockets"])
            return worker["received_per_second"], worker["delivered_per_second"]

        received, delivered = wait_until(lambda: found if (found := rates())[0] > 5 else None)
        assert 1.5 * received < delivered < 2.5 * received
        began_at = time.monotonic()
        wait_until(lambda: inspected()["workers"][0]["delivered_per_second"] == 0, 20, "the rates' end")
        assert time.monotonic() - began_at > 1  # they are those of some seconds


def test_a_loop_that_is_late_says_so(sites: tuple[Site, Site]) -> None:
    one, _ = sites
    with one.connect("chat?subscribe-broadcast"):
        (worker,) = (worker for worker in inspected()["workers"] if worker["sockets"])
        assert 0 <= worker["lag_p99_ms"] < 400
        os.kill(worker["pid"], signal.SIGSTOP)
        time.sleep(0.8)
        os.kill(worker["pid"], signal.SIGCONT)
        (worker,) = (worker for worker in inspected()["workers"] if worker["sockets"])
        assert worker["lag_p99_ms"] > 400
        resident_kilobytes = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{worker['pid']}/status").read_text())
        assert resident_kilobytes is not None
        assert worker["memory_bytes"] == pytest.approx(int(resident_kilobytes[1]) * 1024, rel=0.2)


def test_what_waits_for_a_slow_socket_is_told(configured: RedisServer, start_site: Callable[..., Site]) -> None:
    settings = {"WSREDIS": {"SLOW": {"ticker": "drop"}, "MAX_OUTBOX_BYTES": 1_000_000, "PING_TIMEOUT": 300}}
    site = start_site("runwsserver", "--noreload", redis_url=configured.url, settings=settings)
    message = secrets.token_hex(100_000)  # which no compression makes small
    slow = RawSocket(site.port, "ticker?subscribe-broadcast")
    with closing(slow.socket), site.connect("chat?subscribe-broadcast"):

        def worker() -> dict[str, Any]:
            publish(message, facility="ticker", broadcast=True)
            (found,) = inspected()["workers"]
            return found if found["dropped"] else {}

        found = wait_until(worker, 20, "a dropped message")
        assert len(message) <= found["outbox_bytes"] <= 1_000_000
        (row,) = connections(sort="outbox", limit=1).sockets
        assert row.facilities == ["ticker"]
        assert len(message) <= row.outbox_bytes <= 1_000_000


@pytest.mark.parametrize(
    "given",
    [
        b"no JSON",
        b"[]",
        b"{}",
        b'{"verb": 7}',
        b'{"verb": "count", "limit": "x"}',
        b'{"verb": "count", "limit": true}',
        b'{"verb": "count", "which": {"users": "alice"}}',
        b'{"verb": "count", "which": {"users": [1]}}',
        b'{"verb": "count", "which": {"facility": 7}}',
        b'{"verb": "count", "which": 7}',
    ],
)
def test_a_request_of_wrong_types_is_none(given: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        control.decode_request(given)


def test_what_a_newer_version_says_is_no_harm() -> None:
    given = b'{"verb": "count", "news": [1], "which": {"users": ["alice"], "age": 7}}'
    assert control.decode_request(given) == Request(verb="count", which=Filter(users=("alice",)))
    assert control.read_workers([b'{"id": "host:7:x", "pid": 7, "news": [1]}']) == [Announcement(id="host:7:x", pid=7)]


# Workers that do not answer


def test_a_worker_that_hangs_is_named_within_the_time(sites: tuple[Site, Site]) -> None:
    one, two = sites
    with one.connect("chat?subscribe-broadcast"), two.connect("chat?subscribe-broadcast"):
        assert count().sockets == 2
        pid = next(worker.pid for worker in workers.report(Filter(), limit=1).workers if worker.server == "runserver")
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: "\nState:\tT" in Path(f"/proc/{pid}/status").read_text(), 10, "its stop")
        try:
            found = count()
            assert (found.sockets, len(found.silent)) == (1, 1)
            assert f":{pid}:" in found.silent[0]
            assert asking.ANSWER_SECONDS <= found.seconds < 2 * asking.ANSWER_SECONDS
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: count().silent == [], 10)


def test_a_worker_that_ends_is_gone_at_once(sites: tuple[Site, Site]) -> None:
    one, two = sites
    with two.connect("chat?subscribe-broadcast"):
        assert len(workers.report(Filter(), limit=1).workers) == 2
        one.stop()
        assert [worker.server for worker in workers.report(Filter(), limit=1).workers] == ["runserver"]


def test_what_is_no_request_harms_nobody(sites: tuple[Site, Site]) -> None:
    one, _ = sites
    with one.connect("chat?subscribe-broadcast") as websocket:
        start = len(one.lines)
        for data in (b"[]", b"{", b'{"verb": 3}', b'{"verb": "count", "which": 7}', b'{"verb": "dance"}'):
            asking.tell(Raw(data))  # type: ignore[arg-type]
        one.wait_for("A request for 'dance' is ignored", start=start)
        news = "\n".join(one.lines[start:])
        assert "A request cannot be read and is ignored" in news
        assert "Traceback" not in news
        publish("well", facility="chat", broadcast=True)
        assert websocket.recv(5) == "well"


class Raw(Request):
    """A request that is none."""

    def __init__(self, data: bytes) -> None:
        object.__setattr__(self, "verb", data)

    def encode(self) -> bytes:
        return self.verb  # type: ignore[return-value]


def test_an_announcement_survives_the_way_through_redis(configured: RedisServer) -> None:
    from django_wsredis import redis

    announcement = Announcement(id="a:1:x", host="a", pid=1, server="s", group="a:1", address="", started_at=1.5)
    redis.execute([control.announce_command("wsredis", announcement)])
    (reply,) = redis.execute([control.workers_command("wsredis")])
    assert control.read_workers(reply) == [announcement]
    with configured.client() as client:
        assert 0 < client.ttl(control.workers_name("wsredis")) <= control.ANNOUNCED_SECONDS
    redis.execute([control.leave_command("wsredis", announcement)])
    (reply,) = redis.execute([control.workers_command("wsredis")])
    assert control.read_workers(reply) == []
