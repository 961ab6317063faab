"""Is a worker alive, and is it ready? It is asked on every host, with every way in which Redis falls silent."""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from hiredis import ReplyError
from websockets.exceptions import InvalidStatus

from django_wsredis import loop
from django_wsredis.cluster import SlotMap
from django_wsredis.control import decode_request
from django_wsredis.hosts import detach
from django_wsredis.loop.canary import CANARY_SECONDS, PROOF_SECONDS, Canary
from django_wsredis.messages import decode
from django_wsredis.wsgi import get_wsgi_application

from .conftest import DATABASE
from .ears import Watcher
from .faults.proxy import Proxy
from .hosted import OPTIONS, HostedSite
from .servers import RedisServer, Site, find_redis, wait_until
from .test_wsgi import ask
from .topologies import Cluster

RED_SECONDS = 5.0
RARE_PINGS = {"WSREDIS": {"PING_INTERVAL": 60}}  # so that it is the canary that finds what is wrong


def read(site: Site, path: str = "-/readyz", method: str = "GET") -> tuple[int, str, Any]:
    """Return the status, the text and the headers of an answer."""
    connection = http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=20)
    try:
        connection.request(method, f"/ws/{path}")
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers
    finally:
        connection.close()


def is_ready(site: Site) -> bool:
    return read(site)[0] == 200


def assert_red_soon(site: Site) -> None:
    """A worker that is asked again and again says in time that it is not ready any more; and it is alive."""
    began_at = time.monotonic()
    wait_until(lambda: not is_ready(site), RED_SECONDS, "its being red")
    assert time.monotonic() - began_at < RED_SECONDS
    assert read(site, "-/healthz")[:2] == (200, "ok\n")


def assert_green_soon(site: Site) -> None:
    wait_until(lambda: is_ready(site), 30, "its being green again")


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Let a process hang inside the `with`: its connections stay open, and nothing is answered."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# Hosts


def start_host(host: str, url: str, start_site: Callable[..., Site]) -> Site:
    if host in OPTIONS:
        return HostedSite(host, SimpleNamespace(url=url), DATABASE, RARE_PINGS)
    return start_site(host, redis_url=url, settings=RARE_PINGS)


@pytest.mark.parametrize("host", ["runwsserver", "runserver", *OPTIONS])
def test_a_worker_tells_whether_it_delivers(host: str, own_redis: RedisServer, start_site: Callable[..., Site]) -> None:
    site = start_host(host, own_redis.url, start_site)
    try:
        # the first things that it is asked: where the host has no loop there is none before
        assert read(site, "-/healthz")[:2] == (200, "ok\n")
        status, text, headers = read(site)
        assert (status, text) == (200, "ready\n")
        assert headers["Content-Type"].startswith("text/plain")
        assert headers["Cache-Control"] == "no-store"
        assert read(site, method="HEAD")[:2] == (200, "")
        with paused(own_redis.process.pid):
            assert_red_soon(site)
        assert_green_soon(site)
        own_redis.kill()
        assert_red_soon(site)
        status, text, headers = read(site)
        assert (status, text) == (503, "not ready\n")
        assert headers["Retry-After"] == "5"
        own_redis.start()
        assert_green_soon(site)
    finally:
        site.stop()
    assert site.output.count("A canary was sent through Redis in vain") == 1
    assert site.output.count("Canaries come back") == 1
    assert "Traceback" not in site.output


@pytest.mark.parametrize("path", ["-/healthz", "-/readyz", "-/metrics"])
def test_the_paths_are_read_and_nothing_else(
    path: str, configured: RedisServer, start_site: Callable[..., Site]
) -> None:
    site = start_site("runwsserver", redis_url=configured.url)
    status, text, headers = read(site, path, "POST")
    assert (status, text, headers["Allow"]) == (405, "405 Method Not Allowed\n", "GET, HEAD")
    with pytest.raises(InvalidStatus) as refused, site.connect(f"{path}?subscribe-broadcast"):
        pass
    assert refused.value.response.status_code == 404
    site.wait_for(f"{path} is no facility")


# Redis


@pytest.fixture
def proxy(own_redis: RedisServer) -> Iterator[Proxy]:
    proxy = Proxy(str(own_redis.socket))
    yield proxy
    proxy.stop()


def test_a_half_open_link_is_seen(proxy: Proxy, start_site: Callable[..., Site]) -> None:
    site = start_site("runwsserver", redis_url=f"redis://127.0.0.1:{proxy.port}/0", settings=RARE_PINGS)
    assert is_ready(site)
    proxy.freeze()
    assert_red_soon(site)
    proxy.cut()  # as the pings do, later
    assert_green_soon(site)


def test_a_redis_that_refuses_writes_delivers(own_redis: RedisServer, start_site: Callable[..., Site]) -> None:
    site = start_site("runwsserver", redis_url=own_redis.url, settings=RARE_PINGS)
    with own_redis.client() as client:
        (own_redis.folder / "dump.rdb").mkdir()  # so it cannot save
        client.config_set("save", "3600 1")
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        with pytest.raises(redis.ResponseError, match="MISCONF"):
            client.ping()
        assert is_ready(site)
        client.config_set("save", "")  # else it does not end: it cannot save


def test_a_redis_that_refuses_the_canary_is_told_of(own_redis: RedisServer, start_site: Callable[..., Site]) -> None:
    with own_redis.client() as client:
        rights = ["on", ">secret", "~*", "+@all", "resetchannels", "&wsredis:everywhere", "&wsredis:broadcast:*"]
        client.execute_command("ACL", "SETUSER", "few", *rights)
    site = start_site("runwsserver", redis_url=f"unix://few:secret@{own_redis.socket}", settings=RARE_PINGS)
    began_at = time.monotonic()
    assert not is_ready(site)
    assert time.monotonic() - began_at < CANARY_SECONDS
    site.wait_for(r"A canary was sent through Redis in vain, so this worker is not ready\. Redis refuses it: NOPERM")


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    cluster = Cluster(folder, find_redis(), replicas=0)
    yield cluster
    cluster.stop()


def test_one_shard_that_hangs_is_seen(cluster: Cluster, start_site: Callable[..., Site]) -> None:
    site = start_site("runwsserver", redis_url=cluster.url, settings=RARE_PINGS)
    assert is_ready(site)
    with paused(cluster.nodes[1].process.pid):
        assert_red_soon(site)
    assert_green_soon(site)


def test_a_half_open_link_to_one_shard_is_seen(cluster: Cluster, start_site: Callable[..., Site]) -> None:
    node = cluster.nodes[1]
    proxy = Proxy(node.port)
    try:
        node.call("CONFIG", "SET", "cluster-announce-port", proxy.port)
        wait_until(lambda: all(str(proxy.port).encode() in n.call("CLUSTER", "NODES") for n in cluster.nodes))
        site = start_site("runwsserver", redis_url=cluster.url, settings=RARE_PINGS)
        assert is_ready(site)
        proxy.freeze()
        assert_red_soon(site)
        proxy.cut()
        assert_green_soon(site)
        site.stop()
    finally:
        proxy.stop()


# The loop


@pytest.fixture
def application(configured: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """One with a loop of its own in this process."""
    monkeypatch.setattr(loop, "_loops", {})
    monkeypatch.setattr(detach, "find", lambda environ: None)  # as on a host that can give up its sockets
    yield get_wsgi_application()
    loop.stop()


def status(application: Any, path: str) -> str:
    return ask(application, f"/ws/-/{path}")[0]


def test_a_worker_without_a_loop_is_alive_and_gets_none_for_that(application: Any) -> None:
    assert status(application, "healthz") == "200 OK"
    assert loop._loops == {}


def test_a_loop_that_does_not_turn_is_neither_alive_nor_ready(
    application: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_wsredis.loop.loop.TURN_SECONDS", 0.5)
    assert status(application, "readyz") == "200 OK"
    loop.get_loop().reactor.run(time.sleep, 3)
    assert status(application, "healthz") == status(application, "readyz") == "503 Service Unavailable"
    wait_until(lambda: status(application, "healthz") == status(application, "readyz") == "200 OK")


def test_a_loop_that_has_ended_is_not_ready_and_nothing_is_wrong_with_it(application: Any) -> None:
    assert status(application, "readyz") == "200 OK"
    loop.stop()
    assert status(application, "readyz") == "503 Service Unavailable"
    assert status(application, "healthz") == "200 OK"


# The canary


class Cage:
    """A canary, whose links and time are the test's."""

    def __init__(self, links: int = 1) -> None:
        self.now = 1000.0
        self.timer = Watcher()
        self.timer.again = self.timer.start  # type: ignore[attr-defined]
        self.sent: list[tuple[Any, ...]] = []  # commands, by which link, and what gets the reply
        self.moved: list[Any] = []
        self.answers: list[bool] = []
        self.places: dict[bytes, Any] = {b"%d" % number: self.link() for number in range(links)}
        self.links: Any = SimpleNamespace(
            probes=lambda name: list(self.places), link=self.places.get, is_sharded=links > 1, moved=self.moved.append
        )
        reactor: Any = SimpleNamespace(
            now=lambda: self.now, timer=lambda *_: self.timer, settings=SimpleNamespace(prefix="wsredis")
        )
        self.canary = Canary(reactor, self.links, "host:1:ab")

    def link(self) -> Any:
        link = SimpleNamespace()
        link.call = lambda *command, on_reply: self.sent.append((link, command, on_reply))
        return link

    def ask(self) -> None:
        self.canary.ask(self.answers.append)

    def published(self) -> list[str]:
        """Return the numbers of the canaries that were sent."""
        return [
            decode_request(decode(command[2]).payload).reply
            for _, command, _ in self.sent
            if command[0] in ("PUBLISH", "SPUBLISH")
        ]

    def refuse(self, index: int, error: str) -> None:
        self.sent[index][2](ReplyError(error))


def test_a_canary_is_subscribed_to_as_long_as_it_flies() -> None:
    cage = Cage()
    cage.ask()
    assert [command[0] for _, command, _ in cage.sent] == ["SUBSCRIBE", "PUBLISH", "UNSUBSCRIBE"]
    assert cage.answers == []
    cage.now += 0.25
    cage.canary.on_returned(*cage.published())
    assert cage.answers == [True]
    assert cage.canary.seconds == 0.25
    assert cage.timer.fire is None


def test_who_asks_meanwhile_shares_it_and_for_a_second_it_is_proof() -> None:
    cage = Cage()
    cage.ask()
    cage.ask()
    assert len(cage.published()) == 1
    cage.canary.on_returned(*cage.published())
    cage.now += PROOF_SECONDS - 0.1
    cage.ask()
    assert cage.answers == [True] * 3
    assert len(cage.published()) == 1
    cage.now += 0.2
    cage.ask()
    assert len(cage.published()) == 2
    assert cage.answers == [True] * 3


def test_one_that_is_late_is_lost_and_proves_nothing_later() -> None:
    cage = Cage()
    cage.ask()
    assert cage.timer.fire is not None
    cage.timer.fire()
    assert cage.answers == [False]
    cage.ask()  # for a second it is proof, so that many who ask do not all wait
    assert cage.answers == [False, False]
    assert len(cage.published()) == 1
    cage.now += PROOF_SECONDS
    cage.ask()
    first, second = cage.published()
    cage.canary.on_returned(first)
    assert cage.answers == [False, False]
    cage.canary.on_returned(second)
    assert cage.answers == [False, False, True]
    assert cage.canary.outcomes == {"lost": 1, "returned": 1}


def test_in_a_cluster_one_must_come_back_by_each_link() -> None:
    cage = Cage(links=3)
    cage.ask()
    assert [command[0] for _, command, _ in cage.sent] == ["SSUBSCRIBE", "SPUBLISH", "SUNSUBSCRIBE"] * 3
    assert len({id(link) for link, _, _ in cage.sent}) == 3
    *some, last = cage.published()
    for token in some:
        cage.canary.on_returned(token)
    assert cage.answers == []
    cage.canary.on_returned(last)
    assert cage.answers == [True]


def test_without_a_link_or_with_a_refusal_it_is_lost_at_once() -> None:
    cage = Cage(links=2)
    cage.places[b"1"] = None
    cage.ask()
    assert cage.answers == [False]
    cage.places[b"1"] = cage.link()
    cage.now += PROOF_SECONDS
    cage.ask()
    cage.refuse(-2, "NOPERM no")
    cage.refuse(-3, "NOPERM no")
    assert cage.answers == [False, False]
    assert cage.moved == []
    cage.now += PROOF_SECONDS
    cage.ask()
    cage.refuse(-2, "MOVED 1 h:1")
    assert cage.answers == [False] * 3
    assert cage.moved == [cage.places[b"1"]]
    assert cage.canary.outcomes["lost"] == 3


def test_who_waits_when_the_worker_ends_is_told() -> None:
    cage = Cage()
    cage.ask()
    cage.canary.stop()
    assert cage.answers == [False]


def test_each_master_has_a_number_in_a_slot_of_its() -> None:
    masters = [("a", 1), ("b", 2), ("c", 3)]
    slots = SlotMap([(0, 8000, masters[0]), (8001, 16382, masters[1]), (16383, 16383, masters[2])])
    found = [slots.master(b"wsredis:canary:x:{%d}" % number) for number in slots.samples()]
    assert sorted(found) == masters
    assert list(SlotMap([]).samples()) == []
