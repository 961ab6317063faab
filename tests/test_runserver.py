"""`manage.py runserver`: Django's own development server, unchanged but for the websockets."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.test import override_settings
from websockets.exceptions import ConnectionClosed

from django_wsredis import publish

from .rawsocket import RawSocket
from .servers import Site, change, copy_project, find_redis, run_manage, wait_until

SERVER = "runserver"
NEWS = "news?subscribe-broadcast"
NOBODY = "unix:///nonexistent/redis.sock"
END_SECONDS = 2.0
SLOW_MACHINE_SECONDS = 1.5


def close_code(websocket: Any) -> int | None:
    """Wait until the server closes a websocket, and return its close code."""
    with pytest.raises(ConnectionClosed) as closed:
        websocket.recv(20)
    return closed.value.rcvd.code if closed.value.rcvd else None


@pytest.mark.parametrize("arguments", [["--noreload"], ["--noreload", "--nothreading"]])
def test_pages_and_websockets_come_from_one_port(start: Callable[..., Site], arguments: list[str]) -> None:
    site = start(*arguments)
    assert site.get() == (200, "hello")
    with site.connect(NEWS) as one, site.connect(NEWS) as two:
        assert site.get() == (200, "hello")  # a socket that is open holds nobody up
        publish("hello", facility="news", broadcast=True)
        assert one.recv(10) == two.recv(10) == "hello"
    assert site.get("nothing/")[0] == 404


def test_pages_are_kept_alive(start: Callable[..., Site]) -> None:
    # with a Content-Length alone does Django's server keep a connection
    middleware = ["django.middleware.common.CommonMiddleware", *settings.MIDDLEWARE]
    site = start("--noreload", settings={"MIDDLEWARE": middleware})
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
    try:
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello"
        first = connection.sock
        connection.request("GET", "/whoami/")
        assert b"user" in connection.getresponse().read()
        assert connection.sock is first is not None
    finally:
        connection.close()


def test_a_refused_handshake_leaves_the_connection_to_the_next_request(start: Callable[..., Site]) -> None:
    site = start("--noreload")
    with RawSocket(site.port, "news?subscribe-nonsense") as raw:
        assert raw.answer.status == 400
    with RawSocket(site.port, target="/ws/") as raw:
        assert raw.answer.status == 404
    assert site.get() == (200, "hello")


def test_static_files_come_with_debug(start: Callable[..., Site]) -> None:
    script = "static/django_wsredis/wsredis.js"
    status, text = start("--noreload", settings={"DEBUG": True}).get(script)
    assert status == 200
    assert "class WSRedis" in text
    assert start("--noreload", "--nostatic", settings={"DEBUG": True}).get(script)[0] == 404
    assert start("--noreload", "--insecure").get(script)[0] == 200


@pytest.mark.parametrize("option", ["--ipv6", "--nothreading", "--noreload", "--nostatic", "--insecure"])
def test_the_options_of_django_and_of_staticfiles_are_still_there(option: str) -> None:
    result = run_manage("runserver", "--help", redis_url=NOBODY)
    assert result.returncode == 0
    assert re.search(rf"^  {option}\b", result.stdout, re.M)


APPS = ["django_wsredis", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]


def test_without_staticfiles_it_is_django_s_own() -> None:
    result = run_manage("runserver", "--help", redis_url=NOBODY, settings={"INSTALLED_APPS": APPS})
    assert result.returncode == 0
    assert "--nothreading" in result.stdout
    assert "--nostatic" not in result.stdout


COMMAND = """
from django.core.management.commands.runserver import Command as Runserver

class Command(Runserver):
    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("--greeting", default="")

    def inner_run(self, *args, **options):
        self.stdout.write(f"the other app says {options['greeting']}")
        super().inner_run(*args, **options)
"""


def test_the_runserver_of_another_app_keeps_what_it_adds(start: Callable[..., Site], folder: Path) -> None:
    commands = folder / "otherapp/management/commands"
    commands.mkdir(parents=True)
    for package in (folder / "otherapp", commands.parent, commands):
        (package / "__init__.py").touch()
    (commands / "runserver.py").write_text(COMMAND)

    apps = [*APPS, "otherapp", "django.contrib.staticfiles"]
    site = start("--noreload", "--greeting", "hi", settings={"INSTALLED_APPS": apps}, env={"PYTHONPATH": str(folder)})
    assert "the other app says hi" in site.output
    with site.connect(NEWS) as websocket:
        publish("hello", facility="news", broadcast=True)
        assert websocket.recv(10) == "hello"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ALLOWED_HOSTS": []}, "CommandError: You must set settings.ALLOWED_HOSTS if DEBUG is False."),
        ({"WSREDIS": {"EXPIRE": -1}}, "CommandError: WSREDIS['EXPIRE'] is -1. It must be"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(given: dict[str, Any], said: str) -> None:
    result = run_manage("runserver", redis_url=NOBODY, settings=given)
    assert result.returncode == 1
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1


def test_a_port_in_use_is_said_as_django_says_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = run_manage("runserver", str(other.getsockname()[1]), redis_url=NOBODY)
    assert result.returncode == 1
    assert result.stderr == "Error: That port is already in use.\n"


def test_redis_away_is_said_at_the_start_with_time_and_level(start: Callable[..., Site]) -> None:
    site = start("--noreload", redis_url=NOBODY, settings={"LOGGING": {}})
    site.wait_for(rf"^\d{{4}}-\d\d-\d\d [\d:,]+ \[{site.popen.pid}\] WARNING Redis \({NOBODY}\) cannot be reached: ")
    assert site.get() == (200, "hello")


def test_a_redis_that_answers_needs_no_word(start: Callable[..., Site]) -> None:
    site = start("--noreload")
    assert site.get() == (200, "hello")
    assert "cannot be reached" not in site.output


def test_ctrl_c_ends_in_time_and_says_goodbye_to_each_socket(start: Callable[..., Site]) -> None:
    site = start("--noreload")

    def get() -> None:
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            site.get("hang/")

    with ExitStack() as stack:
        websockets = [stack.enter_context(site.connect(NEWS)) for _ in range(50)]
        browser = threading.Thread(target=get)
        browser.start()
        assert [websocket.recv(10) for websocket in websockets] == ["hanging"] * 50  # a view runs, for long
        began = time.monotonic()
        site.press_ctrl_c()
        assert site.popen.wait(20) == 0
        assert time.monotonic() - began < END_SECONDS + SLOW_MACHINE_SECONDS
        assert {close_code(websocket) for websocket in websockets} == {1001}
        browser.join(10)
    site.stop()
    assert "Traceback" not in site.output


def test_ctrl_c_does_not_wait_for_those_who_do_not_answer(start: Callable[..., Site]) -> None:
    site = start("--noreload")
    with ExitStack() as stack:
        silent = [stack.enter_context(RawSocket(site.port, NEWS)) for _ in range(50)]
        began = time.monotonic()
        site.press_ctrl_c()
        assert site.popen.wait(20) == 0
        assert time.monotonic() - began < END_SECONDS + SLOW_MACHINE_SECONDS
        assert {raw.closed_with().code for raw in silent} == {1001}
    assert site.stop() == 0
    assert "Traceback" not in site.output


def test_sockets_come_back_after_the_code_has_changed(start: Callable[..., Site], folder: Path) -> None:
    find_redis()
    manage = copy_project(folder)
    url = f"embedded://{folder}/redis"
    site = start(redis_url=url, settings={"DEBUG": True}, manage=manage)
    with (
        redis.Redis(unix_socket_path=str(folder / "redis/redis.sock")) as client,
        override_settings(WSREDIS={"URL": url}),
    ):
        run_id = client.info()["run_id"]
        publish("kept", facility="news", broadcast=True, expire=60)
        with site.connect(NEWS) as websocket:
            assert websocket.recv(10) == "kept"
            change(site, manage.with_name("views.py"), '"hello"', '"changed"')
            assert close_code(websocket) == 1012
        served = f" at {site.url}/"
        wait_until(lambda: sum(served in line for line in site.lines) == 2, 30, "a second start")
        assert site.get() == (200, "changed")
        with site.connect(NEWS) as websocket:
            assert websocket.recv(10) == "kept"
            assert publish("new", facility="news", broadcast=True) == 1
            assert websocket.recv(10) == "new"
        assert client.info()["run_id"] == run_id
        assert site.stop(signal.SIGTERM) == 0
