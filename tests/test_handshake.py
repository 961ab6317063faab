"""Who connects, and to which channels. Whatever cannot be decided is refused."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.exceptions import PermissionDenied
from django.core.handlers.wsgi import WSGIRequest
from django.db import DatabaseError, OperationalError, connection
from django.http import HttpRequest
from django.test import override_settings
from hypothesis import example, given, settings
from hypothesis import strategies as st

from django_wsredis.authentication import authenticate
from django_wsredis.channels import Channel, Wish, parse_wish, session_digest
from django_wsredis.conf import get_settings
from django_wsredis.exceptions import HandshakeError, NotAuthorized, NotFound, OriginNotAllowed, Unavailable
from django_wsredis.handshake import (
    Accepted,
    Granted,
    Subscriber,
    decide,
    decide_more,
    facility_of,
    grant,
)
from django_wsredis.origin import check_origin

from .conftest import login
from .project import callbacks
from .test_upgrade import environ as upgrade_environ


def environ(path: str = "/ws/news", query: str = "subscribe-broadcast", **changes: str | None) -> dict[str, Any]:
    common = {"PATH_INFO": path, "QUERY_STRING": query, "SERVER_NAME": "testserver", "SERVER_PORT": "80"}
    return {
        **upgrade_environ(**common, **changes),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
    }


def request_with(**changes: str | None) -> WSGIRequest:
    return WSGIRequest(environ(**changes))


# The path


@pytest.mark.parametrize(
    ("path", "websocket_url", "facility"),
    [
        ("/ws/news", "/ws/", "news"),
        ("/ws/a/b/", "/ws/", "a/b/"),
        ("/ws/a?b#c", "/ws/", "a?b#c"),
        ("/ws/a:b c%", "/ws/", "a:b c%"),
        ("/ws/é".encode().decode("latin-1"), "/ws/", "é"),
        ("/ws/" + "x" * 200, "/ws/", "x" * 200),
        ("/ws/" + ("é" * 200).encode().decode("latin-1"), "/ws/", "é" * 200),
        ("/news", "/", "news"),
        ("/ws/ws/news", "/ws/", "ws/news"),
    ],
)
def test_the_facility_is_what_follows_websocket_url(path: str, websocket_url: str, facility: str) -> None:
    assert facility_of({"PATH_INFO": path}, websocket_url) == facility


@pytest.mark.parametrize(
    "path",
    ["", "/", "/ws", "/ws/", "/WS/news", "/other/ws/news", "/wsx/news", "/ws/" + "x" * 201, "/ws//news", "/ws/-/news"],
)
def test_a_path_outside_or_that_names_no_facility_is_not_found(path: str) -> None:
    with pytest.raises(NotFound) as raised:
        facility_of({"PATH_INFO": path}, "/ws/")
    assert raised.value.status == 404


@pytest.mark.parametrize("path", ["/ws/\xff", "/ws/a\xe9", "/ws/\xed\xa0\x80"])
def test_a_path_that_is_not_utf8_is_malformed(path: str) -> None:
    with pytest.raises(HandshakeError) as raised:
        facility_of({"PATH_INFO": path}, "/ws/")
    assert raised.value.status == 400


# Origin


@pytest.fixture
def any_host() -> Iterator[None]:
    with override_settings(ALLOWED_HOSTS=["*"]):
        yield


OWN = [
    ("http://example.com", "example.com"),
    ("http://example.com:80", "example.com"),
    ("http://example.com", "example.com:80"),
    ("https://example.com", "example.com"),  # TLS ends at the proxy
    ("https://example.com", "example.com:443"),
    ("https://example.com:443", "example.com"),
    ("http://example.com:8000", "example.com:8000"),
    ("http://EXAMPLE.com", "Example.Com"),
    ("http://[::1]:8000", "[::1]:8000"),
    ("http://127.0.0.1", "127.0.0.1"),
]
FOREIGN = [
    ("http://evil.com", "example.com"),
    ("http://example.com.evil.com", "example.com"),
    ("http://evil-example.com", "example.com"),
    ("http://sub.example.com", "example.com"),
    ("http://example.com", "sub.example.com"),
    ("http://example.com:8001", "example.com:8000"),
    ("http://example.com:8000", "example.com"),
    ("http://example.com", "example.com:8000"),
    ("http://example.com:443", "example.com"),
    ("https://example.com:80", "example.com"),
    ("http://example.com@evil.com", "example.com"),
    ("http://evil.com/example.com", "example.com"),
    ("http://example.com/", "example.com"),
    ("null", "example.com"),
    ("", "example.com"),
    ("example.com", "example.com"),
    ("://example.com", "example.com"),
    ("file://", "example.com"),
    ("ftp://example.com", "example.com"),
    ("chrome-extension://example.com", "example.com"),
    ("http://", "example.com"),
    ("http://[", "example.com"),
    ("http://[::1", "example.com"),
    ("http://example.com, http://evil.com", "example.com"),
]


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(("origin", "host"), OWN)
def test_a_page_of_the_same_host_may_connect(any_host: None, origin: str, host: str, required: bool) -> None:
    check_origin(request_with(HTTP_ORIGIN=origin, HTTP_HOST=host), required=required)


@pytest.mark.parametrize("trusted", [[], ["https://trusted.com", "https://*.trusted.com"]])
@pytest.mark.parametrize(("origin", "host"), FOREIGN)
def test_a_page_of_another_site_may_not(any_host: None, origin: str, host: str, trusted: list[str]) -> None:
    with override_settings(CSRF_TRUSTED_ORIGINS=trusted), pytest.raises(OriginNotAllowed) as raised:
        check_origin(request_with(HTTP_ORIGIN=origin, HTTP_HOST=host), required=False)
    assert raised.value.status == 403
    for named in (repr(origin), repr(host), "CSRF_TRUSTED_ORIGINS"):
        assert named in str(raised.value)


@pytest.mark.parametrize(
    ("origin", "trusted", "is_allowed"),
    [
        ("https://other.com", "https://other.com", True),
        ("https://other.com:8443", "https://other.com:8443", True),
        ("http://other.com", "https://other.com", False),
        ("https://other.com:8443", "https://other.com", False),
        ("https://other.com.evil.com", "https://other.com", False),
        ("https://a.other.com", "https://*.other.com", True),
        ("https://a.b.other.com", "https://*.other.com", True),
        ("https://other.com", "https://*.other.com", True),  # as Django's CSRF middleware
        ("http://a.other.com", "https://*.other.com", False),
        ("https://evilother.com", "https://*.other.com", False),
        ("https://a.other.com:8443", "https://*.other.com", False),
        ("https://a.other.com:8443", "https://*.other.com:8443", True),
        ("https://a.other.com@evil.com", "https://*.other.com", False),
        ("https://evil.com/.other.com", "https://*.other.com", False),
        ("https://evil.com?.other.com", "https://*.other.com", False),
        ("https://evil.com#.other.com", "https://*.other.com", False),
        ("null", "https://*.other.com", False),
        ("https://[", "https://*.other.com", False),
    ],
)
def test_trusted_origins_are_those_of_djangos_csrf_setting(origin: str, trusted: str, is_allowed: bool) -> None:
    request = request_with(HTTP_ORIGIN=origin)
    with override_settings(CSRF_TRUSTED_ORIGINS=["https://unrelated.com", trusted]):
        if is_allowed:
            check_origin(request, required=True)
        else:
            with pytest.raises(OriginNotAllowed):
                check_origin(request, required=False)


def test_a_request_without_origin_is_a_matter_of_a_setting() -> None:
    check_origin(request_with(), required=False)
    with pytest.raises(OriginNotAllowed, match="REQUIRE_ORIGIN"):
        check_origin(request_with(), required=True)


@pytest.mark.parametrize(
    ("site", "required", "is_allowed"),
    [
        ("same-origin", True, True),
        ("same-origin", False, True),
        ("none", True, False),
        ("none", False, True),
        ("same-site", False, False),
        ("cross-site", False, False),
    ],
)
def test_without_origin_what_the_browser_says_of_the_page_counts(site: str, required: bool, is_allowed: bool) -> None:
    request = request_with(HTTP_ORIGIN=None, HTTP_SEC_FETCH_SITE=site)
    if is_allowed:
        check_origin(request, required=required)
    else:
        with pytest.raises(OriginNotAllowed):
            check_origin(request, required=required)


def test_behind_a_proxy_the_forwarded_host_counts_if_the_project_says_so() -> None:
    headers = {"HTTP_ORIGIN": "https://testserver", "HTTP_HOST": "localhost", "HTTP_X_FORWARDED_HOST": "testserver"}
    with pytest.raises(OriginNotAllowed):
        check_origin(request_with(**headers), required=False)
    with override_settings(USE_X_FORWARDED_HOST=True):
        check_origin(request_with(**headers), required=False)


def test_a_host_that_is_not_allowed_is_malformed() -> None:
    with pytest.raises(HandshakeError, match="ALLOWED_HOSTS") as raised:
        check_origin(request_with(HTTP_ORIGIN="http://evil.com", HTTP_HOST="evil.com"), required=False)
    assert raised.value.status == 400


@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255), max_size=10))
@example("https://[", "testserver")
@example("https://a.other.com:99999999", "testserver")
def test_any_origin_is_allowed_or_refused(origin: str, host: str) -> None:
    with override_settings(ALLOWED_HOSTS=["*"], CSRF_TRUSTED_ORIGINS=["https://*.other.com"]):
        try:
            check_origin(request_with(HTTP_ORIGIN=origin, HTTP_HOST=host), required=True)
        except HandshakeError:
            return
    assert "://" in origin


# What is granted

WISH = Wish(("broadcast", "user"), ("user",), False)
LISTENING = Wish(("broadcast", "user"), (), False)


def test_without_the_setting_listening_is_granted() -> None:
    assert grant(HttpRequest(), LISTENING, None) == LISTENING


def test_without_the_setting_publishing_is_refused() -> None:
    with pytest.raises(NotAuthorized, match=r"publish-user is refused: WSREDIS\['ALLOWED_CHANNELS'\] is not set"):
        grant(HttpRequest(), WISH, None)


@pytest.mark.parametrize(
    ("returned", "granted"),
    [
        (["subscribe-broadcast", "subscribe-user", "publish-user"], WISH),
        (("publish-user", "subscribe-user"), Wish(("user",), ("user",), False)),
        ({"publish-user"}, Wish((), ("user",), False)),
        ({"publish-user": 1}, Wish((), ("user",), False)),
        (["publish-user", "publish-group", "subscribe-session", "nonsense"], Wish((), ("user",), False)),
        (iter(["publish-user"]), Wish((), ("user",), False)),
    ],
)
def test_the_callback_grants_a_part_of_the_wish_and_no_more(returned: Any, granted: Wish) -> None:
    assert grant(HttpRequest(), WISH, lambda request, names: returned) == granted


@pytest.mark.parametrize(
    "returned",
    [
        None,
        True,
        1,
        "publish-user",
        b"publish-user",
        [],
        (),
        {},
        [None],
        [1, 2],
        [b"publish-user"],
        ["subscribe-broadcast"],  # publishing was asked for, and would be lost in silence
        ["subscribe-broadcast", "subscribe-user"],
        ["PUBLISH-USER"],
        ["publish-group"],
        [["publish-user"]],
    ],
)
def test_nonsense_from_the_callback_is_refused(returned: Any) -> None:
    with pytest.raises(NotAuthorized) as raised:
        grant(HttpRequest(), WISH, lambda request, names: returned)
    assert raised.value.status == 403


def generator_that_fails() -> Iterator[str]:
    yield "publish-user"
    raise ValueError("the secret reason")


def raising(error: BaseException) -> Any:
    def callback(request: HttpRequest, names: list[str]) -> list[str]:
        raise error

    return callback


@pytest.mark.parametrize(
    "callback",
    [
        raising(PermissionDenied("no")),
        raising(ValueError("the secret reason")),
        raising(AttributeError("user")),
        raising(KeyError("x")),
        raising(AssertionError()),
        raising(StopIteration()),
        lambda: ["publish-user"],
        lambda request: ["publish-user"],
        lambda request, names: generator_that_fails(),
        "tests.project.callbacks.misspelt",
        "tests.project.nowhere.everything",
        "nodots",
        "tests.project.settings.SECRET_KEY",
        42,
    ],
)
def test_a_callback_that_fails_or_cannot_be_imported_is_never_open(callback: Any) -> None:
    with pytest.raises(NotAuthorized) as raised:
        grant(HttpRequest(), WISH, callback)
    assert raised.value.status == 403


def test_a_failing_callback_is_logged_with_its_traceback_and_a_denial_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(NotAuthorized):
        grant(HttpRequest(), WISH, raising(PermissionDenied("no")))
    assert caplog.records == []
    with pytest.raises(NotAuthorized):
        grant(HttpRequest(), WISH, raising(ValueError("the secret reason")))
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert "ALLOWED_CHANNELS" in record.getMessage()


def test_the_callback_sees_the_request_and_the_names_in_a_list() -> None:
    seen: list[Any] = []
    request = HttpRequest()
    grant(request, WISH, lambda *arguments: seen.append(arguments) or ["publish-user"])
    assert seen == [(request, ["subscribe-broadcast", "subscribe-user", "publish-user"])]


def test_the_callback_cannot_widen_the_wish_by_changing_its_list() -> None:
    def callback(request: HttpRequest, names: list[str]) -> list[str]:
        names.append("publish-broadcast")
        return names

    assert grant(HttpRequest(), WISH, callback) == WISH


# Who it is


def session_engine(name: str) -> Any:
    return import_module(f"django.contrib.sessions.backends.{name}").SessionStore


@pytest.fixture(params=["db", "cache", "cached_db", "file", "signed_cookies"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    store = session_engine(request.param)
    name = f"django.contrib.sessions.backends.{request.param}"
    with override_settings(SESSION_ENGINE=name, SESSION_FILE_PATH=str(tmp_path)):
        if request.param == "file":
            store._storage_path = str(tmp_path)  # it remembers an earlier folder
        yield store
        if request.param == "file":
            del store._storage_path


def authenticated(cookie: str | None) -> WSGIRequest:
    request = request_with(HTTP_COOKIE=cookie and f"sessionid={cookie}")
    authenticate(request, None)
    return request


def is_anonymous(request: WSGIRequest) -> bool:
    return isinstance(request.user, AnonymousUser) or request.user.is_anonymous


def test_the_user_of_the_session_is_known_with_every_session_engine(engine: Any) -> None:
    key = login("alice", engine)
    request = authenticated(key)
    assert request.user.get_username() == "alice"
    assert request.session.session_key == key


def test_an_anonymous_visitor_is_an_anonymous_user_and_has_a_session_object(engine: Any) -> None:
    request = authenticated(None)
    assert isinstance(request.user, AnonymousUser)
    assert not isinstance(request.user, type(None))
    assert request.session.session_key is None


def test_a_visitor_with_a_session_need_not_be_logged_in(engine: Any) -> None:
    session = engine()
    session["colour"] = "red"
    session.save()
    request = authenticated(session.session_key)
    assert is_anonymous(request)
    assert request.session["colour"] == "red"
    assert request.session.session_key == session.session_key


@pytest.mark.parametrize("key", ["x" * 32, "invented", "a:b:c", "../../etc/passwd", "é", "", "x" * 5000, "a%00b"])
def test_an_invented_session_key_is_nobodys_session(engine: Any, key: str) -> None:
    request = authenticated(key)
    assert is_anonymous(request)
    assert not request.session.session_key
    with pytest.raises(NotAuthorized):
        decide(environ(query="subscribe-session", HTTP_COOKIE=f"sessionid={key}"), get_settings())


def test_a_session_that_was_logged_out_is_nobodys(engine: Any) -> None:
    key = login("alice", engine)
    engine(key).flush()
    request = authenticated(key)
    # of signed cookies Django keeps nothing on the server by which a session could be ended
    lives_on = engine is session_engine("signed_cookies")
    assert is_anonymous(request) is not lives_on
    assert bool(request.session.session_key) is lives_on


def test_a_session_that_expired_is_nobodys(engine: Any) -> None:
    key = login("alice", engine)
    with override_settings(SESSION_COOKIE_AGE=-1):
        if engine is session_engine("signed_cookies"):
            expired = key
        else:
            session = engine(key)
            session.set_expiry(-1)
            session.save()
            expired = session.session_key
        request = authenticated(expired)
    assert is_anonymous(request)
    assert not request.session.session_key


def test_a_user_whose_password_changed_is_logged_out(engine: Any) -> None:
    user = User.objects.create_user("carol", password="one")
    try:
        key = login("carol", engine)
        assert authenticated(key).user == user
        user.set_password("two")
        user.save()
        assert is_anonymous(authenticated(key))
    finally:
        user.delete()


def test_an_inactive_user_is_anonymous(engine: Any) -> None:
    user = User.objects.create_user("carol", password="one")
    try:
        key = login("carol", engine)
        User.objects.filter(pk=user.pk).update(is_active=False)
        assert is_anonymous(authenticated(key))
    finally:
        user.delete()


def test_a_deleted_user_is_anonymous(engine: Any) -> None:
    user = User.objects.create_user("carol", password="one")
    key = login("carol", engine)
    user.delete()
    assert is_anonymous(authenticated(key))


def test_a_handshake_never_renames_a_session_as_it_cannot_send_the_new_cookie(engine: Any) -> None:
    """After a rotation of SECRET_KEY Django gives a session a new key at its next request."""
    key = login("alice", engine)
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["tests"]):
        for _ in range(2):
            request = authenticated(key)
            assert request.user.get_username() == "alice"
            assert request.session.session_key == key


def test_another_name_of_the_session_cookie_is_respected(alice: str) -> None:
    with override_settings(SESSION_COOKIE_NAME="sid"):
        request = request_with(HTTP_COOKIE=f"a=b; sid={alice}")
        authenticate(request, None)
        assert request.user.get_username() == "alice"
        assert is_anonymous(authenticated(alice))


# PROCESS_REQUEST


def test_process_request_replaces_session_and_login(alice: str) -> None:
    request = WSGIRequest(environ(query="token=bob", HTTP_COOKIE=f"sessionid={alice}"))
    authenticate(request, "tests.project.callbacks.by_token")
    assert request.user.get_username() == "bob"
    assert not hasattr(request, "session")


@pytest.mark.parametrize("query", ["token=bad", "token=broken", "token=nobody"])
def test_process_request_that_fails_refuses(query: str) -> None:
    with pytest.raises(NotAuthorized) as raised:
        authenticate(WSGIRequest(environ(query=query)), callbacks.by_token)
    assert raised.value.status == 403


@pytest.mark.parametrize("reference", ["tests.project.callbacks.misspelt", "no.such.module", 5])
def test_process_request_that_cannot_be_called_refuses(reference: Any) -> None:
    with pytest.raises(NotAuthorized):
        authenticate(request_with(), reference)


def test_a_process_request_that_sets_nothing_leaves_broadcast_alone() -> None:
    with override_settings(WSREDIS={"PROCESS_REQUEST": lambda request: None}):
        assert decide(environ(), get_settings()).granted.subscribe == (Channel("broadcast", "", "news"),)
        with pytest.raises(NotAuthorized):
            decide(environ(query="subscribe-user&subscribe-group&subscribe-session"), get_settings())


# The whole


def accepted(query: str, cookie: str | None = None, protocol: str | None = None, **wsredis: Any) -> Accepted:
    with override_settings(WSREDIS=wsredis):
        asked = environ(query=query, HTTP_COOKIE=cookie and f"sessionid={cookie}", HTTP_SEC_WEBSOCKET_PROTOCOL=protocol)
        return decide(asked, get_settings())


def granted(query: str, cookie: str | None = None, **wsredis: Any) -> Granted:
    return accepted(query, cookie, **wsredis).granted


def test_a_visitor_gets_its_own_channels(alice: str) -> None:
    everything = "subscribe-broadcast&subscribe-user&subscribe-group&subscribe-session"
    assert granted(everything, alice).subscribe == (
        Channel("broadcast", "", "news"),
        Channel("user", "alice", "news"),
        Channel("group", "staff", "news"),
        Channel("session", session_digest(alice), "news"),
    )


def test_an_anonymous_visitor_gets_what_it_has(alice: str) -> None:
    assert granted("subscribe-broadcast&subscribe-user&subscribe-group").subscribe == (
        Channel("broadcast", "", "news"),
    )
    with pytest.raises(NotAuthorized, match="logged in"):
        accepted("subscribe-user&subscribe-group")


def test_groups_are_those_of_now_not_those_of_the_login(alice: str) -> None:
    user, group = User.objects.get(username="alice"), Group.objects.create(name="late: ones")
    try:
        user.groups.add(group)
        assert granted("subscribe-group", alice).subscribe == (
            Channel("group", "late: ones", "news"),
            Channel("group", "staff", "news"),
        )
    finally:
        group.delete()
    assert granted("subscribe-group", alice).subscribe == (Channel("group", "staff", "news"),)


def test_publishing_and_echo_are_as_asked_for_and_granted(alice: str) -> None:
    got = granted("publish-user&subscribe-group&echo", alice, ALLOWED_CHANNELS=callbacks.everything)
    assert (got.subscribe, got.publish, got.wish.echo) == (
        (Channel("group", "staff", "news"),),
        (Channel("user", "alice", "news"),),
        True,
    )
    with pytest.raises(NotAuthorized):
        accepted("publish-user&subscribe-group", alice)


def test_a_subscriber_of_the_project_may_add_channels() -> None:
    got = granted("subscribe-broadcast", SUBSCRIBER="tests.project.callbacks.Rooms")
    assert got.subscribe == (Channel("broadcast", "", "news"), Channel("group", "lobby", "news"))


class Failing(Subscriber):
    def subscribe_channels(self, request: HttpRequest, facility: str, audiences: Any) -> Any:
        raise ValueError("the secret reason")


class Denying(Subscriber):
    def publish_channels(self, request: HttpRequest, facility: str, audiences: Any) -> Any:
        raise PermissionDenied


class Nonsense(Subscriber):
    answer: Any = None

    def subscribe_channels(self, request: HttpRequest, facility: str, audiences: Any) -> Any:
        return self.answer


class Tuples(Nonsense):
    answer = [("user", "alice", "news")]


class Names(Nonsense):
    answer = "news"


class Unhashable(Nonsense):
    answer = [["user", "alice", "news"]]


class Generated(Nonsense):
    @property
    def answer(self) -> Any:  # type: ignore[override]
        yield Channel("broadcast", "", "news")
        raise ValueError("the secret reason")


class WithoutInit(Subscriber):
    def __init__(self, needs: str) -> None:
        pass


@pytest.mark.parametrize(
    "subscriber",
    [
        Failing,
        Denying,
        Nonsense,
        Tuples,
        Names,
        Unhashable,
        Generated,
        WithoutInit,
        "no.such.Class",
        "tests.project.urls.path",
    ],
)
def test_a_subscriber_that_fails_or_answers_nonsense_refuses(subscriber: Any) -> None:
    with pytest.raises(NotAuthorized):
        accepted("subscribe-broadcast", SUBSCRIBER=subscriber)


def test_a_database_that_fails_is_unavailable() -> None:
    def failing(request: HttpRequest, names: list[str]) -> list[str]:
        raise DatabaseError("gone")

    def broken_session(request: HttpRequest) -> None:
        raise OperationalError("gone")

    with pytest.raises(NotAuthorized):  # a permission that cannot be decided
        accepted("subscribe-broadcast", ALLOWED_CHANNELS=failing)
    with override_settings(SESSION_ENGINE="tests.test_handshake"), pytest.raises(Unavailable) as unavailable:
        decide(environ(HTTP_COOKIE="sessionid=" + "x" * 32), get_settings())
    assert dict(unavailable.value.headers) == {"Retry-After": "5"}


class SessionStore(session_engine("db")):  # type: ignore[misc]
    """This module is a session engine too: one whose database is away."""

    def load(self) -> Any:
        raise OperationalError("the database is away")


def test_no_database_connection_stays_open(alice: str) -> None:
    accepted("subscribe-group", alice)
    assert connection.connection is None


@pytest.mark.parametrize(
    ("path", "query", "changes", "status"),
    [
        ("/other", "subscribe-broadcast", {}, 404),
        ("/ws/", "subscribe-broadcast", {}, 404),
        ("/other", "", {"HTTP_UPGRADE": None}, 404),
        ("/ws/news", "", {}, 400),
        ("/ws/news", "subscribe-nobody", {}, 400),
        ("/ws/news", "", {"HTTP_UPGRADE": None}, 426),
        ("/ws/news", "subscribe-broadcast", {"HTTP_SEC_WEBSOCKET_KEY": "x"}, 400),
        ("/ws/news", "subscribe-broadcast", {"HTTP_ORIGIN": "http://evil.com"}, 403),
        ("/ws/news", "subscribe-broadcast", {"HTTP_ORIGIN": "http://testserver", "HTTP_HOST": "evil.com"}, 400),
        ("/ws/news", "publish-broadcast", {}, 403),
        ("/ws/news", "subscribe-broadcast", {"CONTENT_TYPE": "a/b; x*=nope''%ff"}, 400),
        ("/ws/news", "subscribe-broadcast", {"CONTENT_TYPE": "a/b; x*=undefined''%ff"}, 400),
    ],
)
def test_each_refusal_has_its_status(path: str, query: str, changes: dict[str, Any], status: int) -> None:
    with pytest.raises(HandshakeError) as raised:
        decide(environ(path, query, **changes), get_settings())
    assert raised.value.status == status


junk = st.text(st.characters(max_codepoint=255), max_size=30)


@settings(max_examples=150, deadline=None)
@given(
    junk.map("/ws/{}".format),
    junk | st.sampled_from(["subscribe-broadcast", "subscribe-session&subscribe-user"]),
    st.fixed_dictionaries(
        {},
        optional={
            "HTTP_ORIGIN": junk,
            "HTTP_HOST": junk,
            "HTTP_COOKIE": junk | junk.map("sessionid={}".format),
            "CONTENT_TYPE": junk | junk.map("a/b; {}".format) | junk.map("a/b; charset={}".format),
            "HTTP_X_FORWARDED_HOST": junk,
            "CONTENT_LENGTH": junk,
            "SCRIPT_NAME": junk,
            "REMOTE_ADDR": junk,
        },
    ),
)
@example("/ws/x", "subscribe-broadcast", {"CONTENT_TYPE": "a/b; x*=nope''%ff"})
@example("/ws/x", "subscribe-broadcast", {"CONTENT_TYPE": "a/b; charset=\0"})
@example("/ws/x", "subscribe-broadcast", {"HTTP_COOKIE": "sessionid=a\0bcdefghijk"})
def test_nothing_that_a_client_sends_is_more_than_a_refusal(path: str, query: str, changes: dict[str, Any]) -> None:
    try:
        got = decide(environ(path, query, **changes), get_settings())
    except HandshakeError as error:
        assert error.status in (400, 403, 404)
        return
    assert got.granted.subscribe
    assert parse_wish(query).publish == ()


# Further facilities of a socket that speaks wsredis.v1


def more(visitor: bytes, facility: str, query: str, **wsredis: Any) -> Granted:
    with override_settings(WSREDIS=wsredis):
        return decide_more(visitor, facility, query, get_settings())


def test_a_visitor_is_remembered_who_speaks_v1_or_is_somebody(alice: str) -> None:
    v1 = accepted("subscribe-user", alice, "chat.v2, wsredis.v1")
    assert (v1.upgrade.subprotocol, v1.visitor != b"") == ("wsredis.v1", True)
    plain = accepted("subscribe-user", alice, "chat.v2", SUBPROTOCOLS=["chat.v2"])
    assert (plain.upgrade.subprotocol, plain.visitor != b"") == ("chat.v2", True)
    assert accepted("subscribe-broadcast", protocol="wsredis.v1").visitor != b""
    assert accepted("subscribe-broadcast").visitor == b""
    both = accepted("subscribe-user", alice, "chat.v2, wsredis.v1", SUBPROTOCOLS=["chat.v2"])
    assert both.upgrade.subprotocol == "wsredis.v1"


def test_a_further_facility_is_granted_to_the_same_visitor(alice: str) -> None:
    first = accepted("subscribe-user&since=1-0", alice, "wsredis.v1")
    assert (first.granted.facility, first.granted.wish.since) == ("news", {"": b"1-0"})
    got = more(first.visitor, "chat/é 2", "subscribe-group&subscribe-session&history=3")
    assert got.facility == "chat/é 2"
    assert got.subscribe == (
        Channel("group", "staff", "chat/é 2"),
        Channel("session", session_digest(alice), "chat/é 2"),
    )
    assert got.publish == ()
    assert (got.wish.since, got.wish.history) == ({}, 3)


def test_the_projects_code_sees_a_further_facility_as_a_request_of_its_own(alice: str) -> None:
    seen = []

    def allowed(request: WSGIRequest, channels: list[str]) -> list[str]:
        seen.append((request.path, request.META["QUERY_STRING"], request.user.get_username(), channels))
        return channels

    first = accepted("subscribe-user", alice, "wsredis.v1")
    more(first.visitor, "chat/2", "publish-user&x=1", ALLOWED_CHANNELS=allowed)
    assert seen == [("/ws/chat/2", "publish-user&x=1", "alice", ["publish-user"])]


def test_a_logout_ends_further_grants() -> None:
    cookie = login("alice")
    first = accepted("subscribe-user", cookie, "wsredis.v1")
    import_module("django.contrib.sessions.backends.db").SessionStore(cookie).delete()
    with pytest.raises(NotAuthorized, match="logged in"):
        more(first.visitor, "chat", "subscribe-user")


@pytest.mark.parametrize(
    ("facility", "query", "status"),
    [
        ("", "subscribe-broadcast", 404),
        ("x" * 201, "subscribe-broadcast", 404),
        ("\ud800", "subscribe-broadcast", 404),
        ("/news", "subscribe-broadcast", 404),
        ("-/readyz", "subscribe-broadcast", 404),
        ("chat", "", 400),
        ("chat", "subscribe-nobody", 400),
        ("chat", "subscribe-broadcast&since=yesterday", 400),
        ("chat", "subscribe-broadcast&history=-1", 400),
        ("chat", "subscribe-user", 403),
        ("chat", "publish-broadcast", 403),
    ],
)
def test_a_further_facility_is_refused_with_the_status_of_a_handshake(facility: str, query: str, status: int) -> None:
    visitor = accepted("subscribe-broadcast", protocol="wsredis.v1").visitor
    with pytest.raises(HandshakeError) as raised:
        more(visitor, facility, query)
    assert raised.value.status == status


def test_what_is_kept_of_a_visitor_is_small(alice: str) -> None:
    """It stays as long as the socket."""
    assert len(accepted("subscribe-user", alice, "wsredis.v1").visitor) < 1000


@given(st.text(max_size=30), st.text(max_size=30))
@example("a?b", "subscribe-broadcast")
@example("../admin", "subscribe-broadcast")
@example("a\nb", "subscribe-broadcast")
@settings(max_examples=60, deadline=None)
def test_nothing_that_a_socket_asks_for_is_more_than_a_refusal(facility: str, query: str) -> None:
    visitor = accepted("subscribe-broadcast", protocol="wsredis.v1").visitor
    try:
        got = more(visitor, facility, query)
    except HandshakeError as error:
        assert error.status in (400, 403, 404)
        return
    assert got.facility == facility
