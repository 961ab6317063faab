"""Open sockets follow what Django says of users, sessions and groups: with each kind of sessions, on real servers."""

from __future__ import annotations

import http.client
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from itertools import cycle
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import login as django_login
from django.contrib.auth import logout
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, User
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core import serializers
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection, transaction
from django.http import HttpRequest
from django.test import override_settings
from django.utils import timezone
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from django_wsredis import live, publish
from django_wsredis.channels import session_digest
from django_wsredis.control import Request
from django_wsredis.exceptions import BrokerUnavailable
from django_wsredis.news import MAX_NAMES
from django_wsredis.rules import FOLLOWED

from .conftest import login
from .hosted import HostedSite
from .servers import ROOT, RedisServer, Site, wait_until

ENGINES = ("db", "cache", "signed_cookies")
V1 = "wsredis.v1"


def settings_of(engine: str, redis: RedisServer) -> dict[str, Any]:
    return {
        "SESSION_ENGINE": f"django.contrib.sessions.backends.{engine}",
        "CACHES": {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis.url}},
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
    try:
        while True:
            socket.recv(10)
    except ConnectionClosed as closed:
        assert closed.rcvd is not None
        return closed.rcvd.code, closed.rcvd.reason


def assert_open(*sockets: ClientConnection) -> None:
    """All are open, and nothing that is under way closes them: they hear everybody on the facility `all`."""
    word = secrets.token_hex(4)
    publish(word, facility="all", broadcast=True, on_commit=False)
    for socket in sockets:
        while not str(socket.recv(10)).endswith(word):
            pass


@pytest.fixture(scope="module")
def sites() -> Iterator[dict[str, Site]]:
    """The sites that many tests share."""
    sites: dict[str, Site] = {}
    yield sites
    for site in sites.values():
        site.stop()


@pytest.fixture
def start_world(database: Any, shared_redis: RedisServer, sites: dict[str, Site]) -> Iterator[Callable[..., World]]:
    with ExitStack() as stack:

        def start(engine: str, *, host: str = "", shared: str = "", site: Any = None, **wsredis: Any) -> World:
            """Start a site with settings of its own, and others for `WSREDIS`; this process has what it needs, too.

            shared: a name, by which the next tests find it.
            """
            given = {**settings_of(engine, shared_redis), **(site or {})}
            stack.enter_context(override_settings(**given, WSREDIS={"URL": shared_redis.url}))
            if shared in sites:
                return World(engine, sites[shared])
            given["WSREDIS"] = wsredis
            if host:
                started: Site = HostedSite(host, shared_redis, database, given)
            else:
                arguments: Any = {"database": database, "redis_url": shared_redis.url, "settings": given}
                started = Site("runwsserver", "--noreload", **arguments)
            if shared:
                sites[shared] = started
            else:
                stack.callback(started.stop)
            return World(engine, started)

        yield start


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest, start_world: Callable[..., World]) -> World:
    """No look comes in time: what closes a socket is a signal."""
    callback = "tests.project.callbacks.by_query"
    return start_world(request.param, shared=request.param, SESSION_RECHECK=3600, ALLOWED_CHANNELS=callback)


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
    sockets.world.store(sockets.cookie).flush()
    if sockets.world.engine != "db":  # no signal tells of it
        assert_open(*sockets.all)
        return
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
            made_at = time.time()
            wait_until(lambda: int(time.time()) > int(made_at))
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
    reason = "the session was deleted" if sockets.world.engine == "db" else "somebody else logged in"
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


def test_a_password_that_is_assigned_closes_the_sockets_too(sockets: Sockets) -> None:
    user = User.objects.get(pk=sockets.user.pk)
    user.password = make_password("other")  # as scripts do that import users
    user.save()
    own = sockets.first + sockets.second
    codes = [close_of(socket)[0] for socket in own]
    if sockets.world.engine == "signed_cookies":  # whose sockets may have an older cookie of their session
        assert set(codes) <= {4401, 1012}
    else:
        assert codes == [4401] * len(own)
    assert_open(*sockets.others)


def test_a_user_that_is_saved_with_the_same_password_keeps_its_sockets(sockets: Sockets) -> None:
    User.objects.get(pk=sockets.user.pk).save()
    assert_open(*sockets.all)


def test_that_takes_less_than_a_second(start_world: Callable[..., World]) -> None:
    world = start_world("db", shared="db", SESSION_RECHECK=3600, ALLOWED_CHANNELS="tests.project.callbacks.by_query")
    durations = []
    for _ in range(5):
        cookie = world.login(world.user())
        with world.connect(PATHS[1], cookie) as socket:
            began_at = time.monotonic()
            world.get("logout/", cookie)
            assert close_of(socket)[0] == 4401
            durations.append(time.monotonic() - began_at)
    assert min(durations) < 1


@pytest.mark.parametrize("act", [change_password, deactivate, delete])
def test_what_becomes_of_a_user_closes_all_its_sockets(sockets: Sockets, act: Callable[[Sockets], str]) -> None:
    reason = act(sockets)
    assert [close_of(socket) for socket in sockets.first + sockets.second] == [(4401, reason)] * 5
    assert_open(*sockets.others)


def test_what_is_rolled_back_closes_nothing_and_what_is_committed_does(sockets: Sockets) -> None:
    with transaction.atomic():
        change_password(sockets)
        transaction.set_rollback(True)
    with transaction.atomic():
        change_password(sockets)
        assert_open(*sockets.all)
    assert [close_of(socket)[0] for socket in sockets.first] == [4401] * 4


@pytest.mark.parametrize("host", ["uwsgi gevent", "uwsgi threads", "gunicorn gthread"])
def test_sockets_follow_on_every_host(start_world: Callable[..., World], host: str) -> None:
    world = start_world("db", host=host)
    user, group = world.user(), new_group()
    cookie = world.get(f"login/{user.username}/")
    with (
        world.connect("all?subscribe-broadcast&subscribe-group", cookie) as socket,
        world.connect("all?subscribe-broadcast", world.login(world.user())) as other,
    ):
        group.user_set.add(user)
        wait_for_listeners(group.name, 1)
        assert heard(socket, group.name)
        world.get("logout/", cookie)
        assert close_of(socket) == (4401, "logged out")
        assert_open(other)


def test_who_logs_out_during_a_handshake_is_not_connected_by_it(sockets: Sockets) -> None:
    world = sockets.world
    lines = world.site.lines
    start = len(lines)
    with ThreadPoolExecutor() as pool:
        handshake = pool.submit(status_of, world, "all?subscribe-user&callback=sleep", sockets.cookie)
        other = pool.submit(status_of, world, "all?subscribe-user&callback=sleep", world.login(sockets.other))
        # both may be in one line, since they are printed by two threads
        wait_until(lambda: "".join(lines[start:]).count("A callback sleeps") >= 2, 20, "both callbacks")
        world.get("logout/", sockets.cookie)
        # decided again, it is nobody's; but what is all in a cookie does not end
        refused = 503 if world.engine == "signed_cookies" else 403
        assert (handshake.result(), other.result()) == (refused, 101)


def status_of(world: World, path: str, cookie: str) -> int:
    """Return the answer to a handshake."""
    try:
        with world.connect(path, cookie):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


# Groups


ENTER: dict[str, Callable[[User, Group], Any]] = {
    "the user's add": lambda user, group: user.groups.add(group),
    "the group's add": lambda user, group: group.user_set.add(user),
    "the user's set": lambda user, group: user.groups.set([group]),
    "the group's set": lambda user, group: group.user_set.set([user]),
}
LEAVE: dict[str, Callable[[User, Group], Any]] = {
    "the user's remove": lambda user, group: user.groups.remove(group),
    "the group's remove": lambda user, group: group.user_set.remove(user),
    "the user's clear": lambda user, group: user.groups.clear(),
    "the group's clear": lambda user, group: group.user_set.clear(),
    "the user's set": lambda user, group: user.groups.set([]),
    "the group's set": lambda user, group: group.user_set.set([], clear=True),
    "the group's end": lambda user, group: group.delete(),
    "the end of all groups": lambda user, group: Group.objects.filter(pk=group.pk).delete(),
}


@pytest.fixture
def grouped(start_world: Callable[..., World]) -> World:
    callback = "tests.project.callbacks.everything"
    return start_world("db", shared="grouped", SESSION_RECHECK=3600, ALLOWED_CHANNELS=callback)


def new_group() -> Group:
    return Group.objects.create(name=f"group-{secrets.token_hex(4)}")


def wait_for_listeners(group: str, number: int) -> None:
    wait_until(lambda: live.count(channel=f"group:{group}:*").sockets == number, 10, f"{number} sockets of {group}")


def heard(socket: ClientConnection, group: str) -> bool:
    """Tell whether a socket hears a group, by what it gets before a message to everybody."""
    words = [secrets.token_hex(4), secrets.token_hex(4)]
    publish(words[0], facility="all", groups=[group])
    publish(words[1], facility="all", broadcast=True)
    while (text := str(socket.recv(10)).rpartition("\n")[2]) not in words:
        pass
    if text == words[0]:
        assert str(socket.recv(10)).endswith(words[1])
    return text == words[0]


@pytest.mark.parametrize(("enter", "leave"), list(zip(cycle(ENTER), LEAVE, strict=False)))
def test_who_enters_a_group_hears_it_and_who_leaves_does_not(grouped: World, enter: str, leave: str) -> None:
    user, other, group = grouped.user(), grouped.user(), new_group()
    path, name = "all?subscribe-broadcast&subscribe-group", group.name
    with (
        grouped.connect(path, grouped.login(user)) as plain,
        grouped.connect(path, grouped.login(user), v1=True) as v1,
        grouped.connect(path, grouped.login(other)) as of_other,
    ):
        everybody = [plain, v1, of_other]
        assert [heard(socket, name) for socket in everybody] == [False, False, False]
        ENTER[enter](user, group)
        wait_for_listeners(name, 2)
        assert [heard(socket, name) for socket in everybody] == [True, True, False]
        LEAVE[leave](user, group)
        wait_for_listeners(name, 0)
        assert [heard(socket, name) for socket in everybody] == [False, False, False]


def test_groups_are_followed_with_each_kind_of_sessions(world: World) -> None:
    user, group = world.user(), new_group()
    with world.connect("all?subscribe-broadcast&subscribe-group", world.login(user)) as socket:
        assert not heard(socket, group.name)
        group.user_set.add(user)
        wait_for_listeners(group.name, 1)
        assert heard(socket, group.name)
        user.groups.remove(group)
        wait_for_listeners(group.name, 0)
        assert not heard(socket, group.name)


def test_who_enters_a_group_gets_first_what_it_keeps_and_is_told_the_position(grouped: World) -> None:
    user, group = grouped.user(), new_group()
    publish("kept", facility="all", groups=[group], expire=60)
    path = "all?subscribe-broadcast&subscribe-group"
    with (
        grouped.connect(path, grouped.login(user)) as plain,
        grouped.connect(path, grouped.login(user), v1=True) as v1,
    ):
        assert json.loads(v1.recv(10))["channels"] == {"broadcast:all": None}
        user.groups.add(group)
        assert plain.recv(10) == "kept"
        line, _, payload = str(v1.recv(10)).partition("\n")
        header, ack = json.loads(line), json.loads(v1.recv(10))
        assert (payload, header["channel"]) == ("kept", f"group:{group.name}:all")
        channels = {"broadcast:all": None, header["channel"]: header["id"]}
        assert ack == {"type": "ack", "facility": "all", "channels": channels}
        assert heard(plain, group.name)
        assert heard(v1, group.name)
        user.groups.clear()
        assert json.loads(v1.recv(10)) == {"type": "ack", "facility": "all", "channels": {"broadcast:all": None}}


@pytest.mark.parametrize("v1", [False, True])
def test_what_a_browser_publishes_goes_to_the_groups_that_its_user_is_in_now(grouped: World, v1: bool) -> None:
    user, other, one, two = grouped.user(), grouped.user(), new_group(), new_group()
    user.groups.add(one)
    other.groups.add(one, two)
    with (
        grouped.connect("all?subscribe-user&publish-group", grouped.login(user), v1=v1) as socket,
        grouped.connect("all?subscribe-group", grouped.login(other), v1=True) as hearer,
    ):
        assert json.loads(hearer.recv(10))["type"] == "ack"

        def said_to() -> str:
            """Say something; return where it is heard."""
            socket.send('{"type":"publish"}\nhello' if v1 else "hello")
            return str(json.loads(str(hearer.recv(10)).partition("\n")[0])["channel"])

        def is_closed() -> bool:
            try:
                socket.send('{"type":"publish"}\nhello' if v1 else "hello")
            except ConnectionClosed as closed:
                return closed.rcvd is not None and closed.rcvd.code == 1003
            return False

        assert said_to() == f"group:{one.name}:all"
        user.groups.set([two])
        wait_until(lambda: said_to() == f"group:{two.name}:all")
        user.groups.clear()
        wait_until(is_closed)


def test_who_may_nothing_more_is_closed_and_a_further_facility_is_refused(grouped: World) -> None:
    user, group = grouped.user(), new_group()
    group.user_set.add(user)
    cookie = grouped.login(user)
    with (
        grouped.connect("all?subscribe-group", cookie) as plain,
        grouped.connect("all?subscribe-group", cookie, v1=True) as v1,
        grouped.connect("all?subscribe-user", cookie, v1=True) as listener,
        grouped.connect("all?subscribe-group", cookie, v1=True) as both,
    ):
        listener.send('{"type":"subscribe","facility":"more","query":"subscribe-group"}')
        both.send('{"type":"subscribe","facility":"more","query":"subscribe-user"}')
        assert [json.loads(listener.recv(10))["facility"] for _ in range(2)] == ["all", "more"]
        assert [json.loads(both.recv(10))["facility"] for _ in range(2)] == ["all", "more"]
        user.groups.clear()
        assert [close_of(socket) for socket in (plain, v1)] == [(4403, "no longer allowed")] * 2
        assert json.loads(listener.recv(10)) == {"type": "error", "status": 403, "facility": "more"}
        assert json.loads(both.recv(10)) == {"type": "error", "status": 403, "facility": "all"}
        publish("hello", facility="all", users=[user])
        publish("hello", facility="more", users=[user])
        assert str(listener.recv(10)).endswith(f'"user:{user.username}:all"}}\nhello')
        assert str(both.recv(10)).endswith(f'"user:{user.username}:more"}}\nhello')


def test_a_permission_that_depends_on_groups_follows_them(start_world: Callable[..., World]) -> None:
    world = start_world("db", SESSION_RECHECK=3600, ALLOWED_CHANNELS="tests.project.callbacks.of_members")
    user, group = world.user(), Group.objects.get_or_create(name="members")[0]
    with (
        pytest.raises(InvalidStatus),
        world.connect("all?subscribe-broadcast", world.login(user)),
    ):
        pass
    user.groups.add(group)
    with world.connect("all?subscribe-broadcast", world.login(user)) as socket:
        assert_open(socket)
        group.user_set.remove(user)
        assert close_of(socket) == (4403, "no longer allowed")


# What no signal tells

LOOK_SECONDS = 0.3


@pytest.fixture
def watchful(request: pytest.FixtureRequest, start_world: Callable[..., World]) -> World:
    """A site that looks all the time, and listens to no signal."""
    follow, shared = dict.fromkeys(FOLLOWED[:-1], False), f"watchful {request.param}"
    return start_world(request.param, shared=shared, SESSION_RECHECK=LOOK_SECONDS, FOLLOW=follow)


@pytest.fixture
def watched(watchful: World) -> Iterator[Sockets]:
    with silent(), ExitStack() as stack:
        yield Sockets(watchful, stack)


def silent() -> Any:
    """Let this process listen to no signal either."""
    return override_settings(WSREDIS={**settings.WSREDIS, "FOLLOW": dict.fromkeys(FOLLOWED, False)})


in_each = pytest.mark.parametrize("watchful", ENGINES, indirect=True)
in_some = pytest.mark.parametrize("watchful", ENGINES[:2], indirect=True)


def deactivate_unheard(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def delete_unheard(user: User) -> None:
    User.objects.filter(pk=user.pk)._raw_delete("default")


def change_password_unheard(user: User) -> None:
    User.objects.filter(pk=user.pk).update(password=make_password("new"))


def rename_unheard(user: User) -> None:
    User.objects.filter(pk=user.pk).update(username=f"{user.username}-new")


GONE, CHANGED = (4401, "no longer logged in"), (1012, "the session has changed")


@in_each
@pytest.mark.parametrize(
    ("act", "close"),
    [
        (deactivate_unheard, GONE),
        (delete_unheard, GONE),
        (change_password_unheard, GONE),
        (rename_unheard, CHANGED),
    ],
)
def test_a_look_finds_what_became_of_a_user(
    watched: Sockets, act: Callable[[User], None], close: tuple[int, str]
) -> None:
    act(watched.user)
    if watched.world.engine == "signed_cookies" and act is change_password_unheard:
        close = CHANGED  # the browser may have a cookie with the new one
    assert [close_of(socket) for socket in watched.first + watched.second] == [close] * 5
    assert_open(*watched.others)


@in_some
@pytest.mark.parametrize("is_expired", [False, True])
def test_a_look_finds_that_a_session_has_gone(watched: Sockets, is_expired: bool) -> None:
    visitor = watched.world.get("visit/")
    with watched.world.connect(PATHS[1], visitor) as of_visitor:
        for key in (watched.cookie, visitor):
            rows, name = Session.objects.filter(session_key=key), f"django.contrib.sessions.cache{key}"
            if watched.world.engine == "cache":
                assert caches["default"].touch(name, 1) if is_expired else caches["default"].delete(name)
            elif is_expired:
                assert rows.update(expire_date=timezone.now())
            else:
                assert rows._raw_delete("default")
        assert [close_of(socket) for socket in watched.first] == [GONE] * 4
        assert close_of(of_visitor) == CHANGED
        assert_open(*watched.second, *watched.others)


def test_a_cookie_that_is_its_session_expires_and_the_browser_may_have_a_newer_one(
    start_world: Callable[..., World],
) -> None:
    world = start_world("signed_cookies", SESSION_RECHECK=LOOK_SECONDS, site={"SESSION_COOKIE_AGE": 5})
    with world.connect(PATHS[1], world.login(world.user())) as socket:
        assert close_of(socket) == CHANGED


@in_some
def test_a_look_finds_other_groups(watched: Sockets) -> None:
    (plain, v1), group = watched.first[2:], new_group()
    membership = User.groups.through.objects.bulk_create([User.groups.through(user=watched.user, group=group)])
    wait_for_listeners(group.name, 3)
    Group.objects.filter(pk=group.pk).update(name=f"{group.name}-new")
    group.name += "-new"
    wait_for_listeners(group.name, 3)
    assert heard(plain, group.name)
    assert heard(v1, group.name)
    User.groups.through.objects.filter(pk=membership[0].pk)._raw_delete("default")
    wait_for_listeners(group.name, 0)
    assert_open(*watched.all)


@pytest.mark.parametrize("watchful", ENGINES[:1], indirect=True)
def test_while_the_database_fails_the_sockets_stay_and_it_is_logged_once(watched: Sockets) -> None:
    site = watched.world.site
    start = len(site.lines)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE auth_user RENAME TO away")
        try:
            site.wait_for("cannot be checked", start=start)
            time.sleep(3 * LOOK_SECONDS)
        finally:
            cursor.execute("ALTER TABLE away RENAME TO auth_user")
    site.wait_for("are checked again", start=start)
    assert sum("cannot be checked" in line for line in site.lines[start:]) == 1
    assert_open(*watched.all)


def test_while_the_cache_of_sessions_is_away_the_sockets_stay(
    start_world: Callable[..., World], own_redis: RedisServer
) -> None:
    cache = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": own_redis.url}}
    world = start_world("cache", SESSION_RECHECK=LOOK_SECONDS, site={"CACHES": cache})
    with world.connect(PATHS[1], world.login(world.user())) as socket:
        own_redis.kill()
        world.site.wait_for("cannot be checked")
        assert_open(socket)
        own_redis.start()
        assert close_of(socket) == GONE  # it has kept nothing
        world.site.wait_for("are checked again")


# What is told, without a worker


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What the workers are told."""
    told: list[Request] = []
    monkeypatch.setattr("django_wsredis.asking.tell", told.append)
    return told


@pytest.fixture
def user(database: Any) -> Iterator[User]:
    user = User.objects.create_user(f"user-{secrets.token_hex(4)}", password="demo")
    yield user
    User.objects.filter(pk=user.pk).delete()


def shown(told: list[Request]) -> list[tuple[str, tuple[str, ...], str]]:
    found = [(request.verb, request.which.users + request.which.sessions, request.reason) for request in told]
    told.clear()
    return found


def test_what_changes_nothing_for_sockets_is_not_told(user: User, told: list[Request]) -> None:
    user_logged_in.send(User, request=HttpRequest(), user=user)  # Django notes the time
    user.last_name = "Doe"
    user.save()
    user.set_password("only for this object")
    user.save(update_fields=["last_name"])
    user.is_active = False
    user.save(update_fields=["last_name"])
    User.objects.create_user(f"{user.username}-2", password="demo").delete()
    assert [reason for _, _, reason in shown(told)] == ["the user was deleted"]
    for what in serializers.deserialize("json", serializers.serialize("json", [user, new_group()])):
        what.save()
    new_group().user_set.clear()
    user.groups.remove(new_group())
    user.groups.clear()
    assert {(verb, names) for verb, names, _ in shown(told)} == {("regroup", (user.username,))}


def test_a_password_that_is_only_stored_anew_is_no_other_password(user: User, told: list[Request]) -> None:
    with override_settings(
        PASSWORD_HASHERS=["django.contrib.auth.hashers.PBKDF2PasswordHasher", *settings.PASSWORD_HASHERS]
    ):
        former = user.password
        assert user.check_password("demo")
        user.refresh_from_db()
    assert user.password != former
    assert [verb for verb, _, _ in shown(told)] == ["recheck"]


def test_what_one_transaction_does_is_told_together_and_in_large_parts(user: User, told: list[Request]) -> None:
    keys = [secrets.token_hex(16) for _ in range(2 * MAX_NAMES + 1)]
    Session.objects.bulk_create(Session(session_key=key, expire_date=timezone.now()) for key in keys)
    with transaction.atomic():
        user.groups.set([new_group()])
        user.groups.clear()
        Session.objects.filter(session_key__in=keys[:-1]).delete()
        for name in ("Jane", "Joan"):
            user.first_name, user.is_active = name, False
            user.save()
        assert told == []
    requests = shown(told)
    assert [(verb, len(names)) for verb, names, _ in requests] == [
        ("regroup", 1),
        ("end", MAX_NAMES),
        ("end", MAX_NAMES),
        ("close", 1),
    ]
    assert {name for _, names, _ in requests[1:3] for name in names} == {session_digest(key) for key in keys[:-1]}
    call_command("clearsessions")  # other tests may have left some, too
    ((verb, names, reason),) = shown(told)
    assert (verb, session_digest(keys[-1]) in names, reason) == ("end", True, "the session was deleted")


def test_what_is_rolled_back_to_a_savepoint_is_not_told(user: User, told: list[Request]) -> None:
    groups = [new_group() for _ in range(4)]
    other = User.objects.create_user(f"{user.username}-2")
    with transaction.atomic():
        groups[0].user_set.add(user)
        with transaction.atomic():
            groups[1].user_set.add(other)
            transaction.set_rollback(True)
    assert shown(told) == [("regroup", (user.username,), "")]
    with transaction.atomic():
        with transaction.atomic():
            groups[1].user_set.add(user)
            transaction.set_rollback(True)
        groups[2].user_set.add(other)
    assert shown(told) == [("regroup", (other.username,), "")]
    with transaction.atomic():
        groups[3].user_set.add(user)
        transaction.set_rollback(True)
    groups[3].user_set.add(other)
    assert shown(told) == [("regroup", (other.username,), "")]


def test_another_function_that_waits_for_the_commit_keeps_its_place(user: User, told: list[Request]) -> None:
    numbers: list[int] = []
    with transaction.atomic():
        user.groups.add(new_group())
        transaction.on_commit(lambda: numbers.append(len(told)))
        user.groups.add(new_group())
    assert (len(told), numbers) == (2, [1])


def test_while_redis_is_away_all_goes_well_and_is_logged(
    user: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(request: Request) -> None:
        raise BrokerUnavailable("Redis cannot be reached")

    monkeypatch.setattr("django_wsredis.asking.tell", fail)
    with transaction.atomic():
        user.groups.add(new_group())
        user.delete()
    (record,) = caplog.records
    assert record.getMessage().endswith("Redis cannot be reached")
    assert record.exc_info is None


def log_out(user: User) -> None:
    request = HttpRequest()
    request.session, request.user = SessionStore(login(user.username)), user
    request.session.delete = lambda key=None: None  # of that another signal tells
    logout(request)


def log_in(user: User) -> None:
    request = HttpRequest()
    request.COOKIES["sessionid"], request.session = "former", SessionStore()
    django_login(request, user, backend="django.contrib.auth.backends.ModelBackend")


def end_session(user: User) -> None:
    SessionStore(login(user.username)).flush()


def set_password(user: User) -> None:
    user.set_password("new")
    user.save()


def make_inactive(user: User) -> None:
    user.is_active = False
    user.save()


def delete_group(user: User) -> None:
    group = new_group()
    User.groups.through.objects.create(user=user, group=group)
    group.delete()


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("logout", log_out),
        ("logout", log_in),
        ("session", end_session),
        ("password", set_password),
        ("inactive", make_inactive),
        ("deleted", lambda user: user.delete()),
        ("groups", lambda user: user.groups.add(new_group())),
        ("groups", delete_group),
    ],
)
def test_each_of_them_can_be_turned_off(user: User, told: list[Request], name: str, act: Callable[[User], Any]) -> None:
    with override_settings(WSREDIS={"FOLLOW": {name: False}}):
        act(user)
    assert told == []
    user = User.objects.create_user(f"{user.username}-2", password="demo")
    with override_settings(WSREDIS={"FOLLOW": {**dict.fromkeys(FOLLOWED, False), name: True}}):
        act(user)
    assert len(told) == 1


CONTENT, AUTH = "django.contrib.contenttypes", "django.contrib.auth"
PROJECT = """
import django
from django.conf import settings
settings.configure(SECRET_KEY="x", USE_TZ=True, **{given})
django.setup()
from django_wsredis import following
for signal, receiver, sender in following._listeners:
    print(receiver.__name__, sender and sender.__name__)
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"INSTALLED_APPS": ["django_wsredis"]}, set()),
        (
            {"INSTALLED_APPS": ["django_wsredis", "django.contrib.sessions"]},
            {"_on_session_deleted Session"},
        ),
        (
            {
                "INSTALLED_APPS": ["django_wsredis", CONTENT, AUTH],
                "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
                "WSREDIS": {"FOLLOW": {"groups": False, "password": False, "deleted": False}},
            },
            {"_on_logged_out None", "_on_logged_in None", "_on_inactive_saved User"},
        ),
        (
            {
                "INSTALLED_APPS": [
                    "tests.people",
                    "django_wsredis",
                    "django.contrib.contenttypes",
                    "django.contrib.auth",
                ],
                "AUTH_USER_MODEL": "people.Person",
                "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
                "WSREDIS": {"FOLLOW": {"logout": False, "password": False, "inactive": False}},
            },
            {"_on_user_deleted Person", "_on_user_deleted Friend"},  # and it has no groups
        ),
        ({"INSTALLED_APPS": ["django_wsredis"], "WSREDIS": {"FOLLOW": {"nonsense": True}}}, set()),
    ],
)
def test_only_what_is_installed_is_listened_to(given: dict[str, Any], expected: set[str]) -> None:
    code = PROJECT.replace("{given}", repr(given))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert set(done.stdout.splitlines()) == expected
