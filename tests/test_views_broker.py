"""Websocket views while Redis is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from websockets.exceptions import ConnectionClosed

from .servers import RedisServer, Site

SERVER = "runwsserver"


@pytest.fixture
def site(start_site: Callable[..., Site], own_redis: RedisServer) -> Iterator[Site]:
    settings = {"WEBSOCKET_URLCONF": "tests.project.sockets"}
    site = start_site(SERVER, "--noreload", redis_url=own_redis.url, settings=settings)
    yield site
    assert "A websocket view failed" not in site.output


def test_a_function_that_cannot_go_on_without_redis_ends_until_later(site: Site, own_redis: RedisServer) -> None:
    with site.connect("view/listen/") as socket:
        assert socket.recv(15) == "listening"
        own_redis.kill()
        socket.send("publish it")
        with pytest.raises(ConnectionClosed) as caught:
            socket.recv(20)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1013
    site.wait_for("A websocket view needs Redis, which is away: tests.project.sockets.listen: ")


def test_a_call_that_cannot_go_on_without_redis_is_no_failure(site: Site, own_redis: RedisServer) -> None:
    with site.connect("class/calls/a/") as socket:
        assert socket.recv(15) == "open a "
        own_redis.kill()
    site.wait_for("A websocket view needs Redis, which is away: tests.project.sockets.Calls: ")  # its on_close()
