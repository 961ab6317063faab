"""The settings: defaults, rules, and the old names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_wsredis import conf
from django_wsredis.conf import LEGACY_NAMES, OWN_NAMES, Keep, Settings, get_settings, legacy_url, resolve
from django_wsredis.rules import FOLLOWED, RULES, problems

from .project import callbacks


@pytest.fixture
def nothing_set() -> Iterator[None]:
    with override_settings(WSREDIS={}):
        yield


def test_the_defaults_are_those_of_the_documentation(nothing_set: None) -> None:
    assert dataclasses.asdict(get_settings()) == {
        "websocket_url": "/ws/",
        "websocket_urlconf": None,
        "websocket_host": "",
        "url": "redis://localhost:6379/0",
        "prefix": "wsredis",
        "expire": 0,
        "history": (),
        "slow": (),
        "follow": frozenset({"logout", "session", "password", "inactive", "deleted", "groups"}),
        "session_recheck": 60.0,
        "heartbeat": None,
        "ping_interval": 20.0,
        "ping_timeout": 20.0,
        "max_message_bytes": 1024 * 1024,
        "max_outbox_bytes": 4 * 1024 * 1024,
        "max_sockets": None,
        "max_facilities": 100,
        "view_threads": 100,
        "drain_seconds": 5.0,
        "compression": 256,
        "subprotocols": (),
        "require_origin": False,
        "allowed_channels": None,
        "process_request": None,
        "subscriber": "django_wsredis.handshake.Subscriber",
        "metrics_from": ("127.0.0.0/8", "::1"),
    }


def test_no_default_breaks_its_own_rule(nothing_set: None) -> None:
    settings = dataclasses.asdict(get_settings())
    for name in OWN_NAMES:
        del settings[name.lower()]
    settings.update(history=dict(settings["history"]), slow=dict(settings["slow"]))  # as they are written
    settings["follow"] = dict.fromkeys(settings["follow"], True)
    assert list(problems({key.upper(): value for key, value in settings.items()})) == []


def test_a_project_with_debug_and_no_url_gets_the_embedded_server(nothing_set: None) -> None:
    with override_settings(DEBUG=True):
        assert get_settings().url == "embedded://"
        with override_settings(WSREDIS={"URL": "redis://elsewhere"}):
            assert get_settings().url == "redis://elsewhere"
    assert get_settings().url == "redis://localhost:6379/0"


def test_settings_are_read_once_and_again_when_they_change(nothing_set: None) -> None:
    assert get_settings() is get_settings()
    with override_settings(WSREDIS={"EXPIRE": 7}):
        assert get_settings().expire == 7
        with override_settings(WEBSOCKET_URL="/sockets/"):
            assert get_settings().websocket_url == "/sockets/"
        with override_settings(WS4REDIS_PREFIX="old"):
            assert get_settings().prefix == "old"
    assert get_settings() == Settings(websocket_url="/ws/", url="redis://localhost:6379/0")


def test_settings_cannot_be_changed_by_hand(nothing_set: None) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_settings().expire = 5  # type: ignore[misc]


VALUES: list[tuple[str, list[Any], list[Any]]] = [
    (
        "URL",
        [
            "redis://h",
            "rediss://:p@h:1/2",
            "unix:///tmp/r.sock?db=1",
            "embedded://",
            "embedded:///tmp/x",
            "redis://[::1]:1",
        ],
        [None, 1, "", "localhost:6379", "http://h", "redis"],
    ),
    ("PREFIX", ["a", "a:b"], ["", None, b"a"]),
    ("EXPIRE", [0, 1, 3600], [-1, None, 1.5, "60", True]),
    (
        "HISTORY",
        [
            {},
            {"*": {"messages": 1, "seconds": 1}},
            {"a": {"seconds": 5, "messages": 9}, "b/*": {"messages": 2, "seconds": 3}},
        ],
        [None, [], "chat"],
    ),
    (
        "SLOW",
        [{}, {"a": "close", "b": "latest", "c/*": "drop"}],
        [None, "drop", ["drop"]],
    ),
    (
        "FOLLOW",
        [{}, {"groups": False}, dict.fromkeys(FOLLOWED, False), dict.fromkeys(FOLLOWED, True)],
        [None, True, ["groups"], {"groups": None}, {"groups": 1}, {"groups": "no"}],
    ),
    ("SESSION_RECHECK", [0, 0.5, 3600], [-1, None, True, False, "60"]),
    ("HEARTBEAT", [None, "--heartbeat--"], ["", 1, b"x"]),
    ("PING_INTERVAL", [0.1, 20, 1.5], [0, -1, None, "20", True]),
    ("PING_TIMEOUT", [0.1, 20, 1.5], [0, -1, None, "20", False]),
    ("MAX_MESSAGE_BYTES", [1, 2**30], [0, -1, None, 1.5, True]),
    ("MAX_OUTBOX_BYTES", [1, 2**30], [0, -1, None, 1.5, True]),
    ("MAX_FACILITIES", [1, 100], [0, -1, None, 1.5, True]),
    ("MAX_SOCKETS", [None, 1, 10_000], [0, -1, 1.5, True]),
    ("VIEW_THREADS", [1, 100], [0, -1, None, 1.5, True]),
    ("DRAIN_SECONDS", [0, 0.5, 30], [-1, None, True, False, "5"]),
    ("COMPRESSION", [0, 1, 1000], [-1, None, True, False, "on"]),
    ("SUBPROTOCOLS", [[], ["chat"], ("a", "b")], ["chat", None, [1], [""], {"chat"}]),
    ("REQUIRE_ORIGIN", [True, False], [None, 0, 1, "yes"]),
    ("ALLOWED_CHANNELS", [None, callbacks.everything, "a.b"], ["everything", 1, ""]),
    ("PROCESS_REQUEST", [None, callbacks.by_token, "a.b"], ["by_token", 1, ""]),
    ("SUBSCRIBER", [callbacks.Rooms, "a.b"], [None, "Rooms", 1]),
    ("METRICS_FROM", [[], ["::1", "10.0.0.0/8"], ("192.0.2.1",)], [None, "::1", [1], ["localhost"], ["10.0.0.1/8"]]),
]


def test_the_table_below_has_every_key() -> None:
    assert [key for key, _, _ in VALUES] == list(RULES)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, right, _ in VALUES for value in right])
def test_a_right_value_is_taken(key: str, value: Any) -> None:
    assert list(problems({key: value})) == []
    with override_settings(WSREDIS={key: value}):
        taken = getattr(get_settings(), key.lower())
    if key == "HISTORY":
        value = {pattern: Keep(**keep) for pattern, keep in value.items()}
    if key in ("HISTORY", "SLOW"):
        value = value.items()
    if key == "FOLLOW":
        value = {name for name in FOLLOWED if value.get(name, True)}
    assert taken == (tuple(value) if key in ("HISTORY", "SLOW", "SUBPROTOCOLS", "METRICS_FROM") else value)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, _, wrong in VALUES for value in wrong])
def test_a_wrong_value_is_named_with_what_it_must_be(key: str, value: Any) -> None:
    ((problem, hint),) = problems({key: value})
    assert problem == f"WSREDIS[{key!r}] is {value!r}."
    assert hint == f"It must be {RULES[key][1]}."
    with override_settings(WSREDIS={key: value}), pytest.raises(ImproperlyConfigured) as raised:
        get_settings()
    assert str(raised.value) == f"{problem} {hint}"


@pytest.mark.parametrize(
    ("url", "must_be"),
    [
        ("redis://h:port/0", "a URL whose port is a number: redis://host:6379/0"),
        ("rediss://h:65536", "a URL whose port is a number: rediss://host:6379/0"),
        ("redis://[::1", "a URL whose port is a number"),
        ("redis://:pa/ss@h/0", 'a URL whose port is a number: redis://host:6379/0 (in a login "/?#@" are quoted)'),
        ("redis://h:1/x", "a URL that ends in the number of a database: redis://host:6379/0"),
        ("redis://h/0/1", "a URL that ends in the number of a database"),
        ("redis://me/secret@h/0", "a URL that ends in the number of a database"),
        ("embedded://folder", "a URL with three slashes: embedded:///path"),
        ("unix://run/r.sock", "a URL with three slashes: unix:///path"),
        ("redis+cluster://h", "a URL that names each host with its port"),
    ],
)
def test_a_wrong_url_is_answered_with_the_part_that_is_wrong(url: str, must_be: str) -> None:
    ((problem, hint),) = problems({"URL": url})
    assert problem == f"WSREDIS['URL'] is {'(hidden)' if '@' in url else repr(url)}."
    assert hint.startswith(f"It must be {must_be}")


@pytest.mark.parametrize(
    ("key", "value", "problem", "hint"),
    [
        ("HISTORY", 5, " is 5.", "It must be a dict such as"),
        ("HISTORY", None, " is None.", "It must be a dict such as"),
        ("HISTORY", {"messages": 5}, " lacks 'seconds'.", "It must be a dict such as"),
        ("HISTORY", {"messages": 5, "secnds": 5}, " has an unknown key 'secnds'.", "Did you mean 'seconds'?"),
        ("HISTORY", {"messages": 5, "seconds": 5, 7: 5}, " has an unknown key 7.", "Did you mean "),
        ("HISTORY", {"messages": 5, "seconds": 0}, "['seconds'] is 0.", "It must be a whole number from 1 to"),
        ("HISTORY", {"messages": 0, "seconds": 5}, "['messages'] is 0.", "It must be a whole number from 1 to"),
        ("HISTORY", {"messages": True, "seconds": 5}, "['messages'] is True.", "It must be a whole number"),
        ("HISTORY", {"messages": 5, "seconds": 1.5}, "['seconds'] is 1.5.", "It must be a whole number"),
        ("HISTORY", {"messages": 5, "seconds": 2**31}, "['seconds'] is 2147483648.", "It must be a whole number"),
        ("SLOW", "oldest", " is 'oldest'.", "It must be one of close, latest, drop."),
        ("SLOW", ["drop"], " is ['drop'].", "It must be one of close, latest, drop."),
    ],
)
def test_what_is_wrong_for_one_pattern_is_named_with_it(key: str, value: Any, problem: str, hint: str) -> None:
    right = {"HISTORY": {"messages": 1, "seconds": 1}, "SLOW": "drop"}[key]
    ((found, said),) = problems({key: {"news": right, "chat*": value}})
    assert found == f"WSREDIS[{key!r}]['chat*']{problem}"
    assert said.startswith(hint)


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("/chat/*", "Leave out the slash in front: a facility is what follows WEBSOCKET_URL."),
        ("-/*", "What begins with '-/' is for operators."),
        ("", "It has 1 to 200 characters."),
        (5, "It is a text."),
    ],
)
@pytest.mark.parametrize("key", ["HISTORY", "SLOW"])
def test_a_pattern_that_no_facility_fits_is_a_problem(key: str, pattern: Any, hint: str) -> None:
    right = {"HISTORY": {"messages": 1, "seconds": 1}, "SLOW": "drop"}[key]
    problem = f"WSREDIS[{key!r}] has the pattern {pattern!r}, which fits no facility."
    assert list(problems({key: {pattern: right}})) == [(problem, hint)]


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("URI", "URL"),
        ("EXPIRES", "EXPIRE"),
        ("expire", "EXPIRE"),
        ("PING_INTERVALL", "PING_INTERVAL"),
        ("ALLOWED_CHANNEL", "ALLOWED_CHANNELS"),
        ("MAX_SOCKET", "MAX_SOCKETS"),
        ("SUBPROTOCOL", "SUBPROTOCOLS"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(given: str, nearest: str) -> None:
    assert list(problems({given: 1})) == [(f"WSREDIS has an unknown key {given!r}.", f"Did you mean {nearest!r}?")]


def test_an_unknown_name_of_what_is_followed_is_answered_with_the_nearest() -> None:
    ((problem, hint),) = problems({"FOLLOW": {"pasword": False, "groups": False}})
    assert (problem, hint) == ("WSREDIS['FOLLOW'] has an unknown key 'pasword'.", "Did you mean 'password'?")
    assert len(list(problems({"FOLLOW": {5: True, "": False}}))) == 2


def test_any_unknown_key_is_a_problem_and_never_an_error() -> None:
    assert len(list(problems({"": 1, 5: 1, None: 1, "zzzzzzzz": 1}))) == 4  # type: ignore[dict-item]


def test_every_problem_is_found() -> None:
    assert len(list(problems({"EXPIRE": -1, "PREFIX": "", "NOPE": 1, "HEARTBEAT": None}))) == 3


@pytest.mark.parametrize("value", [None, [], "redis://h"])
def test_wsredis_must_be_a_dict(value: Any) -> None:
    with override_settings(WSREDIS=value), pytest.raises(ImproperlyConfigured, match="not a dict"):
        get_settings()


# What is set for each facility


def test_the_first_pattern_that_fits_a_facility_counts(nothing_set: None) -> None:
    history = {"chat/vip": {"messages": 9, "seconds": 90}, "chat/*": {"messages": 5, "seconds": 50}}
    with override_settings(WSREDIS={"HISTORY": history, "SLOW": {"chat/vip": "close", "chat/*": "drop"}}):
        settings = get_settings()
    assert settings.history_of("chat/vip") == Keep(9, 90)
    assert settings.history_of("chat/") == settings.history_of("chat/a/b") == Keep(5, 50)
    assert [settings.slow_policy(facility) for facility in ("chat/vip", "chat/1", "news")] == ["close", "drop", "close"]


@pytest.mark.parametrize("facility", ["chat", "Chat/1", "xchat/1", "chat\n/1"])
def test_a_pattern_fits_the_whole_facility_in_its_own_case(nothing_set: None, facility: str) -> None:
    with override_settings(WSREDIS={"HISTORY": {"chat/*": {"messages": 1, "seconds": 1}}, "SLOW": {"chat/*": "drop"}}):
        assert get_settings().history_of(facility) is None
        assert get_settings().slow_policy(facility) == "close"


def test_a_stream_holds_one_entry_more_than_a_reader_can_miss() -> None:
    assert [Keep(messages, 60).entries for messages in (1, 2, 500)] == [2, 3, 501]
    assert Keep(1, 60, is_history=False).entries == 1


# ws4redis's names


@pytest.mark.parametrize(
    ("old", "value", "key", "expected"),
    [
        ("WS4REDIS_PREFIX", "site", "prefix", "site"),
        ("WS4REDIS_EXPIRE", 3600, "expire", 3600),
        ("WS4REDIS_EXPIRE", 0, "expire", 0),
        ("WS4REDIS_EXPIRE", None, "expire", 0),
        ("WS4REDIS_PREFIX", None, "prefix", "wsredis"),
        ("WS4REDIS_HEARTBEAT", "--heartbeat--", "heartbeat", "--heartbeat--"),
        ("WS4REDIS_ALLOWED_CHANNELS", callbacks.everything, "allowed_channels", callbacks.everything),
        ("WS4REDIS_PROCESS_REQUEST", "a.b", "process_request", "a.b"),
        ("WS4REDIS_CONNECTION", {"host": "h"}, "url", "redis://h:6379/0"),
        ("WS4REDIS_SUBSCRIBER", "a.b", "subscriber", "django_wsredis.handshake.Subscriber"),
    ],
)
def test_an_old_name_is_understood_where_ours_is_absent(
    nothing_set: None, old: str, value: Any, key: str, expected: Any
) -> None:
    with override_settings(**{old: value}):
        assert getattr(get_settings(), key) == expected


def test_our_names_win_over_the_old_ones() -> None:
    old = {"WS4REDIS_PREFIX": "old", "WS4REDIS_EXPIRE": 3600, "WS4REDIS_CONNECTION": {"host": "old"}}
    with override_settings(WSREDIS={"PREFIX": "new", "EXPIRE": 0, "URL": "redis://new"}, **old):
        settings = get_settings()
    assert (settings.prefix, settings.expire, settings.url) == ("new", 0, "redis://new")


def test_an_old_connection_counts_as_a_url_with_debug_too(nothing_set: None) -> None:
    with override_settings(DEBUG=True, WS4REDIS_CONNECTION={"host": "h"}):
        assert get_settings().url == "redis://h:6379/0"


def test_every_old_name_stands_for_a_key_of_ours() -> None:
    assert set(LEGACY_NAMES.values()) <= set(RULES)


@pytest.mark.parametrize(
    ("connection", "url", "reaches"),
    [
        ({}, "redis://localhost:6379/0", {"host": "localhost", "port": 6379, "db": 0}),
        ({"host": "h", "port": 7, "db": 3}, "redis://h:7/3", {"host": "h", "port": 7, "db": 3}),
        ({"password": "secret"}, "redis://:secret@localhost:6379/0", {"password": "secret"}),
        ({"password": None}, "redis://localhost:6379/0", {"host": "localhost"}),
        ({"password": "p@ss/:#?%é"}, None, {"password": "p@ss/:#?%é", "host": "localhost", "port": 6379}),
        ({"ssl": True, "host": "h"}, "rediss://h:6379/0", {"host": "h"}),
        ({"unix_socket_path": "/run/r.sock"}, "unix:///run/r.sock?db=0", {"path": "/run/r.sock", "db": 0}),
        (
            {"unix_socket_path": "/run/r.sock", "db": 2, "password": "a@b"},
            "unix://:a%40b@/run/r.sock?db=2",
            {"path": "/run/r.sock", "db": 2, "password": "a@b"},
        ),
        ({"unix_socket_path": "/my project #1/r?.sock"}, None, {"path": "/my project #1/r?.sock"}),
    ],
)
def test_an_old_connection_dict_becomes_a_url_that_redis_py_reads_the_same(
    connection: dict[str, Any], url: str | None, reaches: dict[str, Any]
) -> None:
    made = legacy_url(connection)
    assert url is None or made == url
    pool = redis.ConnectionPool.from_url(made)
    assert {key: pool.connection_kwargs.get(key) for key in reaches} == reaches
    assert (pool.connection_class is redis.SSLConnection) == bool(connection.get("ssl"))
    assert list(problems({"URL": made})) == []


def test_a_password_is_quoted_so_that_it_cannot_become_a_host() -> None:
    assert quote("p@evil:1/", safe="") in legacy_url({"password": "p@evil:1/"})


# References


def test_a_reference_is_a_function_or_its_dotted_path() -> None:
    assert resolve("tests.project.callbacks.everything") is callbacks.everything
    assert resolve(callbacks.everything) is callbacks.everything
    assert resolve(None) is None


@pytest.mark.parametrize("path", ["tests.project.callbacks.everythin", "tests.nowhere.x", "plain"])
def test_a_path_that_names_nothing_is_an_import_error(path: str) -> None:
    with pytest.raises(ImportError):
        resolve(path)


def test_each_setting_has_a_field_and_a_rule() -> None:
    assert {field.name.upper() for field in dataclasses.fields(conf.Settings)} == {*RULES, *OWN_NAMES}
