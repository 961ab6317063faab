"""What dies or breaks while 500 messages a second flow to 200 clients and two windows of Chromium."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from django.test import override_settings
from redis.crc import key_slot

from django_wsredis import publish
from django_wsredis.channels import Channel, redis_name
from django_wsredis.exceptions import BrokerUnavailable

from ..conftest import FAULTS
from ..layouts import Layout
from ..layouts import running as running_layout
from ..servers import RedisServer, Site, find_redis, stopping, wait_until
from ..test_reloads import HOSTS, reload, wait_until_reloaded
from ..topologies import Cluster, Sentinels
from . import plan
from .proxy import Proxy
from .trial import SETTINGS, Trial
from .verifier import Result

CUT_SECONDS = 5
SLEEP_SECONDS = 5
PING_SECONDS = 1  # PING_INTERVAL: a link that is silent is found within it
SLOW_MACHINE_SECONDS = 5  # with all these clients
MOVED = 10  # channels whose slots move
FSYNC_SECONDS = 2  # for which Redis at most holds back what it writes to its disk, if that is busy
AWAY_SECONDS = 1  # for which a Redis that was killed stays so


class DurableRedis(RedisServer):
    """One that finds its data again, whatever ends it."""

    options = ("--appendonly", "yes", "--appendfsync", "everysec")


@pytest.fixture
def new_redis(folder: Path) -> Iterator[Callable[[type[RedisServer]], RedisServer]]:
    with ExitStack() as stack:

        def new(kind: type[RedisServer]) -> RedisServer:
            server = kind(folder, find_redis())
            stack.callback(server.stop)
            return server

        yield new


@pytest.fixture
def run_site(start_site: Callable[..., Site]) -> Callable[..., Site]:
    """Start runwsserver with two workers."""

    def run(url: str, **wsredis: Any) -> Site:
        settings = {**SETTINGS, "WSREDIS": {**SETTINGS["WSREDIS"], **wsredis}}
        return start_site("runwsserver", "--workers", "2", redis_url=url, settings=settings)

    return run


@pytest.fixture
def new_proxy() -> Iterator[Callable[[int | str], Proxy]]:
    with ExitStack() as stack:

        def new(target: int | str) -> Proxy:
            proxy = Proxy(target)
            stack.callback(proxy.stop)
            return proxy

        yield new


@pytest.fixture
def finish(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[..., Result]:
    """End a trial; print what the verifier found, and see that it found nothing wrong."""

    def finish(trial: Trial) -> Result:
        result = trial.finish()
        line = f"{request.node.name.removeprefix('test_').replace('_', ' ')}: {result}"
        print(f"\n{line}")
        record_property(FAULTS, line)
        assert (result.lost, result.doubled, result.swapped) == (0, 0, 0)
        assert result.needless == 0
        assert result.per_second >= plan.LEAST_PER_SECOND
        return result

    return finish


# The way to the clients


def test_the_clients_network_is_cut_for_5_seconds(
    own_redis: RedisServer,
    run_site: Callable[..., Site],
    new_proxy: Callable[[int | str], Proxy],
    start_trial: Callable[..., Trial],
    finish: Callable[[Trial], Result],
) -> None:
    site = run_site(own_redis.url)
    proxy = new_proxy(site.port)
    trial = start_trial(proxy.port, own_redis.url, own_redis.client)
    trial.fault()
    proxy.freeze()  # what the server sends now reaches nobody, and it does not know that
    proxy.refuse()
    time.sleep(CUT_SECONDS)
    proxy.cut()
    proxy.accept()
    trial.flow()
    assert finish(trial).gaps == 0


# Workers


def test_a_worker_is_killed(
    own_redis: RedisServer,
    run_site: Callable[..., Site],
    start_trial: Callable[..., Trial],
    finish: Callable[[Trial], Result],
) -> None:
    site = run_site(own_redis.url)
    trial = start_trial(site.port, own_redis.url, own_redis.client)
    trial.fault()
    killed = site.worker_pids()[0]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in (pids := site.worker_pids()) and len(pids) == 2, what="a new worker")
    trial.flow()
    assert finish(trial).gaps == 0


class BusyLayout(Layout):
    """A host as it is deployed, with the settings of a trial."""

    def __init__(self, folder: Path, redis_server: RedisServer) -> None:
        super().__init__(folder, redis_server)
        self.settings.update(SETTINGS, WSREDIS={**SETTINGS["WSREDIS"], "URL": redis_server.url, "DRAIN_SECONDS": 2})


@pytest.mark.parametrize("host", HOSTS, ids=lambda start: start.__name__)
def test_a_graceful_reload(
    host: Callable[[Layout], None],
    folder: Path,
    redis_server: RedisServer,
    start_trial: Callable[..., Trial],
    finish: Callable[[Trial], Result],
) -> None:
    with running_layout(host, folder, redis_server, BusyLayout) as layout:
        trial = start_trial(layout.port, redis_server.url, redis_server.client)
        before = set(layout.pids())
        trial.fault()
        reload(layout)
        wait_until(lambda: len(before & set(layout.pids())) == len(before) - 2, 30, "the end of the old workers")
        wait_until_reloaded(layout)
        trial.flow()
        assert finish(trial).gaps == 0


# Redis


def test_redis_is_killed_and_finds_its_data_again(
    new_redis: Callable[[type[RedisServer]], RedisServer],
    run_site: Callable[..., Site],
    start_trial: Callable[..., Trial],
    finish: Callable[[Trial], Result],
) -> None:
    redis_server = new_redis(DurableRedis)
    site = run_site(redis_server.url)
    trial = start_trial(site.port, redis_server.url, redis_server.client)
    trial.fault()
    redis_server.kill()
    time.sleep(AWAY_SECONDS)
    redis_server.start()
    trial.back()
    trial.flow()
    assert finish(trial).gone_seconds < FSYNC_SECONDS


def test_redis_is_killed_and_comes_back_empty(
    new_redis: Callable[[type[RedisServer]], RedisServer],
    run_site: Callable[..., Site],
    start_trial: Callable[..., Trial],
    finish: Callable[[Trial], Result],
) -> None:
    redis_server = new_redis(RedisServer)
    site = run_site(redis_server.url)
    trial = start_trial(site.port, redis_server.url, redis_server.client)
    trial.fault()
    redis_server.kill()
    time.sleep(AWAY_SECONDS)
    redis_server.start()
    trial.back()
    trial.flow()
    result = finish(trial)
    assert result.gone_seconds > FSYNC_SECONDS  # all that there was
    assert (result.untold, result.forgotten) == (0, 0)  # nobody can know whether it missed something


def test_redis_sleeps_for_5_seconds(
    own_redis: RedisServer,
    run_site: Callable[..., Site],
    start_trial: Callable[..., Trial],
    finish: Callable[[Trial], Result],
) -> None:
    site = run_site(own_redis.url)
    trial = start_trial(site.port, own_redis.url, own_redis.client)
    trial.fault()
    with own_redis.client() as client:
        client.execute_command("DEBUG", "SLEEP", SLEEP_SECONDS)
    trial.back()
    trial.flow()
    assert finish(trial).gaps == 0


def test_the_link_to_redis_is_half_open(
    own_redis: RedisServer,
    run_site: Callable[..., Site],
    new_proxy: Callable[[int | str], Proxy],
    start_trial: Callable[..., Trial],
    finish: Callable[[Trial], Result],
) -> None:
    proxy = new_proxy(str(own_redis.socket))
    site = run_site(f"redis://127.0.0.1:{proxy.port}", PING_INTERVAL=PING_SECONDS)
    trial = start_trial(site.port, own_redis.url, own_redis.client)
    trial.fault()
    proxy.freeze()
    site.wait_for("Redis does not answer", PING_SECONDS + SLOW_MACHINE_SECONDS)
    trial.flow()
    assert finish(trial).gaps == 0


class FillingRedis(RedisServer):
    """One whose disk can be full: its snapshot goes to a name that a folder has taken."""

    options = ("--save", "3600 1000000", "--dbfilename", "dump.rdb")  # a rule that there is one, and no snapshot

    @property
    def dump(self) -> Path:
        return self.folder / "dump.rdb"

    def snapshot(self, status: str) -> None:
        """Have one written, and wait until that has ended as expected."""
        with self.client() as client:
            client.bgsave()
            wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == status, what=status)


def test_the_disk_of_redis_is_full(
    new_redis: Callable[[type[FillingRedis]], FillingRedis],
    run_site: Callable[..., Site],
    start_trial: Callable[..., Trial],
    finish: Callable[[Trial], Result],
) -> None:
    redis_server = new_redis(FillingRedis)
    site = run_site(redis_server.url)
    trial = start_trial(site.port, redis_server.url, redis_server.client)
    trial.fault()
    redis_server.dump.mkdir()
    (redis_server.dump / "full").touch()
    redis_server.snapshot("err")  # from now on Redis refuses to write
    with override_settings(WSREDIS={"URL": redis_server.url, "HISTORY": plan.HISTORY}):
        with pytest.raises(BrokerUnavailable, match="MISCONF"):
            publish("the disk is full", facility=plan.FACILITIES[0], broadcast=True)
    time.sleep(AWAY_SECONDS)
    (redis_server.dump / "full").unlink()
    redis_server.dump.rmdir()
    redis_server.snapshot("ok")
    trial.back()
    trial.flow()
    assert finish(trial).gaps == 0


# Several of Redis. What a master confirmed and its replica did not get yet is lost with it, and nobody can know that:
# so here it is not asked whether all was kept.


@pytest.fixture
def sentinels(folder: Path) -> Iterator[Sentinels]:
    with stopping(Sentinels(folder)) as topology:
        yield topology


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    with stopping(Cluster(folder)) as topology:
        yield topology


def test_the_master_is_killed_and_sentinels_choose_another(
    sentinels: Sentinels,
    run_site: Callable[..., Site],
    start_trial: Callable[..., Trial],
    finish: Callable[[Trial], Result],
) -> None:
    site = run_site(sentinels.url)
    trial = start_trial(site.port, sentinels.url, lambda: sentinels.master.client(db=1))
    trial.fault()
    killed = sentinels.kill_master()
    wait_until(lambda: sentinels.master is not killed, 20, "another master")
    trial.back()
    trial.flow()
    finish(trial)


def cluster_client(cluster: Cluster) -> Any:
    return redis.RedisCluster("127.0.0.1", cluster.running()[0].port, password=cluster.password)


def test_a_master_of_the_cluster_is_killed(
    cluster: Cluster,
    run_site: Callable[..., Site],
    start_trial: Callable[..., Trial],
    finish: Callable[[Trial], Result],
) -> None:
    site = run_site(cluster.url)
    trial = start_trial(site.port, cluster.url, lambda: cluster_client(cluster))
    trial.fault()
    cluster.kill_master(names()[0])
    wait_until(cluster.is_whole, 20, "the cluster's being whole")
    trial.back()
    trial.flow()
    finish(trial)


def test_slots_of_the_cluster_move(
    cluster: Cluster,
    run_site: Callable[..., Site],
    start_trial: Callable[..., Trial],
    finish: Callable[[Trial], Result],
) -> None:
    site = run_site(cluster.url)
    trial = start_trial(site.port, cluster.url, lambda: cluster_client(cluster))
    trial.fault()
    masters = cluster.masters()
    for name in names()[:MOVED]:
        place = masters.index(cluster.master_of(name))
        target = masters[(place + 1) % len(masters)]
        cluster.move_slot(key_slot(name.encode()), target, lambda: time.sleep(0.05))
        assert cluster.master_of(name) is target
    trial.flow()
    assert finish(trial).gaps == 0


def names() -> list[str]:
    """Return the channels' names in Redis."""
    return [redis_name("wsredis", Channel("broadcast", "", facility)).decode() for facility in plan.FACILITIES]
