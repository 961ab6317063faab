"""Websocket views in large numbers: what they cost a process in threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from .conftest import DATABASE
from .hosted import HostedSite
from .rawsocket import RawSocket, text
from .servers import RedisServer, Site, may_open, stopping, wait_until
from .test_resilience import settled, warm_up

IDLE = 10_000
FUNCTIONS = 200
LONG = 600  # looks: until threads that have nothing to do have ended
SETTINGS = {
    "WEBSOCKET_URLCONF": "tests.project.sockets",
    "WSREDIS": {"VIEW_THREADS": FUNCTIONS, "PING_INTERVAL": 600, "PING_TIMEOUT": 600},  # nobody reads them
}


@pytest.fixture(scope="module")
def site(shared_redis: RedisServer, database: object) -> Iterator[Site]:
    """A server that has all threads which it keeps."""
    with (
        may_open(IDLE + 500),
        stopping(
            Site("runwsserver", "--noreload", database=DATABASE, redis_url=shared_redis.url, settings=SETTINGS)
        ) as site,
    ):
        warm_up(site)
        yield site


@contextmanager
def many_open(site: Site, path: str, count: int) -> Iterator[list[RawSocket]]:
    with ExitStack() as stack:
        sockets = []
        for _ in range(count):
            sockets.append(stack.enter_context(RawSocket(site.port, path)))
            assert sockets[-1].answer.status == 101
        yield sockets


def all_answer(sockets: list[RawSocket]) -> bool:
    for number, raw in enumerate(sockets):
        raw.send(text(str(number)))
    return [raw.message() for raw in sockets] == [str(number) for number in range(len(sockets))]


def test_10000_idle_sockets_of_classes_hold_no_thread(site: Site) -> None:
    at_rest = settled(site.threads, LONG)
    with many_open(site, "class/idle/", IDLE) as sockets:
        wait_until(lambda: site.threads() <= at_rest, 20, f"{at_rest} threads again")
        assert all_answer(sockets[:: IDLE // 100])
        wait_until(lambda: site.threads() <= at_rest, 20, f"{at_rest} threads again")


def test_200_functions_wait_at_once_each_in_a_thread(site: Site) -> None:
    at_rest = settled(site.threads, LONG)
    with many_open(site, "view/echo/", FUNCTIONS) as sockets:
        assert site.threads() >= FUNCTIONS
        assert all_answer(sockets)
        with RawSocket(site.port, "class/idle/") as other:
            assert all_answer([other])
    wait_until(lambda: site.threads() <= at_rest, 20, f"{at_rest} threads again")


def test_in_a_process_that_is_patched_functions_are_greenlets(shared_redis: RedisServer, database: object) -> None:
    with stopping(HostedSite("gunicorn gevent", shared_redis, DATABASE, SETTINGS)) as site:
        warm_up(site)
        threads, greenlets = settled(site.threads, LONG), int(site.get("greenlets/")[1])
        with many_open(site, "view/echo/", FUNCTIONS) as sockets:
            assert all_answer(sockets)
            assert int(site.get("greenlets/")[1]) >= greenlets + FUNCTIONS
            wait_until(lambda: site.threads() <= threads, 20, f"{threads} threads again")
        wait_until(lambda: int(site.get("greenlets/")[1]) <= greenlets, 20, f"{greenlets} greenlets again")
