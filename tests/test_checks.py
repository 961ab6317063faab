"""`manage.py check` names what is wrong in the settings, by stable ids."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.core import checks
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from django_wsredis.checks import check_deployment, check_settings
from django_wsredis.conf import LEGACY_NAMES

from .project import callbacks

djangos_own = WSGIHandler()


def found() -> list[tuple[str, str, str]]:
    return [(message.id or "", message.msg, message.hint or "") for message in check_settings(None)]


def ids() -> list[str]:
    return [id for id, _, _ in found()]


def test_the_tests_own_settings_are_sound() -> None:
    assert found() == []
    call_command("check")


def test_the_check_is_registered() -> None:
    with override_settings(WSREDIS={"NOPE": 1}), pytest.raises(SystemCheckError, match=r"wsredis\.E001"):
        call_command("check")


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ({"EXPIRES": 5}, "'EXPIRES'", "'EXPIRE'"),
        ({"EXPIRE": "5"}, "WSREDIS['EXPIRE'] is '5'", "a whole number of seconds"),
        ({"PING_TIMEOUT": 0}, "WSREDIS['PING_TIMEOUT'] is 0", "above 0"),
        ("redis://localhost", "WSREDIS is 'redis://localhost'", "dict"),
        ("redis://:secret@localhost", "WSREDIS is (hidden)", "dict"),
        ({5: 6}, "WSREDIS has an unknown key 5", "Did you mean"),
        (None, "WSREDIS is None", "dict"),
    ],
)
def test_e001_a_wrong_key_or_value(given: Any, said: str, hint: str) -> None:
    with override_settings(WSREDIS=given):
        ((id, message, text),) = found()
    assert id == "wsredis.E001"
    assert said in message
    assert hint in text


@pytest.mark.parametrize(
    "url", ["http://:secret@h", "redis://:sec/ret@h", "redis://[secret@h", "redis://h/x?password=secret"]
)
def test_e001_never_shows_a_url_that_may_hold_a_password(url: str) -> None:
    with override_settings(WSREDIS={"URL": url}):
        ((id, message, hint),) = found()
    assert id == "wsredis.E001"
    assert url not in message + hint
    assert "sec" not in message.replace("seconds", "") + hint
    assert "redis://" in hint


def test_e001_ws4redis_connection_that_is_none_is_not_shown() -> None:
    with override_settings(WS4REDIS_CONNECTION="redis://:secret@h"):
        messages = found()
    assert messages[0][:2] == ("wsredis.E001", "WS4REDIS_CONNECTION is no dict.")
    assert "secret" not in str(messages)
    with override_settings(WS4REDIS_CONNECTION={"password": 1234}):
        assert ids() == ["wsredis.W001"]


def test_e001_has_the_line_that_is_always_right() -> None:
    with override_settings(WSREDIS={"PING_INTERVAL": "x"}):
        ((_, _, hint),) = found()
    assert hint == 'It must be a number of seconds above 0. By default: "PING_INTERVAL": 20.0,'


def test_e001_names_every_wrong_key_at_once() -> None:
    with override_settings(WSREDIS={"A": 1, "EXPIRE": -1, "COMPRESSION": None}):
        assert ids() == ["wsredis.E001"] * 3


@pytest.mark.parametrize("key", ["ALLOWED_CHANNELS", "PROCESS_REQUEST", "SUBSCRIBER"])
@pytest.mark.parametrize("path", ["tests.project.callbacks.misspelt", "tests.project.nowhere.x"])
def test_e002_a_path_that_cannot_be_imported(key: str, path: str) -> None:
    with override_settings(WSREDIS={key: path}):
        ((id, message, hint),) = found()
    assert id == "wsredis.E002"
    assert key in message
    assert path in message
    assert "every websocket is refused" in hint
    module, _, name = path.rpartition(".")
    assert f"./manage.py shell -c 'from {module} import {name}'" in hint


@pytest.mark.parametrize(
    ("key", "reference", "must_be"),
    [
        ("ALLOWED_CHANNELS", callbacks.by_token, "a function of (request, channels)"),
        ("ALLOWED_CHANNELS", "tests.project.callbacks.by_token", "a function of (request, channels)"),
        ("ALLOWED_CHANNELS", "tests.project.callbacks", "a function of (request, channels)"),
        ("ALLOWED_CHANNELS", lambda request, channels, *, audience: [], "a function of (request, channels)"),
        ("PROCESS_REQUEST", "tests.project.callbacks.everything", "a function of (request)"),
        ("PROCESS_REQUEST", lambda: None, "a function of (request)"),
        ("SUBSCRIBER", callbacks.everything, "a class that is derived from django_wsredis.handshake.Subscriber"),
        ("SUBSCRIBER", "tests.project.callbacks.everything", "a class that is derived from"),
        ("SUBSCRIBER", dict, "a class that is derived from"),
    ],
)
def test_e004_what_cannot_be_called_as_it_will_be(key: str, reference: Any, must_be: str) -> None:
    with override_settings(WSREDIS={key: reference}):
        ((id, message, hint),) = found()
    assert id == "wsredis.E004"
    assert message == f"WSREDIS[{key!r}] is {reference!r}."
    assert hint.startswith(f"It must be {must_be}")
    assert "every websocket is refused" in hint


@pytest.mark.parametrize(
    ("key", "reference"),
    [
        ("ALLOWED_CHANNELS", lambda request, channels, audience=None: []),
        ("ALLOWED_CHANNELS", lambda *arguments: []),
        ("ALLOWED_CHANNELS", max),  # written in C, it does not tell what it takes
        ("PROCESS_REQUEST", partial(callbacks.everything, channels=[])),
        ("SUBSCRIBER", callbacks.Rooms),
    ],
)
def test_what_can_be_called_is_right(key: str, reference: Any) -> None:
    with override_settings(WSREDIS={key: reference}):
        assert found() == []


def test_a_reference_that_is_none_is_said_once() -> None:
    with override_settings(WSREDIS={"SUBSCRIBER": 1, "ALLOWED_CHANNELS": 1}):
        assert ids() == ["wsredis.E001"] * 2


@pytest.mark.parametrize("url", ["ws/", "/ws", "", None, "ws://host/ws/", "/", "//"])
def test_e003_websocket_url_begins_and_ends_with_a_slash_and_has_a_name(url: Any) -> None:
    with override_settings(WEBSOCKET_URL=url):
        ((id, message, hint),) = found()
    assert id == "wsredis.E003"
    assert repr(url) in message
    assert '"/ws/"' in hint


@pytest.mark.parametrize("url", ["/ws/", "/a/b/"])
def test_a_websocket_url_that_is_right(url: str) -> None:
    with override_settings(WEBSOCKET_URL=url):
        assert found() == []


@pytest.mark.parametrize("name", LEGACY_NAMES)
def test_w001_an_old_name_still_works_and_the_new_one_is_named(name: str) -> None:
    with override_settings(**{name: {} if name == "WS4REDIS_CONNECTION" else None}):
        ((id, message, hint),) = found()
    assert id == "wsredis.W001"
    assert name in message
    assert f"WSREDIS[{LEGACY_NAMES[name]!r}]" in hint


def test_w001_the_former_connection_becomes_a_url_without_its_password() -> None:
    with override_settings(WS4REDIS_CONNECTION={"host": "redis", "port": 6380, "password": "secret"}):
        ((_, _, hint),) = found()
    assert '"redis://:PASSWORD@redis:6380/0"' in hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [("WS4REDIS_SUBSCRIBER", "django_wsredis.handshake.Subscriber"), ("WS4REDIS_NOPE", "remove it")],
)
def test_w001_an_old_name_without_an_equal(name: str, hint: str) -> None:
    with override_settings(**{name: "x"}):
        ((id, _, text),) = found()
    assert id == "wsredis.W001"
    assert hint in text


def test_w001_is_a_warning_and_the_others_are_errors() -> None:
    with override_settings(WSREDIS={"NOPE": 1, "SUBSCRIBER": "a.b"}, WEBSOCKET_URL="ws", WS4REDIS_EXPIRE=5):
        levels = {message.id: message.level for message in check_settings(None)}
    assert levels == {
        "wsredis.E001": checks.ERROR,
        "wsredis.E002": checks.ERROR,
        "wsredis.E003": checks.ERROR,
        "wsredis.W001": checks.WARNING,
    }


def test_w002_after_staticfiles_its_runserver_would_run() -> None:
    first, *others = settings.INSTALLED_APPS
    assert first == "django_wsredis"
    with override_settings(INSTALLED_APPS=[*others, first]):
        ((id, message, hint),) = found()
    assert id == "wsredis.W002"
    assert "runserver" in message
    assert 'first in INSTALLED_APPS = ["django_wsredis", …]' in hint


@pytest.mark.parametrize(
    ("application", "ids"),
    [
        ("django.core.wsgi.get_wsgi_application", []),
        ("tests.test_checks.djangos_own", ["wsredis.W003"]),
        ("tests.project.wsgi.application", []),
        ("tests.nowhere.application", []),
        (None, []),
    ],
)
def test_w003_djangos_own_application_in_a_deployment(application: str | None, ids: list[str]) -> None:
    with override_settings(WSGI_APPLICATION=application):
        found = [message.id for message in check_deployment(None) if message.id != "wsredis.I553"]  # of this machine
        assert found == ids
        deployed = checks.run_checks(include_deployment_checks=True)
        assert [message.id for message in deployed if message.id == "wsredis.W003"] == ids
        assert "wsredis.W003" not in [message.id for message in checks.run_checks()]
