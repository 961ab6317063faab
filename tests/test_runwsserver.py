"""`manage.py runwsserver`, as somebody meets it in a terminal: how it starts, what it says, and how it ends."""

from __future__ import annotations

import http.client
import os
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
from django.test import override_settings
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect, unix_connect

from django_wsredis import publish
from django_wsredis.management.serving import another_port

from .rawsocket import RawSocket
from .servers import RedisServer, Site, change, copy_project, find_redis, free_port, missing, run_manage, wait_until

SERVER = "runwsserver"
NEWS = "news?subscribe-broadcast"
NOBODY = "unix:///nonexistent/redis.sock"
END_SECONDS = 2.0
SLOW_MACHINE_SECONDS = 1.5


def embedded_at(folder: Path) -> tuple[str, redis.Redis]:
    """Return the URL of an embedded server in a folder, and a client for it."""
    find_redis()
    return f"embedded://{folder}", redis.Redis(unix_socket_path=str(folder / "redis.sock"))


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


# Starting


def test_it_says_what_runs_and_where(start: Callable[..., Site], redis_server: RedisServer) -> None:
    site = start()
    assert re.search(r"^django_wsredis \S+, Django \S+, settings tests.project.settings$", site.output, re.M)
    assert f"Redis: {redis_server.url}" in site.output
    assert site.lines[-1].startswith("INFO") or f"Serving pages and websockets at {site.url}/" in site.lines[-1]
    assert site.get() == (200, "hello")
    with site.connect(NEWS) as websocket:
        publish("hello", facility="news", broadcast=True)
        assert websocket.recv(10) == "hello"


def test_it_listens_on_ipv6(start: Callable[..., Site]) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        missing("this machine has no IPv6")
    site = start("[::1]:0")
    assert site.url == f"http://[::1]:{site.port}"
    with connect(f"ws://[::1]:{site.port}/ws/{NEWS}", proxy=None) as websocket:
        publish("hello", facility="news", broadcast=True)
        assert websocket.recv(10) == "hello"


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (["99999"], {}, "'99999' is not a port or address:port"),
        (["localhost"], {}, "'localhost' is not a port or address:port"),
        (["::1:8000"], {}, "'::1:8000' is not a port or address:port"),
        (["203.0.113.1:0"], {}, "Cannot listen on 203.0.113.1:0: "),
        (["8000", "--unix", "/tmp/ws.sock"], {}, "Either 8000 or --unix /tmp/ws.sock"),
        (["--unix", "/nonexistent/ws.sock"], {}, "Cannot listen on /nonexistent/ws.sock: No such file or directory."),
        (["0"], {"ALLOWED_HOSTS": []}, "You must set settings.ALLOWED_HOSTS if DEBUG is False."),
        (["0"], {"WSREDIS": {"PING_INTERVALL": 5}}, "WSREDIS has an unknown key 'PING_INTERVALL'. Did you mean"),
        (["0"], {"DEBUG": True, "WSREDIS": {"EXPIRE": -1}}, "WSREDIS['EXPIRE'] is -1. It must be"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(arguments: list[str], settings: dict[str, Any], said: str) -> None:
    result = run_manage("runwsserver", *arguments, redis_url=NOBODY, settings=settings)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("CommandError: ")] == lines
    assert len(lines) == 1
    assert said in lines[0]


def test_another_port_is_on_the_same_address() -> None:
    taken = ["8000", "127.0.0.1:8000", "[::1]:8001", "9000"]
    assert [another_port(addrport) for addrport in taken] == ["8001", "127.0.0.1:8001", "[::1]:8000", "8000"]


@pytest.mark.parametrize("settings", [{}, {"DEBUG": True}], ids=["plain", "with the reloader"])
def test_a_port_in_use_is_said_in_one_line(settings: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run_manage("runwsserver", str(port), redis_url=NOBODY, settings=settings)
    assert result.returncode == 1
    said = f"Cannot listen on {port}: Address already in use; choose another: ./manage.py runwsserver 8000."
    assert f"CommandError: {said}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_setting_is_named_before_it_serves() -> None:
    settings = {"WSREDIS": {"ALLOWED_CHANNELS": "tests.project.nothing.here"}}
    result = run_manage("runwsserver", "0", redis_url=NOBODY, settings=settings)
    assert result.returncode == 1
    assert "wsredis.E002" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["runwsserver", "wsbroadcast"])
def test_its_help_has_examples(command: str) -> None:
    result = run_manage(command, "--help", redis_url=NOBODY)
    assert result.returncode == 0
    examples = result.stdout.partition("examples:\n")[2].splitlines()
    assert len([line for line in examples if line.startswith(f"  ./manage.py {command} ")]) >= 3


# What it serves


def test_pages_are_kept_alive(start: Callable[..., Site]) -> None:
    site = start()
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


def test_static_files_are_served_with_debug_alone(start: Callable[..., Site]) -> None:
    script = "static/django_wsredis/wsredis.js"
    status, text = start("--noreload", settings={"DEBUG": True}).get(script)
    assert status == 200
    assert "class WSRedis" in text
    assert start().get(script)[0] == 404


def test_it_can_serve_websockets_alone(start: Callable[..., Site]) -> None:
    site = start("--ws-only")
    assert "Serving websockets at " in site.output
    assert site.get("ws/-/healthz") == (200, "ok\n")
    for path in ("", "whoami/", "static/django_wsredis/wsredis.js"):
        assert site.get(path)[0] == 404
    with site.connect(NEWS) as websocket:
        publish("hello", facility="news", broadcast=True)
        assert websocket.recv(10) == "hello"


def test_a_unix_socket_replaces_a_stale_one_and_spares_a_live_one(start: Callable[..., Site], folder: Path) -> None:
    path = folder / "ws.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    site = start("--unix", str(path))
    assert site.url == f"unix:{path}"
    with unix_connect(str(path), f"ws://localhost/ws/{NEWS}", proxy=None) as websocket:
        second = run_manage("runwsserver", "--unix", str(path), redis_url=NOBODY)
        assert second.returncode == 1
        assert second.stderr == f"CommandError: Cannot listen on {path}: Address already in use.\n"
        publish("hello", facility="news", broadcast=True)
        assert websocket.recv(10) == "hello"


def test_a_file_that_is_no_socket_is_never_replaced(folder: Path) -> None:
    path = folder / "notes.txt"
    path.write_text("important")
    result = run_manage("runwsserver", "--unix", str(path), redis_url=NOBODY)
    assert result.returncode == 1
    assert "Cannot listen on" in result.stderr
    assert path.read_text() == "important"


# Ending


def ctrl_c(site: Site) -> None:
    site.press_ctrl_c()


def sigterm(site: Site) -> None:
    os.kill(site.popen.pid, signal.SIGTERM)


def end(site: Site, how: Callable[[Site], None]) -> None:
    """End a server; it does so in time, with success, and without a traceback."""
    began = time.monotonic()
    how(site)
    status = site.popen.wait(20)
    assert time.monotonic() - began < END_SECONDS + SLOW_MACHINE_SECONDS
    assert status == 0
    site.stop()
    assert "Traceback" not in site.output


ENDINGS = pytest.mark.parametrize(
    ("how", "settings"),
    [(ctrl_c, {}), (sigterm, {}), (ctrl_c, {"DEBUG": True})],
    ids=["Ctrl-C", "SIGTERM", "Ctrl-C with the reloader"],
)


@ENDINGS
def test_it_ends_in_time_and_says_goodbye_to_each_socket(
    start: Callable[..., Site], how: Callable[[Site], None], settings: dict[str, Any]
) -> None:
    site = start(settings=settings)
    with ExitStack() as stack:
        polite = [stack.enter_context(site.connect(NEWS)) for _ in range(25)]
        silent = [stack.enter_context(RawSocket(site.port, NEWS)) for _ in range(25)]
        end(site, how)
        for websocket in polite:
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
        assert {raw.closed_with().code for raw in silent} == {1001}


@ENDINGS
def test_it_does_not_wait_for_a_view_that_runs(
    start: Callable[..., Site], how: Callable[[Site], None], settings: dict[str, Any]
) -> None:
    site = start(settings=settings)

    def get() -> None:
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            site.get("hang/")

    with site.connect(NEWS) as websocket:
        browser = threading.Thread(target=get)
        browser.start()
        assert websocket.recv(10) == "hanging"
        end(site, how)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    browser.join(10)
    assert not browser.is_alive()


def test_it_ends_in_time_without_redis(start: Callable[..., Site]) -> None:
    site = start(redis_url=NOBODY)
    with pytest.raises(InvalidStatus), site.connect(NEWS):
        pass
    end(site, ctrl_c)


# Reloading


def test_sockets_come_back_after_the_code_has_changed(start: Callable[..., Site], folder: Path) -> None:
    manage = copy_project(folder)
    url, client = embedded_at(folder / "redis")
    site = start(f"127.0.0.1:{free_port()}", redis_url=url, settings={"DEBUG": True}, manage=manage)
    with client, override_settings(WSREDIS={"URL": url}):
        run_id = client.info()["run_id"]
        publish("kept", facility="news", broadcast=True, expire=60)
        with site.connect(NEWS) as websocket, RawSocket(site.port, NEWS) as silent:
            assert websocket.recv(10) == silent.message() == "kept"
            change(site, manage.with_name("views.py"), '"hello"', '"changed"')
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(20)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, silent.closed_with().code) == (1012, 1012)
        wait_until_served(site, 2)
        assert site.get() == (200, "changed")
        with site.connect(NEWS) as websocket:
            assert websocket.recv(10) == "kept"
            assert publish("new", facility="news", broadcast=True) == 1
            assert websocket.recv(10) == "new"
        assert client.info()["run_id"] == run_id  # nor did Redis forget anything
        end(site, ctrl_c)
        wait_until(lambda: not answers(client), 5, "the end of the embedded server")


def test_it_waits_for_a_mistake_in_the_code_to_be_mended(start: Callable[..., Site], folder: Path) -> None:
    manage = copy_project(folder)
    views = manage.with_name("views.py")
    site = start(f"127.0.0.1:{free_port()}", settings={"DEBUG": True}, manage=manage)
    change(site, views, "def hello(", "def hello((")
    site.wait_for("SyntaxError")
    change(site, views, "def hello((", "def hello(")
    wait_until_served(site, 2)
    assert site.get() == (200, "hello")


def wait_until_served(site: Site, count: int) -> None:
    served = f" at {site.url}/"
    wait_until(lambda: sum(served in line for line in site.lines) >= count, 30, f"{count} × {served!r}")


# The embedded server


def test_it_starts_an_embedded_redis_and_stops_it(start: Callable[..., Site], folder: Path) -> None:
    url, client = embedded_at(folder)
    with client:
        site = start(redis_url=url)
        assert answers(client)
        with site.connect(NEWS) as websocket:
            sent = site.manage_py("wsbroadcast", "from the shell")
            assert (sent.returncode, "1 socket on 1 worker" in sent.stdout) == (0, True)
            assert websocket.recv(10) == "from the shell"
        end(site, ctrl_c)
        assert not answers(client)

        sent = site.manage_py("wsbroadcast", "too late")
        assert sent.returncode == 1
        assert re.fullmatch(
            r"CommandError: No Redis runs at .* Start it with: ./manage.py runwsserver.*\n", sent.stderr
        )


def test_after_a_crash_the_next_start_takes_over_the_embedded_redis(start: Callable[..., Site], folder: Path) -> None:
    url, client = embedded_at(folder)
    with client:
        assert start(redis_url=url).stop(signal.SIGKILL) == -signal.SIGKILL
        site = start(redis_url=url)
        with site.connect(NEWS) as websocket:
            assert site.manage_py("wsbroadcast", "again").returncode == 0
            assert websocket.recv(10) == "again"
        end(site, sigterm)
        wait_until(lambda: not answers(client), 5, "the end of the embedded server")


def test_a_second_server_inherits_the_embedded_redis(start: Callable[..., Site], folder: Path) -> None:
    url, client = embedded_at(folder)
    with client:
        owner, heir = start(redis_url=url), start(redis_url=url)
        with heir.connect(NEWS) as websocket:
            end(owner, sigterm)
            wait_until(
                lambda: "1 socket on 1 worker" in heir.manage_py("wsbroadcast", "inherited").stdout, 20, "a new Redis"
            )
            assert websocket.recv(10) == "inherited"
        end(heir, sigterm)
        wait_until(lambda: not answers(client), 5, "the end of the embedded server")
