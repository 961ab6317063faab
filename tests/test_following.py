"""Open sockets follow what Django says of users, sessions and groups: with each kind of sessions, on real servers."""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import pytest
from django.contrib.auth import SESSION_KEY, logout, update_session_auth_hash
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.http import HttpRequest
from django.test import override_settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from django_wsredis import following, live, publish
from django_wsredis.channels import session_digest
from django_wsredis.control import Filter, Request
from django_wsredis.exceptions import BrokerUnavailable

from .conftest import login
from .hosted import HostedSite
from .servers import RedisServer, Site, wait_until

SERVER_SIDE = ("db", "cached_db", "cache")
ENGINES = (*SERVER_SIDE, "signed_cookies")
V1 = "wsredis.v1"


def settings_of(engine: str, redis: RedisServer, **wsredis: Any) -> dict[str, Any]:
    return {
        "SESSION_ENGINE": f"django.contrib.sessions.backends.{engine}",
        "CACHES": {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis.url}},
        "WSREDIS": wsredis,
    }


class World:
    """A site, and this process beside it, with the same sessions."""

    def __init__(self, engine: str, site: Site) -> None:
        self.engine = engine
        self.site = site

    def store(self, key: str | None = None) -> Any:
        return import_module(f"django.contrib.sessions.backends.{self.engine}").SessionStore(key)

    def user(self) -> User:
        return User.objects.create_user(f"user-{secrets.token_hex(4)}", password="demo")

    def login(self, user: User) -> str:
        """Return the cookie of another session of a user; also where the session is its cookie."""
        session = self.store(login(user.username, self.store))
        session["name"] = secrets.token_hex(4)
        session.save()
        return session.session_key

    def get(self, path: str, cookie: str = "") -> str:
        """Get a page; return the cookie that the browser has afterwards."""
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=20)
        try:
            connection.request("GET", f"/{path}", headers={"Cookie": f"sessionid={cookie}"} if cookie else {})
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            given = response.getheader("Set-Cookie", f"sessionid={cookie};")
            return given.partition("sessionid=")[2].partition(";")[0].strip('"')
        finally:
            connection.close()

    def connect(self, path: str, cookie: str = "", *, v1: bool = False) -> ClientConnection:
        return self.site.connect(path, cookie=cookie, subprotocols=[V1] if v1 else None)


def close_of(socket: ClientConnection) -> tuple[int, str]:
    """Return how the server closes a socket, after whatever it sends."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            socket.recv(10)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def assert_open(*sockets: ClientConnection) -> None:
    """All are open, and nothing that is under way closes them: they hear everybody on the facility `all`."""
    word = secrets.token_hex(4)
    publish(word, facility="all", broadcast=True, on_commit=False)
    for socket in sockets:
        while not str(socket.recv(10)).endswith(word):
            pass


@pytest.fixture(scope="module")
def start_world(database: Any, shared_redis: RedisServer) -> Iterator[Callable[..., World]]:
    sites: list[Site] = []
    overrides: list[Any] = []

    def start(engine: str, host: str = "", **wsredis: Any) -> World:
        settings = settings_of(engine, shared_redis, **wsredis)
        if host:
            site: Site = HostedSite(host, shared_redis, database, settings)
        else:
            arguments = {"database": database, "redis_url": shared_redis.url, "settings": settings}
            site = Site("runwsserver", "--noreload", **arguments)
        sites.append(site)
        overrides.append(override_settings(**{**settings, "WSREDIS": {"URL": shared_redis.url}}))
        overrides[-1].enable()
        return World(engine, site)

    yield start
    for override in reversed(overrides):
        override.disable()
    for site in sites:
        site.stop()


@pytest.fixture(scope="module", params=ENGINES)
def world(request: pytest.FixtureRequest, start_world: Callable[..., World]) -> World:
    """No look comes in time: what closes a socket is a signal."""
    return start_world(request.param, SESSION_RECHECK=3600)


PATHS = ("all?subscribe-broadcast", "all?subscribe-broadcast&subscribe-user&subscribe-group&subscribe-session")


class Sockets:
    """Those of a user in two sessions, one of them of each kind; of another user; and of nobody."""

    def __init__(self, world: World, stack: ExitStack) -> None:
        self.world = world
        self.user, self.other = world.user(), world.user()
        # by the site's own views, as browsers do it
        self.cookie = world.get(f"login/{self.user.username}/")
        self.second_cookie = world.login(self.user)
        first = [world.connect(path, self.cookie, v1=v1) for path in PATHS for v1 in (False, True)]
        second = [world.connect(PATHS[1], self.second_cookie)]
        others = [world.connect(PATHS[1], world.login(self.other), v1=True), world.connect(PATHS[0])]
        self.first, self.second, self.others = (
            [stack.enter_context(socket) for socket in sockets] for sockets in (first, second, others)
        )

    @property
    def all(self) -> list[ClientConnection]:
        return self.first + self.second + self.others


@pytest.fixture
def sockets(world: World) -> Iterator[Sockets]:
    with ExitStack() as stack:
        yield Sockets(world, stack)


# Sessions


def assert_logged_out(sockets: Sockets) -> None:
    assert [close_of(socket) for socket in sockets.first] == [(4401, "logged out")] * 4
    if sockets.world.engine == "signed_cookies":  # its session may be the same one, under another cookie
        assert [close_of(socket) for socket in sockets.second] == [(1012, "the session has changed")]
        assert_open(*sockets.others)
    else:
        assert_open(*sockets.second, *sockets.others)


def test_a_logout_in_a_view_closes_the_sockets_of_that_session(sockets: Sockets) -> None:
    assert sockets.world.get("logout/", sockets.cookie) in ("", "''")
    assert_logged_out(sockets)


def test_a_logout_in_another_process_does_so_too(sockets: Sockets) -> None:
    request = HttpRequest()
    request.session, request.user = sockets.world.store(sockets.cookie), sockets.user
    logout(request)
    assert_logged_out(sockets)


def test_a_session_that_is_deleted_closes_its_sockets_where_it_is_in_the_database(sockets: Sockets) -> None:
    if sockets.world.engine not in ("db", "cached_db"):
        pytest.skip("no signal tells of it")
    sockets.world.store(sockets.cookie).flush()
    assert [close_of(socket) for socket in sockets.first] == [(4401, "the session was deleted")] * 4
    assert_open(*sockets.second, *sockets.others)
    Session.objects.filter(session_key=sockets.second_cookie).delete()
    assert [close_of(socket) for socket in sockets.second] == [(4401, "the session was deleted")]
    assert_open(*sockets.others)


def test_who_logs_in_gets_the_sockets_of_the_visit_before_back_as_a_user(world: World) -> None:
    user, cookie = world.user(), world.get("visit/")
    other_cookie = world.get("visit/", world.get("visit/"))
    with world.connect(PATHS[1], cookie) as visitor, world.connect(PATHS[0], other_cookie) as other:
        assert_open(visitor, other)
        if world.engine == "signed_cookies":  # which hold the second in which they were made, and here nothing else
            wait_until(lambda second=int(time.time()): int(time.time()) > second)
        fresh = world.get(f"login/{user.username}/", cookie)
        assert fresh not in ("", cookie)
        assert close_of(visitor) == (1012, "the session has changed")
        assert_open(other)
        with world.connect("inbox?subscribe-user", fresh) as back:
            publish("hello", facility="inbox", users=[user])
            assert back.recv(10) == "hello"


def test_who_logs_in_once_more_keeps_the_sockets(sockets: Sockets) -> None:
    sockets.world.get(f"login/{sockets.user.username}/", sockets.cookie)
    assert_open(*sockets.all)


def test_when_somebody_else_logs_in_the_former_sockets_are_closed(sockets: Sockets) -> None:
    sockets.world.get(f"login/{sockets.other.username}/", sockets.cookie)
    reason = "the session was deleted" if "db" in sockets.world.engine else "somebody else logged in"
    assert [close_of(socket) for socket in sockets.first] == [(4401, reason)] * 4
    assert_open(*sockets.second, *sockets.others)


# Users


def change_password(sockets: Sockets) -> str:
    sockets.user.set_password("new")
    sockets.user.save()
    return "the password was changed"


def deactivate(sockets: Sockets) -> str:
    sockets.user.is_active = False
    sockets.user.save(update_fields=["is_active"])
    return "the user is not active"


def delete(sockets: Sockets) -> str:
    sockets.user.delete()
    return "the user was deleted"


@pytest.mark.parametrize("act", [change_password, deactivate, delete])
def test_what_becomes_of_a_user_closes_all_its_sockets(sockets: Sockets, act: Callable[[Sockets], str]) -> None:
    reason = act(sockets)
    assert [close_of(socket) for socket in sockets.first + sockets.second] == [(4401, reason)] * 5
    assert_open(*sockets.others)


def test_what_is_rolled_back_closes_nothing_and_what_is_committed_does(sockets: Sockets) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        change_password(sockets)
        assert 1 / 0
    with transaction.atomic():
        change_password(sockets)
        assert_open(*sockets.all)
    assert [close_of(socket)[0] for socket in sockets.first] == [4401] * 4
